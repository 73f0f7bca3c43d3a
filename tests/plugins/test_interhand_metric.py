"""MPJPE, MRRPE and handedness of pairs of hands, against values worked out by hand and the definitions in a loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from posecli.config import parse_metric
from posecli.console import PosecliError
from posecli.datasets.hand_columns import hand_columns
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.skeleton import house_skeleton
from posecli.types import Camera, Dataset, FloatArray, People, SampleId
from posecli_interhand.guess import guess_hands, mean_hands
from posecli_interhand.metric import InterHandMetric

CAMERA = Camera(np.eye(3), np.zeros(3), np.array([1000.0, 1000.0]), np.array([100.0, 200.0]))


def pairs(points: FloatArray, types: list[list[int]], valid: list[int] | None = None) -> Dataset:
    """A dataset of pairs with points (M, 42, 3), one a picture, before one camera."""
    count = len(points)
    known = np.isfinite(points).all(axis=-1)
    pixels = points[..., :2] / points[..., 2:] * CAMERA.focal + CAMERA.center
    columns = hand_columns(np.array(types, float), np.array(valid or [1] * count, float), points[:, [20, 41], 2])
    return Dataset(
        name="pairs",
        skeleton=house_skeleton("interhand"),
        ids=list(range(count)),
        sizes=np.full((count, 2), 400),
        offsets=np.arange(count + 1),
        people=People(
            pixels, 2.0 * known, np.tile([0.0, 0, 1, 1], (count, 1)), None, {"keypoints_3d": points} | columns
        ),
        images=[np.zeros((1, 1, 3), np.uint8)] * count,
        cameras=[CAMERA] * count,
    )


def predicted(dataset: Dataset, points: FloatArray, **extra: Any) -> dict[SampleId, People]:
    """Predictions of every pair with those points; hand types and root depths are the truth unless given."""
    truth = dataset.people.extra
    columns = {"hand_type": truth["hand_type"], "root_depth": np.nan_to_num(truth["root_depth"])} | extra
    return {
        row: People(
            points[row : row + 1],
            np.ones((1, 42), np.float32),
            extra={name: values[row : row + 1] for name, values in columns.items()} | {"row": np.zeros(1, int)},
        )
        for row in range(len(dataset))
    }


def scores(dataset: Dataset, predictions: Mapping[SampleId, People]) -> dict[str, float]:
    metric = parse_metric("interhand").build(dataset.skeleton)
    return {score.name: score.value for score in metric.compute(dataset, predictions)}


def three() -> tuple[FloatArray, list[list[int]]]:
    """A right hand, a left hand, and both; at random within 100 mm of a point 1 m away."""
    points = np.random.default_rng(0).uniform(-100, 100, (3, 42, 3)) + np.array([0.0, 0.0, 1000.0])
    points[0, 21:] = np.nan
    points[1, :21] = np.nan
    return points, [[1, 0], [0, 1], [1, 1]]


def test_the_truth_scores_best() -> None:
    points, types = three()
    dataset = pairs(points, types)
    found = scores(dataset, predicted(dataset, np.nan_to_num(points)))
    assert found.pop("handedness") == 1
    assert list(found) == ["MPJPE", "MPJPE single", "MPJPE interacting", "MRRPE"]
    assert max(found.values()) < 1e-9


def test_values_worked_out_by_hand() -> None:
    """One joint of the right hand 21 mm off, each joint of the left hand but the wrist 10 mm off, the third pair's
    right hand moved as a whole, which alignment takes away. Wrists count, with no error."""
    points, types = three()
    dataset = pairs(points, types)
    moved = np.nan_to_num(points)
    moved[0, 4, 0] += 21.0  # one of 21 joints: a mean of 1
    moved[1, 21:41, 1] -= 10.0  # 20 of 21 joints
    moved[2, :21] += [3.0, 4.0, 0.0]
    found = scores(dataset, predicted(dataset, moved))
    assert found["MPJPE single"] == pytest.approx((21 + 200) / 42)
    assert found["MPJPE interacting"] == pytest.approx(0, abs=1e-9)
    assert found["MPJPE"] == pytest.approx((21 + 200) / 84)
    assert found["MRRPE"] == pytest.approx(5.0)


def test_a_wrist_that_is_wrong_moves_its_hand() -> None:
    points, types = three()
    dataset = pairs(points[2:], types[2:])
    moved = points[2:].copy()
    moved[0, 41] += [0.0, 6.0, 8.0]
    found = scores(dataset, predicted(dataset, moved))
    assert found["MPJPE"] == pytest.approx(20 * 10 / 42)


def test_the_left_wrist_lies_where_its_root_depth_says() -> None:
    """The left wrist's pixel stays, its depth is the right wrist's true depth plus the predicted root depth."""
    points, types = three()
    dataset = pairs(points[2:], types[2:])
    root = dataset.people.extra["root_depth"] + 30
    found = scores(dataset, predicted(dataset, points[2:], root_depth=root))
    left = points[2, 41]
    stretched = left * (left[2] + 30) / left[2]
    assert found["MRRPE"] == pytest.approx(float(np.linalg.norm(stretched - left)))
    assert found["MPJPE"] == pytest.approx(0, abs=1e-9), "which says nothing about the hands"


def test_only_joints_of_hands_with_a_wrist_count() -> None:
    points, types = three()
    points[2, 20] = np.nan
    points[2, 25] = np.nan
    dataset = pairs(points[2:], types[2:])
    moved = np.nan_to_num(points[2:])
    moved[0, :20] += np.random.default_rng(1).uniform(-90, 90, (20, 3))
    moved[0, 22, 2] += 40.0
    moved[0, 25] = 5000.0
    found = scores(dataset, predicted(dataset, moved))
    assert found["MPJPE"] == pytest.approx(40 / 20), "20 joints of the left hand are labelled"
    assert np.isnan(found["MRRPE"])


@pytest.mark.parametrize(
    ("said", "valid", "share"),
    [
        ([[0.9, 0.1], [0.2, 0.7], [0.6, 0.8]], [1, 1, 1], 1.0),
        ([[0.9, 0.6], [0.2, 0.7], [0.6, 0.8]], [1, 1, 1], 2 / 3),
        ([[0.9, 0.6], [0.2, 0.7], [0.6, 0.8]], [0, 1, 1], 1.0),
        ([[0.1, 0.9], [0.7, 0.2], [0.5, 0.8]], [1, 1, 1], 0.0),
        ([[0.1, 0.9], [0.7, 0.2], [0.5, 0.8]], [0, 0, 0], float("nan")),
    ],
    ids=["both bits right", "one bit wrong", "type not known", "0.5 is not above it", "nothing known"],
)
def test_handedness(said: list[list[float]], valid: list[int], share: float) -> None:
    points, types = three()
    dataset = pairs(points, types, valid)
    predictions = predicted(dataset, np.nan_to_num(points), hand_type=np.array(said))
    assert scores(dataset, predictions)["handedness"] == pytest.approx(share, nan_ok=True)


def test_pixels_are_scored_before_the_true_cameras() -> None:
    """As predictions are that were made without cameras: pixels, and millimetres behind the own hand's wrist."""
    points, types = three()
    dataset = pairs(points, types)
    moved = points + np.random.default_rng(1).normal(0, 5, points.shape)
    moved[:, [20, 41], 2] = points[:, [20, 41], 2]  # wrists at their true depths
    flat = moved[..., :2] / moved[..., 2:] * CAMERA.focal + CAMERA.center
    behind = moved[..., 2] - np.repeat(points[:, [20, 41], 2], 21, axis=1)
    pixels = np.concatenate([flat, behind[..., None]], axis=-1)
    found = scores(dataset, predicted(dataset, pixels, in_camera=np.zeros(3, bool)))
    expected = scores(dataset, predicted(dataset, moved, in_camera=np.ones(3, bool)))
    assert found == pytest.approx(expected)
    assert 5 < found["MPJPE"] < 15


def test_what_is_not_predicted_is_left_out_and_said() -> None:
    points, types = three()
    dataset = pairs(points, types)
    predictions = predicted(dataset, np.nan_to_num(points))
    del predictions[1]
    found = {score.name: score for score in InterHandMetric(dataset.skeleton).compute(dataset, predictions)}
    assert found["MPJPE"].value < 1e-9
    assert found["MPJPE"].note == "2 pairs; nothing predicted for 1, left out"
    assert found["handedness"].value == pytest.approx(2 / 3), "a hand type that is not told is wrong"


def test_two_pairs_in_a_picture_are_told_apart_by_row() -> None:
    points, _ = three()
    points = np.stack([points[2], points[2] + [50.0, 0.0, 20.0]])
    dataset = dataclasses.replace(
        pairs(points, [[1, 1], [1, 1]]),
        ids=[7],
        sizes=np.full((1, 2), 400),
        offsets=np.array([0, 2]),
        images=[np.zeros((1, 1, 3), np.uint8)],
        cameras=[CAMERA],
    )
    people = People(points[::-1], np.ones((2, 42)), extra={"row": np.array([1, 0])})
    columns = {name: dataset.people.extra[name][::-1] for name in ("hand_type", "root_depth")}
    found = scores(dataset, {7: people.with_extra(**columns)})
    assert found["MRRPE"] < 1e-9
    assert found["handedness"] == 1


def test_against_the_definition_in_a_loop() -> None:
    """InterNet's evaluation, one pair and one joint at a time."""
    dataset = synthetic_hands(30, seed=9)
    truth, random = dataset.people.extra, np.random.default_rng(3)
    moved = np.nan_to_num(truth["keypoints_3d"].astype(float), nan=700.0) + random.normal(0, 15, (30, 42, 3))
    root = np.nan_to_num(truth["root_depth"]).astype(float) + random.normal(0, 25, 30)
    found = scores(dataset, predicted(dataset, moved, root_depth=root))
    errors: dict[bool, list[float]] = {False: [], True: []}
    roots = []
    for row in range(30):
        both = bool(truth["hand_type"][row].all())
        for wrist, joints in ((20, range(21)), (41, range(21, 42))):
            for joint in joints:
                true = truth["keypoints_3d"][row, joint].astype(float) - truth["keypoints_3d"][row, wrist]
                if np.isfinite(true).all():
                    errors[both].append(float(np.linalg.norm(moved[row, joint] - moved[row, wrist] - true)))
        if both:
            camera = dataset.cameras[row]  # type: ignore[index]
            pixel = moved[row, 41, :2] / moved[row, 41, 2] * camera.focal + camera.center
            right, left = truth["absolute_depth"][row].astype(float)
            depth = moved[row, 41, 2] - left + right + root[row]
            placed = np.append((pixel - camera.center) / camera.focal * depth, depth)
            true = truth["keypoints_3d"][row, 41].astype(float) - truth["keypoints_3d"][row, 20]
            roots.append(float(np.linalg.norm(placed - moved[row, 20] - true)))
    assert found["MPJPE"] == pytest.approx(np.mean(errors[False] + errors[True]))
    assert found["MPJPE single"] == pytest.approx(np.mean(errors[False]))
    assert found["MPJPE interacting"] == pytest.approx(np.mean(errors[True]))
    assert found["MRRPE"] == pytest.approx(np.mean(roots))


def test_what_cannot_be_scored_is_refused() -> None:
    points, types = three()
    dataset = pairs(points, types)
    flat: dict[SampleId, People] = {row: People(np.zeros((1, 42, 2)), np.ones((1, 42))) for row in range(3)}
    with pytest.raises(PosecliError, match="42 of 3 camera millimetres"):
        scores(dataset, flat)
    with pytest.raises(PosecliError, match="has no cameras"):
        scores(dataclasses.replace(dataset, cameras=None), {})
    with pytest.raises(PosecliError, match="42 keypoints; skeleton 'coco'"):
        parse_metric("interhand").build(house_skeleton("coco"))


# --- the guess --------------------------------------------------------------------------------------------------------


def test_the_guess_is_right_where_all_hands_are_alike() -> None:
    points, types = three()
    alike = np.repeat(points[2:], 3, axis=0)
    train = pairs(alike, [types[2]] * 3)
    found = scores(train, {prediction.id: prediction.people for prediction in guess_hands(train, train)})
    assert found.pop("handedness") == 1
    assert np.nanmax(list(found.values())) < 1e-6


@pytest.mark.parametrize("text", ["pck", "epe", "auc", "nme", "ap:0.05"])
def test_the_guess_is_scored_in_the_picture_too(text: str) -> None:
    points, types = three()
    train = pairs(np.repeat(points[2:], 3, axis=0), [types[2]] * 3)
    found = {prediction.id: prediction.people for prediction in guess_hands(train, train)}
    score = parse_metric(text).build(train.skeleton).compute(train, found)[0]
    assert score.value == pytest.approx(score.best, abs=1e-3)


def test_the_guess_is_the_mean_of_the_training_data() -> None:
    train, truth = synthetic_hands(60, seed=0), synthetic_hands(60, seed=1)
    mean = mean_hands(train)
    first = train.people.extra["keypoints_3d"].astype(float)
    np.testing.assert_allclose(mean.joints[4], np.nanmean(first[:, 4] - first[:, 20], axis=0))
    np.testing.assert_allclose(mean.apart, np.nanmean(first[:, 41] - first[:, 20], axis=0))
    found = scores(truth, {prediction.id: prediction.people for prediction in guess_hands(train, truth)})
    true = truth.people.extra["keypoints_3d"].astype(float)
    apart = true[:, 41] - true[:, 20]
    apart = apart[np.isfinite(apart).all(axis=1)]
    assert found["MRRPE"] == pytest.approx(np.linalg.norm(apart - mean.apart, axis=1).mean(), rel=1e-4)
    assert 20 < found["MPJPE"] < 80
    with pytest.raises(PosecliError, match="no pairs of hands"):
        mean_hands(dataclasses.replace(train, people=dataclasses.replace(train.people, extra={})))
