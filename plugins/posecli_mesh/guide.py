"""Keypoints found on the way to a body: heatmaps of the features, and the places where they have their mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posecli.nn.precise import precise


class Guide(nn.Module):
    """A heatmap for each keypoint, learnt as the chances of its cells, and the mean place that they give.

    Means of heatmaps can be differentiated and are soon found (Sun et al., Integral Human Pose Regression, ECCV 2018);
    posture follows from places more easily than from features.
    """

    def __init__(self, maps: nn.Module, keypoints: int, sigma: float) -> None:
        """`maps` makes heatmaps (B, K, h, w) of a backbone's; `sigma` is the target's, in cells."""
        super().__init__()
        self.maps, self.keypoints, self.sigma = maps, keypoints, sigma

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, h, w) in float32 of a backbone's maps (B, C, H, W), from fine to coarse."""
        logits: Tensor = self.maps(features)
        return logits.float()

    @staticmethod
    @precise
    def places(logits: Tensor) -> Tensor:
        """Mean places (B, K, 2), x and y, from -1 at the left and upper edge of the input to 1 at the others."""
        chances = torch.softmax(logits.flatten(2), dim=2).view(logits.shape)
        across, down = (_cells(length, logits) for length in (logits.shape[-1], logits.shape[-2]))
        return torch.stack([chances.sum(dim=2) @ across, chances.sum(dim=3) @ down], dim=-1)

    @precise
    def loss(self, logits: Tensor, keypoints: Tensor, visible: Tensor, size: tuple[int, int]) -> Tensor:
        """The mean over B K keypoints of the cross entropy against Gaussians at `keypoints` (B, K, 2) in pixels of the
        input, `size` wide and high; 0 for those that are not `visible` (B, K) or not in the picture."""
        wide, high = size
        x, y = (
            _bell((keypoints[..., axis, None] + 0.5) / side * cells - 0.5, cells, self.sigma)
            for axis, side, cells in ((0, wide, logits.shape[-1]), (1, high, logits.shape[-2]))
        )
        limits = torch.tensor(size, device=keypoints.device)
        inside = ((keypoints > -0.5) & (keypoints < limits - 0.5)).all(dim=-1)
        product = ((logits @ x[..., None])[..., 0] * y).sum(dim=-1)
        errors = torch.logsumexp(logits.flatten(2), dim=2) - product
        return (errors * visible * inside).mean()


def _cells(length: int, like: Tensor) -> Tensor:
    """The centres of so many cells, from -1 to 1 from edge to edge."""
    return (2 * torch.arange(length, device=like.device, dtype=like.dtype) + 1) / length - 1


def _bell(middle: Tensor, cells: int, sigma: float) -> Tensor:
    """Gaussians (B, K, cells) of sum 1 around `middle` (B, K, 1), in cells."""
    offset = torch.arange(cells, device=middle.device, dtype=middle.dtype) - middle
    return torch.softmax(-(offset**2) / (2 * sigma**2), dim=-1)
