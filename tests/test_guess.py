"""The mean-pose guess: exact where everybody stands alike, and only as good as the mean elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.config import parse_metric
from posecli.console import PosecliError
from posecli.datasets.cmu_mocap import cmu_dataset
from posecli.guess import guess, guess_3d, mean_pose, mean_pose_3d
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, People

SKELETON = Skeleton("pair", ("top", "bottom"))


def dataset(keypoints: list[Any], boxes: list[Any]) -> Dataset:
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


# --- in 3D ------------------------------------------------------------------------------------------------------------

HIPS = Skeleton("hips", ("root", "left_hip", "right_hip", "head"))
FACING = np.array([[0, 0, 0], [100, 0, 0], [-100, 0, 0], [30, -600, -80]], float)  # looks at the camera


def turned(degrees: float, place: tuple[float, float, float] = (0, 0, 0)) -> FloatArray:
    """The pose turned about the vertical axis, standing somewhere."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray(FACING @ np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]) + place)


def motion(poses: list[FloatArray], skeleton: Skeleton = HIPS) -> Dataset:
    points = np.array(poses)
    count = len(points)
    people = People(points[..., :2], np.ones(points.shape[:2]), None, None, {"keypoints_3d": points})
    return Dataset(
        "motion", skeleton, [*range(count)], np.full((count, 2), 10), np.arange(count + 1), people,
        [np.zeros((0, 0, 3), np.uint8)] * count,
    )  # fmt: skip


def test_the_mean_3d_pose_has_no_heading_and_no_place() -> None:
    train = motion([turned(angle, (angle, 5, 4000)) for angle in (0, 70, 130, 181, 300)])
    np.testing.assert_allclose(mean_pose_3d(train), FACING, atol=1e-9)
    truth = motion([turned(10), turned(50, (1, 2, 3))])
    predictions = guess_3d(truth, mean_pose_3d(train))
    assert [prediction.id for prediction in predictions] == [0, 1]
    for prediction in predictions:
        np.testing.assert_allclose(prediction.people.keypoints[0], FACING, atol=1e-3)
        assert prediction.people.extra["row"].tolist() == [0]


def test_unknown_joints_do_not_count_in_3d() -> None:
    holes = turned(40)
    holes[3] = np.nan
    lost = turned(80)
    lost[1] = np.nan  # without a hip there is no heading
    np.testing.assert_allclose(mean_pose_3d(motion([turned(20), holes, lost])), FACING, atol=1e-9)


def test_no_mean_3d_pose() -> None:
    with pytest.raises(PosecliError, match="has no 3D poses"):
        mean_pose_3d(dataset([[[5, 0], [5, 10]]], [[0, 0, 10, 10]]))
    with pytest.raises(PosecliError, match="no root or no hips"):
        mean_pose_3d(motion([FACING], Skeleton("other", ("root", "a", "b", "c"))))
    with pytest.raises(PosecliError, match="the hips are known in no 3D pose"):
        mean_pose_3d(motion([np.full((4, 3), np.nan)]))


def test_guess_on_real_motion(shared: Path) -> None:
    """Mean pose of CMU subjects 01 and 03 on subject 02: the floor that a lifter is measured against."""
    folder = shared / "data" / "cmu-mocap"
    train = cmu_dataset(folder, ("01", "03"), cameras=1).take(np.arange(0, 16000, 20))
    truth = cmu_dataset(folder, ("02",), cameras=1).take(np.arange(0, 3200, 8))
    found = {prediction.id: prediction.people for prediction in guess_3d(truth, mean_pose_3d(train))}
    score = parse_metric("p-mpjpe").build(truth.skeleton).compute(truth, found)[0]
    assert 110 < score.value < 135
