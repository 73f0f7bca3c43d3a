"""What a backbone is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Pictures (B, 3, H, W), normalised float, in; feature maps out, from fine to coarse."""

    channels: tuple[int, ...]  # of each map that `forward` returns
    strides: tuple[int, ...]  # input pixels a feature cell of each map

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps; the i-th is (B, channels[i], H / strides[i], W / strides[i])."""
