"""Necks, and the head of classes; the other heads are those of top-down models."""

from __future__ import annotations

from torch import Tensor, nn


class PoolNeck(nn.Module):
    """A map (B, C, H, W) to its average (B, C, 1, 1)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3), keepdim=True)


class ConvolutionNeck(nn.Sequential):
    """A map (B, C, H, W) to another one (B, `channels`, H, W)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )


class ClassHead(nn.Module):
    """The map's average, then one linear layer to logits of classes, or two."""

    def __init__(self, inputs: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        first = [nn.Linear(inputs, hidden), nn.ReLU(inplace=True)] if hidden else []
        self.fc = nn.Sequential(*first, nn.Linear(hidden or inputs, classes))

    def forward(self, features: Tensor) -> Tensor:
        """(B, classes)."""
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits
