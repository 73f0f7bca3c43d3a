"""From a backbone's maps to stages of heatmaps and tags. A stage's first channels are heatmaps, the next ones tags."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from posecli.nn.heads import HeatmapHead

BLOCKS = 4  # residual blocks behind HigherHRNet's deconvolution


class TagHead(nn.Module):
    """One stage of K heatmaps and K tags from the coarsest map: deconvolutions, then one convolution.

    Newell, Huang and Deng, Associative Embedding, NeurIPS 2017, on backbones of one resolution.
    """

    def __init__(self, in_channels: int, keypoints: int, deconv_filters: Sequence[int] = ()) -> None:
        super().__init__()
        layers = HeatmapHead(in_channels, 2 * keypoints, deconv_filters, [4] * len(deconv_filters))
        self.deconv_layers = layers.deconv_layers
        self.final_layer = layers.final_layer

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """[(B, 2 K, H, W)] at 2 ** deconvolutions times the resolution of the last of `features`."""
        return [self.final_layer(self.deconv_layers(features[-1]))]


class HigherHead(nn.Module):
    """K heatmaps and K tags at the map's resolution, then K finer heatmaps at twice of it.

    Cheng et al., HigherHRNet, CVPR 2020: the deconvolution sees the map and the first stage's outputs.
    """

    def __init__(self, in_channels: int, keypoints: int, filters: int = 32) -> None:
        super().__init__()
        first = HeatmapHead(in_channels, 2 * keypoints, (), ())
        finer = HeatmapHead(in_channels + 2 * keypoints, keypoints, [filters], [4])
        self.final_layers = nn.ModuleList([first.final_layer, finer.final_layer])
        blocks = (nn.Sequential(BasicBlock(filters, filters)) for _ in range(BLOCKS))
        self.deconv_layers = nn.ModuleList([nn.Sequential(finer.deconv_layers, *blocks)])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """[(B, 2 K, H, W), (B, K, 2 H, 2 W)] from the last of `features` (B, C, H, W)."""
        finest = features[-1]
        coarse: Tensor = self.final_layers[0](finest)
        finer: Tensor = self.deconv_layers[0](torch.cat([finest, coarse], dim=1))
        return [coarse, self.final_layers[1](finer)]


class StagesHead(nn.Module):
    """For networks that give all stages themselves, as the stacked hourglass does."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The same maps."""
        return list(features)
