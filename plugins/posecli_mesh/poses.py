"""Random postures of SMPL's 24 bones: those of the synthetic people, so within the limits of human joints. numpy."""

from __future__ import annotations

import numpy as np

from posecli.datasets.synthetic_body import draw_stances, posture, turn
from posecli.datasets.synthetic_draws import Draws
from posecli.types import FloatArray
from posecli_mesh.bodies import BONES, PARENTS

LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # from a world with z up to a camera along its y
OWN = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # left, up, forward as forward, left, up
SHRUG = 0.35  # of how far the arm is lifted, what the collar bone does
SIDES = {"left": 1.0, "right": -1.0}


def draw_rotations(draws: Draws, turned: float = 90.0) -> FloatArray:
    """A posture a row, (M, 24, 3, 3): each bone relative to its parent, the first in the camera frame.

    People stand upright before the camera, which looks a little down or up, and are turned away from it by at most
    `turned` degrees.
    """
    heading = -90 + draws.uniform("turned", -turned, turned)
    camera = turn(2, draws.uniform("roll", -8, 8)) @ turn(0, draws.uniform("pitch", -8, 18)) @ LEVEL
    frames = posture(draws, draw_stances(draws), heading)
    world = {name: camera @ frame @ OWN for name, frame in frames.items()}
    return _relative(_bones(world))


def _bones(frames: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Each bone's rotation from rest, (M, 3, 3), from the frames of the body's parts."""
    pelvis, waist, chest, head = (frames[name] for name in ("pelvis", "waist", "chest", "head"))
    bones = {
        "pelvis": pelvis,
        "spine1": _between(pelvis, waist),
        "spine2": _between(waist, chest),
        "spine3": chest,
        "neck": _between(chest, head),
        "head": head,
    }
    for side, sign in SIDES.items():
        thigh, shank, foot = (frames[f"{side}_{part}"] for part in ("thigh", "shank", "foot"))
        bones |= {f"{side}_hip": thigh, f"{side}_knee": shank, f"{side}_ankle": foot, f"{side}_foot": foot}
        hanging = turn(2, np.array(-90.0 * sign))  # the parts' frames are of hanging arms
        parts = ("upper_arm", "forearm", "hand")
        upper, lower, hand = (frames[f"{side}_{part}"] @ hanging for part in parts)
        lifted = np.rad2deg(np.arcsin(np.clip(sign * (chest * upper[..., :1]).sum(axis=1)[:, 1], -1, 1)))
        collar = chest @ turn(2, sign * SHRUG * np.maximum(lifted, -20))
        bones |= {f"{side}_collar": collar, f"{side}_shoulder": upper, f"{side}_elbow": lower}
        bones |= {f"{side}_wrist": hand, f"{side}_hand": hand}
    return bones


def _relative(bones: dict[str, FloatArray]) -> FloatArray:
    """(M, 24, 3, 3): the rotations of each bone as its parent has them, the root's as they are."""
    rotations = [bones[BONES[0]]]
    for name, parent in zip(BONES[1:], PARENTS[1:], strict=True):
        rotations.append(np.swapaxes(bones[BONES[parent]], -1, -2) @ bones[name])
    return np.stack(rotations, axis=1)


def _between(first: FloatArray, second: FloatArray) -> FloatArray:
    """The rotations (M, 3, 3) half way from one to the other, which must not be opposite."""
    left, _, right = np.linalg.svd(first + second)
    return np.asarray(left @ right)
