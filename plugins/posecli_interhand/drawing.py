"""Pairs of hands over their picture, in 3D beside it, and in words below: which hands, and how far apart in depth."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from posecli.drawing import INK, PAPER, draw_people, enlarge
from posecli.drawing3d import draw_views, scene_of
from posecli.skeleton import Skeleton
from posecli.types import BoolArray, FloatArray, ImageArray, People
from posecli_interhand.metric import JOINTS, SURE, WRISTS

LEAST = 240  # pixels of the drawing's height
REACH = 110.0  # millimetres from the middle of the hands to the edge of their view, at least
PALM = 90.0  # millimetres from a wrist to the knuckle of the middle finger, about
KNUCKLE = 11  # that knuckle, of a hand


def draw_pairs(image: ImageArray, people: People, skeleton: Skeleton, threshold: float = 0.3) -> ImageArray:
    """The picture with all pairs over it, from the camera's side and from the right beside it, and a line of text
    below; RGB (H + text, W + 2 H, 3), small pictures enlarged.

    `people`: predictions, with `keypoints` (N, 42, 3) and the columns keypoints_2d, hand_type and root_depth, or truth,
    with 2D keypoints and keypoints_3d. Hands that are not there are left out.
    """
    there = present(people)  # (N, 2)
    flat = over(people, there)
    image, times = enlarge(image, LEAST)
    shown = dataclasses.replace(flat, keypoints=(flat.keypoints + 0.5) * times - 0.5, boxes=None)
    overlay = draw_people(image, shown, skeleton, threshold)
    points = in_millimetres(people, flat.keypoints, there)
    height = image.shape[0]
    views = draw_views(points, skeleton, height, scene_of(points, REACH))
    text = "; ".join(describe(people, there, row) for row in range(len(people)))
    return _with_text(np.concatenate([overlay, views], axis=1), text)


def present(people: People) -> BoolArray:
    """Which hands are there, (N, 2); both where nothing says."""
    kinds = people.extra.get("hand_type")
    return np.ones((len(people), 2), dtype=bool) if kinds is None else np.asarray(kinds > SURE)


def over(people: People, there: BoolArray) -> People:
    """The hands that are there as 2D people, for `draw_people`."""
    pixels = people.extra.get("keypoints_2d", people.keypoints[..., :2])
    shown = np.repeat(there, JOINTS, axis=1)
    scores = np.where(shown, people.scores, 0)
    return People(np.where(shown[..., None], pixels, np.nan), scores, people.boxes, people.instance_scores)


def in_millimetres(people: People, pixels: FloatArray, there: BoolArray) -> FloatArray:
    """The hands (N, 42, 3) in camera millimetres, NaN where not there.

    Predictions without a camera have pixels for x and y and the depth from the own wrist: these are set at the size of
    a usual hand, the left one behind the right one by the predicted `root_depth`.
    """
    shown = np.repeat(there, JOINTS, axis=1)[..., None]
    points = people.keypoints if people.keypoints.shape[2] == 3 else people.extra.get("keypoints_3d")
    if points is None:
        return np.full((*people.scores.shape, 3), np.nan)
    points = np.where(shown, points, np.nan).astype(np.float64)
    flat = np.nan_to_num(points[..., :2] - pixels)
    if people.keypoints.shape[2] == 3 and np.abs(flat).max(initial=0) < 1e-3:
        hands = points.reshape(-1, 2, JOINTS, 3)
        palms = np.linalg.norm(hands[:, :, KNUCKLE, :2] - hands[:, :, WRISTS[0], :2], axis=-1)
        longest = np.nanmax(palms, initial=1.0)
        points[..., :2] *= PALM / longest
        behind = np.asarray(people.extra.get("root_depth", np.zeros(len(people))), dtype=np.float64)
        points[:, JOINTS:, 2] += np.where(there.all(axis=1), np.nan_to_num(behind), 0.0)[:, None]
    return points


def describe(people: People, there: BoolArray, row: int) -> str:
    """Which hands the pair has, how sure that is, and how far the left wrist lies behind the right one."""
    right, left = there[row].tolist()
    text = {(True, True): "both hands", (True, False): "right hand", (False, True): "left hand"}.get(
        (right, left), "no hand"
    )
    if "hand_type" in people.extra and people.instance_scores is not None:
        chances = people.extra["hand_type"][row].tolist()
        text += f" (right {chances[0]:.0%}, left {chances[1]:.0%})"
    depth = float(people.extra["root_depth"][row]) if "root_depth" in people.extra else float("nan")
    if right and left and np.isfinite(depth):
        way = "behind" if depth > 0 else "before"
        text += f", left wrist {abs(depth):.0f} mm {way} the right one" if round(depth) else ", wrists equally far"
    return text


def _with_text(picture: ImageArray, text: str) -> ImageArray:
    """The picture with a line below it, always one, so that all frames of a video have one size."""
    height = max(16, picture.shape[0] // 14)
    strip = np.full((height, picture.shape[1], 3), PAPER, np.uint8)
    cv2.putText(strip, text, (6, round(0.72 * height)), cv2.FONT_HERSHEY_SIMPLEX, height / 36, INK, 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])
