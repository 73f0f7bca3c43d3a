"""Synthetic bodies before a camera: who stands where, how, and in what clothes; labelled by the mesh that is drawn.

Everything about picture i depends on (seed, i) and the options alone, not on the number of pictures. No two bodies have
the same shape, and no two postures are equal, so another seed is another population.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from posecli.datasets.synthetic_backdrop import Backdrop
from posecli.datasets.synthetic_draws import Draws
from posecli.datasets.synthetic_scene import SceneCameras
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray, ImageArray, ImageSource, IntArray, Made, People
from posecli_mesh.bodies import BODIES, Body, BodyName, open_body
from posecli_mesh.poses import draw_rotations

MILLIMETRES = 1000.0  # a metre
DISTANCE = (3.0, 8.0)  # metres from the camera
FILLED = (0.72, 0.96)  # of the picture's side
CHUNK = 128  # bodies that are made together


@dataclass(frozen=True)
class BodyScenes:
    """N pictures' worth of bodies, one each."""

    seed: int
    indices: IntArray  # (N,) numbers of the pictures
    size: tuple[int, int]  # width, height
    body: BodyName
    rotations: FloatArray  # (N, P, 3, 3) float32
    shape: FloatArray  # (N, S) float32
    place: FloatArray  # (N, 3) metres: where the body's own origin is in the camera frame
    cameras: SceneCameras
    backdrop: Backdrop = "clutter"

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, index: int) -> BodyScenes:
        """One picture's scene."""
        one = slice(index, index + 1)
        columns = (self.rotations[one], self.shape[one], self.place[one])
        return BodyScenes(
            self.seed, self.indices[one], self.size, self.body, *columns, self.cameras.take(one), self.backdrop
        )


@dataclass(frozen=True)
class BodyPicture:
    """One picture, drawn when called: RGB uint8 (H, W, 3). Small to pickle; equal each time."""

    scene: BodyScenes

    def __call__(self) -> ImageArray:
        from posecli_mesh.painting import paint

        return paint(self.scene)


class BodyPictures(Made[ImageSource]):
    """The pictures of scenes, each drawn when called."""

    def __init__(self, scenes: BodyScenes) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def item(self, index: int) -> BodyPicture:
        return BodyPicture(self.scenes.take(index))


@functools.cache
def drawn_body(name: BodyName) -> Body:
    """The body that pictures are drawn of, made once a process."""
    return open_body(name)


def synthetic_bodies(
    count: int,
    seed: int = 0,
    size: tuple[int, int] = (160, 160),
    turned: float = 90.0,
    body: BodyName = "capsules",
    backdrop: Backdrop = "clutter",
) -> Dataset:
    """Pictures 0 to count - 1 of the series `seed`, one body each, turned at most so many degrees from the camera.

    Skeleton `body24`; every keypoint is labelled, hidden or not. Extra columns: `keypoints_3d` (N, K, 3) camera mm,
    `rotations` (N, P, 3, 3), `shape` (N, S), `has_body` (N,) 1, `body` (N,) its number in BODIES, area and crowd.
    """
    scenes, joints, boxes = _draw(np.arange(count), seed, size, turned, body, backdrop)
    pixels = _project(joints, scenes.cameras)
    width, height = size
    sides = boxes[:, 2:] - boxes[:, :2]
    return Dataset(
        name="synthetic-bodies",
        skeleton=house_skeleton("body24"),
        ids=list(range(count)),
        sizes=np.tile(np.array([width, height]), (count, 1)),
        offsets=np.arange(count + 1),
        people=People(
            pixels.astype(np.float32),
            np.full(pixels.shape[:2], 2, np.float32),
            boxes.astype(np.float32),
            extra={
                "keypoints_3d": (joints * MILLIMETRES).astype(np.float32),
                "rotations": scenes.rotations,
                "shape": scenes.shape,
                "has_body": np.ones(count, np.float32),
                "body": np.full(count, BODIES.index(body)),
                "area": (sides[:, 0] * sides[:, 1]).astype(np.float32),
                "crowd": np.zeros(count, dtype=bool),
            },
        ),
        images=BodyPictures(scenes),
        cameras=scenes.cameras,
    )


@torch.inference_mode()
def body_vertices(scene: BodyScenes) -> FloatArray:
    """The skin of ONE scene's body, (V, 3) camera metres, float64."""
    found = drawn_body(scene.body)(torch.from_numpy(scene.rotations), torch.from_numpy(scene.shape))
    return np.asarray(found.vertices[0].double().numpy() + scene.place[0])


def _draw(
    indices: IntArray, seed: int, size: tuple[int, int], turned: float, name: BodyName, backdrop: Backdrop
) -> tuple[BodyScenes, FloatArray, FloatArray]:
    """The scenes, their keypoints (N, K, 3) in camera metres and the boxes (N, 4) around their silhouettes."""
    body = drawn_body(name)
    draws = Draws(seed, indices)
    rotations = draw_rotations(draws, turned).astype(np.float32)
    shape = draw_shapes(draws, body.shapes)
    index = [body.joints.index(joint) for joint in house_skeleton("body24").names]
    parts = [
        _stand(
            body, rotations[i : i + CHUNK], shape[i : i + CHUNK], draws.uniform("distance", *DISTANCE)[i : i + CHUNK]
        )
        for i in range(0, len(indices), CHUNK)
    ]
    joints, place, low, high = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    cameras = _cameras(draws, low, high, size)
    scale, center = cameras.focal[:, None], cameras.center
    boxes = np.concatenate([low * scale + center, high * scale + center], axis=1)
    boxes = np.clip(boxes, 0, np.tile(np.array(size, dtype=np.float64) - 1, 2))
    scenes = BodyScenes(seed, indices, size, name, rotations, shape, place, cameras, backdrop)
    return scenes, joints[:, index], boxes


def draw_shapes(draws: Draws, count: int) -> FloatArray:
    """Shapes (M, count) float32: means 0, standard deviations 1, nothing beyond 3."""
    columns = [sum(draws.uniform(f"shape {i}/{part}", -1, 1) for part in range(3)) for i in range(count)]
    return np.stack(columns, axis=-1).astype(np.float32)


@torch.inference_mode()
def _stand(
    body: Body, rotations: FloatArray, shape: FloatArray, distance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Bodies with their hips before the camera: joints (B, J, 3), the place of their origins (B, 3), both metres, and
    their silhouettes' lower and upper corners (B, 2) in the plane z = 1."""
    found = body(torch.from_numpy(rotations), torch.from_numpy(shape))
    vertices, joints = found.vertices.double().numpy(), found.joints.double().numpy()
    hips = [body.joints.index(f"{side}_hip") for side in ("left", "right")]
    place = -joints[:, hips].mean(axis=1)
    place[:, 2] += distance
    seen = vertices + place[:, None]
    plane = seen[..., :2] / seen[..., 2:]
    return joints + place[:, None], place, plane.min(axis=1), plane.max(axis=1)


def _cameras(draws: Draws, low: FloatArray, high: FloatArray, size: tuple[int, int]) -> SceneCameras:
    """Cameras in the origin, whose focal length makes the body fill the picture; it stands off its middle."""
    sides = np.array(size, dtype=np.float64)
    focal = draws.uniform("filled", *FILLED) * (sides / (high - low)).min(axis=1)
    slack = (sides - focal[:, None] * (high - low)) / 2
    aside = slack * 0.9 * np.stack([draws.uniform("across", -1, 1), draws.uniform("along", -1, 1)], axis=-1)
    center = (sides - 1) / 2 + aside - focal[:, None] * (low + high) / 2
    count = len(focal)
    return SceneCameras(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), focal, center)


def _project(points: FloatArray, cameras: SceneCameras) -> FloatArray:
    """Pixels (N, K, 2) of points (N, K, 3) in metres."""
    return np.asarray(points[..., :2] / points[..., 2:] * cameras.focal[:, None, None] + cameras.center[:, None])
