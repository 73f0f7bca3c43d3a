"""NME: the mean distance of keypoints as a fraction of the person's own size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from posecli.console import counted
from posecli.metrics.epe import coverage, measured
from posecli.metrics.matching import mean_of, mean_where, pair_people
from posecli.metrics.metric import Metric, Score
from posecli.metrics.normalizers import Normalizer
from posecli.metrics.pck import require_2d
from posecli.skeleton import Skeleton
from posecli.types import Dataset, People, SampleId


class Nme(Metric):
    """Normalised mean error over all labelled keypoints that are predicted; faces: by the distance between the eyes."""

    def __init__(self, skeleton: Skeleton, normalizer: Normalizer) -> None:
        self.skeleton = skeleton
        self.normalizer = normalizer

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs = pair_people(truth, predictions)
        require_2d(truth, "NME")
        lengths = self.normalizer.lengths(truth, pairs.rows)
        distances = measured(pairs, lengths)
        notes = [f"of {self.normalizer.description}", coverage(pairs, distances)]
        without = int(np.isnan(lengths).sum())
        if without:
            notes.append(f"{counted(without, 'person', 'people')} without that length left out")
        per_keypoint = mean_where(distances, ~np.isnan(distances)).tolist()
        details = dict(zip(self.skeleton.names, per_keypoint, strict=True))
        name = "NME" if self.normalizer.name == "bbox" else f"NME:{self.normalizer.name}"
        return [Score(name, mean_of(distances), False, "", 0.0, "; ".join(notes), details)]
