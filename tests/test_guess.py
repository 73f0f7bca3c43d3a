"""The mean-pose guess: exact where everybody stands alike, and only as good as the mean elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.guess import guess, mean_pose
from posecli.skeleton import Skeleton
from posecli.types import Dataset, People

SKELETON = Skeleton("pair", ("top", "bottom"))


def dataset(keypoints: list, boxes: list) -> Dataset:
    points = np.array(keypoints, float)
    scores = np.where(np.isfinite(points).all(axis=-1), 2.0, 0.0)
    people = People(points, scores, np.array(boxes, float))
    count = len(points)
    image = np.zeros((10, 10, 3), np.uint8)
    return Dataset(
        "made", SKELETON, list(range(count)), np.full((count, 2), 10), np.arange(count + 1), people, [image] * count
    )


def test_same_pose_in_other_boxes_is_found() -> None:
    train = dataset([[[5, 0], [5, 10]], [[50, 0], [50, 100]]], [[0, 0, 10, 10], [0, 0, 100, 100]])
    truth = dataset([[[30, 20], [30, 60]]], [[20, 20, 40, 60]])
    assert mean_pose(train).tolist() == [[0.5, 0.0], [0.5, 1.0]]
    (prediction,) = guess(truth, mean_pose(train))
    assert prediction.people.keypoints.tolist() == [[[30, 20], [30, 60]]]
    assert prediction.people.extra["row"].tolist() == [0]


def test_unlabelled_keypoints_do_not_count() -> None:
    train = dataset([[[2, 0], [np.nan, np.nan]], [[4, 0], [5, 10]]], [[0, 0, 10, 10]] * 2)
    assert mean_pose(train) == pytest.approx(np.array([[0.3, 0.0], [0.5, 1.0]]))


def test_nobody_labelled_is_said() -> None:
    with pytest.raises(PosecliError, match="no mean pose"):
        mean_pose(dataset([[[np.nan] * 2] * 2], [[0, 0, 10, 10]]))
