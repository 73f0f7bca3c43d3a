"""Losses of coordinates (B, K, D); weights are (B, K) or (B, K, D) and scale both sides, so 0 means no error.

Every loss is a scalar in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SmoothL1(nn.Module):
    """The mean of d^2 / 2 below 1 and |d| - 1/2 above, for differences d times their weights."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        difference = _difference(output, target, weights)
        return self.factor * nn.functional.smooth_l1_loss(difference, torch.zeros_like(difference))


class L1(nn.Module):
    """The mean of |d| for differences d times their weights."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.factor * _difference(output, target, weights).abs().mean()


class SquaredError(nn.Module):
    """The mean of d^2 for differences d times their weights."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.factor * (_difference(output, target, weights) ** 2).mean()


class Wing(nn.Module):
    """omega ln(1 + |d| / epsilon) below omega, |d| - C above; summed over keypoints and axes, mean over instances.

    Feng et al., "Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural Networks", CVPR 2018.
    `omega` and `epsilon` are in the units of the coordinates.
    """

    def __init__(self, omega: float = 10.0, epsilon: float = 2.0, factor: float = 1.0) -> None:
        super().__init__()
        self.omega = omega
        self.epsilon = epsilon
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        distance = _difference(output, target, weights).abs()
        offset = self.omega * (1 - math.log(1 + self.omega / self.epsilon))
        near = self.omega * torch.log1p(distance / self.epsilon)
        errors = torch.where(distance < self.omega, near, distance - offset)
        return self.factor * errors.sum(dim=(-2, -1)).mean()


def _difference(output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    difference = output.float() - target.float()
    if weights is None:
        return difference
    return difference * (weights if weights.ndim == difference.ndim else weights[..., None]).float()
