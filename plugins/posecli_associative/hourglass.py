"""The stacked hourglass of associative embedding: every stack predicts, and its prediction goes into the next one.

Newell, Huang and Deng, Associative Embedding, NeurIPS 2017. Modules carry the published names, so weights fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (256, 384, 512, 640, 768)  # from stride 4 down to stride 64
STRIDE = 64  # input sides are multiples of it


class Convolution(nn.Sequential):
    """A convolution, by default normalised and rectified."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, norm: bool = True, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=not norm)
        nn.init.normal_(self.conv.weight, std=0.001) if not norm else nn.init.kaiming_normal_(self.conv.weight)
        if norm:
            self.bn = nn.BatchNorm2d(outputs)
        if act:
            self.act = nn.ReLU(inplace=True)


class Hourglass(nn.Module):
    """Down through half resolutions and up again, with a bypass at each of them."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        here, below = channels[:2]
        self.up1 = Convolution(here, here, 3)
        self.low1 = Convolution(here, below, 3)
        self.low2 = Hourglass(channels[1:]) if len(channels) > 2 else Convolution(below, below, 3)
        self.low3 = Convolution(below, here, 3)

    def forward(self, features: Tensor) -> Tensor:
        """A map of the same shape."""
        low: Tensor = self.low3(self.low2(self.low1(F.max_pool2d(features, 2))))
        bypass: Tensor = self.up1(features)
        return bypass + F.interpolate(low, scale_factor=2.0)


class StackedHourglass(nn.Module):
    """Four stacks at stride 4, each with `outputs` channels of prediction."""

    def __init__(self, outputs: int, stacks: int = 4, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        width = channels[0]
        self.stem = nn.Sequential(
            Convolution(3, width // 4, 7, stride=2),
            Convolution(width // 4, width // 2, 3),
            nn.MaxPool2d(2),
            Convolution(width // 2, width // 2, 3),
            Convolution(width // 2, width, 3),
        )
        self.hourglass_modules = nn.ModuleList(
            nn.Sequential(Hourglass(channels), Convolution(width, width, 3), Convolution(width, width, 3))
            for _ in range(stacks)
        )
        self.out_convs = nn.ModuleList(Convolution(width, outputs, 1, norm=False, act=False) for _ in range(stacks))
        self.remap_out_convs = nn.ModuleList(Convolution(outputs, width, 1, act=False) for _ in range(stacks - 1))
        self.remap_feature_convs = nn.ModuleList(Convolution(width, width, 1, act=False) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The stacks' predictions, each (B, outputs, H / 4, W / 4), for pictures (B, 3, H, W)."""
        features = self.stem(images)
        predictions: list[Tensor] = []
        for stack, hourglass in enumerate(self.hourglass_modules):
            refined = hourglass(features)
            predictions.append(self.out_convs[stack](refined))
            if stack < len(self.remap_out_convs):
                remapped = self.remap_out_convs[stack](predictions[-1])
                features = features + remapped + self.remap_feature_convs[stack](refined)
        return predictions
