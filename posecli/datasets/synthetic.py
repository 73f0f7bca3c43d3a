"""The embedded dataset: articulated people drawn by code, labelled by the same geometry that draws them.

Everything about picture i depends on (seed, i) and the options alone: not on the process, the order of reading, the
number of pictures, or the machine beyond the last bits of its sines. `synthetic_scenes` gives poses and cameras
without any picture; `synthetic_dataset` adds what has to be seen: occlusion, boxes, areas, and pictures to read.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.synthetic_backdrop import Backdrop
from posecli.datasets.synthetic_picture import Painting, depth_order, draw_picture, paint_numbers
from posecli.datasets.synthetic_scene import Scenes, synthetic_scenes
from posecli.datasets.synthetic_surface import Look, body_parts, dress, facets, place_vertices
from posecli.skeleton import house_skeleton
from posecli.types import BoolArray, Dataset, FloatArray, ImageArray, ImageSource, IntArray, Made, People

_HARDLY_SEEN = 0.05  # of the silhouette; whoever shows less has no labelled keypoint, as in COCO


@dataclass(frozen=True)
class SyntheticPicture:
    """One picture, drawn when called: RGB uint8 (H, W, 3). Small to pickle; equal each time."""

    scene: Scenes
    look: Look
    backdrop: Backdrop = "clutter"

    def __call__(self) -> ImageArray:
        return draw_picture(self.scene, self.look, self.backdrop)


class SyntheticPictures(Made[ImageSource]):
    """The pictures of scenes, each drawn when called."""

    def __init__(self, scenes: Scenes, look: Look, backdrop: Backdrop) -> None:
        self.scenes = scenes
        self.look = look
        self.backdrop = backdrop

    def __len__(self) -> int:
        return len(self.scenes)

    def item(self, index: int) -> SyntheticPicture:
        return SyntheticPicture(self.scenes.take(index), self.look.take(self.scenes.rows(index)), self.backdrop)


def synthetic_dataset(
    count: int,
    seed: int = 0,
    size: tuple[int, int] = (192, 192),
    people: tuple[int, int] = (1, 1),
    backdrop: Backdrop = "clutter",
) -> Dataset:
    """Pictures 0 to count - 1 of the series `seed`; `size` is width, height, `people` the fewest and most in one.

    Scores are COCO visibility: 2 seen; 1 hidden by a limb, the trunk or another person; 0 outside the picture, or of
    somebody hardly seen at all, with NaN coordinates. Boxes hold the whole silhouette, clipped to the picture.
    Extra columns: area (visible pixels), crowd (nobody), keypoints_3d (P, 17, 3; camera millimetres, all known),
    facing (P,), see `facing`.
    Raises PosecliError for impossible `people`.
    """
    if not 1 <= people[0] <= people[1]:
        raise PosecliError(f"synthetic dataset: people is {people[0]} to {people[1]}; give at least 1, fewest first")
    scenes = synthetic_scenes(np.arange(count), seed, size, people)
    return label_scenes(scenes, backdrop)


def label_scenes(scenes: Scenes, backdrop: Backdrop = "clutter") -> Dataset:
    """The dataset of given scenes."""
    look = dress(scenes)
    visible, boxes, areas, shown = _look_at(scenes, look)
    width, height = scenes.size
    inside = ((scenes.keypoints >= 0) & (scenes.keypoints <= np.array([width - 1, height - 1]))).all(axis=-1)
    labelled = inside & (shown >= _HARDLY_SEEN)[:, None]
    return Dataset(
        name="synthetic",
        skeleton=house_skeleton("synthetic"),
        ids=[int(index) for index in scenes.indices],
        sizes=np.tile(np.array([width, height]), (len(scenes), 1)),
        offsets=scenes.offsets,
        people=People(
            np.where(labelled[..., None], scenes.keypoints, np.float32(np.nan)),
            np.where(labelled, 1 + visible, 0).astype(np.float32),
            boxes.astype(np.float32),
            extra={
                "area": areas.astype(np.float32),
                "crowd": np.zeros(len(areas), dtype=bool),
                "keypoints_3d": scenes.keypoints_3d,
                "facing": facing(scenes.keypoints_3d),
            },
        ),
        images=SyntheticPictures(scenes, look, backdrop),
        cameras=scenes.cameras,
    )


def facing(joints: FloatArray) -> IntArray:
    """Where people with joints (P, 17, 3), camera millimetres, turn their chest, (P,): 0 to the camera, 1 to the right
    side of the picture, 2 away from the camera, 3 to the left side; the nearest of the four.

    What counts is how the right shoulder and hip lie to the left ones, seen from above.
    """
    names = house_skeleton("synthetic").names
    left, right = ([names.index(f"{side}_{joint}") for joint in ("shoulder", "hip")] for side in ("left", "right"))
    across = (joints[:, left] - joints[:, right]).sum(axis=1)  # (P, 3): to a person's own left
    turned = np.arctan2(across[:, 2], across[:, 0])  # 0 faces the camera, a right angle the picture's right side
    return np.asarray(np.rint(turned / (np.pi / 2)).astype(np.int64) % 4)


def _look_at(scenes: Scenes, look: Look) -> tuple[BoolArray, FloatArray, FloatArray, FloatArray]:
    """What is seen of each person: keypoints (M, 17), box (M, 4), area (M,) in pixels, share of the silhouette (M,)."""
    count = len(scenes.keypoints)
    visible = np.zeros((count, scenes.keypoints.shape[1]), dtype=bool)
    boxes, areas, shown = np.zeros((count, 4)), np.zeros(count), np.ones(count)
    limits = np.tile(np.array(scenes.size, dtype=np.float64), 2)
    for index in range(len(scenes)):
        rows, scene = scenes.rows(index), scenes.take(index)
        painting = depth_order(scene, place_vertices(scene, look.take(rows)))
        numbers = paint_numbers(painting.polygons, scenes.size)
        visible[rows] = seen_keypoints(scene, painting, numbers)
        boxes[rows] = np.clip(painting.boxes, 0, limits)
        areas[rows] = _visible_areas(painting, numbers, rows.stop - rows.start)
        if rows.stop - rows.start > 1:
            shown[rows] = areas[rows] / _whole_areas(painting, scenes.size)
    return visible, boxes, areas, shown


def _visible_areas(painting: Painting, numbers: IntArray, people: int) -> FloatArray:
    seen = numbers[numbers >= 0]
    return np.bincount(painting.person[seen], minlength=people).astype(np.float64)


def _whole_areas(painting: Painting, size: tuple[int, int]) -> FloatArray:
    """Pixels of each person's silhouette within the picture, were nobody else there; at least 1."""
    areas = []
    for person in range(len(painting.boxes)):
        alone = paint_numbers(painting.polygons[painting.person == person], size)
        areas.append(max(1, int((alone >= 0).sum())))
    return np.array(areas, dtype=np.float64)


def seen_keypoints(scene: Scenes, painting: Painting, numbers: IntArray) -> BoolArray:
    """Which keypoints of ONE picture's people are seen, (P, 17); outside the picture: none.

    The facet painted last over a keypoint's pixel decides. On another person or on a part of the body that the
    keypoint does not belong to, it hides the keypoint when it is nearer. The parts that the keypoint belongs to hide
    it only when they are nearer by more than the flesh around it: the far shoulder behind the chest, eyes behind the
    back of the head, an elbow behind the hand that points at the camera.
    """
    width, height = scene.size
    own, flesh = _own_parts(), _flesh()
    pixel = np.rint(scene.keypoints).astype(np.int64)  # (P, 17, 2)
    inside = ((pixel >= 0) & (pixel < np.array([width, height]))).all(axis=-1)
    x, y = np.clip(pixel[..., 0], 0, width - 1), np.clip(pixel[..., 1], 0, height - 1)
    number = numbers[y, x]
    part = facets().part[painting.facet[number]]  # (P, 17)
    same = painting.person[number] == np.arange(len(pixel))[:, None]
    belongs = same & own[np.arange(len(flesh)), part]
    nearer = scene.keypoints_3d[..., 2] - painting.corners[number][..., 2].mean(axis=-1)
    scale = scene.girth[:, None] * scene.stature[:, None] / 1700
    hidden = nearer > np.where(belongs, flesh * scale, 12.0)
    return np.asarray(inside & ((number < 0) | ~hidden))


# For each keypoint, without its side: the parts whose surface is its own, and the flesh around it in millimetres.
_OWN = {
    "nose": (("head",), 40.0),
    "eye": (("head",), 40.0),
    "ear": (("head", "hair"), 45.0),
    "shoulder": (("trunk", "neck", "{side}_upper_arm"), 125.0),
    "elbow": (("{side}_upper_arm", "{side}_forearm"), 95.0),
    "wrist": (("{side}_forearm", "{side}_hand"), 75.0),
    "hip": (("pelvis", "trunk", "skirt", "{side}_thigh"), 160.0),
    "knee": (("{side}_thigh", "{side}_shank", "skirt"), 125.0),
    "ankle": (("{side}_shank", "{side}_foot"), 100.0),
}


@functools.cache
def _own_parts() -> BoolArray:
    """Which parts a keypoint belongs to, (17, parts)."""
    rows = []
    for name in house_skeleton("synthetic").names:
        side, _, joint = name.rpartition("_")
        own = {part.format(side=side) for part in _OWN[joint][0]}
        rows.append([part.name in own for part in body_parts()])
    return np.array(rows)


@functools.cache
def _flesh() -> FloatArray:
    return np.array([_OWN[name.rpartition("_")[2]][1] for name in house_skeleton("synthetic").names])
