"""From a unit of frames to a network input: the 2D keypoints as they were found, the 3D truth as it was."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from posecli.camera import project, upward
from posecli.skeleton import Skeleton
from posecli.types import Array, BoolArray, Camera, Example, FloatArray, Sample
from posecli_lifter.augmentation import MotionAugmentation

UNMOVED = np.eye(2, 3)
BEYOND = 0.25  # of the picture's sides beyond its edge that an augmented person may reach


@dataclass
class Window:
    """The frames of a unit while they are varied."""

    pixels: FloatArray  # (T, K, 2) image pixels; NaN = unknown
    scores: FloatArray  # (T, K) confidence; 0 = unknown
    points: FloatArray | None  # (T, K, 3) camera millimetres; NaN = unknown
    size: tuple[int, int]  # width, height
    camera: Camera | None


@dataclass(frozen=True)
class WindowTransform:
    """Inputs: `keypoints` (T, K, 2) float32 image pixels and `visible` (T, K) float32 confidence, both 0 where unknown;
    `size` (2,) width and height, `focal` (2,) and `center` (2,) pixels, 0 where no camera is known.

    Targets: `keypoints_3d` (T, K, 3) float32 camera millimetres, 0 where unknown, and `known` (T, K) float32, 1 where a
    joint is known in a frame that is to be predicted (`extra["output"]`). Without 3D in the sample all are 0.
    `distortion` (5,) float32 of the camera's lens in OpenCV's order, 0 where it has none.
    """

    skeleton: Skeleton
    augmentation: MotionAugmentation | None = None  # None when evaluating

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        window = _window(sample)
        if self.augmentation is not None:
            window = self._varied(window, self.augmentation, generator)
        seen: BoolArray = (window.scores > 0) & np.isfinite(window.pixels).all(axis=-1)  # (T, K)
        camera = window.camera
        inputs = {
            "keypoints": np.where(seen[..., None], window.pixels, 0).astype(np.float32),
            "visible": np.where(seen, np.minimum(window.scores, 1), 0).astype(np.float32),
            "size": np.array(window.size, dtype=np.float32),
            "focal": np.zeros(2, np.float32) if camera is None else np.asarray(camera.focal, np.float32),
            "center": np.zeros(2, np.float32) if camera is None else np.asarray(camera.center, np.float32),
        }
        lens = np.zeros(5) if camera is None or camera.distortion is None else camera.distortion
        targets = self._targets(sample, window) | {"distortion": np.asarray(lens, np.float32)}
        return Example(inputs, targets, sample, UNMOVED)

    def _targets(self, sample: Sample, window: Window) -> dict[str, Array]:
        count, joints = window.scores.shape
        if window.points is None:
            return {
                "keypoints_3d": np.zeros((count, joints, 3), np.float32),
                "known": np.zeros((count, joints), np.float32),
            }
        known = np.asarray(np.isfinite(window.points).all(axis=-1))  # (T, K)
        points = np.where(known[..., None], window.points, 0).astype(np.float32)
        output = sample.people.extra.get("output", np.ones(count, dtype=bool))
        return {"keypoints_3d": points, "known": (known & output[:, None]).astype(np.float32)}

    def _varied(self, window: Window, augmentation: MotionAugmentation, generator: np.random.Generator) -> Window:
        chosen, mirrored = generator.random(2) < (augmentation.camera, augmentation.flip)
        draws = generator.uniform(-1, 1, 3)
        if chosen:
            window = seen_from_elsewhere(window, augmentation, draws)
        index = self.skeleton.flip_index
        if mirrored and index is not None:
            window = flipped(window, index)
        if augmentation.noise:
            window.pixels = window.pixels + augmentation.noise * generator.standard_normal(window.pixels.shape)
        if augmentation.missing:
            kept: BoolArray = generator.random(window.scores.shape) >= augmentation.missing
            window.scores = window.scores * kept
        return window


def _window(sample: Sample) -> Window:
    people = sample.people
    truth = people.extra.get("keypoints_3d")
    return Window(people.keypoints[..., :2], people.scores, truth, sample.size, sample.camera)


def flipped(window: Window, index: Array) -> Window:
    """The window in a mirror that stands upright in the camera's axis; without a camera, in the picture's middle.

    `index` (K,) says where each joint's partner stands. Twice is as before.
    """
    axis = (window.size[0] - 1) / 2 if window.camera is None else float(window.camera.center[0])
    pixels = window.pixels[:, index] * np.array([-1.0, 1.0]) + np.array([2 * axis, 0.0])
    points = None if window.points is None else window.points[:, index] * np.array([-1.0, 1.0, 1.0])
    camera = window.camera
    if camera is not None and camera.distortion is not None:  # of k1 k2 p1 p2 k3 only p2 acts along x
        camera = dataclasses.replace(camera, distortion=camera.distortion * np.array([1.0, 1, 1, -1, 1]))
    return Window(pixels, window.scores[:, index], points, window.size, camera)


def seen_from_elsewhere(window: Window, augmentation: MotionAugmentation, draws: FloatArray) -> Window:
    """The window as a camera sees it that has gone around the person, up or down, nearer or farther off; `draws` (3,)
    from -1 to 1 say how far.

    The error that the 2D keypoints had stays with them. Unchanged where there is no camera or no 3D truth, or where
    the person would come to lie in front of, or far outside, the picture.
    """
    camera, points = window.camera, window.points
    if camera is None or points is None:
        return window
    known = np.isfinite(points).all(axis=-1)
    if not known.any():
        return window
    pivot = points[known].mean(axis=0, dtype=np.float64)
    rotation = other_view(
        camera, pivot, np.deg2rad(augmentation.turn * draws[0]), np.deg2rad(augmentation.tilt * draws[1])
    )
    low, high = augmentation.distance
    moved = (points - pivot) @ rotation.T + pivot * ((low + high) / 2 + (high - low) / 2 * draws[2])
    before = project(points, camera.focal, camera.center, camera.distortion)
    after = project(moved, camera.focal, camera.center, camera.distortion)
    if not _is_in_view(after[known], window.size):
        return window
    unexplained = np.where(np.isfinite(before), window.pixels - before, np.nan)
    return Window(after + unexplained, window.scores, moved, window.size, camera)


def other_view(camera: Camera, pivot: FloatArray, turn: float, tilt: float) -> FloatArray:
    """The rotation (3, 3) in the camera frame that shows what stands at `pivot` (3,) from `turn` radians around the
    world's vertical axis and `tilt` radians higher."""
    vertical = upward(camera)
    sideways = np.cross(pivot, vertical)
    length = float(np.linalg.norm(sideways))
    if length < 1e-6 * float(np.linalg.norm(pivot)):  # straight above or below
        return turn_about(vertical, turn)
    return turn_about(sideways / length, tilt) @ turn_about(vertical, turn)


def turn_about(axis: FloatArray, angle: float) -> FloatArray:
    """The rotation (3, 3) about the unit vector `axis` by `angle` radians; Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _is_in_view(pixels: FloatArray, size: tuple[int, int]) -> bool:
    """Whether all pixels (N, 2) exist and lie within the picture or not far beyond its edge."""
    beyond = BEYOND * np.array(size)
    return bool(((pixels > -beyond) & (pixels < np.array(size) + beyond)).all())
