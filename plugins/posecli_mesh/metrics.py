"""Errors of found bodies in millimetres: of all vertices, and of the fourteen joints that SMPL's data is scored on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from posecli.console import PosecliError, listed
from posecli.metrics.metric import Metric, Score
from posecli.metrics.mpjpe import Comparison, Mpjpe, true_poses
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, IntArray, People, SampleId
from posecli_mesh.bodies import (
    BODIES,
    GENDER_NUMBERS,
    Body,
    BodyName,
    Gender,
    check_sizes,
    labelled,
    named_bodies,
    open_body,
)

SCORED = (*range(13), 18)
"""Of `body24`: ankles to neck as LSP has them, and the head (Kanazawa et al., CVPR 2018)."""
HIPS = ("left_hip", "right_hip")
TOGETHER = 256  # bodies that are made at once


class VertexError(Metric):
    """The mean distance of vertices (PVE), both bodies moved so that the middle of their hips is in the origin.

    True ones are made of their rotations and shape; so are found ones where they come without vertices, as in results
    on disk: both with SMPL's body of the gender that they name, the neutral one where they name none. People whose true
    pose and shape are not labelled are left out.
    """

    def __init__(self, body: BodyName | None, skeleton: Skeleton) -> None:
        """Without a body it is the one that the data names."""
        self.body = body
        self.hips = [skeleton.names.index(hip) for hip in HIPS if hip in skeleton.names]

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        true, found, missed = matched_bodies(truth, predictions)
        name = self._name(truth)
        gender = _told(name, found)
        errors = []
        for own, rows in by_gender(name, true).items():
            body = open_body(name, gender=own)
            for what, people in (("the data", true), ("the predictions", found)):
                check_sizes(body, people, what, "say which, as in pve:anny")
            theirs = body if own == gender or self._has_skins(found) else open_body(name, gender=gender)
            for start in range(0, len(rows), TOGETHER):
                some = rows[start : start + TOGETHER]
                errors.append(self._errors(name, (body, true[some]), (theirs, found[some])))
        value = float(np.concatenate(errors).mean()) if errors else float("nan")
        notes = ["relative to the middle of the hips", f"{len(true)} bodies", *_genders(name, true, gender)]
        if missed:
            notes.append(f"{missed} not predicted, left out")
        return [Score("PVE", value, False, "mm", 0.0, "; ".join(notes))]

    def _errors(self, name: BodyName, true: tuple[Body, People], found: tuple[Body, People]) -> FloatArray:
        """The mean distances (N,) in mm of true people and of those that answer them, each with its body."""
        expected = skins(*true)
        skin = self._found_skins(found[1]) if self._has_skins(found[1]) else skins(*found)
        if skin.shape != expected.shape:
            raise PosecliError(
                f"the found bodies have {skin.shape[1]} vertices, and {name!r}, which the data is of, has "
                f"{expected.shape[1]}: they are of different files; set the one that the model was trained with"
            )
        return np.asarray(np.linalg.norm(skin - expected, axis=-1).mean(-1))

    def _has_skins(self, found: People) -> bool:
        return "vertices" in found.extra and len(self.hips) == len(HIPS)

    def _found_skins(self, people: People) -> FloatArray:
        """Vertices (N, V, 3) as they were found, in millimetres from the middle of the found hips."""
        middle = people.keypoints[:, self.hips].mean(axis=1, keepdims=True)
        return np.asarray(people.extra["vertices"] - middle)

    def _name(self, truth: Dataset) -> BodyName:
        named = named_bodies(truth.people)
        if len(named) > 1:
            raise PosecliError(
                f"the data {truth.name!r} has bodies of {' and '.join(map(repr, named))}: pve scores one kind at a time"
            )
        if self.body is None and not named:  # nobody is labelled: nothing is scored, of the body that the column names
            named = [BODIES[int(number)] for number in np.unique(truth.people.extra.get("body", []))]
        if self.body is None and len(named) != 1:
            raise PosecliError(f"the data {truth.name!r} does not say whose shapes it has: name a body, as in pve:smpl")
        if self.body is not None and named and self.body != named[0]:
            raise PosecliError(
                f"pve:{self.body} cannot score the data {truth.name!r}, which has bodies of {named[0]!r}: use pve:"
                f"{named[0]}"
            )
        return named[0] if self.body is None else self.body


def _told(name: BodyName, found: People) -> Gender:
    """The gender of found bodies, neutral where they do not say. Raises PosecliError for another body than `name`."""
    others = [one for one in named_bodies(found) if one != name]
    if others:
        raise PosecliError(
            f"the data has bodies of {name!r} and the predictions are of {others[0]!r}, whose vertices are others: "
            f"score data of {others[0]!r} bodies, or leave pve out"
        )
    numbers = np.unique(found.extra.get("gender", []))
    if len(numbers) > 1:
        raise PosecliError("the predictions are of bodies of several genders: score those of one model at a time")
    return GENDER_NUMBERS[int(numbers[0])] if len(numbers) else "neutral"


def by_gender(name: BodyName, people: People) -> dict[Gender, IntArray]:
    """The rows of people by the gender of SMPL's body that they are of, neutral where the column says nothing."""
    genders = people.extra.get("gender", np.zeros(len(people), np.int64))
    if name != "smpl":
        genders = np.zeros(len(people), np.int64)
    return {GENDER_NUMBERS[number]: np.flatnonzero(genders == number) for number in np.unique(genders).tolist()}


def _genders(name: BodyName, true: People, found: Gender) -> list[str]:
    """What a score's note says of genders: nothing where all are neutral."""
    counts = {gender: len(rows) for gender, rows in by_gender(name, true).items()}
    if set(counts) <= {"neutral"}:
        return [] if found == "neutral" else [f"{found} bodies were found, against neutral ones"]
    return [f"{found} bodies were found, against {listed([f'{n} {gender}' for gender, n in counts.items()])} ones"]


def matched_bodies(truth: Dataset, predictions: Mapping[SampleId, People]) -> tuple[People, People, int]:
    """The true people with a labelled body that were answered, the answers, row by row, and how many were not.

    Raises PosecliError where either side has no bodies.
    """
    extra = truth.people.extra
    if "rotations" not in extra or "shape" not in extra:
        raise PosecliError(f"the data {truth.name!r} has no poses and shapes of bodies, which the metric pve needs")
    known = labelled(truth.people)
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
    hips = [body.joints.index(hip) for hip in HIPS]
    middle = found.joints[:, hips].mean(dim=1, keepdim=True)
    vertices: FloatArray = ((found.vertices - middle) * 1000).numpy()
    return vertices


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
