"""The score of knowing nothing: the mean pose of the training data, put into every true box. numpy only."""

from __future__ import annotations

import numpy as np

from posecli.console import PosecliError
from posecli.types import Dataset, FloatArray, People, Prediction


def mean_pose(train: Dataset) -> FloatArray:
    """The mean place of each labelled keypoint in its box, (K, 2), from 0 to 1 across and down the box.

    A keypoint that is never labelled is in the middle. Raises PosecliError when nobody has a box.
    """
    people = train.people[np.flatnonzero(train.people.labelled.any(axis=1))]
    if people.boxes is None or not len(people):
        raise PosecliError(f"{train.name}: nobody in it is labelled and has a box, there is no mean pose")
    corner, sides = _frames(people)
    places = (people.keypoints[..., :2] - corner) / sides
    known = people.labelled[..., None]
    total, count = np.where(known, places, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), 0.5))


def guess(truth: Dataset, pose: FloatArray) -> list[Prediction]:
    """The pose (K, 2) in the box of every true person."""
    predictions = []
    for index in range(len(truth)):
        sample = truth[index]
        if sample.people.boxes is None or not len(sample.people):
            continue
        corner, sides = _frames(sample.people)
        keypoints = corner + pose * sides
        sure = np.ones(keypoints.shape[:2], np.float32)
        extra = {"row": sample.people.extra["row"]}
        predictions.append(Prediction(sample.id, People(keypoints, sure, sample.people.boxes, sure[:, 0], extra)))
    return predictions


def _frames(people: People) -> tuple[FloatArray, FloatArray]:
    """Upper left corners and sides of the boxes, both (N, 1, 2)."""
    assert people.boxes is not None
    sides = np.maximum(people.boxes[:, None, 2:] - people.boxes[:, None, :2], 1e-6)
    return people.boxes[:, None, :2], sides
