"""Synthetic hands before a camera: one or two of them, drawn by code and labelled by the same geometry that draws them.

Everything about picture i depends on (seed, i) and the options alone, not on the number of pictures. No two hands have
the same shape, and no two postures are equal, so another seed is another population.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np

from posecli.datasets.hand_columns import hand_columns
from posecli.datasets.synthetic_backdrop import Backdrop, background, between, expose, random_bytes
from posecli.datasets.synthetic_body import turn
from posecli.datasets.synthetic_draws import Draws
from posecli.datasets.synthetic_hand import WRIST, Hands, draw_hands
from posecli.datasets.synthetic_hand_skin import MATERIALS, facets, place_skin
from posecli.datasets.synthetic_scene import SceneCameras
from posecli.skeleton import house_skeleton
from posecli.types import BoolArray, Dataset, FloatArray, ImageArray, ImageSource, IntArray, Made, People

SIDES = ("right", "left")
UPRIGHT = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # a right hand's back before the camera
MIRROR = np.diag([-1.0, 1.0, 1.0])
MIDDLE = np.array([62.0, 0.0, 0.0])  # of a hand, in its frame: what is put into its place
ROOM = 24.0  # millimetres between the bones of two hands, at least
STEP = 12.0  # that hands are moved apart in depth, and at most so often
STEPS = 24
DEEPEST = 185.0  # millimetres between the wrists in depth; what InterHand2.6M's networks can say ends at 200
DISTANCE = (500.0, 900.0)  # millimetres from the camera
FILLED = (0.66, 0.94)  # of the picture's side
FLESH = 11.0  # millimetres from a joint to the skin, at most
SHIFT = 4  # fractional bits of drawn corners
CHUNK = 256  # pictures whose occlusion is looked at together


@dataclass(frozen=True)
class HandScenes:
    """N pictures' worth of hands; each has a right and a left one, of which those not `present` are not drawn."""

    seed: int
    indices: IntArray  # (N,) numbers of the pictures
    size: tuple[int, int]  # width, height
    present: BoolArray  # (N, 2): right, left
    hands: Hands  # 2 N hands, right and left of each picture in turn
    place: FloatArray  # (N, 2, 3, 4): from a hand's own frame to the camera's; a left hand's mirrors
    cameras: SceneCameras
    backdrop: Backdrop = "clutter"

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, index: int) -> HandScenes:
        """One picture's scene."""
        one, both = slice(index, index + 1), slice(2 * index, 2 * index + 2)
        return HandScenes(
            self.seed,
            self.indices[one],
            self.size,
            self.present[one],
            self.hands.take(both),
            self.place[one],
            self.cameras.take(one),
            self.backdrop,
        )

    @property
    def joints(self) -> FloatArray:
        """Both hands' joints, right first, (N, 42, 3) camera millimetres, present or not."""
        return _placed(self.place, self.hands.joints.reshape(len(self), 2, 21, 3)).reshape(len(self), 42, 3)


@dataclass(frozen=True)
class HandPicture:
    """One picture, drawn when called: RGB uint8 (H, W, 3). Small to pickle; equal each time."""

    scene: HandScenes

    def __call__(self) -> ImageArray:
        return draw_picture(self.scene)


class HandPictures(Made[ImageSource]):
    """The pictures of scenes, each drawn when called."""

    def __init__(self, scenes: HandScenes) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def item(self, index: int) -> HandPicture:
        return HandPicture(self.scenes.take(index))


def synthetic_hands(
    count: int,
    seed: int = 0,
    size: tuple[int, int] = (144, 144),
    interacting: float = 0.5,
    turned: float = 70.0,
    backdrop: Backdrop = "clutter",
) -> Dataset:
    """Pictures 0 to count - 1 of the series `seed`, each one row: a right hand, a left hand, or both.

    `interacting`: share of the pictures with both. `turned`: how many degrees at most a hand is turned about its own
    long axis from showing its back. Skeleton `interhand`; scores are 2 seen, 1 hidden by a hand, 0 and NaN for the
    hand that is not there. Extra columns: those of `posecli.datasets.hand_columns`, area and crowd.
    """
    return label_hands(hand_scenes(np.arange(count), seed, size, interacting, turned, backdrop))


def label_hands(scenes: HandScenes) -> Dataset:
    """The dataset of given scenes."""
    joints = scenes.joints
    there = np.repeat(scenes.present, 21, axis=1)  # (N, 42)
    focal, center = scenes.cameras.focal, scenes.cameras.center
    pixels = joints[..., :2] / joints[..., 2:] * focal[:, None, None] + center[:, None]
    hidden = hidden_joints(joints, there)
    known = np.where(there[..., None], joints, np.nan).astype(np.float32)
    boxes = _boxes(known, focal, center, scenes.size)
    wrists = known[:, [WRIST, 21 + WRIST], 2]  # (N, 2)
    sides = boxes[:, 2:] - boxes[:, :2]
    width, height = scenes.size
    return Dataset(
        name="synthetic-hands",
        skeleton=house_skeleton("interhand"),
        ids=[int(index) for index in scenes.indices],
        sizes=np.tile(np.array([width, height]), (len(scenes), 1)),
        offsets=np.arange(len(scenes) + 1),
        people=People(
            np.where(there[..., None], pixels, np.nan).astype(np.float32),
            np.where(there, 2 - hidden, 0).astype(np.float32),
            boxes.astype(np.float32),
            extra={
                "keypoints_3d": known,
                **hand_columns(scenes.present.astype(np.float32), np.ones(len(scenes)), wrists),
                "area": (sides[:, 0] * sides[:, 1]).astype(np.float32),
                "crowd": np.zeros(len(scenes), dtype=bool),
            },
        ),
        images=HandPictures(scenes),
        cameras=scenes.cameras,
    )


def _boxes(joints: FloatArray, focal: FloatArray, center: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Boxes (N, 4) around joints (N, 42, 3; NaN = not there) and their flesh, clipped to the picture."""
    flesh = FLESH / joints[..., 2:]
    plane = joints[..., :2] / joints[..., 2:]
    low, high = np.nanmin(plane - flesh, axis=1), np.nanmax(plane + flesh, axis=1)
    boxes = np.concatenate([low, high], axis=1) * focal[:, None] + np.tile(center, 2)
    return np.asarray(np.clip(boxes, 0, np.tile(np.array(size, dtype=np.float64), 2)))


# --- where hands are --------------------------------------------------------------------------------------------------


def hand_scenes(
    indices: IntArray,
    seed: int,
    size: tuple[int, int],
    interacting: float = 0.5,
    turned: float = 70.0,
    backdrop: Backdrop = "clutter",
) -> HandScenes:
    """Hands, their places and cameras for the pictures `indices`, without any picture."""
    draws = Draws(seed, indices)
    both = draws.uniform("both") < interacting
    right = draws.uniform("side") < 0.5
    present = np.stack([both | right, both | ~right], axis=1)
    each = Draws(seed, np.repeat(indices, 2), np.tile([1, 2], len(indices)))
    hands = draw_hands(each)
    turns = _orient(each, np.repeat(both, 2), turned).reshape(-1, 2, 3, 3)
    turns[:, 1] = MIRROR @ turns[:, 1]
    middle = _middles(draws, both) - turns @ MIDDLE  # (N, 2, 3): where the wrists are
    middle[..., 2] += draws.uniform("distance", *DISTANCE)[:, None]
    place = np.concatenate([turns, middle[..., None]], axis=-1)
    joints = hands.joints.reshape(-1, 2, 21, 3)
    _part(place, joints, np.flatnonzero(both))
    cameras = _cameras(draws, _placed(place, joints), present, size)
    return HandScenes(seed, np.asarray(indices), size, present, hands, place, cameras, backdrop)


def _orient(each: Draws, both: BoolArray, turned: float) -> FloatArray:
    """How right hands stand before the camera, (M, 3, 3); left hands are mirrored afterwards.

    Fingers point up and, of two hands, to the other one.
    """
    roll = np.where(both, -35 + each.around("roll", 100, 1.0) - 100, each.around("roll", 180, 1.0) - 180)
    pitch = each.uniform("pitch", -42, 42)
    return np.asarray(turn(2, roll) @ turn(0, pitch) @ UPRIGHT @ turn(0, each.uniform("turn", -turned, turned)))


def _middles(draws: Draws, both: BoolArray) -> FloatArray:
    """Where the middles of the hands are, (N, 2, 3): a single one in the origin, two beside or before each other."""
    apart = np.stack([draws.uniform("x", -20, 150), draws.uniform("y", -70, 70), draws.uniform("z", -60, 60)], axis=-1)
    middle = np.stack([apart, -apart], axis=1) / 2
    return np.asarray(np.where(both[:, None, None], middle, 0.0))


def _placed(place: FloatArray, points: FloatArray) -> FloatArray:
    """Points (..., K, 3) of hands' frames in the camera's, (..., K, 3), by places (..., 3, 4)."""
    return np.asarray(points @ np.swapaxes(place[..., :3], -1, -2) + place[..., None, :, 3])


def _part(place: FloatArray, joints: FloatArray, rows: IntArray) -> None:
    """Move the hands of the pictures `rows` apart, in place, until their bones have room: in depth, or, where their
    wrists would come to lie too far apart in depth, sideways."""
    points = np.concatenate([joints, (joints[:, :, 1:] + joints[:, :, :-1]) / 2], axis=2)
    _push(place, points, rows, 2)
    depth = place[rows, 0, 2, 3] - place[rows, 1, 2, 3]
    deep = rows[np.abs(depth) > DEEPEST]
    place[deep, :, 2, 3] = place[deep, :, 2, 3].mean(axis=1, keepdims=True)
    _push(place, points, deep, 0)


def _push(place: FloatArray, points: FloatArray, rows: IntArray, axis: int) -> None:
    """Step by step along the axis until points (N, 2, K, 3) have room; sideways the right hand goes to the right."""
    sign = np.where((axis == 0) | (place[:, 0, axis, 3] > place[:, 1, axis, 3]), 0.5, -0.5)[:, None]
    for _ in range(STEPS):
        near = [_distance(*_placed(place[row], points[row])) < ROOM for row in rows]
        rows = rows[np.array(near, dtype=bool)]
        place[rows, :, axis, 3] += STEP * sign[rows] * np.array([1.0, -1.0])


def _distance(first: FloatArray, second: FloatArray) -> float:
    """Between the nearest two of points (K, 3) and (L, 3)."""
    cross = (first * first).sum(1)[:, None] + (second * second).sum(1) - 2 * first @ second.T
    return math.sqrt(max(float(cross.min()), 0.0))


def _cameras(draws: Draws, joints: FloatArray, present: BoolArray, size: tuple[int, int]) -> SceneCameras:
    """Cameras in the origin, whose focal length makes the present hands' joints (N, 2, 21, 3) fill the picture."""
    plane = np.where(present[..., None, None], joints[..., :2] / joints[..., 2:], np.nan).reshape(len(joints), 42, 2)
    flesh = FLESH / joints[..., 2].mean(axis=(1, 2))[:, None]
    low, high = np.nanmin(plane, axis=1) - flesh, np.nanmax(plane, axis=1) + flesh
    sides = np.array(size, dtype=np.float64)
    filled = draws.uniform("filled", *FILLED)
    focal = filled * (sides / (high - low)).min(axis=1)
    slack = (sides - focal[:, None] * (high - low)) / 2
    aside = slack * 0.8 * np.stack([draws.uniform("across", -1, 1), draws.uniform("along", -1, 1)], axis=-1)
    center = (sides - 1) / 2 + aside - focal[:, None] * (low + high) / 2
    count = len(joints)
    return SceneCameras(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), focal, center)


# --- what hides what --------------------------------------------------------------------------------------------------


def hidden_joints(joints: FloatArray, there: BoolArray) -> BoolArray:
    """Which joints (N, 42) a bone's flesh lies before, of either hand; joints (N, 42, 3) camera millimetres."""
    parts = [hidden_by_bones(joints[i : i + CHUNK], there[i : i + CHUNK]) for i in range(0, len(joints), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(there.shape, dtype=bool)


def hidden_by_bones(joints: FloatArray, there: BoolArray) -> BoolArray:
    """As `hidden_joints`. A bone hides what is farther than it by more than the flesh, unless it ends there."""
    links = np.array(house_skeleton("interhand").links)  # (L, 2)
    points = joints.astype(np.float32)
    depth = points[..., 2]
    plane = points[..., :2] / depth[..., None]
    start, way = plane[:, links[:, 0]], plane[:, links[:, 1]] - plane[:, links[:, 0]]  # (N, L, 2)
    square = np.maximum((way * way).sum(-1), 1e-12)
    off = plane[:, :, None] - start[:, None]  # (N, 42, L, 2)
    along = np.clip((off[..., 0] * way[:, None, :, 0] + off[..., 1] * way[:, None, :, 1]) / square[:, None], 0, 1)
    nearest = off - along[..., None] * way[:, None]
    first, last = depth[:, None, links[:, 0]], depth[:, None, links[:, 1]]
    distance = np.sqrt((nearest * nearest).sum(-1)) * depth[:, :, None]  # millimetres, at the joint's depth
    before = depth[:, :, None] - (first + along * (last - first))
    ends = (links[:, 0] == np.arange(42)[:, None]) | (links[:, 1] == np.arange(42)[:, None])  # (42, L)
    hides = (distance < 0.75 * FLESH) & (before > 1.2 * FLESH) & ~ends & there[:, None, links[:, 0]]
    return np.asarray(hides.any(axis=-1) & there)


# --- pictures ---------------------------------------------------------------------------------------------------------


def draw_picture(scene: HandScenes) -> ImageArray:
    """The picture of ONE scene, RGB (H, W, 3)."""
    key = int(Draws(scene.seed, scene.indices).key("picture")[0])
    chance = random.Random(key)  # only random() is used: its series is the same in every Python
    noise = np.random.PCG64(key)
    palette = _palette(chance)
    canvas = background(chance, noise, scene.size, palette[None], scene.backdrop)
    paint_hands(chance, noise, canvas, scene, palette)
    return expose(chance, noise, canvas)


def _palette(chance: random.Random) -> FloatArray:
    """Colours of one person's hands, (C, 3) RGB 0 to 255, in the order of MATERIALS."""
    tone, warm = chance.random(), between(chance, -8, 8)
    skin = np.array([238 - 165 * tone, 200 - 155 * tone, 175 - 145 * tone + warm])
    palm = skin + (np.array([250.0, 205.0, 190.0]) - skin) * between(chance, 0.15, 0.4)
    nail = skin + (np.array([255.0, 220.0, 215.0]) - skin) * between(chance, 0.35, 0.7)
    bare = chance.random() < 0.4
    sleeve = skin if bare else np.array([between(chance, 15, 240) for _ in range(3)])
    table = {"skin": skin, "palm": palm, "nail": nail, "sleeve": sleeve, "knuckle": 0.9 * skin}
    return np.stack([table[name] for name in MATERIALS])


def paint_hands(
    chance: random.Random, noise: np.random.PCG64, canvas: ImageArray, scene: HandScenes, palette: FloatArray
) -> None:
    """Paint the hands that are there, farthest facets first."""
    table = facets()
    vertices = _placed(scene.place[0], place_skin(scene.hands))[scene.present[0]].astype(np.float32)  # (h, V, 3)
    mirrored = np.array([1, -1])[scene.present[0]]
    pixels = vertices[..., :2] * np.float32(scene.cameras.focal[0]) / vertices[..., 2:]
    pixels += scene.cameras.center[0].astype(np.float32)
    polygons = np.rint(pixels * (1 << SHIFT)).astype(np.int32)[:, table.corners]  # (h, Q, 4, 2)
    first, second = polygons[:, :, 2] - polygons[:, :, 0], polygons[:, :, 3] - polygons[:, :, 1]
    cross = first[..., 0].astype(np.int64) * second[..., 1] - first[..., 1].astype(np.int64) * second[..., 0]
    hand, facet = np.nonzero(cross * mirrored[:, None] < 0)
    corners = vertices[hand[:, None], table.corners[facet]]  # (F, 4, 3)
    order = np.argsort(4 * table.lift[facet] - corners[..., 2].sum(axis=1), kind="stable")
    hand, facet, corners = hand[order], facet[order], corners[order]
    shade = _shade(chance, noise, corners, mirrored[hand])
    colors = np.minimum(palette[table.material[facet]] * shade[:, None], 255).tolist()
    fill = cv2.fillConvexPoly
    for polygon, color in zip(polygons[hand, facet], colors, strict=True):
        fill(canvas, polygon, color, cv2.LINE_8, SHIFT)


def _shade(chance: random.Random, noise: np.random.PCG64, corners: FloatArray, mirrored: IntArray) -> FloatArray:
    """How bright facets with corners (F, 4, 3) are, (F,)."""
    (a, b, c), (d, e, f) = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    normal: FloatArray = np.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=1) * mirrored[:, None]
    normal = normal / (np.sqrt((normal * normal).sum(axis=1, keepdims=True)) + 1e-6)
    around, up = between(chance, -math.pi, math.pi), between(chance, 0.1, 1.2)
    light = np.array([math.cos(around) * math.cos(up), -math.sin(up), -abs(math.sin(around)) * math.cos(up)])
    ambient, direct = between(chance, 0.35, 0.6), between(chance, 0.3, 0.6)
    shade = ambient + direct * np.maximum(normal @ light, 0) - 0.25 * normal[:, 2]
    grain = random_bytes(noise, mirrored.shape).astype(np.float64) / 255 - 0.5  # skin is never quite even
    depth = corners[..., 2].mean(axis=1)
    farther = (depth - depth.min()) / 1000  # and what is behind gets less light
    return np.asarray((shade - farther) * (1 + 0.08 * grain))
