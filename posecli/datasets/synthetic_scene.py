"""Synthetic scenes: who stands where, how a camera sees them, and where the keypoints are. Draws no picture.

Frames: world (millimetres, z up) and camera (millimetres, x right, y down, z forward), as in `posecli.types.Camera`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.datasets.synthetic_body import FRAMES, JOINTS, Build, pose_bodies, turn
from posecli.datasets.synthetic_draws import Draws
from posecli.skeleton import house_skeleton
from posecli.types import Camera, FloatArray, IntArray

# Half the depth, width and height of a skull, as parts of the distance from chin to crown.
SKULL = np.array([0.42, 0.34, 0.5])
# Where the face has its keypoints, in half skulls: forward, left, up from the middle of the skull.
FACE = {
    "nose": (1.16, 0.0, -0.12),
    "left_eye": (0.93, 0.40, 0.10),
    "right_eye": (0.93, -0.40, 0.10),
    "left_ear": (-0.05, 1.05, -0.02),
    "right_ear": (-0.05, -1.05, -0.02),
}


@dataclass(frozen=True)
class SceneCameras(Sequence[Camera]):
    """The cameras of N pictures in columns; a Camera is made when asked for."""

    rotation: FloatArray  # (N, 3, 3) world to camera
    position: FloatArray  # (N, 3) world millimetres
    focal: FloatArray  # (N,) pixels
    center: FloatArray  # (N, 2) pixels

    def __len__(self) -> int:
        return len(self.focal)

    def __getitem__(self, index: int) -> Camera:  # type: ignore[override]  # one at a time is all a Dataset asks
        focal = np.repeat(self.focal[index], 2)
        return Camera(self.rotation[index], self.position[index], focal, self.center[index])

    def take(self, rows: slice) -> SceneCameras:
        """Some cameras."""
        return SceneCameras(self.rotation[rows], self.position[rows], self.focal[rows], self.center[rows])


@dataclass(frozen=True)
class Scenes:
    """N pictures' worth of people and cameras; rows `offsets[i]:offsets[i + 1]` are the people of picture i."""

    seed: int
    size: tuple[int, int]  # width, height of every picture, pixels
    indices: IntArray  # (N,) the number of each picture in the endless series of this seed
    offsets: IntArray  # (N + 1,)
    cameras: SceneCameras
    keypoints_3d: FloatArray  # (M, 17, 3) camera millimetres
    keypoints: FloatArray  # (M, 17, 2) image pixels, also where they lie outside the picture
    joints: FloatArray  # (M, J, 3) camera millimetres, in the order of JOINTS
    frames: FloatArray  # (M, F, 3, 3) camera frame, in the order of FRAMES
    girth: FloatArray  # (M,) thickness relative to the average
    stature: FloatArray  # (M,) millimetres

    def __len__(self) -> int:
        return len(self.indices)

    def draws(self) -> Draws:
        """The source of everything that is drawn by lot for each person, (M,)."""
        return _person_draws(self.seed, self.indices, self.offsets)

    def rows(self, index: int) -> slice:
        """Where the people of one picture stand in the columns."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def take(self, index: int) -> Scenes:
        """One picture alone."""
        one, rows = slice(index, index + 1), self.rows(index)
        return Scenes(
            self.seed,
            self.size,
            self.indices[one],
            np.array([0, rows.stop - rows.start]),
            self.cameras.take(one),
            *(column[rows] for column in (self.keypoints_3d, self.keypoints, self.joints, self.frames)),
            *(column[rows] for column in (self.girth, self.stature)),
        )


def synthetic_scenes(
    indices: IntArray, seed: int, size: tuple[int, int] = (192, 192), people: tuple[int, int] = (1, 1)
) -> Scenes:
    """The people and the camera of each picture `indices` (N,) of the series `seed`; `size` is width, height.

    A scene depends on (seed, index, size, people) alone. About 0.1 ms a person, for 3D poses without pictures too.
    """
    pictures = Draws(seed, indices)
    counts = np.minimum(pictures.uniform("people", people[0], people[1] + 1).astype(np.int64), people[1])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    draws = _person_draws(seed, indices, offsets)
    build = Build.draw(draws)
    joints, frames = pose_bodies(build, draws)
    joints += _ground_positions(pictures, draws, offsets)[:, None]
    points = np.concatenate([_keypoints(joints, frames), joints], axis=1)  # (M, 17 + J, 3) world

    rotation, position = _aim(pictures, points, offsets)
    rows = np.repeat(np.arange(len(indices)), counts)
    focal, center = _frame(pictures, _rotate(rotation[rows], points - position[rows, None]), offsets, size)
    places = SceneCameras(rotation, position, focal, center)
    return film(places, build, joints, frames, offsets, seed=seed, size=size, indices=indices)


def film(
    cameras: SceneCameras,
    build: Build,
    joints: FloatArray,
    frames: FloatArray,
    offsets: IntArray,
    *,
    size: tuple[int, int],
    seed: int = 0,
    indices: IntArray | None = None,
) -> Scenes:
    """Scenes of given bodies: joints (M, J, 3) and frames (M, F, 3, 3) in the world, one camera a picture.

    `seed` and `indices` (N,) decide what people wear and what is behind them; 0, 1, 2 ... if not given.
    """
    rows = np.repeat(np.arange(len(cameras)), np.diff(offsets))
    points = np.concatenate([_keypoints(joints, frames), joints], axis=1)  # (M, 17 + J, 3)
    points = _rotate(cameras.rotation[rows], points - cameras.position[rows, None])
    seen = points[:, :17, :2] / points[:, :17, 2:]
    keypoints = seen * cameras.focal[rows, None, None] + cameras.center[rows, None]
    return Scenes(
        seed,
        size,
        np.arange(len(cameras)) if indices is None else np.asarray(indices),
        offsets,
        cameras,
        points[:, :17].astype(np.float32),
        keypoints.astype(np.float32),
        points[:, 17:].astype(np.float32),
        _multiply(cameras.rotation[rows, None], frames).astype(np.float32),
        build.girth.astype(np.float32),
        build.stature.astype(np.float32),
    )


def _person_draws(seed: int, indices: IntArray, offsets: IntArray) -> Draws:
    counts = np.diff(offsets)
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    return Draws(seed, np.repeat(indices, counts), places + 1)


def _rotate(rotation: FloatArray, points: FloatArray) -> FloatArray:
    """Points (M, K, 3) by rotations (M, 3, 3); summed in a fixed order, so that no row depends on its neighbours."""
    x, y, z = points[..., None, 0], points[..., None, 1], points[..., None, 2]
    columns = rotation[:, None]
    return np.asarray(columns[..., 0] * x + columns[..., 1] * y + columns[..., 2] * z)


def _multiply(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(sum(first[..., :, k, None] * second[..., None, k, :] for k in range(3)))


def _keypoints(joints: FloatArray, frames: FloatArray) -> FloatArray:
    """The skeleton's seventeen points, (M, 17, 3), in the frame of joints (M, J, 3)."""
    chin, crown = joints[:, JOINTS.index("chin")], joints[:, JOINTS.index("crown")]
    height = np.sqrt(((crown - chin) ** 2).sum(axis=-1, keepdims=True))
    points: list[FloatArray] = []
    for name in house_skeleton("synthetic").names:
        if name in FACE:
            offset = height * (SKULL * np.array(FACE[name]))
            points.append((chin + crown) / 2 + _rotate(frames[:, FRAMES.index("head")], offset[:, None])[:, 0])
        else:
            points.append(joints[:, JOINTS.index(name)])
    return np.stack(points, axis=1)


def _ground_positions(pictures: Draws, draws: Draws, offsets: IntArray) -> FloatArray:
    """Where people stand, (M, 3): side by side in an order of depth drawn by lot, nobody inside another."""
    counts = np.diff(offsets)
    picture = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((draws.uniform("depth order"), picture))
    rank = np.empty(len(picture))
    rank[order] = np.arange(len(picture)) - offsets[picture]
    place = np.arange(len(picture)) - offsets[picture]
    middle = (counts[picture] - 1) / 2
    spacing = pictures.uniform("spacing", 330, 850)[picture]
    gap = pictures.uniform("gap", 650, 1100)[picture]
    across = (place - middle + draws.uniform("across", -0.3, 0.3)) * spacing
    along = (rank - middle + draws.uniform("along", -0.1, 0.1)) * gap
    return np.stack([across, along, np.zeros(len(picture))], axis=-1)


def _aim(pictures: Draws, points: FloatArray, offsets: IntArray) -> tuple[FloatArray, FloatArray]:
    """Rotation (N, 3, 3) and position (N, 3) of cameras that look at the middle of points (M, P, 3)."""
    starts = offsets[:-1]
    low = np.minimum.reduceat(points.min(axis=1), starts, axis=0)
    high = np.maximum.reduceat(points.max(axis=1), starts, axis=0)
    steep = pictures.uniform("steep camera") < 0.2
    pitch = np.where(steep, pictures.uniform("steep pitch", 10, 38), pictures.uniform("pitch", -6, 14))
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # looking along world y
    rotation = _multiply(_multiply(turn(2, pictures.uniform("roll", -9, 9)), turn(0, pitch)), level[None])
    reach = (high - low)[:, 1] / 2  # half the depth of the group
    distance = reach + 1500 + 6500 * pictures.uniform("distance") ** 1.5
    aim = (low + high) / 2 + np.stack([pictures.uniform(f"aim {axis}", -250, 250) for axis in "xyz"], axis=-1)
    return rotation, aim - distance[:, None] * rotation[:, 2]


def _frame(
    pictures: Draws, points: FloatArray, offsets: IntArray, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Focal lengths (N,) and centres (N, 2) that put the camera points (M, P, 3) into the picture as drawn by lot.

    Mostly everybody is inside; one in ten is cut by the frame.
    """
    starts, flesh = offsets[:-1], 75.0  # millimetres around the points
    depth = points[..., 2:]
    low = np.minimum.reduceat(((points[..., :2] - flesh) / depth).min(axis=1), starts, axis=0)
    high = np.maximum.reduceat(((points[..., :2] + flesh) / depth).max(axis=1), starts, axis=0)
    alone = np.diff(offsets) == 1
    cut = pictures.uniform("cut by the frame") < 0.1
    fill = np.where(alone, pictures.uniform("fill", 0.7, 0.97), pictures.uniform("crowd fill", 0.8, 0.99))
    fill = np.where(cut, pictures.uniform("cut fill", 1.0, np.where(alone, 1.4, 1.08)), fill)
    picture = np.array(size, dtype=np.float64)
    focal = fill * (picture / (high - low)).min(axis=1)
    slack = np.abs(picture - focal[:, None] * (high - low)) / 2
    shift = np.stack([pictures.uniform("shift x", -1, 1), pictures.uniform("shift y", -1, 1)], axis=-1)
    # A picture that cuts people shows their head more often than their feet.
    shift[:, 1] = np.where(cut & (pictures.uniform("head kept") < 0.6), np.abs(shift[:, 1]), shift[:, 1])
    center = (picture - 1) / 2 + shift * slack - focal[:, None] * (low + high) / 2
    return focal, center
