"""Boxes and matrices: against the reference's numbers, and inverse properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecli import geometry

GENERATOR = np.random.default_rng(0)


def test_crop_matrix_equals_the_reference(golden: Path) -> None:
    """Entry warp_matrix; the reference turns UDP crops the other way round, so its sign is changed here."""
    numbers = np.load(golden / "functional.npz")
    inputs = [numbers[f"warp_matrix/in/{name}"] for name in ("center", "scale", "rot")]
    for row, (center, scale, rotation) in enumerate(zip(*inputs, strict=True)):
        matrix = geometry.crop_matrix(center, scale, (192, 256), float(rotation))
        assert np.abs(matrix - numbers["warp_matrix/out/mat"][row]).max() < 1e-4
        assert np.abs(geometry.invert(matrix) - numbers["warp_matrix/out/inv"][row]).max() < 1e-4
        unbiased = geometry.crop_matrix(center, scale, (192, 256), -float(rotation), unbiased=True)
        assert np.abs(unbiased - numbers["warp_matrix/out/udp"][row]).max() < 1e-4


def test_box_center_scale_equals_the_reference(golden: Path) -> None:
    numbers = np.load(golden / "functional.npz")
    center, scale = geometry.box_center_scale(numbers["bbox_xyxy2cs/in/bbox"], 1.25)
    assert np.abs(center - numbers["bbox_xyxy2cs/out/center"]).max() < 1e-4
    assert np.abs(scale - numbers["bbox_xyxy2cs/out/scale"]).max() < 1e-4


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_invert_and_compose(unbiased: bool, flip: bool) -> None:
    points = GENERATOR.uniform(0, 500, (30, 2))
    matrix = geometry.crop_matrix(np.array([200.0, 150.0]), np.array([90.0, 120.0]), (192, 256), 33.0, flip, unbiased)
    inverse = geometry.invert(matrix)
    assert np.allclose(geometry.apply(inverse, geometry.apply(matrix, points)), points)
    assert np.allclose(geometry.compose(inverse, matrix), [[1, 0, 0], [0, 1, 0]])


def test_flip_twice_is_nothing() -> None:
    center, scale = np.array([95.5, 127.5]), np.array([192.0, 256.0])
    mirror = geometry.crop_matrix(center, scale, (192, 256), flip=True, unbiased=False)
    assert np.allclose(geometry.compose(mirror, mirror)[:, :2], np.eye(2))


def test_reduction_matrix_maps_centres() -> None:
    """The centre of a 2×2 block of pixels is the centre of the pixel it becomes."""
    assert np.allclose(geometry.apply(geometry.reduction_matrix(2), np.array([[0.5, 2.5]])), [[0.0, 1.0]])
    assert np.allclose(geometry.apply(geometry.reduction_matrix(4), np.array([[1.5, 5.5]])), [[0.0, 1.0]])


@pytest.mark.parametrize(
    ("keypoints", "expected", "note"),
    [
        ([[[1, 2], [5, 9]]], [[1, 2, 5, 9]], "two points"),
        ([[[np.nan, np.nan], [5, 9]]], [[5, 9, 5, 9]], "unknown points are left out"),
        ([[[np.nan, np.nan], [np.nan, np.nan]]], [[0, 0, 0, 0]], "nothing known"),
    ],
)
def test_keypoint_boxes(keypoints: list, expected: list, note: str) -> None:
    assert geometry.keypoint_boxes(np.array(keypoints, float)).tolist() == expected, note


@pytest.mark.parametrize(
    ("first", "second", "expected", "note"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0, "itself"),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3, "half overlap"),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0, "apart"),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0, "no area"),
    ],
)
def test_box_iou(first: list, second: list, expected: float, note: str) -> None:
    assert geometry.box_iou(np.array([first], float), np.array([second], float))[0, 0] == pytest.approx(expected), note


def test_scale_boxes_keeps_the_centre() -> None:
    assert geometry.scale_boxes(np.array([10.0, 20.0, 30.0, 60.0]), 1.5).tolist() == [5.0, 10.0, 35.0, 70.0]


@pytest.mark.parametrize(
    ("box", "expected", "note"),
    [
        ([1, 2, 3, 4], True, "usual"),
        ([1, 2, 1, 4], False, "no width"),
        ([1, 2, 3, 2], False, "no height"),
        ([3, 4, 1, 2], False, "turned over along both axes"),
        ([1, 2, np.nan, 4], False, "unknown"),
    ],
)
def test_has_area(box: list[float], expected: bool, note: str) -> None:
    assert geometry.has_area(np.array(box)) == expected
    assert geometry.has_area(np.array([box, [0, 0, 1, 1]])).tolist() == [expected, True]
