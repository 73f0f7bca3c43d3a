"""The loss of SimCC's vectors: Kullback-Leibler divergence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DiscreteKL(nn.Module):
    """Divergence of the softmax of predicted vectors from target vectors: mean over bins, summed over both axes.

    `beta` multiplies outputs before the softmax. With `label_softmax` targets go through a softmax too, multiplied by
    `label_beta` first. The result is averaged over keypoints and summed over instances, as the reference does, so it
    grows with the batch; with `average` it is averaged over instances too, as gradients accumulated over batches or
    over processes need it to equal those of one large batch.
    Li et al., ECCV 2022; beta = 10 with `label_softmax` is RTMPose's.
    """

    def __init__(
        self,
        beta: float = 1.0,
        label_softmax: bool = False,
        label_beta: float = 10.0,
        factor: float = 1.0,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.label_softmax = label_softmax
        self.label_beta = label_beta
        self.factor = factor
        self.average = average

    def forward(
        self, output: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 for (x, y) of (B, K, bins) each and weights (B, K)."""
        errors = self._divergence(output[0], target[0]) + self._divergence(output[1], target[1])  # (B, K)
        if weights is not None:
            errors = errors * weights.float()
        per_instance = errors.mean(dim=-1)
        return self.factor * (per_instance.mean() if self.average else per_instance.sum())

    def _divergence(self, vectors: Tensor, labels: Tensor) -> Tensor:
        logarithm = torch.log_softmax(self.beta * vectors.float(), dim=-1)
        goal = labels.float()
        if self.label_softmax:
            goal = torch.softmax(self.label_beta * goal, dim=-1)
        return nn.functional.kl_div(logarithm, goal, reduction="none").mean(dim=-1)  # (B, K)
