"""From a Sample to a network input: one matrix, one warp, one colour matrix. Runs in loader workers."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np

from posecli import geometry
from posecli.augmentation import Appearance, Augmentation
from posecli.geometry import Pair
from posecli.images import part_reader
from posecli.skeleton import Skeleton
from posecli.types import Array, BoolArray, Example, FloatArray, ImageArray, Sample

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
GREY = np.tile([0.299, 0.587, 0.114], (3, 1))  # luma of RGB, Rec. 601, for each channel
UNIT = np.eye(3)
TURN = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # a small turn about the grey axis
NORMAL = NormalDist()
BELOW = NORMAL.cdf(-1)  # the share of a normal distribution that lies more than one deviation below the mean


Rows = Mapping[str, Array]
"""Memory of the batch to come where an example's inputs may be written, by their names; none where there is none."""


@dataclass(frozen=True)
class Draft:
    """An example whose pixels are still to be read."""

    targets: dict[str, Array]
    sample: Sample  # as the example will keep it
    undo: FloatArray  # (2, 3)
    inputs: Callable[[Rows], dict[str, Array]]

    def finish(self, rows: Rows) -> Example:
        """The example, whose inputs are written into `rows` where that can be."""
        return Example(self.inputs(rows), self.targets, self.sample, self.undo)


class StagedTransform(ABC):
    """A transform in two stages. A worker begins all examples of a batch before it finishes them one by one.

    Between two pictures, which fill the processor's cache, small numbers take four times as long.
    """

    @abstractmethod
    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        """All but the pixels, which are read when the draft is finished; the generator is the example's own."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        return self.begin(sample, generator).finish({})


def without_pixels(sample: Sample) -> Sample:
    """The sample as an Example keeps it."""
    return dataclasses.replace(sample, image=NO_PIXELS) if isinstance(sample.image, np.ndarray) else sample


@dataclass(frozen=True)
class CropTransform(StagedTransform):
    """Cuts the sample's first person out along its box: input `image` (H, W, 3) uint8 RGB.

    Targets: `keypoints` (K, 2) float32 in input pixels and `visible` (K,) float32, 1 where labelled.
    """

    skeleton: Skeleton
    size: tuple[int, int]  # width, height of the input
    padding: float = 1.25  # the box grown by this factor
    unbiased: bool = False  # UDP's matrix, see geometry.crop_matrix
    augmentation: Augmentation | None = None  # None when evaluating

    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        matrix, flip = self._part(sample, generator)
        keypoints, visible = self._targets(sample, matrix, flip)
        read = part_reader(sample.image, matrix, self.size, rough=self.augmentation is not None)

        def inputs(rows: Rows) -> dict[str, Array]:
            return {"image": self._varied(read(rows.get("image")), generator)}

        targets = {"keypoints": keypoints, "visible": visible}
        return Draft(targets, without_pixels(sample), geometry.invert(matrix), inputs)

    def _part(self, sample: Sample, generator: np.random.Generator) -> tuple[FloatArray, bool]:
        """The crop's matrix, and whether it is mirrored."""
        center, scale = self._rectangle(sample, generator)
        rotation, flip = self._turn(generator)
        scale = geometry.fit_aspect(scale, self.size[0] / self.size[1])
        return geometry.crop_matrix(center, scale, self.size, rotation, flip, self.unbiased), flip

    def _rectangle(self, sample: Sample, generator: np.random.Generator) -> tuple[Pair, Pair]:
        """Centre, width and height of the part of the picture that is shown, in image pixels."""
        boxes = sample.people.boxes
        if boxes is None or not len(boxes):
            raise ValueError(f"sample {sample.id}: no box to cut out")
        center, scale = _center_scale(boxes[0], self.padding, 1e-3)
        if self.augmentation is None:
            return center, scale
        draws = generator.random(6).tolist()
        center, scale = self._half_body(sample, center, scale, draws[:2])
        return self._moved(center, scale, draws[2:])

    def _half_body(self, sample: Sample, center: Pair, scale: Pair, draws: list[float]) -> tuple[Pair, Pair]:
        """Now and then the rectangle around the upper or the lower half of the keypoints only."""
        assert self.augmentation is not None
        if draws[0] >= self.augmentation.half_body or self.skeleton.upper is None:
            return center, scale
        labelled = sample.people.labelled[0]
        if np.count_nonzero(labelled) < self.augmentation.half_body_points:
            return center, scale
        upper, lower = np.flatnonzero(labelled & self._upper), np.flatnonzero(labelled & ~self._upper)
        enough_upper, enough_lower = len(upper) >= 2, len(lower) >= 3
        if not (enough_upper or enough_lower):
            return center, scale
        picked = upper if enough_upper and (draws[1] < 0.7 or not enough_lower) else lower
        points = sample.people.keypoints[0][picked]
        return _center_scale(np.concatenate([points.min(axis=0), points.max(axis=0)]), 1.5, 1.0)

    @functools.cached_property
    def _upper(self) -> BoolArray:
        """Which keypoints (K,) are the upper body."""
        return np.isin(np.arange(len(self.skeleton)), self.skeleton.upper or ())

    def _moved(self, center: Pair, scale: Pair, draws: list[float]) -> tuple[Pair, Pair]:
        assert self.augmentation is not None
        if draws[0] < self.augmentation.shift_probability:
            right, down = (truncated_normal(draw) * self.augmentation.shift for draw in draws[1:3])
            center = center[0] + right * scale[0], center[1] + down * scale[1]
        low, high = self.augmentation.scale
        zoom = (low + high) / 2 + truncated_normal(draws[3]) * (high - low) / 2
        return center, (scale[0] * zoom, scale[1] * zoom)

    def _turn(self, generator: np.random.Generator) -> tuple[float, bool]:
        """Rotation in degrees and whether to mirror; never mirrored when the flip pairs are unknown."""
        if self.augmentation is None:
            return 0.0, False
        angle, turned, mirrored = generator.random(3).tolist()
        rotation = truncated_normal(angle) * self.augmentation.rotate
        flip = mirrored < self.augmentation.flip and self.skeleton.flip_pairs is not None
        return (rotation if turned < self.augmentation.rotate_probability else 0.0), flip

    def _varied(self, image: ImageArray, generator: np.random.Generator) -> ImageArray:
        if self.augmentation is None:
            return image
        return cut_out(vary_colors(image, self.augmentation, generator), self.augmentation, generator)

    def _targets(self, sample: Sample, matrix: FloatArray, flip: bool) -> tuple[Array, Array]:
        people = sample.people
        visible = people.labelled[0]
        keypoints = np.where(visible[:, None], geometry.apply(matrix, people.keypoints[0]), 0.0)
        if flip:
            index = self.skeleton.flip_index
            keypoints, visible = keypoints[index], visible[index]
        return keypoints.astype(np.float32), visible.astype(np.float32)


def _center_scale(box: FloatArray, padding: float, least: float) -> tuple[Pair, Pair]:
    """The centre of a box (4,) and its padded width and height, which are not below `least`."""
    (x, y), (width, height) = (part.tolist() for part in geometry.box_center_scale(box.astype(np.float64), padding))
    return (x, y), (max(width, least), max(height, least))


def truncated_normal(share: float) -> float:
    """Below where a share from 0 to 1 of the standard normal distribution lies once it is cut off at -1 and 1."""
    return NORMAL.inv_cdf(BELOW + share * (1 - 2 * BELOW))


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
    """The picture in another light, with the augmentation's probability; in place."""
    chosen, *draws = generator.random(5).tolist()
    if chosen >= augmentation.color:
        return image
    brightness, contrast, saturation, hue = (2 * draw - 1 for draw in draws)
    matrix = color_matrix(
        brightness * augmentation.brightness,
        1 + contrast * augmentation.contrast,
        1 + saturation * augmentation.saturation,
        hue * augmentation.hue,
    )
    cv2.transform(image, matrix.astype(np.float32), dst=image)
    return image


def cut_out(image: ImageArray, augmentation: Appearance, generator: np.random.Generator) -> ImageArray:
    """The picture with one rectangle covered by a flat colour, with the augmentation's probability; in place."""
    chosen, wide, tall, right, down, *color = generator.random(8).tolist()
    if chosen >= augmentation.cutout:
        return image
    low, high = augmentation.cutout_size
    height, width = image.shape[:2]
    across, upright = int((low + (high - low) * wide) * width), int((low + (high - low) * tall) * height)
    if across and upright:
        rectangle = int((width - across) * right), int((height - upright) * down), across, upright
        cv2.rectangle(image, rectangle, [int(256 * level) for level in color], cv2.FILLED)
    return image
