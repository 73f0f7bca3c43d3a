"""What a metric is: truth and predictions in, named scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from posecli.types import Dataset, People, SampleId


@dataclass(frozen=True)
class Score:
    """One number with its name, as printed and as `train.best` names it."""

    name: str  # e.g. AP, AP@0.5, PCK@0.05
    value: float  # NaN when nothing could be scored
    higher_is_better: bool = True
    unit: str = ""  # "", "px", "mm"
    best: float = 1.0  # the value a perfect prediction gets
    note: str = ""  # how it was reached: sigmas used, normaliser, what was left out
    details: Mapping[str, float] | None = None  # e.g. the same score per keypoint name


class Metric(ABC):
    """Scores predictions against truth. Built by its MetricConfig for one skeleton."""

    @abstractmethod
    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        """The scores; the first is the headline.

        `predictions` holds all predicted people of a sample; a sample without an entry has none. A predicted row
        whose `extra["row"]` is r was made for the r-th true person of its sample; without it, rows are matched by
        the metric.
        """
