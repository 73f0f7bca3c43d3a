"""Anny (Brégier et al., 2025, Apache-2.0; extra `[mesh]`), a body of all ages, with its own free topology only.

The package gives the body at rest for its phenotypes; the skin follows SMPL's 24 bones here, each of which stands for
some of the package's finer ones. Poses are counted from arms stretched out and legs straight down, as all bodies' are.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecli.console import PosecliError
from posecli.nn.precise import precise
from posecli.skeleton import house_skeleton
from posecli.types import FloatArray, IntArray
from posecli_mesh.bodies import BONES, PARENTS, BodyOutput, SkinnedBody

SPREAD = 0.15  # of a phenotype, for one standard deviation of shape; phenotypes go from 0 to 1
AXES = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # the package's z points up and -y forward
NAMES = {  # SMPL's bone -> the package's, without the side
    "pelvis": "root",
    "spine1": "spine04",
    "spine2": "spine02",
    "spine3": "spine01",
    "neck": "neck01",
    "head": "head",
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
    "collar": "clavicle",
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
}
FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


def anny_body() -> AnnyBody:
    """The body; the first time it is made takes minutes, after that the package's own cache serves.

    Raises PosecliError when the package is not installed.
    """
    try:
        import anny
        from anny.keypoints import KeypointsRegressor
    except ImportError as error:
        raise PosecliError(
            "the body anny needs the package of that name (Apache-2.0): pip install 'posecli[mesh]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package and of those it stands on
        package = anny.Anny(rig="anny", topology="anny", skinning_method="lbs").float()
        face = KeypointsRegressor.coco(package, labels=list(FACE))
    return AnnyBody(package, face)


class AnnyBody(SkinnedBody):
    """S = 6: gender, age, muscle, weight, height, proportions, in steps of `SPREAD` from the middle."""

    axes: Tensor  # (3, 3)
    gathered: Tensor  # (P, N): our bones' joints as means of the package's bone heads
    straight: Tensor  # (P, 3, 3): from the package's rest to arms stretched out and legs straight down

    def __init__(self, package: Any, face: Any) -> None:
        labels, parents = list(package.bone_labels), list(package.bone_parents)
        owners = _owners(labels, parents)
        gathered = _gathered(labels)
        with torch.no_grad():
            found = package()
            vertices, heads = (AXES @ _first(found, key)[..., None] for key in ("rest_vertices", "rest_bone_heads"))
            faces = AXES @ face({"vertices": found["rest_vertices"]})[0].double().numpy()[..., None]
        vertices, heads = vertices[..., 0], heads[..., 0]
        weights = np.zeros((len(vertices), len(BONES)))
        indices, amounts = package.vertex_bone_indices.numpy(), package.vertex_bone_weights.double().numpy()
        np.add.at(weights, (np.arange(len(vertices))[:, None], owners[indices]), amounts)
        joints = gathered @ heads
        names, of_joints, of_vertices = _keypoints(vertices, joints, weights, faces[..., 0])
        triangles = package.get_triangular_faces().numpy()
        super().__init__(BONES, PARENTS, triangles, weights, names, of_joints, of_vertices)
        self.shapes = len(package.phenotype_labels)
        self.package = package.requires_grad_(False)
        self._keep("axes", AXES)
        self._keep("gathered", gathered)
        self._keep("straight", _straight(joints))

    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        phenotypes = (0.5 + SPREAD * shape).clamp(0, 1)
        found = self.package(phenotype_kwargs=phenotypes)
        vertices, heads = found["rest_vertices"] @ self.axes.T, found["rest_bone_heads"] @ self.axes.T
        return vertices, self.gathered @ heads

    @precise
    def forward(self, rotations: Tensor, shape: Tensor) -> BodyOutput:
        """As every body's; rotations become those that count from the package's own rest."""
        above = self.straight[self.chain.parents].clone()
        above[0] = torch.eye(3, device=above.device)
        return super().forward(above.mT @ rotations @ self.straight, shape)


def _first(found: dict[str, Tensor], key: str) -> FloatArray:
    values: FloatArray = found[key][0].double().numpy()
    return values


def _package_name(bone: str) -> str | None:
    side, _, part = bone.rpartition("_")
    name = NAMES.get(part)
    return None if name is None else name + {"left": ".L", "right": ".R", "": ""}[side]


def _owners(labels: list[str], parents: list[int]) -> IntArray:
    """(N,): the bone of ours that each of the package's moves with: its own, that of its fingers or toes, or above."""
    known = {_package_name(bone): index for index, bone in enumerate(BONES)}
    owners = np.zeros(len(labels), dtype=np.int64)
    for index, label in enumerate(labels):
        tip = _tip(label)
        owners[index] = BONES.index(tip) if tip else known.get(label, owners[max(0, parents[index])])
    return owners


def _tip(label: str) -> str | None:
    """Toes move with the foot, fingers but the thumb with the hand."""
    found = re.fullmatch(r"(toe\d|finger[2-5])-\d\.([LR])", label)
    if found is None:
        return None
    return ("left" if found[2] == "L" else "right") + ("_foot" if found[1].startswith("toe") else "_hand")


def _gathered(labels: list[str]) -> FloatArray:
    """(P, N): where our bones turn, as means of the heads of the package's bones."""
    gathered = np.zeros((len(BONES), len(labels)))
    for row, bone in enumerate(BONES):
        name = _package_name(bone)
        tips = [index for index, label in enumerate(labels) if _tip(label) == bone and "-1." in label]
        chosen = tips if name is None else [labels.index(name)]
        gathered[row, chosen] = 1 / len(chosen)
    return gathered


def _straight(joints: FloatArray) -> FloatArray:
    """(P, 3, 3): turns that bring each bone of arms and legs from the package's rest into line."""
    turns = np.repeat(np.eye(3)[None], len(BONES), axis=0)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        lines = {"shoulder": ("elbow", "x"), "elbow": ("wrist", "x"), "hip": ("knee", "y"), "knee": ("ankle", "y")}
        for start, (end, axis) in lines.items():
            first, last = (BONES.index(f"{side}_{part}") for part in (start, end))
            target = np.array([sign, 0, 0]) if axis == "x" else np.array([0, -1.0, 0])
            turns[first] = _between(joints[last] - joints[first], target)
        for part in ("wrist", "hand"):  # in line with the forearm
            turns[BONES.index(f"{side}_{part}")] = turns[BONES.index(f"{side}_elbow")]
    return turns


def _between(start: FloatArray, end: FloatArray) -> FloatArray:
    """The smallest rotation (3, 3) that turns the direction `start` into the unit vector `end`, not its opposite."""
    start = start / np.linalg.norm(start)
    axis = np.cross(start, end)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + start @ end))


def _keypoints(
    vertices: FloatArray, joints: FloatArray, weights: FloatArray, face: FloatArray
) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """The names of `body24`, and each as a mean of bone joints (K, P) or of vertices (K, V).

    Points of the face are those vertices that lie nearest to the package's own keypoints at rest.
    """
    names = house_skeleton("body24").names
    of_joints, of_vertices = np.zeros((len(names), len(BONES))), np.zeros((len(names), len(vertices)))
    middle = {"thorax": ("left_shoulder", "right_shoulder"), "spine": ("spine2",)}
    on_skin = {
        name: [int(np.linalg.norm(vertices - point, axis=1).argmin())] for name, point in zip(FACE, face, strict=True)
    }
    on_head = weights[:, BONES.index("head")] > 0.5
    before = on_head & (np.abs(vertices[:, 0]) < 0.01) & (vertices[:, 2] > joints[BONES.index("head"), 2] + 0.05)
    on_skin["head_top"] = [int(np.where(on_head, vertices[:, 1], -np.inf).argmax())]
    on_skin["jaw"] = [int(np.where(before, vertices[:, 1], np.inf).argmin())]
    on_skin["head"] = on_skin["left_ear"] + on_skin["right_ear"]
    for row, name in enumerate(names):
        if name in on_skin:
            of_vertices[row, on_skin[name]] = 1 / len(on_skin[name])
        else:
            bones = [BONES.index(bone) for bone in middle.get(name, (name,))]
            of_joints[row, bones] = 1 / len(bones)
    return names, of_joints, of_vertices
