"""Found bodies as pictures: shaded meshes over the photo through their own cameras, then from the front and the side.

OpenCV and numpy only, no display. Vertices are camera millimetres; `camera` is focal length and principal point in the
picture's pixels, so that pixel = focal * (x, y) / z + center.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from posecli.drawing import INK, PAPER, enlarge, instance_color
from posecli.types import FloatArray, ImageArray, IntArray, People
from posecli_mesh.rasteriser import facing, rasterise, vertex_normals

FINER = 2  # pixels of the drawing for one of the picture, each way: smooth edges
LARGEST = 1400  # pixels of a picture's longer side up to which it is drawn finer
COVER = 0.9  # opacity over the photo
LIGHT = np.array([-0.35, -0.6, -0.72])  # where light comes from, as the camera sees it
AMBIENT, DIRECT = 0.42, 0.58
VIEWS = {"front": 0.0, "side": 90.0}  # degrees around the vertical axis
LEAST_PANEL = 240  # pixels of the height of a drawing
BROAD = 0.7  # their width, for each pixel of height
LEAST_SIDES = 1400.0, 2000.0  # millimetres that they show at least, across and up: in a video one scale for all frames


def draw_bodies(image: ImageArray, people: People, faces: IntArray, threshold: float) -> ImageArray:
    """The RGB picture with the bodies over it, and beside it the same bodies from the front and the side.

    Small pictures are enlarged. `people` have `vertices` (N, V, 3) and `camera` (N, 3) in `extra`; who scores less than
    the threshold is left out.
    """
    chosen = people
    if people.instance_scores is not None:
        chosen = people[np.flatnonzero(people.instance_scores >= threshold)]
    image, times = enlarge(image, LEAST_PANEL)
    if len(chosen):
        camera = chosen.extra["camera"].astype(np.float64) * times
        chosen = chosen.with_extra(camera=camera + np.array([0, 0.5, 0.5]) * (times - 1))
    over = draw_over(image, chosen, faces)
    views = draw_sides(chosen, faces, image.shape[0], image.shape[1::-1])
    return np.concatenate([over, views], axis=1)


def as_seen(people: People) -> People | None:
    """True people as predictions are: keypoints (N, K, 3) in camera millimetres, and the camera that sees them where
    they are in the picture. None where there is no body, or where 3D keypoints are not in the camera frame."""
    columns = people.extra
    if not {"keypoints_3d", "rotations", "shape"} <= columns.keys() or not len(people):
        return None
    points, pixels = columns["keypoints_3d"].astype(np.float64), people.keypoints.astype(np.float64)
    known = np.isfinite(points).all() and np.isfinite(pixels).all() and (points[..., 2] > 0).all()
    if not known or not (columns.get("has_body", np.ones(len(people))) > 0).all():
        return None
    rays = points[..., :2] / points[..., 2:]  # (N, K, 2)
    middle, center = rays.mean(axis=1, keepdims=True), pixels.mean(axis=1, keepdims=True)
    focal = ((rays - middle) * (pixels - center)).sum(axis=(1, 2)) / ((rays - middle) ** 2).sum(axis=(1, 2))  # (N,)
    camera = np.concatenate([focal[:, None], center[:, 0] - focal[:, None] * middle[:, 0]], axis=1)
    sure = np.ones(len(people), np.float32)
    shown = {"rotations": columns["rotations"], "shape": columns["shape"], "camera": camera}
    return People(points, people.scores, people.boxes, sure, shown)


def draw_over(image: ImageArray, people: People, faces: IntArray) -> ImageArray:
    """A copy of the RGB picture with the bodies over it, the nearest before the others."""
    canvas = image.copy()
    if not len(people):
        return canvas
    vertices, cameras = _vertices(people), people.extra["camera"].astype(np.float64)
    depth = vertices[..., 2]
    safe = np.where(depth > 0, depth, np.inf)[..., None]
    pixels = vertices[..., :2] / safe * cameras[:, None, :1] + cameras[:, None, 1:]
    normals = np.stack([vertex_normals(body, faces) for body in vertices])
    # the cameras differ in focal length: as one camera sees it, a body is farther the shorter its own camera's is
    _paint(canvas, pixels, depth / cameras[:, :1], normals, faces, _colors(people), COVER)
    return canvas


def draw_sides(people: People, faces: IntArray, height: int, size: tuple[int, ...]) -> ImageArray:
    """The bodies on plain paper from the front and from their right, beside each other, upright, all to one scale.

    `size` is that of the photo, (width, height): where several bodies stand is what a usual camera would make of it.
    """
    width = int(height * BROAD)
    panels = []
    bodies = _arranged(people, size) if len(people) else np.zeros((0, 1, 3))
    for name, degrees in VIEWS.items():
        panel = np.full((height, width, 3), PAPER, np.uint8)
        if len(bodies):
            _paint_view(panel, bodies, faces, _colors(people), np.deg2rad(degrees))
        cv2.putText(panel, name, (8, 8 + height // 18), cv2.FONT_HERSHEY_SIMPLEX, height / 560, INK, 1, cv2.LINE_AA)
        panels.append(panel)
    return np.concatenate(panels, axis=1)


def _paint_view(panel: ImageArray, bodies: FloatArray, faces: IntArray, colors: FloatArray, angle: float) -> None:
    """Bodies (N, V, 3) in millimetres from `angle` around the vertical axis, without perspective."""
    height, width = panel.shape[:2]
    low, high = bodies.min(axis=(0, 1)), bodies.max(axis=(0, 1))
    across, up = (max(side, least) for side, least in zip(_sides(low, high), LEAST_SIDES, strict=True))
    scale = min(0.86 * height / up, 0.94 * width / across)
    sine, cosine = np.sin(angle), np.cos(angle)
    turn = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    seen = (bodies - (low + high) / 2) @ turn.T
    pixels = seen[..., :2] * scale + np.array([width - 1, height - 1]) / 2
    normals = np.stack([vertex_normals(body, faces) for body in seen])
    far = 100 * across  # so far off that nothing is behind the eye and depths are as good as parallel
    _paint(panel, pixels, seen[..., 2] + far, normals, faces, colors, 1.0)


def _sides(low: FloatArray, high: FloatArray) -> tuple[float, float]:
    """Across, whatever the view turns to, and up: of the box with these two corners (3,)."""
    x, y, z = (high - low).tolist()
    return math.hypot(x, z), y


def _paint(
    canvas: ImageArray,
    pixels: FloatArray,
    depth: FloatArray,
    normals: FloatArray,
    faces: IntArray,
    colors: FloatArray,
    opacity: float,
) -> None:
    """Paint N bodies with V vertices each at once, so that they hide each other: pixels (N, V, 2), depth (N, V)."""
    count, vertices = depth.shape
    points = pixels.reshape(-1, 2)
    height, width = canvas.shape[:2]
    points = np.clip(points, -1e6, 1e6)
    low = np.clip(np.floor(points.min(axis=0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 2, 0, (width, height)).astype(int)
    if not (high > low).all():
        return
    finer = FINER if max(height, width) <= LARGEST else 1
    size = (int(high[0] - low[0]) * finer, int(high[1] - low[1]) * finer)
    points = (points - low) * finer + (finer - 1) / 2
    every = (faces[None] + vertices * np.arange(count)[:, None, None]).reshape(-1, 3)
    kept = facing(points, every)
    raster = rasterise(points, depth.reshape(-1), every[kept], size)
    face = kept[raster.faces]
    light = AMBIENT + DIRECT * np.maximum(normals.reshape(-1, 3) @ (LIGHT / np.linalg.norm(LIGHT)), 0)
    shade = (light[every[face]] * raster.weights).sum(axis=1, keepdims=True)
    color = np.clip(colors[face // len(faces)] * shade, 0, 255)
    covered = np.concatenate([color, np.full_like(shade, 255.0)], axis=1).astype(np.float32)  # premultiplied RGBA
    layer = cv2.resize(raster.image(covered), (size[0] // finer, size[1] // finer), interpolation=cv2.INTER_AREA)
    part = canvas[low[1] : high[1], low[0] : high[0]]
    part[:] = np.rint(part * (1 - opacity * layer[..., 3:] / 255) + opacity * layer[..., :3]).astype(np.uint8)


def _arranged(people: People, size: tuple[int, ...]) -> FloatArray:
    """The bodies (N, V, 3) where a camera with the picture's usual focal length sees them in the same places.

    One body stays as it is but for its place; what was found of its depth depends on the crop it was seen in.
    """
    vertices, cameras = _vertices(people), people.extra["camera"].astype(np.float64)
    middle = vertices.mean(axis=1)
    focal = float(max(size))
    depth = np.maximum(middle[:, 2:], 1.0) * focal / cameras[:, :1]
    seen = middle[:, :2] / np.maximum(middle[:, 2:], 1.0) * cameras[:, :1] + cameras[:, 1:]
    place = np.concatenate([(seen - np.array(size[:2]) / 2) * depth / focal, depth], axis=1)
    return np.asarray(vertices - middle[:, None] + place[:, None])


def _vertices(people: People) -> FloatArray:
    return np.asarray(people.extra["vertices"], dtype=np.float64)


def _colors(people: People) -> FloatArray:
    """A colour for each body, (N, 3), kept by who is followed through a video; lightened, as shading darkens."""
    numbers = people.extra.get("track_id", np.arange(len(people)))
    colors = np.array([instance_color(int(number)) for number in numbers], dtype=np.float64)
    return np.asarray(0.55 * colors + 0.45 * 255)
