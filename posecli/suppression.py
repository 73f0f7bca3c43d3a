"""Duplicates of one person taken out: non-maximum suppression by object keypoint similarity or by boxes. numpy only.

The similarity of two instances with keypoints i at distances d_i is the mean over keypoints of
exp(-d_i^2 / (2 (2 sigma_i)^2 area)), `area` the mean of the two instances' areas in square pixels (COCO's measure,
with two detections in place of truth and detection). What the area is, is a convention: the reference takes the
padded box for top-down and the box around the keypoints for bottom-up; callers hand it in, or the people say it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from posecli.geometry import box_areas, box_iou, keypoint_boxes
from posecli.types import FloatArray, IntArray, People

Sigmas = Sequence[float] | FloatArray
"""(K,) constants of the keypoints, .026 for a nose."""


def instance_areas(people: People) -> FloatArray:
    """The area of each row (N,), square pixels: extra["area"] if there, else of the box, else around its keypoints."""
    if "area" in people.extra:
        return np.asarray(people.extra["area"], np.float64)
    boxes = keypoint_boxes(people.keypoints[..., :2]) if people.boxes is None else people.boxes
    return box_areas(np.asarray(boxes, np.float64))


def instance_scores(people: People) -> FloatArray:
    """The score of each row (N,): its own if there, else the mean of its keypoints' scores."""
    scores = people.scores.mean(axis=1) if people.instance_scores is None else people.instance_scores
    return np.asarray(scores, np.float64)


def oks_matrix(
    first: People,
    second: People,
    sigmas: Sigmas,
    areas: tuple[FloatArray, FloatArray] | None = None,
    visible: float | None = None,
) -> FloatArray:
    """Similarities (N, M) of all rows of `first` to all rows of `second`, between 0 and 1.

    `areas` are those of both, (N,) and (M,); None takes `instance_areas`. Only keypoints known in both rows count, and
    with `visible` only those whose scores are above it in both; 0 where none is left.
    """
    own, other = areas if areas is not None else (instance_areas(first), instance_areas(second))
    rows = [_similarity(first, row, second, sigmas, own, other, visible) for row in range(len(first))]
    return np.stack(rows) if rows else np.zeros((0, len(second)))


def oks_nms(
    people: People,
    sigmas: Sigmas,
    threshold: float = 0.9,
    areas: FloatArray | None = None,
    visible: float | None = None,
) -> IntArray:
    """The rows to keep, best first: each is at most `threshold` similar to every better one kept.

    `areas` (N,) in square pixels, `visible` as for `oks_matrix`.
    """
    known = instance_areas(people) if areas is None else areas

    def similar(row: int, rest: IntArray) -> FloatArray:
        return _similarity(people, row, people[rest], sigmas, known, known[rest], visible)

    return _greedy(instance_scores(people), similar, threshold)


def soft_oks_nms(
    people: People,
    sigmas: Sigmas,
    threshold: float = 0.9,
    areas: FloatArray | None = None,
    limit: int = 20,
    visible: float | None = None,
) -> tuple[IntArray, FloatArray]:
    """At most `limit` rows, best first, and their new scores: each better row kept scales by exp(-oks^2 / threshold).

    The Gaussian rescoring of Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017,
    with keypoint similarity for box overlap.
    """
    known = instance_areas(people) if areas is None else areas
    scores = instance_scores(people).copy()  # rescored in place below
    left = np.ones(len(people), bool)
    kept: list[int] = []
    for _ in range(min(limit, len(people))):
        best = int(np.argmax(np.where(left, scores, -np.inf)))
        kept.append(best)
        left[best] = False
        rest = np.flatnonzero(left)
        similarity = _similarity(people, best, people[rest], sigmas, known, known[rest], visible)
        scores[rest] *= np.exp(-(similarity**2) / threshold)
    rows = np.array(kept, np.int64)
    return rows, scores[rows]


def box_nms(boxes: FloatArray, scores: FloatArray, threshold: float) -> IntArray:
    """The rows of boxes (N, 4) to keep, best first: each overlaps every better one kept by at most `threshold` IoU."""

    def similar(row: int, rest: IntArray) -> FloatArray:
        return np.asarray(box_iou(boxes[row : row + 1], boxes[rest])[0])

    return _greedy(scores, similar, threshold)


def _greedy(scores: FloatArray, similar: Callable[[int, IntArray], FloatArray], threshold: float) -> IntArray:
    """Rows by falling score, equal scores by position, without those more than `threshold` similar to a kept one."""
    waiting: IntArray = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(waiting):
        row, waiting = int(waiting[0]), waiting[1:]
        kept.append(row)
        waiting = waiting[similar(row, waiting) <= threshold]
    return np.array(kept, np.int64)


def _similarity(
    first: People,
    row: int,
    second: People,
    sigmas: Sigmas,
    first_areas: FloatArray,
    second_areas: FloatArray,
    visible: float | None,
) -> FloatArray:
    """Similarity (M,) of one row to all rows of `second`; one row at a time, so memory stays that of the people."""
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2  # (K,)
    if variances.shape != (first.keypoints.shape[1],):
        raise ValueError(f"{len(variances)} sigmas for {first.keypoints.shape[1]} keypoints")
    difference = second.keypoints[..., :2].astype(np.float64) - first.keypoints[row, :, :2]
    squared = (difference**2).sum(axis=-1)  # (M, K)
    counted = np.isfinite(squared)
    if visible is not None:
        counted &= (second.scores > visible) & (first.scores[row] > visible)
    area = (second_areas.astype(np.float64) + first_areas[row]) / 2 + np.spacing(1)
    closeness = np.exp(-np.where(counted, squared, 0.0) / (2 * variances * area[:, None]))
    return np.asarray((closeness * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1))
