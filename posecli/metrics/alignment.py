"""Poses moved, scaled or turned onto true ones before their error is taken; all poses at once. numpy."""

from __future__ import annotations

import numpy as np

from posecli.metrics.config import Alignment
from posecli.types import BoolArray, FloatArray


def align(predicted: FloatArray, truth: FloatArray, known: BoolArray, alignment: Alignment) -> FloatArray:
    """The predicted poses (N, K, 3) laid onto the true ones by the keypoints that are `known` (N, K) of both.

    Keypoints that are not known are carried along; they change nothing.
    """
    if alignment == "none":
        return predicted
    if alignment == "scale":
        return predicted * best_scale(predicted, truth, known)[:, None, None]
    return similarity(predicted, truth, known)


def best_scale(predicted: FloatArray, truth: FloatArray, known: BoolArray) -> FloatArray:
    """The factors (N,) that bring poses (N, K, 3) nearest to the truth in squares; 0 for a pose of no extent.

    N-MPJPE's: Rhodin et al., Unsupervised Geometry-Aware Representation for 3D Human Pose Estimation, ECCV 2018.
    """
    ours, theirs = (np.where(known[..., None], points, 0.0) for points in (predicted, truth))
    squares = (ours * ours).sum(axis=(1, 2))
    products = (ours * theirs).sum(axis=(1, 2))
    return np.asarray(products / np.where(squares > 0, squares, 1.0))


def similarity(predicted: FloatArray, truth: FloatArray, known: BoolArray) -> FloatArray:
    """Poses (N, K, 3) moved, scaled and turned to be nearest to the truth in squares, by one SVD for all of them.

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 1991.
    """
    weights = known[..., None].astype(np.float64)  # (N, K, 1)
    counts = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    our_center, ours = _centered(predicted, weights, counts)
    their_center, theirs = _centered(truth, weights, counts)
    left, stretches, right = np.linalg.svd(np.einsum("nki,nkj->nij", ours, theirs))
    signs = np.ones_like(stretches)
    signs[:, 2] = np.sign(np.linalg.det(left @ right))  # the nearest turn, where a mirror image would be nearer
    rotations = np.swapaxes((left * signs[:, None]) @ right, 1, 2)
    squares = (ours**2).sum(axis=(1, 2))
    scales = (stretches * signs).sum(axis=1) / np.where(squares > 0, squares, 1.0)
    turned = np.einsum("nij,nkj->nki", rotations, predicted - our_center)
    return np.asarray(scales[:, None, None] * turned + their_center)


def _centered(points: FloatArray, weights: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The mean of the known points (N, 1, 3), and the points relative to it, 0 where unknown (N, K, 3)."""
    known = np.where(weights > 0, points, 0.0).astype(np.float64)
    center = known.sum(axis=1, keepdims=True) / counts
    return center, (known - center) * weights
