"""Cameras: against OpenCV, and there and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posecli import camera
from posecli.types import Camera

LENSES = [  # distortion, note
    (None, "pinhole"),
    ((-0.2071, 0.2478, -0.0014, -0.00098, -0.0031), "a camera of Human3.6M"),
    ((0.12, -0.05, 0.004, -0.003, 0.01), "pincushion, off axis"),
    ((0.0, 0.0, 0.01, 0.0, 0.0), "tangential alone"),
]
FOCAL, CENTER = np.array([1145.05, 1143.78]), np.array([512.54, 515.45])


def rotation(seed: int) -> np.ndarray:
    turned, _ = cv2.Rodrigues(np.random.default_rng(seed).normal(size=3))
    return np.asarray(turned)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Camera points (50, 17, 3) that fill a picture of 1000 by 1000."""
    generator = np.random.default_rng(0)
    depth = generator.uniform(2000, 8000, (50, 17, 1))
    return np.concatenate([generator.uniform(-0.42, 0.42, (50, 17, 2)) * depth, depth], axis=-1)


@pytest.mark.parametrize(("lens", "note"), LENSES)
def test_projection_is_opencvs(points: np.ndarray, lens: tuple[float, ...] | None, note: str) -> None:
    distortion = None if lens is None else np.array(lens)
    matrix = np.array([[FOCAL[0], 0, CENTER[0]], [0, FOCAL[1], CENTER[1]], [0, 0, 1]])
    expected, _ = cv2.projectPoints(points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), matrix, distortion)
    np.testing.assert_allclose(
        camera.project(points, FOCAL, CENTER, distortion), expected.reshape(50, 17, 2), atol=1e-8, err_msg=note
    )


@pytest.mark.parametrize(("lens", "note"), LENSES)
def test_back_projection_is_the_inverse(points: np.ndarray, lens: tuple[float, ...] | None, note: str) -> None:
    distortion = None if lens is None else np.array(lens)
    pixels = camera.project(points, FOCAL, CENTER, distortion)
    found = camera.back_project(pixels, points[..., 2], FOCAL, CENTER, distortion)
    np.testing.assert_allclose(found, points, atol=1e-5, err_msg=note)


def test_many_cameras_at_once_are_each_alone(points: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    turns, places = np.stack([rotation(seed) for seed in range(50)]), generator.normal(size=(50, 3)) * 1000
    focal, center = generator.uniform(900, 1200, (50, 2)), generator.uniform(400, 600, (50, 2))
    lens = generator.normal(size=(50, 5)) * 0.01
    together = camera.world_to_camera(points, turns, places)
    seen = camera.project(points, focal, center, lens)
    for index in range(50):
        alone = camera.world_to_camera(points[index], turns[index], places[index])
        np.testing.assert_allclose(together[index], alone, atol=1e-9)
        np.testing.assert_allclose(alone[0], turns[index] @ (points[index, 0] - places[index]), atol=1e-9)
        expected = camera.project(points[index], focal[index], center[index], lens[index])
        np.testing.assert_allclose(seen[index], expected, atol=1e-9)
    np.testing.assert_allclose(camera.camera_to_world(together, turns, places), points, atol=1e-8)


def test_what_is_behind_or_unknown_has_no_pixel() -> None:
    points = np.array([[0.0, 0.0, 1000.0], [0.0, 0.0, -1000.0], [0.0, 0.0, 0.0], [np.nan, 0.0, 1000.0]])
    pixels = camera.project(points, FOCAL, CENTER)
    np.testing.assert_allclose(pixels[0], CENTER)
    assert np.isnan(pixels[1:]).any(axis=1).all()
    lens = np.array(LENSES[1][0])
    back = camera.back_project(pixels, np.array([1000.0, 1000, 1000, 1000]), FOCAL, CENTER, lens)
    np.testing.assert_allclose(back[0], points[0], atol=1e-6)  # unknown ones do not disturb the others


def test_a_level_camera_sees_up_as_minus_y() -> None:
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    eye = Camera(level, np.array([0.0, -4000, 1500]), FOCAL, CENTER)
    assert camera.upward(eye).tolist() == [0, -1, 0]
    points, pixels = camera.see(eye, np.array([[0.0, 0, 1500], [0, 0, 1700]]))
    np.testing.assert_allclose(points, [[0, 0, 4000], [0, -200, 4000]], atol=1e-9)
    assert pixels[1, 1] < pixels[0, 1]
