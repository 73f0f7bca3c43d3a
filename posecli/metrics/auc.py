"""AUC: the area under the curve of PCK over thresholds in pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from posecli.metrics.matching import fraction_below, keypoint_distances, mean_of, pair_people
from posecli.metrics.metric import Metric, Score
from posecli.metrics.pck import require_2d
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, People, SampleId


class Auc(Metric):
    """Mean PCK at the thresholds 0, 1/steps ... (steps - 1)/steps of a fixed number of pixels.

    No keypoint is nearer than 0, so a perfect prediction gets (steps - 1) / steps.
    """

    def __init__(self, skeleton: Skeleton, pixels: float = 30.0, steps: int = 20) -> None:
        self.skeleton = skeleton
        self.pixels = pixels
        self.steps = steps

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs = pair_people(truth, predictions)
        require_2d(truth, "AUC")
        normalizers = np.full((len(pairs), 1), self.pixels)
        distances = keypoint_distances(pairs.predicted, pairs.truth, pairs.visible, normalizers)
        curves = pck_curves(distances, self.steps)
        notes = [f"PCK at {self.steps} thresholds up to {self.pixels:g} px", f"{len(pairs)} people"]
        if pairs.missed:
            notes.append(f"{pairs.missed}, counted as wrong")
        details = dict(zip(self.skeleton.names, curves.mean(axis=0).tolist(), strict=True))
        score = Score(
            f"AUC@{self.pixels:g}",
            mean_of(curves.mean(axis=0)),
            best=(self.steps - 1) / self.steps,
            note="; ".join(notes),
            details=details,
        )
        return [score]


def pck_curves(distances: FloatArray, steps: int) -> FloatArray:
    """PCK per keypoint at the thresholds i / steps, (steps, K), from normalised distances (P, K)."""
    return np.stack([fraction_below(distances, step / steps) for step in range(steps)])
