"""Synthetic motion: people who walk, run and go from posture to posture, seen by one camera each; no pictures.

Clip i depends on (seed, i, frames) alone. World: millimetres, z up, the ground at z = 0; 25 frames a second.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from posecli.camera import see
from posecli.datasets.motion import FILM, Clip, like_a_detector, motion_dataset, sample_camera
from posecli.datasets.synthetic_body import FRAMES, JOINTS, Build, draw_stances, place_joints, posture, turn
from posecli.datasets.synthetic_draws import Draws
from posecli.skeleton import house_skeleton
from posecli.types import BoolArray, Dataset, FloatArray, IntArray

RATE = 25.0  # frames a second
KINDS = ("posture", "walk", "run")
WEIGHTS = (0.5, 0.35, 0.15)
KEPT = 0.3  # of walkers and runners: arms that do something else
# The frame that each frame turns in; the pelvis turns in the heading. Elbows and knees so turn about one axis only.
PARENTS = {
    "pelvis": None,
    **{"waist": "pelvis", "chest": "waist", "head": "chest"},
    **{f"{side}_upper_arm": "chest" for side in ("left", "right")},
    **{f"{side}_forearm": f"{side}_upper_arm" for side in ("left", "right")},
    **{f"{side}_hand": f"{side}_forearm" for side in ("left", "right")},
    **{f"{side}_thigh": "pelvis" for side in ("left", "right")},
    **{f"{side}_shank": f"{side}_thigh" for side in ("left", "right")},
    **{f"{side}_foot": f"{side}_shank" for side in ("left", "right")},
}
ARMS = tuple(name for name in FRAMES if "arm" in name or "hand" in name)
# Human3.6M's seventeen joints among those of the synthetic body, where they are called otherwise; midway where there
# are two. Human3.6M's neck_base lies inside the head, as far from the thorax as from the crown.
CALLED = {
    "root": ("pelvis",),
    "spine": ("waist",),
    "thorax": ("neck",),
    "neck_base": ("neck", "crown"),
    "head": ("crown",),
    "left_foot": ("left_ankle",),
    "right_foot": ("right_ankle",),
}


def synthetic_motion(clips: int, frames: int = 100, seed: int = 0, noise: float = 0.0, missing: float = 0.0) -> Dataset:
    """Clips 0 to clips - 1 of the series `seed`, of `frames` frames each, in Human3.6M's seventeen joints.

    The 2D keypoints have `noise` pixels of normal error, and the share `missing` of them is unknown. About 60 µs a
    frame.
    """
    skeleton = house_skeleton("h36m")
    people = Draws(seed, np.arange(clips))
    kind = people.choice("kind", WEIGHTS)
    world = _joints(people, kind, seed, frames)  # (M, T, 17, 3)
    films = []
    for index in range(clips):
        generator = np.random.default_rng((seed, index))
        camera = sample_camera(world[index], generator)
        points, pixels = see(camera, world[index])
        found = like_a_detector(pixels, noise, missing, generator)
        films.append(Clip(f"{index:05d}", camera, FILM, points, found, KINDS[kind[index]]))
    return motion_dataset("synthetic-motion", skeleton, films)


def _joints(people: Draws, kind: IntArray, seed: int, frames: int) -> FloatArray:
    """The joints (M, T, 17, 3) of every person in every frame, world millimetres."""
    count = len(kind)
    build = Build.draw(people)
    each = Build(**{field.name: np.repeat(getattr(build, field.name), frames) for field in dataclasses.fields(Build)})
    local = _postures(people, seed, frames)  # by frame name, (M, T, 3, 3)
    gait, speed = _gaits(people, kind, frames)
    moves, swings = kind > 0, (kind > 0) & (people.uniform("arms") >= KEPT)
    for name, turns in gait.items():
        taken = swings if name in ARMS else moves
        local[name] = np.where(taken[:, None, None, None], turns, local[name])
    bend = _bend(people, moves)[:, None] * np.arange(frames)
    heading = np.asarray(people.uniform("heading", 0, 360)[:, None] + bend)
    whole: dict[str, FloatArray] = {}
    for name, parent in PARENTS.items():
        whole[name] = (turn(2, heading) if parent is None else whole[parent]) @ local[name]
    joints = place_joints(each, {name: turns.reshape(-1, 3, 3) for name, turns in whole.items()})
    joints = joints.reshape(count, frames, len(JOINTS), 3)
    joints[..., 2] += 0.02 * build.stature[:, None, None] - joints[..., 2].min(axis=2, keepdims=True)
    joints[..., :2] += _path(heading, speed * build.stature)[:, :, None]
    return as_human36m(joints)


def as_human36m(joints: FloatArray) -> FloatArray:
    """Human3.6M's seventeen joints (..., 17, 3) of a synthetic body's (..., J, 3)."""
    parts = [CALLED.get(name, (name,)) for name in house_skeleton("h36m").names]
    places = [joints[..., [JOINTS.index(name) for name in names], :].mean(axis=-2) for names in parts]
    return np.stack(places, axis=-2)


def _bend(people: Draws, moves: BoolArray) -> FloatArray:
    """How many degrees each person turns in a frame, (M,)."""
    side = np.where(people.uniform("side") < 0.5, 1.0, -1.0)
    return np.where(moves, side * people.uniform("bend", 0.5, 2.5), people.uniform("drift", -0.4, 0.4))


def _path(heading: FloatArray, speed: FloatArray) -> FloatArray:
    """Where people have come to, (M, T, 2) millimetres, at `speed` (M,) millimetres a frame along `heading` (M, T)."""
    angle = np.deg2rad(heading)
    return np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=-1) * speed[:, None, None], axis=1)


# --- postures ---------------------------------------------------------------------------------------------------------


def _postures(people: Draws, seed: int, frames: int) -> dict[str, FloatArray]:
    """Frames that go smoothly from one drawn posture to the next, each within its parent, (M, T, 3, 3)."""
    count = len(people.words)
    period = people.uniform("period", 15, 40)  # frames from one posture to the next
    stops = int(np.ceil((frames - 1) / 15)) + 2
    clip, stop = np.repeat(np.arange(count), stops), np.tile(np.arange(stops), count)
    draws = Draws(seed, clip, stop + 1)
    keys = posture(draws, draw_stances(draws), np.zeros(len(clip)))
    time = np.arange(frames) / period[:, None] + people.uniform("began")[:, None]  # (M, T)
    first = np.minimum(time.astype(np.int64), stops - 2) + np.arange(count)[:, None] * stops
    share = np.clip(time - np.floor(time), 0, 1)
    eased = share * share * (3 - 2 * share)
    found: dict[str, FloatArray] = {}
    for name, parent in PARENTS.items():
        turns = keys[name] if parent is None else np.swapaxes(keys[parent], -1, -2) @ keys[name]
        between = _logarithm(np.swapaxes(turns[:-1], -1, -2) @ turns[1:])  # (M S - 1, 3)
        found[name] = turns[first] @ _exponential(between[first] * eased[..., None])
    return found


def _logarithm(rotation: FloatArray) -> FloatArray:
    """Rotation vectors (..., 3) of rotations (..., 3, 3)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotation).as_rotvec())


def _exponential(vector: FloatArray) -> FloatArray:
    """Rotations (..., 3, 3) of rotation vectors (..., 3)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vector.reshape(-1, 3)).as_matrix()).reshape(*vector.shape, 3)


# --- walking and running ----------------------------------------------------------------------------------------------


def _gaits(people: Draws, kind: IntArray, frames: int) -> tuple[dict[str, FloatArray], FloatArray]:
    """The frames of walkers and runners within their parents, (M, T, 3, 3), and their speed in statures a frame, (M,).

    Hips and shoulders swing like cosines, left against right, arms against legs; a knee bends while its leg swings.
    """
    runs = kind == KINDS.index("run")

    def between(name: str, walk: tuple[float, float], run: tuple[float, float]) -> FloatArray:
        return np.where(runs, people.uniform(name, *run), people.uniform(name, *walk))[:, None]

    cadence = between("cadence", (0.7, 1.1), (1.2, 1.6)) / RATE  # strides a frame
    phase = 2 * np.pi * (cadence * np.arange(frames) + people.uniform("phase")[:, None])  # (M, T)
    swing = between("swing", (15, 30), (28, 48))
    lean = between("lean", (-3, 7), (5, 18))
    twist = between("twist", (2, 8), (5, 14)) * np.sin(phase + np.pi / 2)
    still = np.zeros_like(phase)
    turns = {
        "pelvis": turn(1, lean + still) @ turn(2, -twist),
        "waist": turn(2, twist),
        "chest": turn(2, twist) @ turn(1, between("bend", (0, 12), (0, 15)) + still),
        "head": turn(1, between("nod", (-15, 15), (-15, 10)) + still)
        @ turn(2, between("gaze", (-40, 40), (-20, 20)) + still),
    }
    for side, sign, own in (("left", 1.0, phase), ("right", -1.0, phase + np.pi)):
        hip = between("forward", (2, 8), (8, 18)) + swing * np.cos(own)
        bent = ((1 + np.cos(own - 1.45 * np.pi)) / 2) ** 3
        knee = between("knee", (4, 12), (12, 25)) + between("lifted", (40, 65), (60, 100)) * bent
        arm = between(f"{side} carriage", (-8, 8), (-15, 10)) - between("arm swing", (8, 32), (20, 50)) * np.cos(own)
        elbow = between("elbow", (8, 35), (65, 105)) + between("pump", (0, 15), (5, 20)) * np.cos(own + np.pi)
        aside = sign * between(f"{side} aside", (4, 14), (6, 18)) + still
        turns |= {
            f"{side}_thigh": turn(0, sign * between("apart", (0, 5), (0, 5)) + still) @ turn(1, -hip - lean),
            f"{side}_shank": turn(1, knee),
            f"{side}_foot": turn(1, np.clip(hip - knee, -45, 15)),
            f"{side}_upper_arm": turn(0, aside) @ turn(1, -arm),
            f"{side}_forearm": turn(2, -sign * between("inward", (0, 25), (5, 30)) + still) @ turn(1, -elbow),
            f"{side}_hand": np.broadcast_to(np.eye(3), (*phase.shape, 3, 3)),
        }
    stride = 4 * 0.49 * np.sin(np.deg2rad(swing[:, 0]))  # statures: both legs swing through twice their length
    speed = np.where(kind > 0, stride * cadence[:, 0] * np.where(runs, 1.35, 1.0), 0.0)
    return turns, speed
