"""Synthetic hands: how long the bones are, how far the fingers bend, and where the joints come to stand.

The frame of a hand: the origin in the wrist, x along the middle finger when it is straight, y to the thumb's side, z
out of the back of the hand; millimetres, a right hand. A left hand is its mirror image. A finger bends about its own y
axis, the positive way to the palm, and spreads about its z axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.datasets.synthetic_body import turn
from posecli.datasets.synthetic_draws import Draws
from posecli.types import FloatArray, IntArray

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
WRIST = 20
# Where the fingers begin, and how long their bones are, millimetres; about the mean of grown-up people. The first bone
# of the thumb is its metacarpal; those of the fingers belong to the palm.
ROOTS = np.array([[20, 24, -10], [92, 24, 3], [90, 3, 6], [84, -15, 4], [76, -31, -1]], dtype=np.float64)
BONES = np.array([[43, 33, 27], [44, 26, 23], [48, 30, 24], [44, 29, 24], [35, 20, 21]], dtype=np.float64)
GIRTHS = np.array([11.0, 9.2, 9.4, 8.8, 7.8])  # half the width of a finger at its first bone
SPLAY = np.array([0.0, 6.0, 1.0, -4.0, -9.0])  # degrees that fingers point to the thumb's side when at rest
SPREAD = np.array([0.0, 11.0, 2.0, -6.0, -14.0])  # and how much farther when spread
KINDS = ("open", "relaxed", "fist", "pointing", "pinch", "free")
WEIGHTS = (0.2, 0.25, 0.1, 0.1, 0.1, 0.25)
# How far fingers are bent, from 0 to 1, least and most: thumb, forefinger, the others.
BENT = np.array(
    [
        [[0.0, 0.2], [0.0, 0.15], [0.0, 0.15]],
        [[0.1, 0.6], [0.1, 0.6], [0.15, 0.65]],
        [[0.7, 1.0], [0.85, 1.0], [0.85, 1.0]],
        [[0.4, 1.0], [0.0, 0.12], [0.7, 1.0]],
        [[0.45, 0.7], [0.45, 0.65], [0.05, 0.5]],
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]],
    ]
)
SMALLEST, LARGEST = 0.84, 1.03  # times the bones above


@dataclass(frozen=True)
class Hands:
    """M right hands, each in its own frame."""

    joints: FloatArray  # (M, 21, 3) millimetres; every finger from the tip to the root, thumb first; the wrist last
    frames: FloatArray  # (M, 5, 3, 3, 3): finger, bone from the root to the tip, and its axes as columns
    bones: FloatArray  # (M, 5, 3) lengths
    palm: FloatArray  # (M, 3): how much longer, wider and thicker than usual the palm is
    girths: FloatArray  # (M, 5) half the widths of the fingers at their first bones
    forearm: FloatArray  # (M, 3, 3): its axes

    def take(self, rows: slice | IntArray) -> Hands:
        """Some of the hands."""
        return Hands(
            self.joints[rows],
            self.frames[rows],
            self.bones[rows],
            self.palm[rows],
            self.girths[rows],
            self.forearm[rows],
        )


def draw_hands(draws: Draws) -> Hands:
    """A hand of its own shape, in a posture of its own, for every row of the draws."""
    size = draws.uniform("size", SMALLEST, LARGEST)
    palm = np.stack([draws.around(f"palm/{axis}", size, spread) for axis, spread in enumerate((0.06, 0.1, 0.15))], -1)
    bones = np.stack([_bones(draws, finger, size) for finger in range(5)], axis=1)  # (M, 5, 3)
    thick = draws.around("girth", size, 0.15)
    girths = np.stack([draws.around(f"girth/{finger}", GIRTHS[finger] * thick, 0.06) for finger in range(5)], axis=1)
    frames = bend_fingers(draws)
    joints = place_finger_joints(bones, palm, frames)
    forearm = turn(1, -draws.uniform("wrist", -40, 35)) @ turn(2, draws.uniform("wrist/side", -18, 22))
    return Hands(joints, frames, bones, palm, girths, forearm)


def _bones(draws: Draws, finger: int, size: FloatArray) -> FloatArray:
    """The lengths of a finger's bones, (M, 3)."""
    whole = draws.around(f"length/{finger}", size, 0.08)
    lengths = [draws.around(f"length/{finger}/{bone}", BONES[finger, bone] * whole, 0.06) for bone in range(3)]
    return np.stack(lengths, axis=-1)


def bend_fingers(draws: Draws) -> FloatArray:
    """The axes of all bones within their hands, (M, 5, 3, 3, 3): finger, bone, and the axes as columns."""
    kind = draws.choice("kind", WEIGHTS)
    common = draws.uniform("bent")
    return np.stack([_thumb(draws, kind), *(_finger(draws, kind, common, finger) for finger in range(1, 5))], axis=1)


def _bent(draws: Draws, kind: IntArray, finger: int, own: FloatArray) -> FloatArray:
    low, high = BENT[kind, min(finger, 2)].T
    return np.asarray(low + (high - low) * own)


def _finger(draws: Draws, kind: IntArray, common: FloatArray, finger: int) -> FloatArray:
    """One finger's axes, (M, 3, 3, 3). Neighbours bend alike unless the fingers are free."""
    share = np.where(kind == KINDS.index("free"), 1.0, 0.35)
    bent = _bent(draws, kind, finger, (1 - share) * common + share * draws.uniform(f"bent/{finger}"))
    knuckle = -14 + 96 * bent * draws.uniform(f"knuckle/{finger}", 0.65, 1.05) + draws.uniform(f"lift/{finger}", -8, 8)
    middle = np.clip(104 * bent + draws.uniform(f"middle/{finger}", -8, 10), -3, 108)
    last = np.clip(0.62 * middle + draws.uniform(f"last/{finger}", -10, 8), -8, 75)
    spread = draws.uniform("spread", -0.35, 1.0) * (1 - bent)  # a fist cannot be spread
    aside = SPLAY[finger] + SPREAD[finger] * spread + draws.uniform(f"aside/{finger}", -3.5, 3.5)
    first = turn(2, aside) @ turn(1, knuckle)
    second = first @ turn(1, middle)
    return np.stack([first, second, second @ turn(1, last)], axis=1)


def _thumb(draws: Draws, kind: IntArray) -> FloatArray:
    """The thumb's axes, (M, 3, 3, 3). Its nail looks to the side, and it bends across the palm."""
    bent = _bent(draws, kind, 0, draws.uniform("bent/0"))
    aside = 52 - 26 * bent + draws.uniform("thumb/aside", -12, 12)
    down = 12 + 30 * bent + draws.uniform("thumb/down", -12, 14)
    rest = turn(2, aside) @ turn(1, down) @ turn(0, -58 + draws.uniform("thumb/twist", -12, 12))
    first = rest @ turn(1, 12 * bent + draws.uniform("thumb/root", -6, 6))
    second = first @ turn(1, -8 + 56 * bent * draws.uniform("thumb/middle", 0.5, 1.05))
    return np.stack([first, second, second @ turn(1, -12 + 82 * bent * draws.uniform("thumb/last", 0.4, 1.05))], axis=1)


def place_finger_joints(bones: FloatArray, palm: FloatArray, frames: FloatArray) -> FloatArray:
    """Joints (M, 21, 3) of fingers with bones (M, 5, 3) whose axes are frames (M, 5, 3, 3, 3)."""
    roots = ROOTS * palm[:, None]  # (M, 5, 3)
    steps = frames[..., 0] * bones[..., None]  # (M, 5, 3, 3): along each bone's x axis
    chain = np.concatenate([roots[:, :, None], roots[:, :, None] + np.cumsum(steps, axis=2)], axis=2)  # (M, 5, 4, 3)
    joints = chain[:, :, ::-1].reshape(len(bones), 20, 3)
    return np.concatenate([joints, np.zeros((len(bones), 1, 3))], axis=1)
