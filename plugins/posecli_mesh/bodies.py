"""Parametric bodies: rotations of bones and a few numbers of shape in, a mesh and named joints out.

Bodies are in metres. At rest a body stands upright: x points to its own left, y up, z where it looks. The rotation of
the first bone turns all of it, in practice into the camera frame (x right, y down, z forward).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from posecli.console import PosecliError
from posecli.nn.precise import precise
from posecli.skeleton import flip_pairs_from_names
from posecli.types import Array, BoolArray, Dataset, FloatArray, People
from posecli_mesh.skinning import Chain, move, skin

BodyName = Literal["capsules", "smpl", "anny"]
Gender = Literal["neutral", "male", "female"]
BODIES: tuple[BodyName, ...] = get_args(BodyName)
"""Whose rotations and shapes they are: the number in the column `body` of datasets and predictions."""
GENDER_NUMBERS: tuple[Gender, ...] = get_args(Gender)
"""Which of SMPL's bodies it is: the number in the column `gender` of datasets and predictions."""
BONES = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
)
"""The bones of SMPL (Loper et al., SIGGRAPH Asia 2015), in its order; all bodies here have these."""
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


@dataclass(frozen=True)
class BodyOutput:
    """B bodies in the frame that the first bone's rotation turns into, metres."""

    vertices: Tensor  # (B, V, 3)
    joints: Tensor  # (B, J, 3), named by `Body.joints`


class Body(nn.Module, ABC):
    """P bones that turn, S directions of shape, V vertices, J named joints.

    Nothing of a body is saved with a model: who uses the model brings the same body.
    """

    name: BodyName  # as `open_body` was asked for it
    gender: Gender = "neutral"
    joints: tuple[str, ...]  # (J,)
    bones: tuple[str, ...]  # (P,), the root first
    shapes: int  # S; zeros are the mean body, one is about a standard deviation
    faces: Tensor  # (F, 3) int64, counter-clockwise seen from outside

    @property
    def poses(self) -> int:
        """How many rotations a pose has, P."""
        return len(self.bones)

    @property
    def mirror_index(self) -> tuple[int, ...]:
        """(P,): where the partner of each bone on the other side of the body stands; see `rotations.mirrored`."""
        index = list(range(len(self.bones)))
        for left, right in flip_pairs_from_names(self.bones) or ():
            index[left], index[right] = right, left
        return tuple(index)

    @abstractmethod
    def forward(self, rotations: Tensor, shape: Tensor) -> BodyOutput:
        """Bodies for `rotations` (B, P, 3, 3), each relative to the parent bone, and `shape` (B, S)."""


class SkinnedBody(Body):
    """A body whose skin follows its bones by linear blend skinning. Subclasses say what it is at rest."""

    weights: Tensor  # (V, P)
    pose_directions: Tensor | None  # (9 (P - 1), 3 V)
    of_joints: Tensor | None  # (J, P)
    of_vertices: Tensor | None  # (J, V)

    def __init__(
        self,
        bones: Sequence[str],
        parents: Sequence[int],
        faces: Array,
        weights: FloatArray,
        joints: Sequence[str],
        of_joints: FloatArray | None,
        of_vertices: FloatArray | None,
        pose_directions: FloatArray | None = None,
    ) -> None:
        """Named joints are weighted sums of bone joints (`of_joints`, (J, P)) and of vertices (`of_vertices`, (J, V)).

        `pose_directions` (V, 3, 9 (P - 1)) move vertices with each entry of the rotations but the root's.
        """
        super().__init__()
        self.bones, self.joints = tuple(bones), tuple(joints)
        self.chain = Chain(parents)
        directions = None if pose_directions is None else pose_directions.reshape(-1, pose_directions.shape[-1]).T
        self.register_buffer("faces", torch.from_numpy(np.asarray(faces).astype(np.int64)), persistent=False)
        self._keep("weights", weights)
        self._keep("pose_directions", directions)
        self._keep("of_joints", of_joints)
        self._keep("of_vertices", of_vertices)

    def _keep(self, name: str, values: FloatArray | None) -> None:
        """A constant that moves with the body and is saved nowhere."""
        tensor = None if values is None else torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
        self.register_buffer(name, tensor, persistent=False)

    @abstractmethod
    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (B, V, 3) and where the bones turn (B, P, 3), before any rotation, for `shape` (B, S)."""

    @precise
    def forward(self, rotations: Tensor, shape: Tensor) -> BodyOutput:
        vertices, joints = self.rest(shape)
        if self.pose_directions is not None:
            turned = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            vertices = vertices + (turned.flatten(1) @ self.pose_directions).view_as(vertices)
        transforms = self.chain(rotations, joints)
        vertices = skin(vertices, self.weights, transforms)
        return BodyOutput(vertices, self._named(vertices, move(joints, transforms)))

    def _named(self, vertices: Tensor, joints: Tensor) -> Tensor:
        parts = [
            weights @ points
            for weights, points in ((self.of_joints, joints), (self.of_vertices, vertices))
            if weights is not None
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class LinearBody(SkinnedBody):
    """A skinned body whose rest is linear in its shape."""

    template: Tensor  # (3 V,)
    directions: Tensor  # (S, 3 V)
    joint_template: Tensor  # (3 P,)
    joint_directions: Tensor  # (S, 3 P)

    def __init__(
        self,
        template: FloatArray,
        directions: FloatArray,
        joint_template: FloatArray,
        joint_directions: FloatArray,
        *,
        bones: Sequence[str],
        parents: Sequence[int],
        faces: Array,
        weights: FloatArray,
        joints: Sequence[str],
        of_joints: FloatArray | None = None,
        of_vertices: FloatArray | None = None,
        pose_directions: FloatArray | None = None,
    ) -> None:
        """`template` (V, 3) and `directions` (V, 3, S) are of the skin, the other two the same for P bone joints."""
        super().__init__(bones, parents, faces, weights, joints, of_joints, of_vertices, pose_directions)
        self.shapes = directions.shape[-1]
        self._keep("template", template.reshape(-1))
        self._keep("directions", directions.reshape(-1, self.shapes).T)
        self._keep("joint_template", joint_template.reshape(-1))
        self._keep("joint_directions", joint_directions.reshape(-1, self.shapes).T)

    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        vertices = torch.addmm(self.template, shape, self.directions)
        joints = torch.addmm(self.joint_template, shape, self.joint_directions)
        return vertices.view(len(shape), -1, 3), joints.view(len(shape), -1, 3)


def open_body(
    name: BodyName, path: Path | None = None, gender: Gender = "neutral", regressor: Path | None = None
) -> Body:
    """The body of that name. `path`, `gender` and `regressor` are SMPL's; without a path the remembered file is taken.

    Raises PosecliError when a file or a package is missing, and says where to get it.
    """
    body = _opened(name, path, gender, regressor)
    body.name, body.gender = name, gender if name == "smpl" else "neutral"
    return body


def _opened(name: BodyName, path: Path | None, gender: Gender, regressor: Path | None) -> Body:
    if name == "capsules":
        from posecli_mesh.capsules import capsule_body

        return capsule_body()
    if name == "anny":
        from posecli_mesh.anny import anny_body

        return anny_body()
    if name == "smpl":
        from posecli_mesh.smpl import smpl_body

        return smpl_body(path, gender, regressor)
    raise PosecliError(f"no body named {name!r}; known are capsules, smpl and anny")


# --- whose poses and shapes data has --------------------------------------------------------------------------------


def labelled(people: People) -> BoolArray:
    """Whose pose and shape are known, (N,); nobody's where the columns are missing."""
    extra = people.extra
    if "rotations" not in extra or "shape" not in extra:
        return np.zeros(len(people), dtype=bool)
    known = np.isfinite(extra["rotations"]).all(axis=(1, 2, 3)) & np.isfinite(extra["shape"]).all(axis=1)
    return np.asarray(known & (np.asarray(extra.get("has_body", known)) > 0))


def named_bodies(people: People) -> list[BodyName]:
    """The bodies that the column `body` names for people whose pose and shape are known; none without the column."""
    if "body" not in people.extra:
        return []
    return [BODIES[int(number)] for number in np.unique(people.extra["body"][labelled(people)])]


def own_bodies(samples: Dataset, body: Body) -> Dataset:
    """The data with the poses and shapes of other bodies than this one as unlabelled, where it says whose they are.

    Raises PosecliError where all are another body's, or have other numbers of rotations and shapes.
    """
    people, known = samples.people, labelled(samples.people)
    if not known.any():
        return samples
    named = named_bodies(people)
    if named and body.name not in named:
        theirs = " and ".join(map(repr, named))
        remedy = f"model.body.name={named[0]}"
        if samples.name == "synthetic-bodies":
            remedy = f"data.train.body={body.name} and data.val.body={body.name}, or {remedy}"
        raise PosecliError(
            f"the data {samples.name!r} has bodies of {theirs} and the model finds {body.name!r}: set {remedy}"
        )
    check_sizes(body, people, f"the data {samples.name!r}", "set model.body.name to the body of the data")
    if len(named) < 2:
        return samples
    has_body = np.where(people.extra["body"] == BODIES.index(body.name), people.extra.get("has_body", known), 0)
    return dataclasses.replace(samples, people=people.with_extra(has_body=has_body.astype(np.float32)))


def check_sizes(body: Body, people: People, what: str, remedy: str) -> None:
    """Raises PosecliError where the rotations or shapes of `people` are not as many as the body's."""
    sizes = (people.extra["rotations"].shape[1], people.extra["shape"].shape[1])
    if len(people) and sizes != (body.poses, body.shapes):
        raise PosecliError(
            f"{what} has {sizes[0]} rotations and {sizes[1]} numbers of shape a body, and {body.name!r} needs "
            f"{body.poses} and {body.shapes}: it is another body; {remedy}"
        )
