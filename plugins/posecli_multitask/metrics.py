"""Scores of single heads: how often the class is right, and any metric of another head's keypoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from posecli.console import PosecliError
from posecli.metrics.metric import Metric, Score
from posecli.types import Dataset, IntArray, People, SampleId
from posecli_multitask.transform import is_class_column


class Accuracy(Metric):
    """The share of people of known class whose likeliest class is the true one; who is not predicted is wrong.

    Beside it the mean of each class's own share, which always saying the commonest does not raise. A predicted row
    answers the true one that its `row` names. People of a class that the head does not have are left out, and counted;
    where nobody's prediction has classes of the head, there is no score.
    """

    def __init__(self, head: str, column: str) -> None:
        self.head = head
        self.column = column

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        true = self._true(truth)
        told = [people for people in predictions.values() if len(people) and self._tells(people)]
        if not told and any(map(len, predictions.values())):
            return self._scores(float("nan"), float("nan"), f"no prediction has classes of a head {self.head!r}")
        asked = (true >= 0) & truth.people.labelled.any(axis=1) & ~truth.people.crowd
        known = asked & (true < told[0].extra[self.head].shape[1]) if told else asked
        found = self._found(truth, predictions)
        note = f"{int(known.sum())} people"
        if missed := int((found[known] < 0).sum()):
            note += f", {missed} of them not predicted"
        if others := int((asked & ~known).sum()):
            note += f"; {others} left out, of classes that the head does not have"
        right = found == true
        shares = [float(right[known & (true == number)].mean()) for number in np.unique(true[known])]
        if not shares:
            return self._scores(float("nan"), float("nan"), note)
        by_class = f"the mean of {len(shares)} classes' own"
        return self._scores(float(right[known].mean()), float(np.mean(shares)), note, by_class)

    def _true(self, truth: Dataset) -> IntArray:
        """Every true row's class, (P,); -1 is unknown. Raises PosecliError where the data has no such column."""
        values = truth.people.extra.get(self.column)
        if values is None or not is_class_column(values):
            raise PosecliError(
                f"accuracy@{self.head}: {truth.name} has no column {self.column!r} of classes; name its column as in "
                f"accuracy@{self.head}:COLUMN, or choose other metrics, as with --set eval.metrics=[pck]"
            )
        return values.astype(np.int64)

    def _scores(self, share: float, by_class: float, note: str, by_class_note: str = "") -> list[Score]:
        return [
            Score(f"accuracy@{self.head}", share, note=note),
            Score(f"accuracy@{self.head} by class", by_class, note=by_class_note),
        ]

    def _tells(self, people: People) -> bool:
        """Whether predictions have probabilities (N, C) of the head's classes."""
        return self.head in people.extra and people.extra[self.head].ndim == 2

    def _found(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> IntArray:
        """The likeliest class of every true row, (P,); -1 where nothing was predicted."""
        found = np.full(len(truth.people), -1, dtype=np.int64)
        for sample, sample_id in enumerate(truth.ids):
            people = predictions.get(sample_id)
            if people is None or not self._tells(people):
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
