"""Pictures of synthetic scenes, drawn with OpenCV: a cluttered background, people as shaded facets, a sensor's faults.

`depth_order` is what both the picture and the labels come from: the same facets in the same order give the colours of
one and the occlusion of the other.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np

from posecli.datasets.synthetic_draws import Draws
from posecli.datasets.synthetic_scene import Scenes
from posecli.datasets.synthetic_surface import Look, facets, place_vertices
from posecli.types import FloatArray, ImageArray, IntArray

Color = tuple[float, float, float]
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


def draw_picture(scene: Scenes, look: Look) -> ImageArray:
    """The picture of ONE scene, RGB (H, W, 3)."""
    key = int(Draws(scene.seed, scene.indices).key("picture")[0])
    chance = random.Random(key)  # only random() is used: its series is the same in every Python
    noise = np.random.PCG64(key)
    canvas = _background(chance, noise, scene.size, look)
    painting = depth_order(scene, place_vertices(scene, look))
    _shadows(chance, canvas, painting)
    _people(chance, noise, canvas, painting, look)
    return _expose(chance, noise, canvas)


def _people(chance: random.Random, noise: np.random.PCG64, canvas: ImageArray, painting: Painting, look: Look) -> None:
    corners = painting.corners
    (a, b, c), (d, e, f) = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    normal = np.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=1)
    normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True)) + np.float32(1e-6)
    around, up = _between(chance, -math.pi, math.pi), _between(chance, 0.15, 1.2)
    light = np.array(
        [math.cos(around) * math.cos(up), -math.sin(up), math.sin(around) * math.cos(up)], dtype=np.float32
    )
    ambient, direct = _between(chance, 0.45, 0.8), _between(chance, 0.25, 0.65)
    shade = ambient + direct * np.maximum(normal @ light, 0) - 0.12 * normal[:, 2]
    creases = _bytes(noise, painting.facet.shape) / 255.0 - 0.5  # cloth is never quite even
    shade = shade * (1 + _between(chance, 0.0, 0.16) * creases)
    colors = look.palette[painting.person, look.material[painting.person, painting.facet]] * shade[:, None]
    fill = cv2.fillConvexPoly
    for polygon, color in zip(painting.polygons, np.minimum(colors, 255).tolist(), strict=True):
        fill(canvas, polygon, color, cv2.LINE_8, _SHIFT)


def _shadows(chance: random.Random, canvas: ImageArray, painting: Painting) -> None:
    """A darker patch below each person, in most pictures."""
    strength = _between(chance, -0.2, 0.5)
    if strength <= 0:
        return
    ground = canvas.copy()
    for left, top, right, bottom in painting.boxes.tolist():
        width = (right - left) * _between(chance, 0.3, 0.6)
        middle = (round((left + right) / 2), round(bottom - 0.015 * (bottom - top)))
        cv2.ellipse(ground, middle, (max(1, round(width)), max(1, round(0.18 * width))), 0, 0, 360, (25, 25, 25), -1)
    cv2.addWeighted(canvas, 1 - strength, ground, strength, 0, dst=canvas)


def _between(chance: random.Random, low: float, high: float) -> float:
    return low + (high - low) * chance.random()


def _below(chance: random.Random, count: int) -> int:
    return int(chance.random() * count)


def _bytes(noise: np.random.PCG64, shape: tuple[int, ...]) -> ImageArray:
    """Even random bytes; `random_raw` is numpy's stable stream."""
    count = math.prod(shape)
    words = np.asarray(noise.random_raw(-(-count // 8)), dtype="<u8")
    return words.view(np.uint8)[:count].reshape(shape)


def _background(chance: random.Random, noise: np.random.PCG64, size: tuple[int, int], look: Look) -> ImageArray:
    canvas = _backdrop(chance, noise, size)
    for painter in (_wall, _clutter, _limbs):
        if chance.random() < 0.5:
            painter(chance, canvas, look)
    if chance.random() < 0.4:
        side = 3 + 2 * _below(chance, max(2, size[0] // 48))
        canvas = np.asarray(cv2.blur(canvas, (side, side)))
    return canvas


def _backdrop(chance: random.Random, noise: np.random.PCG64, size: tuple[int, int]) -> ImageArray:
    """A smooth field of few colours, with a finer texture on it."""
    cells = (2, 2, 3, 5, 9, 17)[_below(chance, 6)]
    coarse = _bytes(noise, (cells, cells, 3))
    paleness = 1 - _between(chance, 0.1, 0.95) ** 1.5
    pale = cv2.addWeighted(coarse, 1 - paleness, np.full_like(coarse, _below(chance, 230)), paleness, 0)
    canvas = cv2.resize(pale, size, interpolation=cv2.INTER_CUBIC if cells < 9 else cv2.INTER_LINEAR)
    if chance.random() < 0.6:
        fine = int(_between(chance, 12, max(size) * 0.6))
        texture = cv2.resize(_bytes(noise, (fine, fine, 3)), size, interpolation=cv2.INTER_LINEAR)
        weight = _between(chance, 0.1, 0.5)
        canvas = cv2.addWeighted(canvas, 1, texture, weight, -127 * weight)
    return np.asarray(canvas)


def _wall(chance: random.Random, canvas: ImageArray, look: Look) -> None:
    """A floor, or evenly spaced lines as of bricks, boards and blinds."""
    height, width = canvas.shape[:2]
    if chance.random() < 0.6:
        top, slope = _between(chance, 0.4, 0.95) * height, _between(chance, -0.1, 0.1) * height
        corners = np.array([[0, top - slope], [width, top + slope], [width, height], [0, height]])
        cv2.fillConvexPoly(canvas, np.rint(corners).astype(np.int32), _any_color(chance, look))
    if chance.random() < 0.4:
        step, color = _between(chance, 0.04, 0.2) * height, _any_color(chance, look)
        thick, tilt = 1 + _below(chance, 4), _between(chance, -0.5, 0.5) * height
        if chance.random() < 0.5:
            for x in np.arange(-tilt, width + abs(tilt), step).tolist():
                cv2.line(canvas, (int(x), 0), (int(x + tilt), height), color, thick)
        else:
            for y in np.arange(-tilt, height + abs(tilt), step).tolist():
                cv2.line(canvas, (0, int(y)), (width, int(y + tilt)), color, thick)


def _clutter(chance: random.Random, canvas: ImageArray, look: Look) -> None:
    """Things of no particular shape."""
    height, width = canvas.shape[:2]
    for _ in range(2 + _below(chance, 8)):
        x, y = _below(chance, width), _below(chance, height)
        radius = 2 + int(_between(chance, 0, 0.5) ** 2 * width)
        color, kind = _any_color(chance, look), _below(chance, 4)
        if kind == 0:
            cv2.circle(canvas, (x, y), radius, color, -1 if chance.random() < 0.6 else 2)
        elif kind == 1:
            axes = (radius, max(1, int(radius * _between(chance, 0.2, 1))))
            cv2.ellipse(canvas, (x, y), axes, _between(chance, 0, 180), 0, 360, color, -1)
        elif kind == 2:
            other = (x + int(_between(chance, -2, 2) * radius), y + int(_between(chance, 0.2, 3) * radius))
            cv2.rectangle(canvas, (x, y), other, color, -1 if chance.random() < 0.8 else 2)
        else:
            turns = sorted(_between(chance, 0, 2 * math.pi) for _ in range(3 + _below(chance, 4)))
            corners = [(x + 1.5 * radius * math.cos(turn), y + 1.5 * radius * math.sin(turn)) for turn in turns]
            cv2.fillConvexPoly(canvas, np.rint(np.array(corners)).astype(np.int32), color)


def _limbs(chance: random.Random, canvas: ImageArray, look: Look) -> None:
    """Strokes that look like arms, legs and heads, in the colours that people have."""
    height, width = canvas.shape[:2]
    for _ in range(1 + _below(chance, 5)):
        at = (_below(chance, width), _below(chance, height))
        angle, length = _between(chance, 0, 2 * math.pi), _between(chance, 0.06, 0.2) * height
        thick, color = max(1, int(length * _between(chance, 0.12, 0.4))), _body_color(chance, look)
        for _ in range(1 + _below(chance, 3)):
            end = (at[0] + int(length * math.cos(angle)), at[1] + int(length * math.sin(angle)))
            cv2.line(canvas, at, end, color, thick, cv2.LINE_AA)
            at, angle = end, angle + _between(chance, -1.5, 1.5)
            if chance.random() < 0.4:
                color = _body_color(chance, look)
        if chance.random() < 0.3:
            cv2.circle(canvas, at, max(2, int(0.8 * thick)), _body_color(chance, look), -1, cv2.LINE_AA)


def _any_color(chance: random.Random, look: Look) -> Color:
    if chance.random() < 0.25:
        return _body_color(chance, look)
    grey, strength = _between(chance, 15, 245), _between(chance, 0, 120) if chance.random() < 0.7 else 0.0
    red, green, blue = (min(255.0, max(0.0, grey + strength * _between(chance, -1, 1))) for _ in range(3))
    return red, green, blue


def _body_color(chance: random.Random, look: Look) -> Color:
    """A colour of somebody in the picture, lighter or darker; or a skin of somebody who is not."""
    if chance.random() < 0.5:
        person = look.palette[_below(chance, len(look.palette))]
        red, green, blue = person[_below(chance, 7)].tolist()
    else:
        tone = chance.random()
        red, green, blue = 240 - 165 * tone, 205 - 160 * tone, 180 - 150 * tone
    shade = _between(chance, 0.55, 1.1)
    return min(255.0, red * shade), min(255.0, green * shade), min(255.0, blue * shade)


def _expose(chance: random.Random, noise: np.random.PCG64, canvas: ImageArray) -> ImageArray:
    """Light that falls off across the picture, contrast, a soft lens, and a noisy sensor."""
    height, width = canvas.shape[:2]
    if chance.random() < 0.5:
        glow = cv2.resize(_bytes(noise, (2, 2, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
        weight = _between(chance, 0.05, 0.3)
        canvas = np.asarray(cv2.addWeighted(canvas, 1 - weight / 2, glow, weight, -50 * weight))
    softness = chance.random()
    if softness < 0.3:  # as of a picture that was small, or compressed
        scale = _between(chance, 0.45, 0.85)
        small = cv2.resize(canvas, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LINEAR)
        canvas = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    elif softness < 0.9:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (3, 3), _between(chance, 0.45, 1.1)))
    contrast, brightness = _between(chance, 0.7, 1.15), _between(chance, -25, 30)
    grain = _bytes(noise, canvas.shape)
    level = _between(chance, 0.0, 0.16)
    return np.asarray(cv2.addWeighted(canvas, contrast, grain, level, brightness + 128 * (1 - contrast - level)))
