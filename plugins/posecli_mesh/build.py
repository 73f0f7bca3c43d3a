"""The only place where mesh models are put together from their configs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posecli.console import PosecliError
from posecli.interop.unpickle import load_npz
from posecli.nn.heads import PyramidHead
from posecli.skeleton import Skeleton
from posecli_mesh.bodies import Body, open_body
from posecli_mesh.config import AdversarialConfig, HMRConfig
from posecli_mesh.discriminator import BodyDiscriminator
from posecli_mesh.guide import Guide
from posecli_mesh.head import RegressionHead, facing_the_camera
from posecli_mesh.losses import GANLoss, MeshLoss
from posecli_mesh.model import Adversary, MeshRecovery
from posecli_mesh.motion import read_motion
from posecli_mesh.transform import MeshTransform

START_SCALE = 0.9  # of the first camera: a body fills most of the crop


def build_hmr(config: HMRConfig, skeleton: Skeleton) -> MeshRecovery:
    """HMR: any backbone, the regression head, a body, and a discriminator where one is asked for."""
    backbone = config.backbone.build()
    body = open_body(config.body.name, config.body.path, config.body.gender, config.body.regressor)
    pose, shape, camera = _start(config.mean_params, body)
    guide = None
    if config.guide is not None:
        maps = PyramidHead(backbone.channels, backbone.strides, len(skeleton), config.guide.filters)
        guide = Guide(maps, len(skeleton), config.guide.sigma)
    head = RegressionHead(
        backbone.channels[-1],
        pose,
        shape,
        camera,
        hidden=config.hidden,
        rounds=config.rounds,
        dropout=config.dropout,
        guide=guide,
    )
    loss = MeshLoss(config.losses.model_dump(), _root(skeleton), config.input_size, config.focal)
    crop = [
        MeshTransform(
            skeleton,
            config.input_size,
            config.padding,
            augmentation=augment,
            mirror_index=body.mirror_index,
            shapes=body.shapes,
        )
        for augment in (config.augment, None)
    ]
    adversary = None if config.adversarial is None else _adversary(config.adversarial, body)
    return MeshRecovery(backbone, head, body, loss, skeleton, _joint_index(body, skeleton), *crop, adversary=adversary)


def _adversary(config: AdversarialConfig, body: Body) -> Adversary:
    motion = None if config.motion is None else read_motion(config.motion, body.poses, body.shapes)
    return Adversary(BodyDiscriminator(body.poses, body.shapes), GANLoss(config.kind, config.weight), motion)


def _start(path: Path | None, body: Body) -> tuple[Tensor, Tensor, Tensor]:
    """Pose (6 P,), shape (S,) and camera (3,) to begin with. Raises PosecliError for a file of another body."""
    expected = {"pose": 6 * body.poses, "shape": body.shapes, "cam": 3}
    if path is None:
        return facing_the_camera(body.poses), torch.zeros(body.shapes), torch.tensor([START_SCALE, 0.0, 0.0])
    arrays = load_npz(Path(path).expanduser())
    for name, length in expected.items():
        if name not in arrays or np.size(arrays[name]) != length:
            found = arrays[name].shape if name in arrays else "missing"
            raise PosecliError(f"{path}: {name} is {found}, and this body needs {length} numbers")
    pose, shape, camera = (torch.tensor(arrays[name], dtype=torch.float32).flatten() for name in expected)
    return pose, shape, camera


def _joint_index(body: Body, skeleton: Skeleton) -> tuple[int, ...]:
    """Which joint of the body each keypoint is, by its name. Raises PosecliError where the body has none such."""
    unknown = [name for name in skeleton.names if name not in body.joints]
    if unknown:
        raise PosecliError(
            f"the body gives no keypoint named {', '.join(unknown[:3])}{' …' if len(unknown) > 3 else ''}, which the "
            f"skeleton {skeleton.name!r} has: use data in the skeleton body24; SMPL also needs the regressor of its "
            "keypoints, set by `posecli mesh body set smpl PATH --regressor FILE`"
        )
    return tuple(body.joints.index(name) for name in skeleton.names)


def _root(skeleton: Skeleton) -> tuple[int, ...]:
    """What 3D keypoints are measured from: the middle of the hips, else the root, else the middle of all."""
    hips = tuple(index for index, name in enumerate(skeleton.names) if name in ("left_hip", "right_hip"))
    if len(hips) == 2:
        return hips
    return tuple(range(len(skeleton))) if skeleton.root is None else (skeleton.root,)
