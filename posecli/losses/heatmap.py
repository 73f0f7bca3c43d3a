"""Losses of maps: squared error with visibility weights, also of the hardest keypoints only."""

from __future__ import annotations

from torch import Tensor, nn


def squared_error(output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over all B K H W cells of weight times squared difference, a scalar in float32.

    Maps are (B, K, H, W), weights (B, K); without weights every keypoint counts 1. A keypoint of weight 0 counts as
    no error, so that a batch with few visible keypoints gives a small loss (Xiao et al., ECCV 2018).
    """
    error = (output.float() - target.float()) ** 2
    return error.mean() if weights is None else (error.mean(dim=(-2, -1)) * weights.float()).mean()


class JointsMSE(nn.Module):
    """`squared_error` times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.factor * squared_error(output, target, weights)


class HardKeypointMSE(nn.Module):
    """Online hard keypoint mining: of each instance only the `top` keypoints with the largest error count.

    Chen et al., "Cascaded Pyramid Network for Multi-Person Pose Estimation", CVPR 2018.
    """

    def __init__(self, top: int = 8, factor: float = 1.0) -> None:
        super().__init__()
        self.top = top
        self.factor = factor

    def forward(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over instances and their hardest keypoints of the mean squared error of maps (B, K, H, W).

        Weights (B, K) scale both maps, so they count squared, as in the reference.
        """
        errors = ((output.float() - target.float()) ** 2).mean(dim=(-2, -1))  # (B, K)
        if weights is not None:
            errors = errors * weights.float() ** 2
        return self.factor * errors.topk(min(self.top, errors.shape[1]), dim=1).values.mean()
