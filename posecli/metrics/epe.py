"""EPE: the mean distance of keypoints, in pixels or, for 3D data, millimetres."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from posecli.metrics.matching import Pairs, keypoint_distances, mean_of, mean_where, pair_people
from posecli.metrics.metric import Metric, Score
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, People, SampleId


class Epe(Metric):
    """End-point error: mean and median over all labelled keypoints that are predicted; the rest is in the note."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs = pair_people(truth, predictions)
        distances = measured(pairs, None)
        unit = "px" if truth.people.keypoints.shape[2] == 2 else "mm"
        per_keypoint = mean_where(distances, ~np.isnan(distances)).tolist()
        details = dict(zip(self.skeleton.names, per_keypoint, strict=True))
        known = distances[~np.isnan(distances)]
        middle = float(np.median(known)) if len(known) else float("nan")
        return [
            Score("EPE", mean_of(distances), False, unit, 0.0, coverage(pairs, distances), details),
            Score("EPE median", middle, False, unit, 0.0),
        ]


def measured(pairs: Pairs, lengths: FloatArray | None) -> FloatArray:
    """Distances (P, K), divided by lengths (P,) if any; NaN where nothing is labelled or nothing is predicted."""
    normalizers = None if lengths is None else lengths[:, None]
    return keypoint_distances(pairs.predicted, pairs.truth, pairs.known, normalizers)


def coverage(pairs: Pairs, distances: FloatArray) -> str:
    """How many keypoints an error of distances (P, K) is averaged over, and what is not predicted."""
    counted = ~np.isnan(distances)
    text = f"mean over {int(counted.sum())} keypoints of {int(counted.any(axis=1).sum())} people"
    return f"{text}; {pairs.missed}, left out" if pairs.missed else text
