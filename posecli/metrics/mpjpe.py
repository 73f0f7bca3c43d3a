"""Errors of 3D poses in millimetres: MPJPE, N-MPJPE, P-MPJPE, 3DPCK and 3DAUC, over all frames and by action."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from posecli.console import PosecliError
from posecli.metrics.alignment import align
from posecli.metrics.config import Alignment
from posecli.metrics.matching import Pairs, fraction_below, keypoint_distances, mean_of, mean_where, pair_people
from posecli.metrics.metric import Metric, Score
from posecli.metrics.normalizers import keypoint_index
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, IntArray, People, SampleId

NAMES: Mapping[Alignment, str] = {"none": "MPJPE", "scale": "N-MPJPE", "procrustes": "P-MPJPE"}
CURVE_STEPS = 31
"""Thresholds of the 3DAUC's curve, both ends included; the first one is 0, which no error is below."""


@dataclass(frozen=True)
class Comparison:
    """What is compared: which keypoint of both poses is moved to the origin, and how poses are aligned after that."""

    alignment: Alignment = "none"
    origin: tuple[int, ...] = ()  # keypoints whose mean is the origin; () = where the camera is

    def distances(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> tuple[Pairs, FloatArray]:
        """Who answers whom, and distances (P, K) in mm: NaN where unlabelled, infinity where not predicted.

        Raises PosecliError when the truth or a prediction is not 3D.
        """
        moved = {sample_id: self._moved(people) for sample_id, people in predictions.items()}
        true = true_poses(truth)
        pairs = pair_people(dataclasses.replace(true, people=self._moved(true.people)), moved)
        aligned = align(pairs.predicted, pairs.truth, pairs.known, self.alignment)
        return pairs, keypoint_distances(aligned, pairs.truth, pairs.visible)

    def _moved(self, people: People) -> People:
        if not self.origin:
            return people
        points = people.keypoints.astype(np.float64)
        points = points - points[:, self.origin].mean(axis=1, keepdims=True)
        return dataclasses.replace(people, keypoints=points)

    @property
    def aligned(self) -> str:
        """What names the alignment where a score's own name does not."""
        return "" if self.alignment == "none" else f":{self.alignment}"

    def named(self, score: str, skeleton: Skeleton) -> str:
        """The score's name with the origin behind it, unless that is the root, so that no two origins share a name."""
        if self.alignment == "procrustes" or (self.origin and set(self.origin) == set(skeleton.roots)):
            return score
        return f"{score}:{','.join(skeleton.names[index] for index in self.origin) or 'none'}"

    def describe(self, skeleton: Skeleton) -> str:
        """What is done to both poses, in a few words."""
        moved = f"relative to {' and '.join(skeleton.names[index] for index in self.origin)}"
        turned = {"none": "", "scale": "best scale", "procrustes": "moved, scaled and turned to fit"}[self.alignment]
        parts = [moved] if self.origin and self.alignment != "procrustes" else []
        return ", ".join([*parts, turned] if turned else parts) or "in the camera frame"


def true_poses(truth: Dataset) -> Dataset:
    """The dataset with its true 3D poses as keypoints. Raises PosecliError when it has none."""
    people = truth.people
    if "keypoints_3d" in people.extra:
        points = people.extra["keypoints_3d"]
        known = np.asarray(np.isfinite(points).all(axis=-1))
        extra = {name: values for name, values in people.extra.items() if name != "keypoints_3d"}
        shown = dataclasses.replace(people, keypoints=points, scores=known.astype(np.float32), extra=extra)
        return dataclasses.replace(truth, people=shown)
    if people.keypoints.shape[2] != 3:
        raise PosecliError(
            f"the data {truth.name!r} has 2D keypoints only, there is no 3D error to take: use epe or pck, or data "
            f"with 3D poses"
        )
    return truth


class Mpjpe(Metric):
    """Mean per joint position error (Ionescu et al., Human3.6M, PAMI 2014), after an alignment or without one.

    The mean is over all keypoints that are labelled and predicted. Where the data names actions, a second score is
    the mean of the actions' means, as papers on Human3.6M report it.
    """

    def __init__(self, skeleton: Skeleton, comparison: Comparison) -> None:
        self.skeleton = skeleton
        self.comparison = comparison

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs, distances = self.comparison.distances(truth, predictions)
        measured = np.where(np.isinf(distances), np.nan, distances)
        counted = ~np.isnan(measured)
        notes = [self.comparison.describe(self.skeleton), f"{int(counted.any(axis=1).sum())} poses"]
        if pairs.missed:
            notes.append(f"{pairs.missed}, left out")
        name = self.comparison.named(NAMES[self.comparison.alignment], self.skeleton)
        details = dict(zip(self.skeleton.names, mean_where(measured, counted).tolist(), strict=True))
        score = Score(name, mean_of(measured), False, "mm", 0.0, "; ".join(notes), details)
        return [score, *by_action(score, truth, pairs.rows, measured)]


class Pck3d(Metric):
    """The share of keypoints nearer than a number of millimetres, strictly (Mehta et al., MPI-INF-3DHP, 3DV 2017).

    Over all labelled keypoints together; what is not predicted counts as wrong.
    """

    def __init__(self, skeleton: Skeleton, comparison: Comparison, threshold: float = 150.0) -> None:
        self.skeleton = skeleton
        self.comparison = comparison
        self.threshold = threshold

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs, distances = self.comparison.distances(truth, predictions)
        near = np.where(np.isnan(distances), np.nan, distances < self.threshold)
        notes = [self.comparison.describe(self.skeleton), f"{len(pairs)} poses"]
        if pairs.missed:
            notes.append(f"{pairs.missed}, counted as wrong")
        details = dict(zip(self.skeleton.names, fraction_below(distances, self.threshold).tolist(), strict=True))
        name = self.comparison.named(f"3DPCK@{self.threshold:g}{self.comparison.aligned}", self.skeleton)
        score = Score(name, mean_of(near), note="; ".join(notes), details=details)
        return [score, *by_action(score, truth, pairs.rows, near)]


class Auc3d(Metric):
    """The mean 3DPCK at 31 thresholds from 0 to a number of millimetres; a perfect prediction gets 30/31."""

    def __init__(self, skeleton: Skeleton, comparison: Comparison, longest: float = 150.0) -> None:
        self.skeleton = skeleton
        self.comparison = comparison
        self.longest = longest

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs, distances = self.comparison.distances(truth, predictions)
        shares = curve_areas(distances, self.longest)
        notes = [self.comparison.describe(self.skeleton), f"{len(pairs)} poses"]
        if pairs.missed:
            notes.append(f"{pairs.missed}, counted as wrong")
        details = dict(zip(self.skeleton.names, mean_where(shares, ~np.isnan(shares)).tolist(), strict=True))
        best = (CURVE_STEPS - 1) / CURVE_STEPS
        name = self.comparison.named(f"3DAUC@{self.longest:g}{self.comparison.aligned}", self.skeleton)
        score = Score(name, mean_of(shares), best=best, note="; ".join(notes), details=details)
        return [score, *by_action(score, truth, pairs.rows, shares)]


def curve_areas(distances: FloatArray, longest: float) -> FloatArray:
    """The share of the curve's thresholds that each of the distances (P, K) is below; NaN stays NaN."""
    thresholds = np.linspace(0, longest, CURVE_STEPS)
    below = CURVE_STEPS - np.searchsorted(thresholds, distances, side="right")  # NaN is sorted past the end
    return np.where(np.isnan(distances), np.nan, below / CURVE_STEPS)


def by_action(score: Score, truth: Dataset, rows: IntArray, values: FloatArray) -> list[Score]:
    """The mean over actions of a score, with each action's own as details; [] where the data names none.

    `values` (P, K) are those of the true people `rows`; NaN is left out.
    """
    names = truth.actions
    if not names or "action" not in truth.people.extra:
        return []
    actions = truth.people.extra["action"][rows]
    means = {name: mean_of(values[actions == number]) for number, name in names.items() if (actions == number).any()}
    note = f"the mean of {len(means)} actions' own"
    mean = mean_of(np.array(list(means.values())))
    named = f"{score.name} by action"
    return [dataclasses.replace(score, name=named, value=mean, note=note, details=means)]


def find_origin(option: str | None, skeleton: Skeleton) -> tuple[int, ...]:
    """The keypoints whose mean is the origin: `none` for none, `a` or `a,b` (names or numbers), by default the root.

    Raises PosecliError when there is no root and nothing else is said, or no such keypoint.
    """
    if option == "none":
        return ()
    if option is not None:
        return tuple(keypoint_index(word.strip(), skeleton) for word in option.split(","))
    if not skeleton.roots:
        raise PosecliError(
            f"skeleton {skeleton.name!r} has neither a root (pelvis, root, hips) nor left_hip and right_hip: say which "
            f"keypoint is moved to the origin, as in mpjpe:{skeleton.names[0]}, or mpjpe:none"
        )
    return skeleton.roots
