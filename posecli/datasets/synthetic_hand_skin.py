"""The skin of synthetic hands: rings around the bones, joined to four-cornered facets; nails, and a sleeve."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from posecli.datasets.synthetic_hand import FINGERS, Hands
from posecli.types import FloatArray, IntArray

AROUND_FINGER, AROUND_PALM = 6, 10  # corners of a ring
# Rings of a finger: bone, place along it from 0 to 1, girth. Bones overlap a little, so that bent joints stay closed.
FINGER_RINGS = (
    (0, -0.08, 1.02),
    (0, 0.5, 0.95),
    (0, 0.92, 0.98),
    (1, 0.12, 0.95),
    (1, 0.9, 0.86),
    (2, 0.14, 0.84),
    (2, 0.7, 0.78),
    (2, 0.98, 0.45),
)
THUMB_RINGS = ((0, -0.25, 1.25), (0, 0.3, 1.6), (0, 0.85, 1.15), *FINGER_RINGS[3:])
# Rings of the palm: x, and how it leans with y; middle of y and z; half width and half thickness; millimetres.
PALM_RINGS = (
    (-4.0, 0.0, 0.0, 0.0, 27.0, 18.0),
    (22.0, 0.0, -1.0, -2.0, 34.0, 18.0),
    (50.0, 0.05, -3.0, -1.0, 39.0, 16.0),
    (74.0, 0.16, -3.5, 1.0, 41.0, 13.5),
    (89.0, 0.2, -3.5, 2.0, 38.0, 10.0),
)
FOREARM_RINGS = ((2.0, 27.0, 18.0), (-40.0, 28.0, 20.0), (-95.0, 33.0, 26.0), (-170.0, 39.0, 33.0))
SLEEVE = 1.12  # how much wider than the arm
MATERIALS = ("skin", "palm", "nail", "sleeve", "knuckle")
LIFT = {"nail": 4.0}  # millimetres nearer than they are, when facets are put in order


@dataclass(frozen=True)
class Facets:
    """Q facets over V vertices, alike for all hands."""

    corners: IntArray  # (Q, 4) vertices; clockwise as seen from outside, on a right hand
    material: IntArray  # (Q,) row of MATERIALS
    lift: FloatArray  # (Q,) millimetres


def _rings(count: int, around: int, start: int) -> IntArray:
    """Facets between `count` rings of vertices that begin at `start`, (Q, 4)."""
    one, two = np.arange(around), (np.arange(around) + 1) % around
    tube = np.stack([one, two, two + around, one + around], axis=1)
    return np.concatenate([start + around * ring + tube for ring in range(count - 1)])


def _cap(around: int, start: int) -> IntArray:
    """Facets that close the ring at `start`, (Q, 4)."""
    return np.array([[start, start + i + 1, start + i + 2, start + i + 3] for i in range(0, around - 2, 2)])


@functools.cache
def facets() -> Facets:
    """The facets in the order of the vertices of `place_skin`."""
    corners: list[IntArray] = []
    material: list[str] = []
    start = 0
    rings = len(FINGER_RINGS)
    for _ in FINGERS:
        tube, cap = _rings(rings, AROUND_FINGER, start), _cap(AROUND_FINGER, start + AROUND_FINGER * (rings - 1))
        corners += [tube, cap]
        sides = ["skin", "knuckle", "skin", "palm", "palm", "palm"]  # around a ring from the thumb's side
        material += [_finger_side(sides, ring, side) for ring in range(rings - 1) for side in range(AROUND_FINGER)]
        material += ["palm"] * len(cap)
        start += AROUND_FINGER * rings
    corners.append(start + np.arange(4 * len(FINGERS)).reshape(-1, 4))
    material += ["nail"] * len(FINGERS)
    start += 4 * len(FINGERS)
    palm = [_rings(len(PALM_RINGS), AROUND_PALM, start), _cap(AROUND_PALM, start + AROUND_PALM * (len(PALM_RINGS) - 1))]
    corners += palm
    material += ["skin" if side < 5 else "palm" for _ in PALM_RINGS[1:] for side in range(AROUND_PALM)]
    material += ["skin"] * len(palm[1])
    start += AROUND_PALM * len(PALM_RINGS)
    arm = _rings(len(FOREARM_RINGS), AROUND_PALM, start)[:, ::-1]  # its rings go the other way along x
    corners.append(arm)
    material += ["skin"] * AROUND_PALM + ["sleeve"] * (len(arm) - AROUND_PALM)
    start += AROUND_PALM * len(FOREARM_RINGS)
    web = np.array([[start, start + 1, start + 2, start + 3]])
    corners += [web, web[:, ::-1]]  # seen from either side
    material += ["skin", "palm"]
    return Facets(
        np.concatenate(corners),
        np.array([MATERIALS.index(name) for name in material]),
        np.array([LIFT.get(name, 0.0) for name in material]),
    )


def _finger_side(sides: list[str], ring: int, side: int) -> str:
    """Back facets over the two outer joints are knuckles, the others plain skin."""
    name = sides[side]
    return name if name != "knuckle" or ring in (2, 4) else "skin"


@functools.cache
def _circle(around: int) -> FloatArray:
    """Corners of a ring as y and z, (around, 2): from the thumb's side over the back to the other side and the palm."""
    angle = 2 * np.pi * np.arange(around) / around
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def place_skin(hands: Hands) -> FloatArray:
    """The vertices (M, V, 3) of hands in their own frames, millimetres."""
    parts = (_fingers(hands), _nails(hands), _palm(hands), _forearm(hands), _web(hands))
    return np.concatenate([part.reshape(len(hands.joints), -1, 3) for part in parts], axis=1)


def _fingers(hands: Hands) -> FloatArray:
    """The rings of all fingers, (M, 5, R, 6, 3)."""
    bone = np.array([ring[0] for ring in FINGER_RINGS])  # (R,), the thumb's alike
    table = np.array([THUMB_RINGS, *[FINGER_RINGS] * 4])  # (5, R, 3)
    width = table[..., 2] * hands.girths[..., None]  # (M, 5, R)
    local = np.empty((*width.shape, AROUND_FINGER, 3))
    local[..., 0] = (table[..., 1] * hands.bones[:, :, bone])[..., None]
    local[..., 1:] = width[..., None, None] * (_circle(AROUND_FINGER) * np.array([1.0, 0.9]))
    frames = hands.frames[:, :, bone]  # (M, 5, R, 3, 3)
    origin = hands.joints[:, 4 * np.arange(5)[:, None] + 3 - bone]  # (M, 5, R, 3)
    return np.asarray(local @ np.swapaxes(frames, -1, -2) + origin[:, :, :, None])


def _nails(hands: Hands) -> FloatArray:
    """The corners of all nails, (M, 5, 4, 3)."""
    length, girth = hands.bones[:, :, 2, None], hands.girths[..., None]
    local = np.empty((len(length), 5, 4, 3))
    local[..., 0] = length * np.array([0.45, 0.45, 0.95, 0.95])
    local[..., 1] = girth * np.array([0.5, -0.5, -0.42, 0.42])
    local[..., 2] = girth * np.array([0.78, 0.78, 0.6, 0.6])
    frame, origin = hands.frames[:, :, 2], hands.joints[:, 1:20:4]
    return np.asarray(local @ np.swapaxes(frame, -1, -2) + origin[:, :, None])


def _palm(hands: Hands) -> FloatArray:
    table = np.array(PALM_RINGS)  # (R, 6)
    circle = _circle(AROUND_PALM)
    rings = np.empty((len(PALM_RINGS), AROUND_PALM, 3))
    aside = np.sign(circle[:, 0]) * np.abs(circle[:, 0]) ** 0.8 * table[:, 4:5]  # (R, around): flatter than an ellipse
    rings[..., 0] = table[:, :1] + table[:, 1:2] * aside
    rings[..., 1] = table[:, 2:3] + aside
    rings[..., 2] = table[:, 3:4] + circle[:, 1] * table[:, 5:]
    return rings.reshape(1, -1, 3) * hands.palm[:, None]


def _forearm(hands: Hands) -> FloatArray:
    table = np.array(FOREARM_RINGS)  # (R, 3)
    rings = np.empty((len(FOREARM_RINGS), AROUND_PALM, 3))
    rings[..., 0] = table[:, :1]
    rings[..., 1:] = table[:, None, 1:] * _circle(AROUND_PALM)
    rings[2:, :, 1:] *= SLEEVE
    local = rings.reshape(1, -1, 3) * hands.palm[:, None]
    return np.asarray(local @ np.swapaxes(hands.forearm, -1, -2))


def _web(hands: Hands) -> FloatArray:
    """The skin between thumb and forefinger: its corners, (M, 4, 3)."""
    root, joint = hands.joints[:, 3], hands.joints[:, 2]
    palm = np.array([[40.0, 30.0, -4.0], [70.0, 34.0, -2.0]]) * hands.palm[:, None]
    return np.stack([root, root + 0.8 * (joint - root), palm[:, 1], palm[:, 0]], axis=1)
