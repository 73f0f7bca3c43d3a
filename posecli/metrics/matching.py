"""Which predicted row answers which true person, and what is left to measure between them. numpy, scipy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from posecli.console import PosecliError
from posecli.types import IN_PICTURE, BoolArray, Dataset, FloatArray, IntArray, People, SampleId


@dataclass(frozen=True)
class Pairs:
    """The P true people that count, each with the prediction made for it, NaN where there is none.

    Crowd rows and people without a labelled keypoint are left out; everybody else is here, found or not.
    """

    rows: IntArray  # (P,) rows of the truth's people
    truth: FloatArray  # (P, K, D)
    visible: BoolArray  # (P, K) labelled keypoints
    predicted: FloatArray  # (P, K, D)
    found: BoolArray  # (P,) whether some prediction answers this person

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def known(self) -> BoolArray:
        """Keypoints that are labelled and predicted, (P, K)."""
        return np.asarray(self.visible & np.isfinite(self.predicted).all(axis=-1))

    @property
    def missed(self) -> str:
        """A phrase that counts what is not predicted, "" when all is."""
        parts = []
        people = int((~self.found).sum())
        if people:
            parts.append(f"{people} of {len(self)} people not predicted")
        points = int((self.visible & ~self.known)[self.found].sum())
        if points:
            parts.append(f"{points} keypoints of others not predicted")
        return " and ".join(parts)


def pair_people(truth: Dataset, predictions: Mapping[SampleId, People]) -> Pairs:
    """Pair every true person that counts with a prediction.

    A predicted row with `extra["row"]` answers that person of its sample (of several, the one with the best instance
    score). Without it, the pairs of a sample are the assignment with the smallest sum of mean keypoint distances.
    Of 3D predictions 2D data is compared with what `as_labelled` takes. Raises PosecliError when a prediction has
    another number of keypoints or dimensions, or a row that does not exist.
    """
    people = truth.people
    rows = np.flatnonzero(people.labelled.any(axis=1) & ~people.crowd)
    predicted = np.full((len(rows), *people.keypoints.shape[1:]), np.nan)
    found = np.zeros(len(rows), bool)
    starts = np.searchsorted(rows, truth.offsets)
    for index, sample_id in enumerate(truth.ids):
        guesses = predictions.get(sample_id)
        low, high = int(starts[index]), int(starts[index + 1])
        if guesses is None or len(guesses) == 0:
            continue
        guesses = as_labelled(truth, sample_id, guesses)
        if low == high:
            continue
        first, last = int(truth.offsets[index]), int(truth.offsets[index + 1])
        if "row" in guesses.extra:
            answers = _by_row(guesses, rows[low:high] - first, last - first, sample_id)
        else:
            answers = _by_distance(guesses, people[rows[low:high]])
        taken = answers >= 0
        predicted[low:high][taken] = guesses.keypoints[answers[taken]]
        found[low:high] = taken
    visible = people.labelled[rows]
    return Pairs(rows, people.keypoints[rows].astype(np.float64), visible, predicted, found)


def as_labelled(truth: Dataset, sample_id: SampleId, guesses: People) -> People:
    """Predictions in as many dimensions as the data is labelled in.

    A 3D prediction says where its keypoints are in the picture by a column `keypoints_2d` (N, K, 2) of image pixels:
    where the data is labelled in 2D these are its keypoints. Raises PosecliError when the shapes do not fit.
    """
    wanted, got = truth.people.keypoints.shape[1:], guesses.keypoints.shape[1:]
    if wanted == got or not len(guesses):
        return guesses
    if wanted == (got[0], 2) and got[1] == 3:
        pixels = guesses.extra.get(IN_PICTURE)
        if pixels is None:
            raise PosecliError(
                f"the predictions for sample {sample_id!r} are in 3D and have no column {IN_PICTURE!r} of image "
                f"pixels, the data {truth.name!r} is labelled in 2D: score them with a 3D metric such as mpjpe"
            )
        return dataclasses.replace(guesses, keypoints=pixels)
    raise PosecliError(
        f"the predictions for sample {sample_id!r} have {got[0]} keypoints in {got[1]} dimensions, "
        f"the data {truth.name!r} has {wanted[0]} in {wanted[1]}: score them against the data they were made for"
    )


def keypoint_distances(
    predicted: FloatArray, truth: FloatArray, visible: BoolArray, normalizers: FloatArray | None = None
) -> FloatArray:
    """Distances (P, K) of keypoints (P, K, D): NaN where nothing is labelled, infinity where nothing is predicted.

    `normalizers` (P, D) or (P, 1) divide the differences axis by axis; a person whose normaliser is not positive and
    finite counts as unlabelled.
    """
    difference = predicted.astype(np.float64) - truth
    if normalizers is not None:
        usable = np.asarray((np.isfinite(normalizers) & (normalizers > 0)).all(axis=-1))
        visible = visible & usable[:, None]
        difference = difference / np.where(usable[:, None], normalizers, 1.0)[:, None, :]
    distances = np.sqrt((difference**2).sum(axis=-1))
    return np.where(visible, np.where(np.isfinite(distances), distances, np.inf), np.nan)


def fraction_below(distances: FloatArray, threshold: float) -> FloatArray:
    """The share of labelled keypoints nearer than `threshold`, strictly, per keypoint (K,); NaN without any."""
    return mean_where(distances < threshold, ~np.isnan(distances))


def mean_where(values: FloatArray | BoolArray, chosen: BoolArray) -> FloatArray:
    """Column means (K,) of (P, K) over the chosen entries; NaN for a column without any."""
    counts = chosen.sum(axis=0)
    sums = np.where(chosen, values, 0).sum(axis=0, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def mean_of(values: FloatArray) -> float:
    """The mean of the values that are not NaN; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _by_row(guesses: People, wanted: IntArray, count: int, sample_id: SampleId) -> IntArray:
    """For each wanted row of the sample the index of the best prediction for it, -1 without one, (P,)."""
    named = np.asarray(guesses.extra["row"], dtype=np.int64)
    if len(named) and (named.min() < 0 or named.max() >= count):
        raise PosecliError(
            f"a prediction for sample {sample_id!r} answers person {int(named.max())}, "
            f"but the data has {count} people there: score it against the data it was made for"
        )
    answers = np.full(count, -1)
    scores = guesses.instance_scores
    order = np.arange(len(named)) if scores is None else np.argsort(np.nan_to_num(scores), kind="stable")
    if scores is None:
        order = order[::-1]  # of several unscored ones the first counts
    answers[named[order]] = order
    return np.asarray(answers[wanted])


def _by_distance(guesses: People, people: People) -> IntArray:
    """The cheapest one-to-one assignment: for each person the index of a prediction, -1 without one, (P,)."""
    from scipy.optimize import linear_sum_assignment

    distances = np.stack(
        [
            keypoint_distances(guesses.keypoints, true[None], seen[None].repeat(len(guesses), 0))
            for true, seen in zip(people.keypoints, people.labelled, strict=True)
        ]
    )  # (P, G, K)
    finite = np.isfinite(distances)
    # a missing keypoint costs as much as the worst one in the picture, so that it never makes a pair look near
    worst = float(distances[finite].max()) if finite.any() else 1.0
    costs = np.where(np.isinf(distances), worst, distances)
    counts = np.maximum((~np.isnan(distances)).sum(axis=-1), 1)
    true_rows, guess_rows = linear_sum_assignment(np.nansum(costs, axis=-1) / counts)
    answers = np.full(len(people), -1)
    answers[true_rows] = guess_rows
    nobody = ~np.asarray(finite.any(axis=-1))[true_rows, guess_rows]  # nothing in common: not an answer
    answers[true_rows[nobody]] = -1
    return answers
