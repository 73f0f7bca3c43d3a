"""From a scene to a network input: one matrix, one warp, a mask of where the loss counts. Runs in loader workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from posecli import geometry
from posecli.geometry import Pair
from posecli.images import part_reader, read_image, warp
from posecli.skeleton import Skeleton
from posecli.transforms import Draft, Rows, StagedTransform, cut_out, vary_colors, without_pixels
from posecli.types import Array, BoolArray, FloatArray, ImageArray, IntArray, People, Sample
from posecli_associative.augmentation import SceneAugmentation

MULTIPLE = 64  # sides of inputs are multiples of it when evaluating: maps of 1/4 that are halved four times fit
HARDLY_SEEN = 0.05  # of the box; whoever covers less of it is behind others
_SUBPIXEL = 4  # bits behind the point of the polygons that OpenCV fills
_FAR = 2**14  # polygons are cut off so many pixels away: OpenCV counts in 32 bits


@dataclass(frozen=True)
class SceneTransform(StagedTransform):
    """The whole picture with everybody in it: input `image` (H, W, 3) uint8 RGB.

    Targets, people in the dataset's order, rows after the last are 0: `keypoints` (P, K, 2) float32 in input pixels,
    `visible` (P, K) float32, 1 where labelled and inside the input; `mask` (H / 2, W / 2) uint8, 1 where the loss
    counts; `size` (2,) float32, width and height of what the input shows of the picture. At most `max_people` people
    are kept, those with the most visible keypoints, among equals the largest; others are masked out like crowds.

    Training fills an input of `size` by a random part of the picture. Evaluation shows the whole picture, its short
    side as long as that side of `size`, in the middle of an input whose sides are multiples of 64; with `scales` there
    are inputs `image@0.5` … too, and `undo` belongs to scale 1. Both as MMPose 0.x does, see docs/architecture.md.
    """

    skeleton: Skeleton
    size: tuple[int, int]  # width, height of the input, even
    augmentation: SceneAugmentation | None = None  # None when evaluating
    max_people: int = 30
    unbiased: bool = False  # UDP's matrix, see geometry.crop_matrix; evaluation then puts the picture at the upper left
    scales: tuple[float, ...] = (1.0,)  # of the evaluation, 1 among them
    border: Literal["counts", "ignored"] = "counts"  # whether the loss counts where the input shows no picture
    multiple: int = 1  # a power of two of which the sides of all inputs are multiples when evaluating

    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        if self.augmentation is None:
            return self._begin_whole(sample)
        matrix, flip = self._part(sample, generator)
        read = part_reader(sample.image, matrix, self.size, rough=True)

        def inputs(rows: Rows) -> dict[str, Array]:
            return {"image": self._varied(read(rows.get("image")), generator)}

        targets = self._targets(sample, matrix, flip, self.size)
        return Draft(targets, without_pixels(sample), geometry.invert(matrix), inputs)

    def _begin_whole(self, sample: Sample) -> Draft:
        size = self.input_size(sample.size)
        matrix = self._whole_matrix(sample.size, size, size)
        targets = self._targets(sample, matrix, False, size)
        return Draft(
            targets, without_pixels(sample), geometry.invert(matrix), lambda _: self._whole(sample, matrix, size)
        )

    # --- training -----------------------------------------------------------------------------------------------------

    def _part(self, sample: Sample, generator: np.random.Generator) -> tuple[FloatArray, bool]:
        """The matrix of a random part of the picture, and whether it is mirrored; never when the flip pairs are
        unknown."""
        assert self.augmentation is not None
        (low, high), shift = self.augmentation.scale, self.augmentation.shift
        zoom, turn, right, down, mirrored = generator.random(5).tolist()
        width, height = (side * (low + (high - low) * zoom) for side in sample.size)
        less = 1 if self.unbiased else 0
        middle_x, middle_y = ((side - less) / 2 for side in sample.size)
        center = middle_x + (2 * right - 1) * shift * width, middle_y + (2 * down - 1) * shift * height
        rotation = (2 * turn - 1) * self.augmentation.rotate
        flip = mirrored < self.augmentation.flip and self.skeleton.flip_pairs is not None
        scale = self._fitted(width, height)
        return geometry.crop_matrix(center, scale, self.size, rotation, flip, self.unbiased), flip

    def _fitted(self, width: float, height: float) -> Pair:
        """The part in the input's aspect: the longer side cut, or the shorter one grown."""
        assert self.augmentation is not None
        aspect = self.size[0] / self.size[1]
        choose = min if self.augmentation.side == "short" else max
        return choose(width, height * aspect), choose(height, width / aspect)

    def _varied(self, image: ImageArray, generator: np.random.Generator) -> ImageArray:
        """The picture in another light and partly covered, where that is asked for at all."""
        assert self.augmentation is not None
        if self.augmentation.color:
            image = vary_colors(image, self.augmentation, generator)
        return cut_out(image, self.augmentation, generator) if self.augmentation.cutout else image

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def _whole(self, sample: Sample, matrix: FloatArray, size: tuple[int, int]) -> dict[str, Array]:
        """The whole picture at every scale; at scale 1 as `matrix` maps it into `size`."""
        image = read_image(sample.image)
        inputs: dict[str, Array] = {"image": warp(image, matrix, size)}
        for scale in self.scales:
            if scale != 1:
                scaled = self.input_size(sample.size, scale)
                inputs[f"image@{scale:g}"] = warp(image, self._whole_matrix(sample.size, size, scaled), scaled)
        return inputs

    def input_size(self, picture: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Width and height of the input that shows a picture of that width and height at a scale.

        At the smallest of the scales its sides are multiples of 64, at the others in proportion; at all of them
        rounded up to multiples of `multiple`.
        """
        smallest = min(self.scales)
        upright = picture[0] < picture[1]
        least = max(MULTIPLE, self.multiple)
        short = _up(smallest * self.size[0 if upright else 1], least)
        long = _up(short / min(picture) * max(picture), least)
        sides = [_up(int(side * scale / smallest), self.multiple) for side in (short, long)]
        return (sides[0], sides[1]) if upright else (sides[1], sides[0])

    def _whole_matrix(self, picture: tuple[int, int], base: tuple[int, int], size: tuple[int, int]) -> FloatArray:
        """From the picture's pixels to those of an input of `size`, which shows the same as the one of size `base`."""
        narrow = 0 if picture[0] < picture[1] else 1
        if self.unbiased:  # pixel centres in the upper left corner meet
            factor = (base[narrow] - 1) / max(picture[narrow] - 1, 1)  # of one pixel there are no corners
            across, down = ((new - 1) * factor / (old - 1) for new, old in zip(size, base, strict=True))
            return np.array([[across, 0, 0], [0, down, 0]])
        rectangle = base[0] * picture[narrow] / base[narrow], base[1] * picture[narrow] / base[narrow]
        center = round(picture[0] / 2), round(picture[1] / 2)  # a whole pixel, as in the reference
        stretch = np.array(size) / base  # alike along both axes but for rounding
        return np.asarray(geometry.crop_matrix(center, rectangle, base) * stretch[:, None])

    # --- targets ------------------------------------------------------------------------------------------------------

    def _targets(self, sample: Sample, matrix: FloatArray, flip: bool, size: tuple[int, int]) -> dict[str, Array]:
        people = sample.people
        labelled = people.labelled
        hidden = np.asarray(~labelled.any(axis=1))
        if "crowd" in people.extra:
            labelled, hidden = labelled & ~people.crowd[:, None], hidden | people.crowd
        points, visible = self._points(people, labelled, matrix, flip, size)
        rows: IntArray = np.flatnonzero(visible.any(axis=1))
        if len(rows) > self.max_people:
            kept = self._fullest(rows, visible, people)
            hidden[np.setdiff1d(rows, kept)] = True
            rows = kept
        keypoints = np.zeros((self.max_people, len(self.skeleton), 2), np.float32)
        shown = np.zeros((self.max_people, len(self.skeleton)), np.float32)
        keypoints[: len(rows)] = points[rows]
        shown[: len(rows)] = visible[rows]
        return {
            "keypoints": keypoints,
            "visible": shown,
            "mask": self._mask(sample, hidden, matrix, size),
            "size": self._shown_size(sample.size, matrix, size),
        }

    def _points(
        self, people: People, labelled: BoolArray, matrix: FloatArray, flip: bool, size: tuple[int, int]
    ) -> tuple[FloatArray, BoolArray]:
        """Keypoints (N, K, 2) in input pixels, 0 where they are not `labelled` or outside, and which are not (N, K)."""
        points = geometry.apply(matrix, people.keypoints[..., :2])
        inside = (points >= 0) & (points <= (size[0] - 1, size[1] - 1))  # NaN is nowhere
        visible = inside[..., 0] & inside[..., 1] & labelled
        points[~visible] = 0
        if flip:
            index = self.skeleton.flip_index
            return points[:, index], visible[:, index]
        return points, visible

    def _fullest(self, rows: IntArray, visible: BoolArray, people: People) -> IntArray:
        """The `max_people` of the rows with most visible keypoints, of equals the largest, in their order."""
        boxes = geometry.keypoint_boxes(people.keypoints[rows]) if people.boxes is None else people.boxes[rows]
        order = np.lexsort((-geometry.box_areas(boxes), -visible[rows].sum(axis=1)))
        return np.sort(rows[order[: self.max_people]])

    def _shown_size(self, picture: tuple[int, int], matrix: FloatArray, size: tuple[int, int]) -> Array:
        """Width and height (2,) of what the input shows of the picture, in input pixels."""
        (a, b, _), (c, d, _) = matrix.tolist()
        across, down = math.hypot(a, c) * picture[0], math.hypot(b, d) * picture[1]
        return np.array([min(across, size[0]), min(down, size[1])], np.float32)

    def _mask(self, sample: Sample, hidden: BoolArray, matrix: FloatArray, size: tuple[int, int]) -> Array:
        """(H / 2, W / 2) uint8: 0 over ignored polygons and over `hidden` rows, 1 elsewhere."""
        mask = (np.ones if self.border == "counts" else np.zeros)((size[1] // 2, size[0] // 2), np.uint8)
        dark = [*sample.ignore, *uncovered(sample, hidden)]
        if not dark and self.border == "counts":
            return mask
        halved = geometry.compose(geometry.reduction_matrix(2), matrix)
        if self.border == "ignored":
            width, height = sample.size
            fill(mask, halved, geometry.box_corners(np.array([-0.5, -0.5, width - 0.5, height - 0.5])), 1)
        for polygon in dark:
            fill(mask, halved, polygon, 0)
        return mask


def fill(mask: Array, matrix: FloatArray, polygon: FloatArray, value: int) -> None:
    """Write `value` into the pixels of `mask` that a polygon (P, 2) covers once `matrix` has moved it."""
    moved = np.clip(geometry.apply(matrix, polygon.astype(np.float64)), -_FAR, _FAR)
    cv2.fillPoly(mask, [np.rint(moved * 2**_SUBPIXEL).astype(np.int32)], value, shift=_SUBPIXEL)


def uncovered(sample: Sample, hidden: BoolArray) -> FloatArray:
    """The boxes, as polygons (M, 4, 2), of the `hidden` rows (N,) that no ignored polygon of the sample stands for.

    A row's own polygon has a point in its box. A row whose area is next to nothing is hidden by others, who would be
    masked with it.
    """
    people = sample.people
    if people.boxes is None or not hidden.any():
        return np.zeros((0, 4, 2))
    boxes = people.boxes[hidden].astype(np.float64)
    areas = geometry.box_areas(boxes)
    seen = areas > 0
    if "area" in people.extra:
        seen &= np.asarray(people.extra["area"])[hidden] > HARDLY_SEEN * areas
    if sample.ignore:
        points = np.concatenate(sample.ignore)[None]  # (1, P, 2)
        inside = (points >= boxes[:, None, :2] - 1) & (points <= boxes[:, None, 2:] + 1)
        seen &= ~(inside[..., 0] & inside[..., 1]).any(axis=1)
    return geometry.box_corners(boxes[seen])


def _up(length: float, multiple: int) -> int:
    """The next multiple that is not below."""
    return math.ceil(length / multiple) * multiple
