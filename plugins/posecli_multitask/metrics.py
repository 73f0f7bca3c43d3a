"""Scores of single heads: how often the class is right, and any metric of another head's keypoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from posecli.console import PosecliError
from posecli.metrics.metric import Metric, Score
from posecli.types import Array, Dataset, People, SampleId


class Accuracy(Metric):
    """The share of people of known class whose likeliest class is the true one; who is not predicted is wrong.

    Beside it the mean of each class's own share, which always saying the commonest does not raise. A predicted row
    answers the true one that its `row` names.
    """

    def __init__(self, head: str, column: str) -> None:
        self.head = head
        self.column = column

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        values = truth.people.extra.get(self.column)
        if values is None or values.ndim != 1:
            raise PosecliError(
                f"accuracy@{self.head}: {truth.name} has no column {self.column!r} of classes; name its column as in "
                f"accuracy@{self.head}:COLUMN, or choose other metrics, as with --set eval.metrics=[pck]"
            )
        true = np.asarray(values, dtype=np.int64)
        found = self._found(truth, predictions)
        known = (true >= 0) & truth.people.labelled.any(axis=1) & ~truth.people.crowd
        missed = int((found[known] < 0).sum())
        note = f"{int(known.sum())} people" + (f", {missed} of them not predicted" if missed else "")
        right = found == true
        shares = [float(right[known & (true == number)].mean()) for number in np.unique(true[known])]
        return [
            Score(f"accuracy@{self.head}", float(right[known].mean()) if shares else float("nan"), note=note),
            Score(
                f"accuracy@{self.head} by class",
                float(np.mean(shares)) if shares else float("nan"),
                note=f"the mean of {len(shares)} classes' own",
            ),
        ]

    def _found(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> Array:
        """The likeliest class of every true row, (P,); -1 where nothing was predicted."""
        found = np.full(len(truth.people), -1, dtype=np.int64)
        for sample, sample_id in enumerate(truth.ids):
            people = predictions.get(sample_id)
            if people is None or self.head not in people.extra:
                continue
            first, last = int(truth.offsets[sample]), int(truth.offsets[sample + 1])
            default = np.arange(len(people)) if len(people) == last - first else np.full(len(people), -1)
            row = np.asarray(people.extra.get("row", default), dtype=np.int64)
            taken = (row >= 0) & (row < last - first)
            found[first + row[taken]] = people.extra[self.head][taken].argmax(axis=1)
        return found


class OfHead(Metric):
    """Another metric, of the keypoints in the column `head`."""

    def __init__(self, head: str, metric: Metric) -> None:
        self.head = head
        self.metric = metric

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        own = {sample_id: self._of_head(people) for sample_id, people in predictions.items()}
        scores = self.metric.compute(truth, own)
        return [dataclasses.replace(score, name=f"{self.head}: {score.name}") for score in scores]

    def _of_head(self, people: People) -> People:
        """Raises PosecliError where the head is none that was predicted."""
        if not len(people):
            return people
        points = people.extra.get(self.head)
        if points is None or points.ndim != 3:
            raise PosecliError(f"head@{self.head}: no head {self.head!r} beside the main one has found keypoints")
        return dataclasses.replace(people, keypoints=points)
