"""Errors of found bodies in millimetres: of all vertices, and of the fourteen joints that SMPL's data is scored on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from posecli.console import PosecliError
from posecli.metrics.metric import Metric, Score
from posecli.metrics.mpjpe import Comparison, Mpjpe, true_poses
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, FloatArray, People, SampleId
from posecli_mesh.bodies import Body, BodyName, open_body
from posecli_mesh.scenes import BODIES

SCORED = (*range(13), 18)
"""Of `body24`: ankles to neck as LSP has them, and the head (Kanazawa et al., CVPR 2018)."""
TOGETHER = 256  # bodies that are made at once


class VertexError(Metric):
    """The mean distance of vertices (PVE), both bodies moved so that the middle of their hips is in the origin.

    Both are made of their rotations and shape, so it can be taken from results on disk too. People whose true pose and
    shape are not labelled are left out.
    """

    def __init__(self, body: BodyName | None) -> None:
        """Without a body it is the one that the data names."""
        self.body = body

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        body = open_body(self._name(truth))
        true, found, missed = matched_bodies(truth, predictions)
        for what, people in (("the data", true), ("the predictions", found)):
            _check(body, people, what)
        errors = [
            np.linalg.norm(skins(body, found[i : i + TOGETHER]) - skins(body, true[i : i + TOGETHER]), axis=-1).mean(-1)
            for i in range(0, len(true), TOGETHER)
        ]
        value = float(np.concatenate(errors).mean()) if errors else float("nan")
        notes = ["relative to the middle of the hips", f"{len(true)} bodies"]
        if missed:
            notes.append(f"{missed} not predicted, left out")
        return [Score("PVE", value, False, "mm", 0.0, "; ".join(notes))]

    def _name(self, truth: Dataset) -> BodyName:
        if self.body is not None:
            return self.body
        numbers = np.unique(truth.people.extra.get("body", []))
        if len(numbers) != 1:
            raise PosecliError(f"the data {truth.name!r} does not say whose shapes it has: name a body, as in pve:smpl")
        return BODIES[int(numbers[0])]


def matched_bodies(truth: Dataset, predictions: Mapping[SampleId, People]) -> tuple[People, People, int]:
    """The true people with a labelled body that were answered, the answers, row by row, and how many were not.

    Raises PosecliError where either side has no bodies.
    """
    extra = truth.people.extra
    if "rotations" not in extra or "shape" not in extra:
        raise PosecliError(f"the data {truth.name!r} has no poses and shapes of bodies, which the metric pve needs")
    known = np.isfinite(extra["rotations"]).all(axis=(1, 2, 3)) & np.isfinite(extra["shape"]).all(axis=1)
    known &= np.asarray(extra.get("has_body", known)) > 0
    true, answers, missed = [], [], 0
    for index, sample_id in enumerate(truth.ids):
        first, last = int(truth.offsets[index]), int(truth.offsets[index + 1])
        rows = [row for row in range(first, last) if known[row]]
        people = predictions.get(sample_id)
        places = {} if people is None else _answers(people, last - first)
        missed += sum(row - first not in places for row in rows)
        chosen = [row for row in rows if row - first in places]
        if people is None or not chosen:
            continue
        if "rotations" not in people.extra or "shape" not in people.extra:
            raise PosecliError(f"the prediction for sample {sample_id!r} has no pose and shape of a body")
        true.append(truth.people[chosen])
        answers.append(people[[places[row - first] for row in chosen]])
    if not true:
        return truth.people[:0], truth.people[:0], missed
    return People.concatenate(true), People.concatenate(answers), missed


def _answers(people: People, count: int) -> dict[int, int]:
    """Which prediction answers each person of a sample: the row that names it, else the only one."""
    if "row" in people.extra:
        return {int(row): place for place, row in reversed(list(enumerate(people.extra["row"])))}
    return {0: 0} if count == 1 and len(people) else {}


@torch.inference_mode()
def skins(body: Body, people: People) -> FloatArray:
    """Vertices (N, V, 3) in millimetres from the middle of the hips."""
    arrays = (np.asarray(people.extra[name], dtype=np.float32) for name in ("rotations", "shape"))
    found = body(*(torch.from_numpy(array) for array in arrays))
    hips = [body.joints.index(f"{side}_hip") for side in ("left", "right")]
    middle = found.joints[:, hips].mean(dim=1, keepdim=True)
    vertices: FloatArray = ((found.vertices - middle) * 1000).numpy()
    return vertices


def _check(body: Body, people: People, what: str) -> None:
    shapes: tuple[Array, Array] = (people.extra["rotations"], people.extra["shape"])
    sizes = (shapes[0].shape[1], shapes[1].shape[1])
    if len(people) and sizes != (body.poses, body.shapes):
        raise PosecliError(
            f"{what} has {sizes[0]} rotations and {sizes[1]} numbers of shape a body, and this one needs "
            f"{body.poses} and {body.shapes}: it is another body; say which, as in pve:anny"
        )


class ScoredJoints(Metric):
    """MPJPE over fourteen joints of `body24`, from the middle of the hips, or moved, scaled and turned to fit."""

    def __init__(self, skeleton: Skeleton, procrustes: bool) -> None:
        if len(skeleton) <= max(SCORED) or skeleton.names[2:4] != ("right_hip", "left_hip"):
            raise PosecliError(
                f"mpjpe-14 scores fourteen joints of the skeleton body24, and this is {skeleton.name!r}: use mpjpe"
            )
        names = tuple(skeleton.names[index] for index in SCORED)
        self.skeleton = Skeleton(f"{skeleton.name}, scored", names)
        self.procrustes = procrustes

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        poses = true_poses(truth)
        scored = dataclasses.replace(poses, skeleton=self.skeleton, people=_scored(poses.people))
        found = {sample_id: _scored(people) for sample_id, people in predictions.items()}
        comparison = Comparison("procrustes") if self.procrustes else Comparison("none", (2, 3))
        scores = Mpjpe(self.skeleton, comparison).compute(scored, found)
        return [dataclasses.replace(score, name=f"{score.name}-14") for score in scores]


def _scored(people: People) -> People:
    index = list(SCORED)
    return dataclasses.replace(people, keypoints=people.keypoints[:, index], scores=people.scores[:, index])
