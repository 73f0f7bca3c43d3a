"""Backgrounds of synthetic pictures, and what a lens and a sensor make of a picture."""

from __future__ import annotations

import math
import random
from typing import Literal

import cv2
import numpy as np

from posecli.types import FloatArray, ImageArray

Backdrop = Literal["clutter", "studio"]
Color = tuple[float, float, float]
BODILY = 7  # colours of a person that clutter may have, the first of the palette


def between(chance: random.Random, low: float, high: float) -> float:
    """An even draw."""
    return low + (high - low) * chance.random()


def below(chance: random.Random, count: int) -> int:
    """A whole number from 0 to count - 1."""
    return int(chance.random() * count)


def random_bytes(noise: np.random.PCG64, shape: tuple[int, ...]) -> ImageArray:
    """Even random bytes; `random_raw` is numpy's stable stream."""
    count = math.prod(shape)
    words = np.asarray(noise.random_raw(-(-count // 8)), dtype="<u8")
    return words.view(np.uint8)[:count].reshape(shape)


def background(
    chance: random.Random,
    noise: np.random.PCG64,
    size: tuple[int, int],
    palette: FloatArray,
    backdrop: Backdrop = "clutter",
) -> ImageArray:
    """An RGB picture (H, W, 3) for somebody to stand before: an even wall in a studio, or clutter.

    Some of the clutter has the colours `palette` (P, C, 3) of those who will, the first BODILY of each.
    """
    if backdrop == "studio":
        return _studio(chance, size)
    canvas = _backdrop(chance, noise, size)
    for painter in (_wall, _clutter, _limbs):
        if chance.random() < 0.5:
            painter(chance, canvas, palette)
    if chance.random() < 0.4:
        side = 3 + 2 * below(chance, max(2, size[0] // 48))
        canvas = np.asarray(cv2.blur(canvas, (side, side)))
    return canvas


def _studio(chance: random.Random, size: tuple[int, int]) -> ImageArray:
    """A wall of one colour, lighter or darker towards the floor."""
    width, height = size
    color = np.array([between(chance, 20, 220) for _ in range(3)])
    light = np.linspace(-1, 1, height)[:, None, None] * between(chance, -25, 25)
    rows = np.clip(color + light, 0, 255).astype(np.uint8)  # (H, 1, 3)
    return np.repeat(rows, width, axis=1)


def _backdrop(chance: random.Random, noise: np.random.PCG64, size: tuple[int, int]) -> ImageArray:
    """A smooth field of few colours, with a finer texture on it."""
    cells = (2, 2, 3, 5, 9, 17)[below(chance, 6)]
    coarse = random_bytes(noise, (cells, cells, 3))
    paleness = 1 - between(chance, 0.1, 0.95) ** 1.5
    pale = cv2.addWeighted(coarse, 1 - paleness, np.full_like(coarse, below(chance, 230)), paleness, 0)
    canvas = cv2.resize(pale, size, interpolation=cv2.INTER_CUBIC if cells < 9 else cv2.INTER_LINEAR)
    if chance.random() < 0.6:
        fine = int(between(chance, 12, max(size) * 0.6))
        texture = cv2.resize(random_bytes(noise, (fine, fine, 3)), size, interpolation=cv2.INTER_LINEAR)
        weight = between(chance, 0.1, 0.5)
        canvas = cv2.addWeighted(canvas, 1, texture, weight, -127 * weight)
    return np.asarray(canvas)


def _wall(chance: random.Random, canvas: ImageArray, palette: FloatArray) -> None:
    """A floor, or evenly spaced lines as of bricks, boards and blinds."""
    height, width = canvas.shape[:2]
    if chance.random() < 0.6:
        top, slope = between(chance, 0.4, 0.95) * height, between(chance, -0.1, 0.1) * height
        corners = np.array([[0, top - slope], [width, top + slope], [width, height], [0, height]])
        cv2.fillConvexPoly(canvas, np.rint(corners).astype(np.int32), _any_color(chance, palette))
    if chance.random() < 0.4:
        step, color = between(chance, 0.04, 0.2) * height, _any_color(chance, palette)
        thick, tilt = 1 + below(chance, 4), between(chance, -0.5, 0.5) * height
        if chance.random() < 0.5:
            for x in np.arange(-tilt, width + abs(tilt), step).tolist():
                cv2.line(canvas, (int(x), 0), (int(x + tilt), height), color, thick)
        else:
            for y in np.arange(-tilt, height + abs(tilt), step).tolist():
                cv2.line(canvas, (0, int(y)), (width, int(y + tilt)), color, thick)


def _clutter(chance: random.Random, canvas: ImageArray, palette: FloatArray) -> None:
    """Things of no particular shape."""
    height, width = canvas.shape[:2]
    for _ in range(2 + below(chance, 8)):
        x, y = below(chance, width), below(chance, height)
        radius = 2 + int(between(chance, 0, 0.5) ** 2 * width)
        color, kind = _any_color(chance, palette), below(chance, 4)
        if kind == 0:
            cv2.circle(canvas, (x, y), radius, color, -1 if chance.random() < 0.6 else 2)
        elif kind == 1:
            axes = (radius, max(1, int(radius * between(chance, 0.2, 1))))
            cv2.ellipse(canvas, (x, y), axes, between(chance, 0, 180), 0, 360, color, -1)
        elif kind == 2:
            other = (x + int(between(chance, -2, 2) * radius), y + int(between(chance, 0.2, 3) * radius))
            cv2.rectangle(canvas, (x, y), other, color, -1 if chance.random() < 0.8 else 2)
        else:
            turns = sorted(between(chance, 0, 2 * math.pi) for _ in range(3 + below(chance, 4)))
            corners = [(x + 1.5 * radius * math.cos(turn), y + 1.5 * radius * math.sin(turn)) for turn in turns]
            cv2.fillConvexPoly(canvas, np.rint(np.array(corners)).astype(np.int32), color)


def _limbs(chance: random.Random, canvas: ImageArray, palette: FloatArray) -> None:
    """Strokes that look like arms, legs and heads, in the colours that people have."""
    height, width = canvas.shape[:2]
    for _ in range(1 + below(chance, 5)):
        at = (below(chance, width), below(chance, height))
        angle, length = between(chance, 0, 2 * math.pi), between(chance, 0.06, 0.2) * height
        thick, color = max(1, int(length * between(chance, 0.12, 0.4))), _body_color(chance, palette)
        for _ in range(1 + below(chance, 3)):
            end = (at[0] + int(length * math.cos(angle)), at[1] + int(length * math.sin(angle)))
            cv2.line(canvas, at, end, color, thick, cv2.LINE_AA)
            at, angle = end, angle + between(chance, -1.5, 1.5)
            if chance.random() < 0.4:
                color = _body_color(chance, palette)
        if chance.random() < 0.3:
            cv2.circle(canvas, at, max(2, int(0.8 * thick)), _body_color(chance, palette), -1, cv2.LINE_AA)


def _any_color(chance: random.Random, palette: FloatArray) -> Color:
    if chance.random() < 0.25:
        return _body_color(chance, palette)
    grey, strength = between(chance, 15, 245), between(chance, 0, 120) if chance.random() < 0.7 else 0.0
    red, green, blue = (min(255.0, max(0.0, grey + strength * between(chance, -1, 1))) for _ in range(3))
    return red, green, blue


def _body_color(chance: random.Random, palette: FloatArray) -> Color:
    """A colour of somebody in the picture, lighter or darker; or a skin of somebody who is not."""
    if chance.random() < 0.5:
        person = palette[below(chance, len(palette))]
        red, green, blue = person[below(chance, min(BODILY, len(person)))].tolist()
    else:
        tone = chance.random()
        red, green, blue = 240 - 165 * tone, 205 - 160 * tone, 180 - 150 * tone
    shade = between(chance, 0.55, 1.1)
    return min(255.0, red * shade), min(255.0, green * shade), min(255.0, blue * shade)


def expose(chance: random.Random, noise: np.random.PCG64, canvas: ImageArray) -> ImageArray:
    """Light that falls off across the picture, contrast, a soft lens, and a noisy sensor."""
    height, width = canvas.shape[:2]
    if chance.random() < 0.5:
        glow = cv2.resize(random_bytes(noise, (2, 2, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
        weight = between(chance, 0.05, 0.3)
        canvas = np.asarray(cv2.addWeighted(canvas, 1 - weight / 2, glow, weight, -50 * weight))
    softness = chance.random()
    if softness < 0.3:  # as of a picture that was small, or compressed
        scale = between(chance, 0.45, 0.85)
        small = cv2.resize(canvas, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LINEAR)
        canvas = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    elif softness < 0.9:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (3, 3), between(chance, 0.45, 1.1)))
    contrast, brightness = between(chance, 0.7, 1.15), between(chance, -25, 30)
    grain = random_bytes(noise, canvas.shape)
    level = between(chance, 0.0, 0.16)
    return np.asarray(cv2.addWeighted(canvas, contrast, grain, level, brightness + 128 * (1 - contrast - level)))
