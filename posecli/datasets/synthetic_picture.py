"""Pictures of synthetic scenes, drawn with OpenCV: people as shaded facets over a cluttered background.

`depth_order` is what both the picture and the labels come from: the same facets in the same order give the colours of
one and the occlusion of the other.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np

from posecli.datasets.synthetic_backdrop import Backdrop, background, between, expose, random_bytes
from posecli.datasets.synthetic_draws import Draws
from posecli.datasets.synthetic_scene import Scenes
from posecli.datasets.synthetic_surface import Look, facets, place_vertices
from posecli.types import FloatArray, ImageArray, IntArray

_SHIFT = 4  # fractional bits of the corners


@dataclass(frozen=True)
class Painting:
    """The facets that face the camera, farthest first; painting them in this order hides what is hidden."""

    polygons: IntArray  # (F, 4, 2) image pixels with _SHIFT fractional bits, int32
    person: IntArray  # (F,) row within the picture
    facet: IntArray  # (F,) row of the facet table
    corners: FloatArray  # (F, 4, 3) camera millimetres
    boxes: FloatArray  # (P, 4) of the whole silhouettes, image pixels, not clipped


def depth_order(scene: Scenes, vertices: FloatArray) -> Painting:
    """Project, cull and sort the facets of ONE picture's people; vertices (P, V, 3) in camera millimetres."""
    table = facets()
    pixels = vertices[..., :2] * np.float32(scene.cameras.focal[0]) / vertices[..., 2:] + scene.cameras.center[
        0
    ].astype(np.float32)
    fixed = np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
    polygons = fixed[:, table.corners]  # (P, Q, 4, 2)
    first, second = polygons[:, :, 2] - polygons[:, :, 0], polygons[:, :, 3] - polygons[:, :, 1]
    facing = first[..., 0].astype(np.int64) * second[..., 1] < first[..., 1].astype(np.int64) * second[..., 0]
    person, facet = np.nonzero(facing)
    corners = vertices[person[:, None], table.corners[facet]]
    depth = corners[..., 2].sum(axis=1) - 4 * table.lift[facet]
    order = np.argsort(-depth, kind="stable")
    person, facet = person[order], facet[order]
    boxes = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=-1)
    return Painting(polygons[person, facet], person, facet, corners[order], boxes)


def paint_numbers(polygons: IntArray, size: tuple[int, int]) -> IntArray:
    """Which of the polygons (F, 4, 2), painted in their order, is seen at each pixel, (H, W) int32; -1 where none."""
    canvas = np.full((size[1], size[0]), -1, dtype=np.int32)
    fill = cv2.fillConvexPoly
    for number, polygon in enumerate(polygons):
        fill(canvas, polygon, number, cv2.LINE_8, _SHIFT)
    return canvas


def draw_picture(scene: Scenes, look: Look, backdrop: Backdrop = "clutter") -> ImageArray:
    """The picture of ONE scene, RGB (H, W, 3)."""
    key = int(Draws(scene.seed, scene.indices).key("picture")[0])
    chance = random.Random(key)  # only random() is used: its series is the same in every Python
    noise = np.random.PCG64(key)
    canvas = background(chance, noise, scene.size, look.palette, backdrop)
    painting = depth_order(scene, place_vertices(scene, look))
    _shadows(chance, canvas, painting)
    _people(chance, noise, canvas, painting, look)
    return expose(chance, noise, canvas)


def _people(chance: random.Random, noise: np.random.PCG64, canvas: ImageArray, painting: Painting, look: Look) -> None:
    corners = painting.corners
    (a, b, c), (d, e, f) = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    normal = np.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=1)
    normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True)) + np.float32(1e-6)
    around, up = between(chance, -math.pi, math.pi), between(chance, 0.15, 1.2)
    light = np.array(
        [math.cos(around) * math.cos(up), -math.sin(up), math.sin(around) * math.cos(up)], dtype=np.float32
    )
    ambient, direct = between(chance, 0.45, 0.8), between(chance, 0.25, 0.65)
    shade = ambient + direct * np.maximum(normal @ light, 0) - 0.12 * normal[:, 2]
    creases = random_bytes(noise, painting.facet.shape) / 255.0 - 0.5  # cloth is never quite even
    shade = shade * (1 + between(chance, 0.0, 0.16) * creases)
    colors = look.palette[painting.person, look.material[painting.person, painting.facet]] * shade[:, None]
    fill = cv2.fillConvexPoly
    for polygon, color in zip(painting.polygons, np.minimum(colors, 255).tolist(), strict=True):
        fill(canvas, polygon, color, cv2.LINE_8, _SHIFT)


def _shadows(chance: random.Random, canvas: ImageArray, painting: Painting) -> None:
    """A darker patch below each person, in most pictures."""
    strength = between(chance, -0.2, 0.5)
    if strength <= 0:
        return
    ground = canvas.copy()
    for left, top, right, bottom in painting.boxes.tolist():
        width = (right - left) * between(chance, 0.3, 0.6)
        middle = (round((left + right) / 2), round(bottom - 0.015 * (bottom - top)))
        cv2.ellipse(ground, middle, (max(1, round(width)), max(1, round(0.18 * width))), 0, 0, 360, (25, 25, 25), -1)
    cv2.addWeighted(canvas, 1 - strength, ground, strength, 0, dst=canvas)
