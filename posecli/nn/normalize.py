"""From uint8 pictures to what networks expect, on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, grey levels
IMAGENET_STD = (58.395, 57.12, 57.375)


class Normalize(nn.Module):
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32, (value - mean) / std, ImageNet's statistics by default."""

    channels_last = True  # memory format of the result; the input's own order, so it costs nothing
    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: tuple[float, float, float] = IMAGENET_MEAN, std: tuple[float, float, float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2)  # keeps the order in memory: channels last
        normalized = (pixels - self.mean) / self.std
        return normalized if self.channels_last else normalized.contiguous()
