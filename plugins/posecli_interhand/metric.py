"""The scores of InterHand2.6M (Moon et al., ECCV 2020): MPJPE, MRRPE and handedness of pairs of hands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from posecli.camera import back_project, project
from posecli.console import PosecliError
from posecli.metrics.metric import Metric, Score
from posecli.skeleton import Skeleton
from posecli.types import Array, BoolArray, Camera, Dataset, FloatArray, IntArray, People, SampleId

JOINTS = 21  # of a hand; the right hand's come first
WRISTS = (20, 41)
SURE = 0.5  # probability above which a hand is there


@dataclass(frozen=True)
class Answers:
    """True pairs and what was predicted for them, row by row; NaN where nothing was."""

    truth: People  # (M,) with keypoints_3d and the columns of `posecli.datasets.hand_columns`
    points: FloatArray  # (M, 42, 3) predicted camera millimetres
    hand_type: FloatArray  # (M, 2) predicted probabilities
    root_depth: FloatArray  # (M,) predicted millimetres
    focal: FloatArray  # (M, 2) pixels
    center: FloatArray  # (M, 2) pixels

    @property
    def answered(self) -> BoolArray:
        """Which pairs something was predicted for, (M,)."""
        return np.asarray(np.isfinite(self.points).any(axis=(1, 2)))

    @property
    def interacting(self) -> BoolArray:
        """Which truly are two hands, (M,)."""
        return np.asarray((self.truth.extra["hand_type"] > 0).all(axis=1))


class InterHandMetric(Metric):
    """MPJPE over the labelled joints of hands whose wrist is labelled, each hand moved to its own wrist, truth and
    prediction alike; the wrists count, with no error, as they do in the reference. MRRPE: the mean distance of the left
    wrist's place relative to the right one from the true one, over interacting hands; the true depth of the right
    wrist is given, the left one lies the predicted `root_depth` behind it. Handedness: the share of pairs of which
    both bits are right, where the truth is known.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        if len(skeleton) != 2 * JOINTS:
            raise PosecliError(
                f"the metric interhand scores pairs of hands, {2 * JOINTS} keypoints; skeleton {skeleton.name!r} has "
                f"{len(skeleton)}: use epe, pck or auc for single hands"
            )

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        answers = find_answers(truth, predictions)
        distances = joint_distances(answers)  # (M, 42)
        counted = np.isfinite(distances).any(axis=1)
        both = answers.interacting
        missed = int((~answers.answered).sum())
        lost = f"; nothing predicted for {missed}, left out" if missed else ""
        rows = {"MPJPE": counted, "MPJPE single": counted & ~both, "MPJPE interacting": counted & both}
        scores = [
            Score(name, _mean(distances[chosen]), False, "mm", 0.0, f"{int(chosen.sum())} pairs{lost}")
            for name, chosen in rows.items()
        ]
        roots = root_distances(answers)
        known = f"{int(np.isfinite(roots).sum())} pairs with both wrists known"
        right, count = handedness(answers)
        return [
            *scores,
            Score("MRRPE", _mean(roots), False, "mm", 0.0, known),
            Score("handedness", right, True, "", 1.0, f"{count} pairs of known type"),
        ]


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def find_answers(truth: Dataset, predictions: Mapping[SampleId, People]) -> Answers:
    """What was predicted for each true pair: the row that names it, else the only row of a picture with one pair.

    Predictions that are not `in_camera` are put before the true cameras, their wrists at the true depths. Raises
    PosecliError when the truth is no pairs in 3D seen by cameras, or a prediction is not 3D.
    """
    missing = [name for name in ("keypoints_3d", "hand_type", "absolute_depth") if name not in truth.people.extra]
    if missing or truth.cameras is None:
        raise PosecliError(
            f"the metric interhand needs pairs of hands in 3D with cameras; {truth.name!r} has no "
            f"{missing[0] if missing else 'cameras'}"
        )
    count = len(truth.people)
    points, kinds = np.full((count, 2 * JOINTS, 3), np.nan), np.full((count, 2), np.nan)
    depth, placed = np.full(count, np.nan), np.ones(count, dtype=bool)
    for sample, sample_id in enumerate(truth.ids):
        people = predictions.get(sample_id)
        if people is None or not len(people):
            continue
        first, last = int(truth.offsets[sample]), int(truth.offsets[sample + 1])
        taken, rows = _rows(people, first, last)
        if people.keypoints.shape[1:] != (2 * JOINTS, 3):
            raise PosecliError(
                f"sample {sample_id}: the prediction has keypoints {people.keypoints.shape[1:]}, the metric interhand "
                f"scores {2 * JOINTS} of 3 camera millimetres"
            )
        points[rows] = people.keypoints[taken]
        kinds[rows] = _column(people, "hand_type", (len(people), 2))[taken]
        depth[rows] = _column(people, "root_depth", (len(people),))[taken]
        placed[rows] = np.asarray(people.extra.get("in_camera", np.ones(len(people))), dtype=bool)[taken]
    cameras = [truth.cameras[int(index)] for index in truth.sample_of_row]
    for row in np.flatnonzero(~placed).tolist():
        points[row] = _before_camera(points[row], truth.people.extra["absolute_depth"][row], cameras[row])
    focal, center = (
        np.array([getattr(camera, name) for camera in cameras]).reshape(-1, 2) for name in ("focal", "center")
    )
    return Answers(truth.people, points, kinds, depth, focal, center)


def _before_camera(points: FloatArray, wrists: FloatArray, camera: Camera) -> FloatArray:
    """Points (42, 3) of pixels and millimetres behind the own hand's wrist as camera millimetres (42, 3), with the
    wrists (2,) so far from the camera."""
    depth = points[:, 2] + np.repeat(wrists.astype(np.float64), JOINTS)
    return back_project(points[:, :2], depth, camera.focal, camera.center, camera.distortion)


def _rows(people: People, first: int, last: int) -> tuple[IntArray, IntArray]:
    """Which predicted rows answer, and the true rows `first` to `last` - 1 that they answer."""
    if "row" not in people.extra:
        one = np.arange(min(len(people), last - first, 1))
        return one, first + one
    row = np.asarray(people.extra["row"], dtype=np.int64)
    taken = np.flatnonzero((row >= 0) & (row < last - first))
    return taken, first + row[taken]


def _column(people: People, name: str, shape: tuple[int, ...]) -> Array:
    return np.asarray(people.extra.get(name, np.full(shape, np.nan)), dtype=np.float64).reshape(shape)


def from_wrists(points: FloatArray) -> FloatArray:
    """Points (M, 42, 3) relative to the own hand's wrist."""
    hands = points.astype(np.float64).reshape(-1, 2, JOINTS, 3)
    return (hands - hands[:, :, WRISTS[0], None]).reshape(-1, 2 * JOINTS, 3)


def joint_distances(answers: Answers) -> FloatArray:
    """Errors (M, 42) in millimetres after each hand is moved to its wrist; NaN where not labelled or not predicted."""
    error = from_wrists(answers.points) - from_wrists(answers.truth.extra["keypoints_3d"])
    return np.asarray(np.sqrt((error * error).sum(axis=-1)))


def root_distances(answers: Answers) -> FloatArray:
    """Errors (M,) in millimetres of the left wrist's place relative to the right one; NaN where not to be scored."""
    absolute = np.asarray(answers.truth.extra["absolute_depth"], dtype=np.float64)  # (M, 2)
    right, left = answers.points[:, WRISTS[0]], answers.points[:, WRISTS[1]]
    pixel = project(left[:, None], answers.focal, answers.center)  # (M, 1, 2)
    depth = left[:, 2] - absolute[:, 1] + absolute[:, 0] + answers.root_depth
    placed = back_project(pixel, depth[:, None], answers.focal, answers.center)[:, 0]
    true = answers.truth.extra["keypoints_3d"].astype(np.float64)
    error = placed - right - (true[:, WRISTS[1]] - true[:, WRISTS[0]])
    distances = np.sqrt((error * error).sum(axis=-1))
    return np.asarray(np.where(answers.interacting, distances, np.nan))


def handedness(answers: Answers) -> tuple[float, int]:
    """The share of pairs of which both bits are right, and of how many; what was not predicted is wrong."""
    extra = answers.truth.extra
    known = np.asarray(extra.get("hand_type_valid", np.ones(len(answers.points)))) > 0
    said: BoolArray = answers.hand_type > SURE
    right = (said == (extra["hand_type"] > 0)).all(axis=1) & np.isfinite(answers.hand_type).all(axis=1)
    return (float(right[known].mean()) if known.any() else float("nan")), int(known.sum())
