"""Boxes and affine maps, numpy only. Every crop of a picture is one (2, 3) matrix, made here.

A matrix maps points: `p' = matrix[:, :2] @ p + matrix[:, 2]`. Pixel centres lie at integers.
"""

from __future__ import annotations

import math

import numpy as np

from posecli.types import BoolArray, FloatArray

Pair = tuple[float, float]
"""x and y, or width and height: what is done for every training sample alone is done without arrays."""


def fit_aspect(scale: Pair, aspect: float) -> Pair:
    """Grow a width and height to the ratio `aspect` = width / height; neither side shrinks."""
    width, height = scale
    return max(width, height * aspect), max(height, width / aspect)


def box_center_scale(boxes: FloatArray, padding: float = 1.25) -> tuple[FloatArray, FloatArray]:
    """Centres (…, 2) and padded widths and heights (…, 2) of boxes (…, 4), in image pixels."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, (high - low) * padding


def crop_matrix(
    center: Pair,
    scale: Pair,
    size: tuple[int, int],
    rotation: float = 0.0,
    flip: bool = False,
    unbiased: bool = False,
) -> FloatArray:
    """The (2, 3) matrix from image pixels to the pixels of a crop.

    `center` and `scale` (width, height) say which rectangle of the image, in image pixels, fills the crop of `size`
    (width, height); `rotation` is in degrees, counter-clockwise as seen; `flip` mirrors left and right after that. The
    scale of both axes is that of the width. With `unbiased` (UDP, Huang et al., CVPR 2020) lengths are counted between
    pixel centres, size - 1, with one scale for each axis; without, size / scale, the convention of SimpleBaseline
    and HRNet.
    """
    width, height = size
    angle = math.radians(rotation)
    cosine, sine = math.cos(angle), math.sin(angle)
    if unbiased:
        across, down = (width - 1) / scale[0], (height - 1) / scale[1]
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    else:
        across = down = width / scale[0]
        middle_x, middle_y = width / 2, height / 2
    a, b, c, d = across * cosine, across * sine, -down * sine, down * cosine
    x, y = middle_x - a * center[0] - b * center[1], middle_y - c * center[0] - d * center[1]
    if flip:
        a, b, x = -a, -b, width - 1 - x
    return np.array([[a, b, x], [c, d, y]], dtype=np.float64)


def invert(matrix: FloatArray) -> FloatArray:
    """The inverse of an affine map (2, 3). Raises ZeroDivisionError for one that flattens the plane."""
    a, b, x, c, d, y = matrix.ravel().tolist()
    scale = 1 / (a * d - b * c)
    p, q, r, s = d * scale, -b * scale, -c * scale, a * scale
    return np.array([[p, q, -p * x - q * y], [r, s, -r * x - s * y]])


def compose(second: FloatArray, first: FloatArray) -> FloatArray:
    """The affine map that does `first`, then `second`; both (2, 3)."""
    return np.concatenate([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2:] + second[:, 2:]], axis=1)


def apply(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Map points (…, 2) by one matrix (2, 3); NaN stays NaN."""
    mapped: FloatArray = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def is_mirrored(matrix: FloatArray) -> bool:
    """Whether an affine map (2, 3) makes a mirror image."""
    (a, b), (c, d) = matrix[:, :2].tolist()
    return bool(a * d < b * c)


def reduction_matrix(factor: int) -> FloatArray:
    """From full-size pixels to those of the same picture decoded at 1 / factor."""
    offset = 0.5 / factor - 0.5
    return np.array([[1 / factor, 0, offset], [0, 1 / factor, offset]])


def keypoint_boxes(keypoints: FloatArray) -> FloatArray:
    """Tight boxes (N, 4) around the finite keypoints (N, K, 2); rows without any are all zero."""
    finite = np.isfinite(keypoints).all(axis=-1, keepdims=True)
    low = np.where(finite, keypoints, np.inf).min(axis=1)
    high = np.where(finite, keypoints, -np.inf).max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0.0)


def box_corners(boxes: FloatArray) -> FloatArray:
    """The corners (…, 4, 2) of boxes (…, 4), in order around them."""
    return boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:-1], 4, 2)


def scale_boxes(boxes: FloatArray, factor: float) -> FloatArray:
    """Boxes (…, 4) grown around their centres."""
    center, scale = box_center_scale(boxes, factor)
    return np.concatenate([center - scale / 2, center + scale / 2], axis=-1)


def box_areas(boxes: FloatArray) -> FloatArray:
    """Width × height of boxes (…, 4), never negative."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def has_area(boxes: FloatArray) -> BoolArray:
    """Which boxes (…, 4) something can be cut out by: the others are flat, turned over or unknown."""
    return np.asarray((boxes[..., 2:] > boxes[..., :2]).all(axis=-1))


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union of every pair, (N, M), of boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    overlap = sides[..., 0] * sides[..., 1]
    union = box_areas(first)[:, None] + box_areas(second)[None] - overlap
    return np.asarray(np.where(union > 0, overlap / np.maximum(union, 1e-12), 0.0))
