"""From a person in a picture to a network input: the crop, and the body that turns and is mirrored with it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from posecli import geometry
from posecli.transforms import CropTransform, Draft
from posecli.types import Array, FloatArray, ImageArray, Sample
from posecli_mesh.config import MeshAugmentation

MIRROR = np.array([-1.0, 1.0, 1.0])  # what a mirror does to the x of camera and body alike


@dataclass(frozen=True)
class MeshTransform(CropTransform):
    """Cuts the sample's first person out along its box: input `image` (H, W, 3) uint8 RGB.

    Targets, all float32: `keypoints` (K, 2) in input pixels and `visible` (K,), 1 where labelled; `keypoints_3d` (K, 3)
    millimetres and `known` (K,); `rotations` (P, 3, 3), `shape` (S,) and `has_body` (), 1 where those two are labelled;
    `draw` () float64, a random number from 0 to below 1.
    """

    mirror_index: tuple[int, ...] = ()  # (P,): see Body.mirror_index
    shapes: int = 0  # S

    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        crop = super().begin(sample, generator)
        body = self._body(sample, _turn_matrix(crop.undo), geometry.is_mirrored(crop.undo))
        draw = np.asarray(generator.random())
        return dataclasses.replace(crop, targets={**crop.targets, **body, "draw": draw})

    def _varied(self, image: ImageArray, generator: np.random.Generator) -> ImageArray:
        if isinstance(self.augmentation, MeshAugmentation) and self.augmentation.channel_noise:
            factors = 1 + generator.uniform(-1, 1, 3) * self.augmentation.channel_noise
            np.clip(image * factors, 0, 255, out=image, casting="unsafe")
        return super()._varied(image, generator)

    def _body(self, sample: Sample, turn: FloatArray, flip: bool) -> dict[str, Array]:
        """What is known of the body in 3D, turned with the picture and mirrored after that."""
        extra, count = sample.people.extra, len(self.skeleton)
        points = np.asarray(extra["keypoints_3d"][0]) if "keypoints_3d" in extra else np.full((count, 3), np.nan)
        has_body = "rotations" in extra and bool(extra.get("has_body", np.ones(1))[0] > 0)  # NaN is unknown too
        poses = len(self.mirror_index)
        rotations = np.array(extra["rotations"][0]) if has_body else np.repeat(np.eye(3)[None], poses, axis=0)
        shape = np.asarray(extra["shape"][0]) if has_body else np.zeros(self.shapes)
        points, rotations[0] = points @ turn.T, turn @ rotations[0]
        if flip:
            points = points[self.skeleton.flip_index] * MIRROR
            rotations = rotations[list(self.mirror_index)] * MIRROR[:, None] * MIRROR
        known = np.isfinite(points).all(axis=-1)
        targets = {
            "keypoints_3d": np.where(known[:, None], points, 0.0),
            "known": known,
            "rotations": rotations,
            "shape": shape,
            "has_body": np.asarray(has_body),
        }
        return {name: np.asarray(values, np.float32) for name, values in targets.items()}


def _turn_matrix(undo: FloatArray) -> FloatArray:
    """The turn (3, 3) about the line of sight that a crop makes, before it is mirrored, by the map back (2, 3)."""
    (_, sine, _), (_, cosine, _) = undo.tolist()
    length = math.hypot(sine, cosine)
    sine, cosine = -sine / length, cosine / length
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
