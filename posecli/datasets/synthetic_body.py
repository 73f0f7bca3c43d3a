"""Synthetic bodies: how long the bones are, how the joints bend, and where the joints come to stand.

World frame: millimetres, z up, the ground at z = 0. A body's own frames have x forward, y to the person's left, z up.
All functions work on M people at once; angles in the tables are degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.datasets.synthetic_draws import Draws
from posecli.types import FloatArray, IntArray

JOINTS = (
    *("pelvis", "waist", "neck", "chin", "crown"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_fingers", "right_fingers", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    *("left_heel", "right_heel", "left_toe", "right_toe", "hem", "nape", "hair_end"),
)
FRAMES = (
    *("pelvis", "waist", "chest", "head"),
    *("left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm", "left_hand", "right_hand"),
    *("left_thigh", "right_thigh", "left_shank", "right_shank", "left_foot", "right_foot"),
)
SIDES = np.array([1.0, -1.0])  # the sign of y: left, right

Range = tuple[float, float]


@dataclass(frozen=True)
class Stance:
    """A kind of posture: the ranges of the angles of trunk and legs. The leading leg may be either one."""

    weight: float
    lead_hip: Range  # thigh forward of the vertical
    lead_knee: Range
    trail_hip: Range
    trail_knee: Range
    spread: Range = (0, 10)  # thighs sideways
    lean: Range = (-5, 8)  # pelvis forward of the vertical
    bend: Range = (-5, 15)  # chest forward of the pelvis
    lift: Range = (0, 0)  # millimetres above the ground


STANCES = {
    "standing": Stance(0.22, (-5, 12), (0, 15), (-8, 8), (0, 15)),
    "relaxed": Stance(0.10, (5, 35), (15, 60), (-6, 6), (0, 10), (2, 14)),
    "walking": Stance(0.16, (12, 40), (0, 30), (-28, 0), (5, 60), (0, 6), (-2, 12)),
    "running": Stance(0.10, (35, 85), (50, 110), (-30, 5), (15, 95), (0, 8), (4, 22), lift=(0, 250)),
    "sitting": Stance(0.11, (70, 100), (55, 110), (70, 100), (55, 110), (0, 24), (-18, 15), (-5, 25)),
    "crouching": Stance(0.07, (85, 125), (95, 140), (75, 120), (95, 140), (5, 28), (10, 40), (5, 35)),
    "kneeling": Stance(0.06, (65, 100), (75, 105), (-15, 12), (75, 110), (0, 15), (-5, 20)),
    "bending": Stance(0.09, (-5, 25), (0, 35), (-10, 15), (0, 35), (2, 20), (20, 75), (5, 45)),
    "straddling": Stance(0.06, (-10, 25), (0, 45), (-10, 25), (0, 45), (16, 40), (-5, 25), lift=(0, 300)),
    "kicking": Stance(0.03, (40, 95), (0, 50), (-10, 5), (0, 20), (0, 12), (-20, 5), lift=(0, 80)),
}


@dataclass(frozen=True)
class Reach:
    """A kind of arm posture: the ranges of its angles, with respect to the chest."""

    weight: float
    forward: Range  # upper arm forward of hanging
    sideways: Range  # upper arm away from the body
    inward: Range  # upper arm turned about the spine, towards the other side
    twist: Range  # forearm turned inwards about the upper arm
    elbow: Range


REACHES = {
    "hanging": Reach(0.26, (-15, 20), (5, 20), (0, 0), (0, 40), (5, 45)),
    "swinging": Reach(0.14, (-45, 50), (4, 16), (0, 10), (0, 30), (15, 95)),
    "on the hip": Reach(0.07, (-30, 0), (38, 60), (0, 0), (50, 80), (75, 105)),
    "forward": Reach(0.14, (40, 100), (0, 25), (-25, 30), (-10, 40), (0, 80)),
    "raised": Reach(0.13, (120, 175), (0, 30), (-30, 15), (-30, 30), (0, 90)),
    "sideways": Reach(0.11, (-10, 25), (60, 110), (-10, 20), (-100, 20), (0, 100)),
    "overhead": Reach(0.05, (-10, 20), (115, 165), (-10, 15), (-40, 30), (0, 80)),
    "folded": Reach(0.05, (25, 50), (5, 20), (0, 15), (45, 75), (80, 115)),
    "at the face": Reach(0.05, (35, 75), (5, 30), (-5, 20), (0, 35), (110, 142)),
}


@dataclass(frozen=True)
class Build:
    """The lengths of M bodies, millimetres, each (M,). Ratios of the stature follow Drillis and Contini (1966)."""

    stature: FloatArray
    girth: FloatArray  # 1 = average; scales the thickness of everything but the head
    trunk: FloatArray  # hips to the base of the neck
    neck: FloatArray
    head: FloatArray  # chin to crown
    shoulders: FloatArray  # half the distance of the shoulder joints
    hips: FloatArray  # half the distance of the hip joints
    upper_arm: FloatArray
    forearm: FloatArray
    hand: FloatArray
    thigh: FloatArray
    shank: FloatArray
    foot: FloatArray

    @classmethod
    def draw(cls, draws: Draws) -> Build:
        """Children to tall adults, slim to stout."""
        adult = draws.around("adult stature", 1690, 0.2)
        child = draws.uniform("child stature", 1050, 1500)
        stature = np.where(draws.uniform("child") < 0.12, child, adult)
        limbs, arms, trunk = (draws.around(name, stature, 0.12) for name in ("legs", "arms", "trunk"))
        headed = 0.6 * stature + 0.4 * 1690  # small people have relatively large heads
        return cls(
            stature=stature,
            girth=draws.uniform("girth", 0.82, 1.25) * draws.uniform("stoutness", 0.95, 1.12),
            trunk=0.295 * trunk,
            neck=draws.around("neck", 0.05, 0.25) * stature,
            head=draws.around("head", 0.142, 0.1) * headed,
            shoulders=draws.around("shoulders", 0.112, 0.18) * stature,
            hips=draws.around("hips", 0.057, 0.18) * stature,
            upper_arm=draws.around("upper arm", 0.182, 0.08) * arms,
            forearm=draws.around("forearm", 0.148, 0.08) * arms,
            hand=draws.around("hand", 0.088, 0.1) * arms,
            thigh=draws.around("thigh", 0.243, 0.08) * limbs,
            shank=draws.around("shank", 0.244, 0.08) * limbs,
            foot=draws.around("foot", 0.142, 0.1) * stature,
        )


def turn(axis: int, degrees: FloatArray) -> FloatArray:
    """Rotations (..., 3, 3) about x, y or z (0, 1, 2) by angles (...)."""
    angle = np.deg2rad(degrees)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.zeros((*angle.shape, 3, 3))
    rotation[..., axis, axis] = 1
    rotation[..., first, first] = rotation[..., second, second] = np.cos(angle)
    rotation[..., second, first] = np.sin(angle)
    rotation[..., first, second] = -np.sin(angle)
    return rotation


def pose_bodies(build: Build, draws: Draws) -> tuple[FloatArray, FloatArray]:
    """Draw a posture for every body: joints (M, J, 3) and frames (M, F, 3, 3; columns x, y, z), world millimetres.

    The person faces any way, stands over the origin, and touches the ground unless in the air.
    """
    stance = draw_stances(draws)
    frames = posture(draws, stance, _heading(draws))
    joints = place_joints(build, frames)
    lift = _angle(draws, "lift", "lift", stance) * (draws.uniform("in the air") < 0.5)
    joints[..., 2] += (lift - joints[..., 2].min(axis=1))[:, None] + 0.02 * build.stature[:, None]
    return joints, np.stack([frames[name] for name in FRAMES], axis=1)


def draw_stances(draws: Draws) -> IntArray:
    """Which of STANCES each row has, (M,)."""
    return draws.choice("stance", [stance.weight for stance in STANCES.values()])


def posture(draws: Draws, stance: IntArray, heading: FloatArray) -> dict[str, FloatArray]:
    """The frames (M, 3, 3) of every body by name, of people who face `heading` (M,), degrees about the world's z."""
    upright = turn(2, heading) @ turn(0, draws.uniform("tilt", -7, 7))
    frames = dict(_trunk_frames(draws, stance, upright))
    frames |= _leg_frames(draws, stance, upright)
    return frames | _arm_frames(draws, frames["chest"])


def _heading(draws: Draws) -> FloatArray:
    """Where people face, in degrees about the world's z: one in twelve anywhere, the others towards the camera, -90."""
    towards = -90 + draws.uniform("turned", -45, 45) + draws.uniform("turned more", -25, 25)
    return np.where(draws.uniform("any heading") < 1 / 12, draws.uniform("heading", 0, 360), towards)


def _angle(draws: Draws, name: str, field: str, case: IntArray) -> FloatArray:
    """A draw from the range `field` of each row's stance; the mean of two, so that the middle is likelier."""
    low, high = np.array([getattr(stance, field) for stance in STANCES.values()], dtype=np.float64)[case].T
    return np.asarray((draws.uniform(f"{name}/0", low, high) + draws.uniform(f"{name}/1", low, high)) / 2)


def _trunk_frames(draws: Draws, stance: IntArray, upright: FloatArray) -> dict[str, FloatArray]:
    pelvis = upright @ turn(1, _angle(draws, "lean", "lean", stance)) @ turn(0, draws.uniform("sway", -6, 6))
    bend, side, twist = (
        _angle(draws, "bend", "bend", stance),
        draws.uniform("side", -14, 14),
        draws.uniform("twist", -25, 25),
    )
    half = turn(1, bend / 2) @ turn(0, side / 2) @ turn(2, twist / 2)
    waist = pelvis @ half
    chest = waist @ half
    gaze = turn(2, (draws.uniform("gaze", -60, 60) + draws.uniform("glance", -60, 60)) / 2)
    head = chest @ gaze @ turn(1, draws.uniform("nod", -22, 28) - 0.4 * bend) @ turn(0, draws.uniform("cock", -14, 14))
    return {"pelvis": pelvis, "waist": waist, "chest": chest, "head": head}


def _leg_frames(draws: Draws, stance: IntArray, upright: FloatArray) -> dict[str, FloatArray]:
    leads = draws.uniform("leading leg") < 0.5
    frames: dict[str, FloatArray] = {}
    for side, sign in zip(("left", "right"), SIDES, strict=True):
        first = leads if sign > 0 else ~leads
        hip = np.where(
            first, _angle(draws, "lead hip", "lead_hip", stance), _angle(draws, "trail hip", "trail_hip", stance)
        )
        knee = np.where(
            first, _angle(draws, "lead knee", "lead_knee", stance), _angle(draws, "trail knee", "trail_knee", stance)
        )
        spread = _angle(draws, f"{side} spread", "spread", stance)
        thigh = (
            upright @ turn(0, sign * spread) @ turn(1, -hip) @ turn(2, sign * draws.uniform(f"{side} toes out", -8, 25))
        )
        shank = thigh @ turn(1, knee)
        # The foot stays near level: the ankle undoes part of what hip and knee do.
        foot = shank @ turn(1, np.clip(hip - knee, -45, 15) + draws.uniform(f"{side} ankle", -8, 12))
        frames |= {f"{side}_thigh": thigh, f"{side}_shank": shank, f"{side}_foot": foot}
    return frames


def _arm_frames(draws: Draws, chest: FloatArray) -> dict[str, FloatArray]:
    weights = [reach.weight for reach in REACHES.values()]
    both = draws.choice("both arms", weights)
    alike = draws.uniform("arms alike") < 0.4
    frames: dict[str, FloatArray] = {}
    for side, sign in zip(("left", "right"), SIDES, strict=True):
        case = np.where(alike, both, draws.choice(f"{side} arm", weights))
        angles = {}
        for field in ("forward", "sideways", "inward", "twist", "elbow"):
            low, high = np.array([getattr(reach, field) for reach in REACHES.values()], dtype=np.float64)[case].T
            angles[field] = draws.uniform(f"{side} {field}", low, high)
        upper = (
            chest @ turn(2, -sign * angles["inward"]) @ turn(0, sign * angles["sideways"]) @ turn(1, -angles["forward"])
        )
        upper = upper @ turn(2, -sign * angles["twist"])
        forearm = upper @ turn(1, -angles["elbow"])
        hand = (
            forearm
            @ turn(1, draws.uniform(f"{side} wrist", -35, 25))
            @ turn(2, -sign * draws.uniform(f"{side} palm", -30, 90))
        )
        frames |= {f"{side}_upper_arm": upper, f"{side}_forearm": forearm, f"{side}_hand": hand}
    return frames


def place_joints(build: Build, frames: dict[str, FloatArray]) -> FloatArray:
    """Forward kinematics: joints (M, J, 3) with the pelvis at the origin."""

    def step(
        frame: str, forward: FloatArray | float = 0.0, left: FloatArray | float = 0.0, up: FloatArray | float = 0.0
    ) -> FloatArray:
        offset = np.stack(np.broadcast_arrays(forward, left, up, build.stature)[:3], axis=-1)
        return np.asarray((frames[frame] * offset[:, None, :]).sum(axis=-1))

    at = {"pelvis": np.zeros((len(build.stature), 3))}
    at["waist"] = at["pelvis"] + step("pelvis", up=0.38 * build.trunk)
    at["neck"] = at["waist"] + step("chest", up=0.62 * build.trunk)
    at["chin"] = at["neck"] + step("chest", up=build.neck) + step("head", forward=0.12 * build.head)
    at["crown"] = at["chin"] + step("head", up=build.head)
    at["nape"] = at["chin"] + step("head", forward=-0.25 * build.head, up=0.75 * build.head)
    at["hair_end"] = at["chin"] + step("chest", forward=-0.38 * build.head, up=-0.35 * build.head)
    for side, sign in zip(("left", "right"), SIDES, strict=True):
        at[f"{side}_shoulder"] = at["neck"] + step("chest", left=sign * build.shoulders, up=-0.035 * build.stature)
        at[f"{side}_elbow"] = at[f"{side}_shoulder"] + step(f"{side}_upper_arm", up=-build.upper_arm)
        at[f"{side}_wrist"] = at[f"{side}_elbow"] + step(f"{side}_forearm", up=-build.forearm)
        at[f"{side}_fingers"] = at[f"{side}_wrist"] + step(f"{side}_hand", up=-build.hand)
        at[f"{side}_hip"] = at["pelvis"] + step("pelvis", left=sign * build.hips)
        at[f"{side}_knee"] = at[f"{side}_hip"] + step(f"{side}_thigh", up=-build.thigh)
        at[f"{side}_ankle"] = at[f"{side}_knee"] + step(f"{side}_shank", up=-build.shank)
        at[f"{side}_heel"] = at[f"{side}_ankle"] + step(
            f"{side}_foot", forward=-0.25 * build.foot, up=-0.022 * build.stature
        )
        at[f"{side}_toe"] = at[f"{side}_ankle"] + step(
            f"{side}_foot", forward=0.75 * build.foot, up=-0.026 * build.stature
        )
    thighs = step("left_thigh", up=-0.5 * build.thigh) + step("right_thigh", up=-0.5 * build.thigh)
    at["hem"] = at["pelvis"] + 0.8 * thighs
    return np.stack([at[name] for name in JOINTS], axis=1)
