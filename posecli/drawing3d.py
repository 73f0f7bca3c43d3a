"""3D skeletons as pictures: seen from any side, on a floor with a grid. OpenCV only; RGB uint8 (H, W, 3) out.

Poses are in the camera frame: millimetres, x right, y down, z forward. The view goes around them, from a little above
and with a little perspective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from posecli.drawing import INK, PAPER, SHIFT, Color, fixed, instance_color, keypoint_colors, link_colors
from posecli.skeleton import Skeleton
from posecli.types import FloatArray, ImageArray

FLOOR: Color = (206, 208, 214)
STEP = 500.0
"""Millimetres between the lines of the floor; tens of times as much where there would be more than LINES each way."""
LINES = 60
FARTHEST = 1e6
"""Pixels from the corner of the picture that OpenCV can draw to, and more than any picture has."""
PITCH = 14.0
"""Degrees from which the view looks down."""
DISTANCE = 4.0
"""How far off the eye is, in reaches of the scene."""
FRONT, SIDE = 0.0, 90.0


@dataclass(frozen=True)
class Scene:
    """What is shown, whatever the side it is seen from."""

    center: FloatArray  # (3,) mm
    reach: float  # mm from the centre to the edge of the picture
    floor: float  # y of the floor, mm


def scene_of(poses: FloatArray, smallest: float = 1000.0) -> Scene:
    """The scene that shows all poses (..., 3) in mm from all sides; NaN is left out. `smallest` is its least reach."""
    points = poses.reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    if not len(points):
        return Scene(np.zeros(3), smallest, smallest)
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    center = (low + high) / 2
    across = float(np.hypot(*(high - low)[[0, 2]])) / 2
    return Scene(center, max(smallest, 1.12 * across, 0.68 * float(high[1] - low[1])), float(high[1]))


def draw_scene(
    poses: FloatArray,
    skeleton: Skeleton,
    scene: Scene,
    size: tuple[int, int],
    turn: float = FRONT,
    numbers: Sequence[int] = (),
) -> ImageArray:
    """The poses (N, K, 3) from `turn` degrees around the vertical axis; 0 is the camera's own side.

    Left and right have the colours that they have in the picture. With `numbers` (N,) each person stands on a disc in
    the colour of its number. Unknown (NaN) joints and their links are left out.
    """
    canvas = np.full((size[1], size[0], 3), PAPER, np.uint8)
    view = _View(scene, size, np.deg2rad(turn), np.deg2rad(PITCH))
    _draw_floor(canvas, view, scene)
    for number, pose in zip(numbers, poses, strict=False):
        _draw_disc(canvas, view, scene, pose, number)
    order = np.argsort(-np.nan_to_num(view.depths(poses)).mean(axis=1))
    for row in order:
        _draw_pose(canvas, view, poses[row], skeleton)
    return canvas


def draw_views(
    poses: FloatArray, skeleton: Skeleton, height: int = 256, scene: Scene | None = None, numbers: Sequence[int] = ()
) -> ImageArray:
    """The poses (N, K, 3) from the camera's side and from their right, beside each other: (height, 2 height, 3)."""
    shown = scene_of(poses) if scene is None else scene
    views = [draw_scene(poses, skeleton, shown, (height, height), turn, numbers) for turn in (FRONT, SIDE)]
    for view, title in zip(views, ("front", "side"), strict=True):
        cv2.putText(view, title, (8, 8 + height // 18), cv2.FONT_HERSHEY_SIMPLEX, height / 560, INK, 1, cv2.LINE_AA)
    return np.concatenate(views, axis=1)


@dataclass(frozen=True)
class _View:
    """Where the eye is; angles in radians."""

    scene: Scene
    size: tuple[int, int]
    turn: float
    pitch: float

    def _seen(self, points: FloatArray) -> FloatArray:
        """Points (..., 3) relative to the centre in the eye's axes: right, down, away."""
        sine, cosine = np.sin(self.turn), np.cos(self.turn)
        around = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
        sine, cosine = np.sin(self.pitch), np.cos(self.pitch)
        down = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        return np.asarray((points - self.scene.center) @ (down @ around).T)

    def depths(self, points: FloatArray) -> FloatArray:
        """How far away, from the centre on, (...,) mm."""
        return np.asarray(self._seen(points)[..., 2])

    def pixels(self, points: FloatArray) -> FloatArray:
        """Where points (..., 3) mm appear, (..., 2); what is far outside the picture is brought to FARTHEST."""
        seen = self._seen(points)
        eye = DISTANCE * self.scene.reach
        nearness = eye / np.maximum(seen[..., 2:] + eye, 0.2 * eye)
        scale = min(self.size) / 2 / self.scene.reach
        places = seen[..., :2] * nearness * scale + np.array(self.size) / 2
        return np.asarray(np.clip(places, -FARTHEST, FARTHEST))


def _draw_floor(canvas: ImageArray, view: _View, scene: Scene) -> None:
    step = STEP * 10.0 ** max(0.0, np.ceil(np.log10(scene.reach / (STEP * LINES))))
    count = int(np.ceil(scene.reach / step))
    places = np.arange(-count, count + 1) * step
    x, z = places + scene.center[0], places + scene.center[2]
    ends = [((x[0], z[row]), (x[-1], z[row])) for row in range(len(z))]
    ends += [((x[row], z[0]), (x[row], z[-1])) for row in range(len(x))]
    lines = np.array([[(x, scene.floor, z) for x, z in pair] for pair in ends])  # (L, 2, 3)
    for start, end in view.pixels(lines):
        cv2.line(canvas, fixed(start), fixed(end), FLOOR, 1, cv2.LINE_AA, SHIFT)


def _draw_disc(canvas: ImageArray, view: _View, scene: Scene, pose: FloatArray, number: int) -> None:
    """A disc on the floor below a person, with the number beside it."""
    known = pose[np.isfinite(pose).all(axis=1)]
    if not len(known):
        return
    middle = np.median(known, axis=0)
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    ring = np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], axis=1) * 230
    places = view.pixels(ring + np.array([middle[0], scene.floor, middle[2]]))
    cv2.fillPoly(canvas, [np.round(places * (1 << SHIFT)).astype(np.int32)], instance_color(number), cv2.LINE_AA, SHIFT)
    corner = places.max(axis=0).round().astype(int)
    scale = view.size[1] / 720
    cv2.putText(canvas, str(number), (corner[0] + 2, corner[1]), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)


def _draw_pose(canvas: ImageArray, view: _View, pose: FloatArray, skeleton: Skeleton) -> None:
    """One pose (K, 3), its farthest links first."""
    pixels, depths = view.pixels(pose), view.depths(pose)
    known = np.asarray(np.isfinite(pixels).all(axis=1))
    width = max(1.0, min(view.size) / 130)
    pairs = zip(skeleton.links, link_colors(skeleton), strict=True)
    links = [(depths[[a, b]].mean(), a, b, color) for (a, b), color in pairs if known[a] and known[b]]
    links = links or [
        (0.0, joint, joint, color) for joint, color in enumerate(keypoint_colors(skeleton)) if known[joint]
    ]
    for depth, first, second, color in sorted(links, key=lambda link: -link[0]):
        near = 1 / (1 + depth / (DISTANCE * view.scene.reach))
        dark = tuple(round(0.45 * value) for value in color)
        thickness = max(1, round(width * near))
        for wide, paint in ((thickness + 2, dark), (thickness, color)):
            cv2.line(canvas, fixed(pixels[first]), fixed(pixels[second]), paint, wide, cv2.LINE_AA, SHIFT)
