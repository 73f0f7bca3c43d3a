"""Four lifting networks of MMPose 1.3.2 and 0.29.0, brought over by `posecli import mmpose`, give its numbers.

The numbers and the rule for the weights are those of reference/golden/README.md in the shared folder. A checkpoint with
these weights and the reference's names is written in torch's format, imported, and opened as users open it. The poses
whose losses are told are those of the sample file of Human3.6M.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rule import golden_input, golden_state, import_state
from torch import Tensor

from posecli.batch import Batch
from posecli.checkpoint import count_parameters, open_model
from posecli.losses.pose3d import BoneLength, JointDistance, MotionDistance, length
from posecli.skeleton import house_skeleton
from posecli_lifter.build import parents
from posecli_lifter.losses import BoneMean, Projection, project
from posecli_lifter.model import Lifter
from posecli_lifter.normalization import METRE, View

IMAGE = "image-pose-lift_tcn_8xb64-200e_h36m"
VIDEO = "video-pose-lift_tcn-27frm-supv_8xb128-160e_h36m"
MOTION = "motionbert_dstformer-ft-243frm_8xb32-120e_h36m"
SEMI = "poselifter29_27frames_semi"
OURS = {
    IMAGE: "lifter/h36m/simple-baseline",
    VIDEO: "lifter/h36m/videopose3d-27",
    SEMI: "lifter/h36m/videopose3d-27-semi",
    MOTION: "lifter/h36m/motionbert-243",
}
NAMES = (("keypoint_head.", "head."), ("traj_", "trajectory_"))  # theirs, ours


def our_name(name: str) -> str:
    """What we call a tensor of theirs."""
    for theirs, ours in NAMES:
        name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
    return name


@dataclass(frozen=True)
class Reference:
    """A network of the reference and what it gave."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    model: Lifter
    parameters: int  # as our checkpoint's file tells

    def tensor(self, name: str) -> Tensor:
        """An array of the reference."""
        return torch.from_numpy(self.arrays[name])

    def input(self) -> Tensor:
        """The input of the raw outputs, (B, T, K, C)."""
        values = golden_input(self.facts["input_shape"])
        return by_frame(values) if values.ndim == 3 else values

    def limit(self, name: str = "out") -> float:
        """How far outputs may be off: 1e-3 of what the input moves them by."""
        return 1e-3 * self.facts.get("input_sensitivity", {}).get(name, 1) * self.arrays[name].std()

    def check_gradients(self) -> None:
        """The norms of all gradients, within 1e-2."""
        theirs = {our_name(name): norm for name, norm in self.facts["grad_norms"].items()}
        ours = {
            name: value.grad.norm().item() for name, value in self.model.named_parameters() if value.grad is not None
        }
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, rel=1e-2)
        assert np.linalg.norm(list(ours.values())) == pytest.approx(self.facts["grad_norm_total"], rel=1e-3)


def by_frame(values: Tensor) -> Tensor:
    """(B, K 2, T), as the reference's temporal networks take it, to (B, T, K, 2)."""
    return values.transpose(1, 2).unflatten(2, (-1, 2))


def open_reference(name: str, golden: Path, folder: Path) -> Reference:
    """The network after `posecli import mmpose`; those of 0.29 in the older file format."""
    facts = json.loads((golden / f"{name}.json").read_text())
    with np.load(golden / f"{name}.npz") as archive:
        arrays = dict(archive)
    state = golden_state(facts)
    older = name in (SEMI, IMAGE)
    if name == IMAGE:
        state = {tensor.replace("head.", "keypoint_head.", 1): value for tensor, value in state.items()}
    meta = {"mmpose_version": "0.29.0"} if older else {"epoch": 160, "iter": 10, "mmengine_version": "0.10.7"}
    ours = import_state(state, folder, "--config", OURS[name], "--skeleton", "h36m", meta=meta, older=older)
    model, _, _ = open_model(ours)
    assert isinstance(model, Lifter)
    parameters = count_parameters(ours)
    ours.unlink()
    return Reference(facts, arrays, model, parameters)


@pytest.fixture(scope="module")
def image(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """SimpleBaseline3D."""
    return open_reference(IMAGE, golden, tmp_path_factory.mktemp("parity"))


@pytest.fixture(scope="module")
def video(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """VideoPose3D with 27 frames."""
    return open_reference(VIDEO, golden, tmp_path_factory.mktemp("parity"))


@pytest.mark.parametrize("name", ["image", "video"])
def test_temporal_outputs(name: str, request: pytest.FixtureRequest) -> None:
    reference: Reference = request.getfixturevalue(name)
    model = reference.model
    assert reference.parameters == reference.facts["params"]
    assert sum(value.numel() for value in model.backbone.parameters()) == reference.facts["params_backbone"]
    with torch.inference_mode():
        features = model.backbone(reference.input())
        outputs = model.head(features)[:, 0].numpy()
    start = reference.arrays["backbone.1#first64"]
    assert np.abs(features.flatten()[:64].numpy() - start).max() <= 1e-3 * np.abs(start).max()
    assert np.abs(outputs - reference.arrays["out"]).max() <= reference.limit()


def human36m(shared: Path, frames: int) -> Batch:
    """The first two poses of the sample file, each alone in its clip, as a batch of windows."""
    with np.load(shared / "data" / "format-samples" / "h36m" / "test_h36m_body3d.npz") as archive:
        pixels, poses = archive["part"][:2, None, :, :2], archive["S"][:2, None, :, :3] * 1000
    inputs = {
        "keypoints": np.repeat(pixels, frames, axis=1),
        "visible": np.ones((2, frames, 17)),
        "size": np.tile([1000.0, 1002.0], (2, 1)),  # both are of the camera 54138969
        "focal": np.zeros((2, 2)),
        "center": np.zeros((2, 2)),
    }
    targets = {"keypoints_3d": np.repeat(poses, frames, axis=1), "known": np.ones((2, frames, 17))}
    tensors = [
        {name: torch.from_numpy(np.asarray(value, dtype=np.float32)) for name, value in part.items()}
        for part in (inputs, targets)
    ]
    return Batch(tensors[0], tensors[1], (), torch.zeros(2, 2, 3))


@pytest.mark.parametrize("name", ["image", "video"])
def test_temporal_losses_of_real_poses(name: str, request: pytest.FixtureRequest, shared: Path) -> None:
    """Normalised as the reference's codecs do, the loss within 1e-4 and the gradients within 1e-2 of its own."""
    reference: Reference = request.getfixturevalue(name)
    model = reference.model
    theirs = by_frame(reference.tensor("loss.inputs"))
    batch = human36m(shared, theirs.shape[1])
    view = View.of(batch.inputs)
    torch.testing.assert_close(model.normalization.inputs(view), theirs, rtol=0, atol=2e-5)
    targets = model.normalization.targets(batch.targets["keypoints_3d"], view)[:1, :1]
    torch.testing.assert_close(
        targets[0], reference.tensor("loss.sample0.label.lifting_target_label"), rtol=0, atol=2e-5
    )
    model.zero_grad()
    losses = model.losses(batch)
    losses["pose"].backward()
    assert losses["pose"].item() == pytest.approx(reference.facts["losses_eval_mode"]["loss_pose3d"], rel=1e-4)
    reference.check_gradients()


def test_decoding_gives_back_real_poses(image: Reference, video: Reference, shared: Path) -> None:
    """What a perfect network would say becomes the pose again, in millimetres from the root."""
    for reference in (image, video):
        batch = human36m(shared, 1)
        view, poses = View.of(batch.inputs), batch.targets["keypoints_3d"]
        codec = reference.model.normalization
        decoded = codec.poses(codec.targets(poses, view), view)
        torch.testing.assert_close(decoded, poses - poses[:, :, :1], rtol=0, atol=1e-2)


def check_places(reference: Reference) -> None:
    """Poses before the camera, by the true root as the reference restores them, and by the trajectory.

    The reference leaves the root itself where the head says; posecli has it where the person is said to stand.
    """
    model, size = reference.model, torch.tensor([[1000.0, 800.0]])
    pixels = reference.input() * 500 + size / 2  # what the picture shows when this is in halves of its width
    unknown = torch.zeros(4, 2)
    view = View(pixels, torch.ones(pixels.shape[:3]), size.expand(4, 2), unknown, unknown)
    restored = reference.tensor("test.preds(restore_global_position)")
    root, place = reference.tensor("loss.in.traj_target"), reference.tensor("test.traj_preds")
    torch.testing.assert_close(restored[:, :1] - reference.tensor("out.pose")[:, :1], root)
    with torch.inference_mode():
        standing = model.poses(view)[:, 0] / METRE
        relative = model.normalization.poses(model.head(model.backbone(reference.input())), view)[:, 0] / METRE
    shape = restored - restored[:, :1]
    torch.testing.assert_close(relative + root, shape + root, rtol=0, atol=1e-4)
    torch.testing.assert_close(standing, shape + place, rtol=0, atol=1e-4)


def test_semi_supervised(golden: Path, tmp_path: Path) -> None:
    """Pose and trajectory, absolute poses, and the four losses with their gradients, of MMPose 0.29."""
    reference = open_reference(SEMI, golden, tmp_path)
    model = reference.model
    assert reference.parameters == reference.facts["params"]
    inputs = reference.input()
    with torch.inference_mode():
        pose, place = model.head(model.backbone(inputs)), model._trajectory(inputs)
    assert np.abs(pose[:, 0].numpy() - reference.arrays["out.pose"]).max() <= 1e-3 * pose.numpy().std()
    assert np.abs(place[:, 0].numpy() - reference.arrays["out.traj"]).max() <= 1e-3 * place.numpy().std()
    check_places(reference)
    semi = model.semi
    assert semi is not None
    pose, place = model.head(model.backbone(inputs)), model._trajectory(inputs)
    other = by_frame(reference.tensor("loss.in.unlabeled_input"))
    other_pose, other_place = model.head(model.backbone(other)), model._trajectory(other)
    root = reference.tensor("loss.in.traj_target")
    pixels = reference.tensor("loss.in.unlabeled_target_2d")[:, None]
    ours = {
        "reg_loss": JointDistance()(pose, reference.tensor("loss.in.target")[:, None]),
        "traj_loss": (length(place[:, 0] - root) / root[..., 2]).mean(),
        "proj_loss": semi.projection(other_pose + other_place, pixels, reference.tensor("loss.in.intrinsics")),
        "bone_loss": semi.bones(torch.cat([pose, other_pose]), torch.arange(8) < 4),
    }
    for name, loss in ours.items():
        assert loss.item() == pytest.approx(reference.facts["losses_eval_mode"][name], rel=1e-4), name
    model.zero_grad()
    torch.stack(list(ours.values())).sum().backward()
    reference.check_gradients()


def test_motionbert(golden: Path, tmp_path: Path) -> None:
    """One pass forward and back over 243 frames."""
    reference = open_reference(MOTION, golden, tmp_path)
    model = reference.model
    assert reference.parameters == reference.facts["params"]
    assert sum(value.numel() for value in model.backbone.parameters()) == reference.facts["params_backbone"]
    outputs = model.head(model.backbone(reference.input()))
    assert np.abs(outputs.detach().numpy() - reference.arrays["out"]).max() <= reference.limit()
    target = reference.tensor("loss.sample0.label.lifting_target_label")
    loss = model.loss(outputs, target, reference.tensor("loss.sample0.label.lifting_target_weight"))
    assert loss.item() == pytest.approx(reference.facts["losses_eval_mode"]["loss_pose3d"], rel=1e-4)
    loss.backward()
    reference.check_gradients()


PARENTS = (0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
LOSSES = [  # file, entry, loss
    ("functional", "loss/MPJPE3d", JointDistance()),
    ("functional", "loss/MPJPE3d_w", JointDistance()),
    ("functional", "loss/MPJPEVelocityJoint", MotionDistance(scale=0.5, velocity=20)),
    ("functional", "loss/Bone", BoneLength(PARENTS)),
    ("functional", "loss/Bone_w", BoneLength(PARENTS)),
    ("functional29_losses", "MPJPE", JointDistance()),
    ("functional29_losses", "MPJPE3d", JointDistance()),
    ("functional29_losses", "MPJPE3d_w", JointDistance()),
    ("functional29_losses", "Bone", BoneLength(PARENTS)),
    ("functional29_losses", "Bone_w", BoneLength(PARENTS)),
]


def entry(golden: Path, file: str, name: str) -> dict[str, Tensor]:
    """The arrays of an entry, `in/...` and `out/...`."""
    with np.load(golden / f"{file}.npz") as archive:
        return {
            key.removeprefix(f"{name}/"): torch.from_numpy(archive[key])
            for key in archive.files
            if key.startswith(f"{name}/")
        }


@pytest.mark.parametrize(("file", "name", "loss"), LOSSES)
def test_losses(golden: Path, file: str, name: str, loss: torch.nn.Module) -> None:
    arrays = entry(golden, file, name)
    output = arrays["in/output"].requires_grad_()
    value = loss(output, arrays["in/target"], arrays.get("in/target_weight"))
    value.backward()
    assert value.item() == pytest.approx(arrays["out/loss"].item(), rel=1e-6)
    assert output.grad is not None
    torch.testing.assert_close(output.grad.reshape(arrays["out/grad"].shape), arrays["out/grad"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("file", "name", "projection", "bones"),
    [
        ("functional", "loss/SemiSupervision", 1.0, 1.0),
        ("functional29_losses", "SemiSupervision_4", 0.5, 2.0),
        ("functional29_losses", "SemiSupervision_9", 0.5, 2.0),
    ],
)
def test_losses_of_unlabelled_clips(golden: Path, file: str, name: str, projection: float, bones: float) -> None:
    arrays = entry(golden, file, name)
    pose, place = arrays["in/unlabeled_pose"].requires_grad_(), arrays["in/unlabeled_traj"].requires_grad_()
    one = Projection(projection)(pose + place, arrays["in/unlabeled_target_2d"], arrays["in/intrinsics"])
    both = torch.cat([arrays["in/labeled_pose"], pose])[:, None]
    other = BoneMean(BoneLength(PARENTS), bones)(both, torch.arange(10) < 5)
    assert one.item() == pytest.approx(arrays["out/proj_loss"].item(), rel=1e-6)
    assert other.item() == pytest.approx(arrays["out/bone_loss"].item(), rel=1e-6)
    if "out/grad_pose" in arrays:
        (one + other).backward()
        torch.testing.assert_close(pose.grad, arrays["out/grad_pose"])
        torch.testing.assert_close(place.grad, arrays["out/grad_traj"])
        projected = project(arrays["in/unlabeled_pose"] + arrays["in/unlabeled_traj"], arrays["in/intrinsics"])
        torch.testing.assert_close(projected, arrays["out/projected"])


def test_parents_of_the_skeleton() -> None:
    """The bones that the reference's losses are told in its configs."""
    assert parents(house_skeleton("h36m")) == PARENTS
