"""PCK: the share of keypoints that lie near enough, measured by the person's own size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from posecli.console import PosecliError, counted
from posecli.metrics.matching import fraction_below, keypoint_distances, mean_of, pair_people
from posecli.metrics.metric import Metric, Score
from posecli.metrics.normalizers import Normalizer
from posecli.skeleton import Skeleton
from posecli.types import Dataset, People, SampleId


class Pck(Metric):
    """Percentage of correct keypoints (Yang and Ramanan, PAMI 2013): error / length < threshold, strictly.

    The headline is the mean over the keypoints that have data; a person without a prediction counts as missed, one
    without a length is left out and counted in the note.
    """

    def __init__(self, skeleton: Skeleton, threshold: float, normalizer: Normalizer) -> None:
        self.skeleton = skeleton
        self.threshold = threshold
        self.normalizer = normalizer

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs = pair_people(truth, predictions)
        require_2d(truth, "PCK")
        lengths = self.normalizer.lengths(truth, pairs.rows)
        distances = keypoint_distances(pairs.predicted, pairs.truth, pairs.visible, lengths[:, None])
        accuracy = fraction_below(distances, self.threshold)
        without = int(np.isnan(lengths).sum())
        notes = [f"of {self.normalizer.description}", counted(len(pairs) - without, "person", "people")]
        if without:
            notes.append(f"{counted(without, 'person', 'people')} without that length left out")
        if pairs.missed:
            notes.append(f"{pairs.missed}, counted as wrong")
        name = f"PCK@{self.threshold:g}" + ("" if self.normalizer.name == "bbox" else f":{self.normalizer.name}")
        details = dict(zip(self.skeleton.names, accuracy.tolist(), strict=True))
        return [Score(name, mean_of(accuracy), note="; ".join(notes), details=details)]


def require_2d(truth: Dataset, name: str) -> None:
    """Raise PosecliError for 3D data, which has no pixels to measure."""
    if truth.people.keypoints.shape[2] != 2:
        raise PosecliError(f"{name} is measured in the picture, the data {truth.name!r} has 3D keypoints: use mpjpe")
