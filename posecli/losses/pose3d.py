"""Losses of 3D joints (B, ..., K, 3) in whatever unit; weights are (B, ..., K), or with a last axis of 1 or 3.

Every loss is a scalar in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class JointDistance(nn.Module):
    """The mean distance of joints, each difference times its weight: MPJPE as a loss.

    Weights of joints that are not known are 0; the mean is over all joints all the same.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.factor * _distances(output, target, weights).mean()


class MotionDistance(nn.Module):
    """What MotionBERT is trained by (Zhu et al., ICCV 2023): joints, joints of the best scale, and velocities.

    For poses (B, T, K, 3) in a sequence of T frames: the mean distance, `scale` times the mean distance after each
    pose was scaled to fit its target best, and `velocity` times the mean distance of the steps between frames.
    """

    def __init__(self, scale: float = 0.5, velocity: float = 20.0) -> None:
        super().__init__()
        self.scale = scale
        self.velocity = velocity

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        output, target = output.float(), target.float()
        total = _distances(output, target, weights).mean()
        total = total + self.scale * _distances(best_scale(output, target, weights) * output, target, weights).mean()
        if output.shape[1] > 1:
            both = None if weights is None else _spread(weights[:, 1:] * weights[:, :-1], output)
            total = total + self.velocity * _distances(output.diff(dim=1), target.diff(dim=1), both).mean()
        return total


class BoneLength(nn.Module):
    """The mean difference of bone lengths; a bone leads from a joint to its parent, a root is its own parent.

    Weights are those of the bones: of the joints at their ends that are no root.
    """

    def __init__(self, parents: Sequence[int], factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.parents = tuple(parents)
        self.bones = [joint for joint, parent in enumerate(parents) if joint != parent]

    def lengths(self, poses: Tensor) -> Tensor:
        """(..., K, 3) -> (..., bones)."""
        ends = [self.parents[joint] for joint in self.bones]
        return length((poses[..., self.bones, :] - poses[..., ends, :]).float())

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        difference = (self.lengths(output) - self.lengths(target)).flatten(0, -2)
        if weights is not None:
            weights = weights.flatten(0, -2)
            difference = difference * (weights if weights.shape[1] == len(self.bones) else weights[:, self.bones])
        return self.factor * difference.mean(dim=0).abs().mean()


def length(vectors: Tensor) -> Tensor:
    """Euclidean lengths (...) of vectors (..., D); at 0 their gradient is 0."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths


def best_scale(output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """The factor (..., 1, 1) by which each pose (..., K, 3) comes nearest to its target in squares."""
    counted = output if weights is None else output * _spread(weights, output)
    own = (counted * output).sum(dim=(-2, -1), keepdim=True)
    return (counted * target).sum(dim=(-2, -1), keepdim=True) / own.clamp(min=1e-12)


def _distances(output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    difference = output.float() - target.float()
    if weights is not None:
        difference = difference * _spread(weights, difference)
    return length(difference)


def _spread(weights: Tensor, values: Tensor) -> Tensor:
    return (weights if weights.ndim == values.ndim else weights[..., None]).float()
