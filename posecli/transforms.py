"""From a Sample to a network input: one matrix, one warp, one colour matrix. Runs in loader workers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import cv2
import numpy as np

from posecli import geometry
from posecli.augmentation import Appearance, Augmentation
from posecli.images import read_part, reduction_for
from posecli.skeleton import Skeleton
from posecli.types import Array, Example, FloatArray, ImageArray, Sample

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
GREY = np.tile([0.299, 0.587, 0.114], (3, 1))  # luma of RGB, Rec. 601, for each channel
UNIT = np.eye(3)
TURN = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # a small turn about the grey axis


@dataclass(frozen=True)
class CropTransform:
    """Cuts the sample's first person out along its box: input `image` (H, W, 3) uint8 RGB.

    Targets: `keypoints` (K, 2) float32 in input pixels and `visible` (K,) float32, 1 where labelled.
    """

    skeleton: Skeleton
    size: tuple[int, int]  # width, height of the input
    padding: float = 1.25  # the box grown by this factor
    unbiased: bool = False  # UDP's matrix, see geometry.crop_matrix
    augmentation: Augmentation | None = None  # None when evaluating

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        center, scale = self._rectangle(sample, generator)
        rotation, flip = self._turn(generator)
        scale = geometry.fit_aspect(scale, self.size[0] / self.size[1])
        matrix = geometry.crop_matrix(center, scale, self.size, rotation, flip, self.unbiased)
        crop = self._pixels(sample, matrix, scale)
        if self.augmentation is not None:
            crop = vary_colors(crop, self.augmentation, generator)
            crop = cut_out(crop, self.augmentation, generator)
        keypoints, visible = self._targets(sample, matrix, flip)
        kept = sample if not isinstance(sample.image, np.ndarray) else dataclasses.replace(sample, image=NO_PIXELS)
        return Example({"image": crop}, {"keypoints": keypoints, "visible": visible}, kept, geometry.invert(matrix))

    def _rectangle(self, sample: Sample, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Centre and size of the part of the picture that is shown, in image pixels."""
        boxes = sample.people.boxes
        if boxes is None or not len(boxes):
            raise ValueError(f"sample {sample.id}: no box to cut out")
        center, scale = geometry.box_center_scale(boxes[0].astype(np.float64), self.padding)
        scale = np.maximum(scale, 1e-3)
        if self.augmentation is None:
            return center, scale
        center, scale = self._half_body(sample, center, scale, generator)
        return self._moved(center, scale, generator)

    def _half_body(
        self, sample: Sample, center: FloatArray, scale: FloatArray, generator: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Now and then the rectangle around the upper or the lower half of the keypoints only."""
        assert self.augmentation is not None
        chosen, prefer_upper = generator.random() < self.augmentation.half_body, generator.random() < 0.7
        if not chosen or self.skeleton.upper is None:
            return center, scale
        labelled = sample.people.labelled[0]
        if labelled.sum() < self.augmentation.half_body_points:
            return center, scale
        is_upper = np.isin(np.arange(len(labelled)), self.skeleton.upper)
        upper, lower = np.flatnonzero(labelled & is_upper), np.flatnonzero(labelled & ~is_upper)
        enough_upper, enough_lower = len(upper) >= 2, len(lower) >= 3
        if not (enough_upper or enough_lower):
            return center, scale
        picked = upper if enough_upper and (prefer_upper or not enough_lower) else lower
        points = sample.people.keypoints[0][picked]
        low, high = points.min(axis=0), points.max(axis=0)
        return (low + high) / 2, np.maximum((high - low) * 1.5, 1.0)

    def _moved(
        self, center: FloatArray, scale: FloatArray, generator: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        assert self.augmentation is not None
        shifts = truncated_normal(generator, 2) * self.augmentation.shift
        if generator.random() < self.augmentation.shift_probability:
            center = center + shifts * scale
        low, high = self.augmentation.scale
        zoom = (low + high) / 2 + truncated_normal(generator, 1)[0] * (high - low) / 2
        return center, scale * zoom

    def _turn(self, generator: np.random.Generator) -> tuple[float, bool]:
        """Rotation in degrees and whether to mirror; never mirrored when the flip pairs are unknown."""
        if self.augmentation is None:
            return 0.0, False
        rotation = truncated_normal(generator, 1)[0] * self.augmentation.rotate
        turned = generator.random() < self.augmentation.rotate_probability
        mirrored = generator.random() < self.augmentation.flip
        return (float(rotation) if turned else 0.0), mirrored and self.skeleton.flip_pairs is not None

    def _pixels(self, sample: Sample, matrix: FloatArray, scale: FloatArray) -> ImageArray:
        reduce = 1
        if self.augmentation is not None:
            reduce = reduction_for(sample.image, float(scale[0]) / self.size[0])
        return read_part(sample.image, matrix, self.size, reduce)

    def _targets(self, sample: Sample, matrix: FloatArray, flip: bool) -> tuple[Array, Array]:
        people = sample.people
        visible = people.labelled[0]
        keypoints = np.where(visible[:, None], geometry.apply(matrix, people.keypoints[0]), 0.0)
        if flip:
            index = self.skeleton.flip_index
            keypoints, visible = keypoints[index], visible[index]
        return keypoints.astype(np.float32), visible.astype(np.float32)


def truncated_normal(generator: np.random.Generator, count: int) -> FloatArray:
    """`count` draws of the standard normal distribution cut off at -1 and 1."""
    drawn = generator.standard_normal(count)
    while (outside := np.abs(drawn) > 1).any():
        drawn[outside] = generator.standard_normal(int(outside.sum()))
    return drawn


def color_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> FloatArray:
    """The (3, 4) map of RGB that turns the hue (degrees, about the grey axis), then saturates, then stretches around
    mid-grey by `contrast` and adds `brightness` grey levels."""
    angle = math.radians(hue)
    cosine = math.cos(angle)
    turn = cosine * UNIT + math.sin(angle) * TURN + (1 - cosine) / 3
    matrix = np.empty((3, 4))
    matrix[:, :3] = contrast * (saturation * UNIT + (1 - saturation) * GREY) @ turn
    matrix[:, 3] = 127.5 * (1 - contrast) + brightness
    return matrix


def vary_colors(image: ImageArray, augmentation: Appearance, generator: np.random.Generator) -> ImageArray:
    """The picture in another light, with the augmentation's probability."""
    chosen, draws = generator.random() < augmentation.color, generator.uniform(-1, 1, 4)
    if not chosen:
        return image
    matrix = color_matrix(
        draws[0] * augmentation.brightness,
        1 + draws[1] * augmentation.contrast,
        1 + draws[2] * augmentation.saturation,
        draws[3] * augmentation.hue,
    )
    return np.asarray(cv2.transform(image, matrix.astype(np.float32)), dtype=np.uint8)


def cut_out(image: ImageArray, augmentation: Appearance, generator: np.random.Generator) -> ImageArray:
    """The picture with one rectangle covered by a flat colour, with the augmentation's probability; in place."""
    chosen, places = generator.random() < augmentation.cutout, generator.random(4).tolist()
    color = generator.integers(0, 256, 3)
    if not chosen:
        return image
    low, high = augmentation.cutout_size
    height, width = image.shape[:2]
    across = int((low + (high - low) * places[0]) * width)
    down = int((low + (high - low) * places[1]) * height)
    left, top = int((width - across) * places[2]), int((height - down) * places[3])
    image[top : top + down, left : left + across] = color
    return image
