"""Heads: feature maps in, what a codec decodes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posecli.console import PosecliError
from posecli.nn.precise import precise


class HeatmapHead(nn.Module):
    """Deconvolutions that each double the resolution, then one convolution to a heatmap for each keypoint.

    Xiao et al., Simple Baselines for Human Pose Estimation and Tracking, ECCV 2018; without deconvolutions HRNet's.
    `final_kernel` 0 leaves out the last convolution, then the last deconvolution must give `keypoints` channels.
    """

    def __init__(
        self,
        in_channels: int,
        keypoints: int,
        deconv_filters: Sequence[int] = (256, 256, 256),
        kernels: Sequence[int] = (4, 4, 4),
        final_kernel: int = 1,
    ) -> None:
        super().__init__()
        if len(deconv_filters) != len(kernels):
            raise PosecliError(f"heatmap head: {len(deconv_filters)} deconvolutions but {len(kernels)} kernel sizes")
        layers: list[nn.Module] = []
        channels = in_channels
        for filters, kernel in zip(deconv_filters, kernels, strict=True):
            layers += [_deconvolution(channels, filters, kernel), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
            channels = filters
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer: nn.Module = nn.Identity()
        if final_kernel:
            self.final_layer = nn.Conv2d(channels, keypoints, final_kernel, padding=final_kernel // 2)
            _normal(self.final_layer, 0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Heatmaps (B, K, H, W) at 2 ** deconvolutions times the resolution of `features` (B, C, h, w)."""
        heatmaps: Tensor = self.final_layer(self.deconv_layers(features))
        return heatmaps


class PyramidHead(nn.Module):
    """Deconvolutions that each double the resolution and meet the backbone's own map there; then a heatmap a keypoint.

    Lin et al., Feature Pyramid Networks, CVPR 2017. From the coarsest map alone, places take far longer to learn.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], keypoints: int, deconv_filters: Sequence[int]
    ) -> None:
        """`channels` and `strides` are those of the backbone's maps, from fine to coarse."""
        super().__init__()
        places = {stride: place for place, stride in enumerate(strides)}
        self.sources = [places.get(strides[-1] >> step) for step in range(1, len(deconv_filters) + 1)]
        inputs = [channels[-1], *deconv_filters]
        self.doublings = nn.ModuleList(
            nn.Sequential(_deconvolution(before, filters, 4), nn.BatchNorm2d(filters))
            for before, filters in zip(inputs[:-1], deconv_filters, strict=True)
        )
        self.sides = nn.ModuleList(
            nn.Identity()
            if source is None
            else nn.Sequential(nn.Conv2d(channels[source], filters, 1, bias=False), nn.BatchNorm2d(filters))
            for source, filters in zip(self.sources, deconv_filters, strict=True)
        )
        self.final_layer = nn.Conv2d(inputs[-1], keypoints, 1)
        _normal(self.final_layer, 0.001)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Heatmaps (B, K, H, W) of a backbone's maps (B, C, h, w), from fine to coarse."""
        features = maps[-1]
        for doubling, side, source in zip(self.doublings, self.sides, self.sources, strict=True):
            features = doubling(features)
            features = F.relu(features if source is None else features + side(maps[source]))
        heatmaps: Tensor = self.final_layer(features)
        return heatmaps


class StackedHead(nn.Module):
    """All of the backbone's maps, enlarged to the finest and mixed by a 1×1 convolution; then a heatmap a keypoint.

    HRNetV2's: Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, TPAMI 2020.
    """

    def __init__(self, channels: Sequence[int], keypoints: int) -> None:
        """`channels` are those of the backbone's maps, from fine to coarse."""
        super().__init__()
        together = sum(channels)
        self.conv_layers = nn.Sequential(
            nn.Conv2d(together, together, 1), nn.BatchNorm2d(together), nn.ReLU(inplace=True)
        )
        self.final_layer = nn.Conv2d(together, keypoints, 1)
        for layer in (self.conv_layers[0], self.final_layer):
            _normal(layer, 0.001)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Heatmaps (B, K, H, W) of a backbone's maps (B, C, h, w), from fine to coarse."""
        size = maps[0].shape[-2:]
        enlarged = [F.interpolate(features, size, mode="bilinear", align_corners=False) for features in maps[1:]]
        heatmaps: Tensor = self.final_layer(self.conv_layers(torch.cat([maps[0], *enlarged], dim=1)))
        return heatmaps


def map_head(
    channels: Sequence[int], strides: Sequence[int], maps: int, deconv_filters: Sequence[int], pyramid: bool
) -> HeatmapHead | PyramidHead:
    """A head of `maps` maps on a backbone with those `channels` and `strides`: a pyramid, or on its coarsest map."""
    if pyramid:
        return PyramidHead(channels, strides, maps, deconv_filters)
    return HeatmapHead(channels[-1], maps, deconv_filters, [4] * len(deconv_filters))


def seen_by(head: nn.Module, maps: Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    """What a head on the backbone itself is given: all of its maps if it takes them, else the coarsest."""
    return maps if isinstance(head, PyramidHead | StackedHead) else maps[-1]


def _deconvolution(inputs: int, outputs: int, kernel: int) -> nn.ConvTranspose2d:
    """Doubles the resolution exactly, for kernels 2, 3 and 4."""
    if kernel not in (2, 3, 4):
        raise PosecliError(f"heatmap head: a deconvolution kernel is 2, 3 or 4, got {kernel}")
    padding, extra = {2: (0, 0), 3: (1, 1), 4: (1, 0)}[kernel]
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=padding, output_padding=extra, bias=False)
    nn.init.normal_(layer.weight, std=0.001)
    return layer


class SimCCHead(nn.Module):
    """Each keypoint's heatmap, flattened, is classified into bins of x and bins of y.

    Li et al., SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation, ECCV 2022.
    `map_size` is the (width, height) of the heatmaps, `bins` the number of bins along x and y.
    """

    def __init__(
        self,
        in_channels: int,
        keypoints: int,
        map_size: tuple[int, int],
        bins: tuple[int, int],
        deconv_filters: Sequence[int] = (256, 256, 256),
        kernels: Sequence[int] = (4, 4, 4),
        final_kernel: int = 1,
    ) -> None:
        super().__init__()
        self.deconv_head = HeatmapHead(in_channels, keypoints, deconv_filters, kernels, final_kernel)
        cells = map_size[0] * map_size[1]
        self.mlp_head_x = nn.Linear(cells, bins[0])
        self.mlp_head_y = nn.Linear(cells, bins[1])
        _normal(self.mlp_head_x, 0.01)
        _normal(self.mlp_head_y, 0.01)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits over the bins of x (B, K, X) and of y (B, K, Y)."""
        flat = self.deconv_head(features).flatten(2)  # (B, K, H * W)
        return self.mlp_head_x(flat), self.mlp_head_y(flat)


class RegressionHead(nn.Module):
    """The map's average, then one linear layer to coordinates: Toshev and Szegedy, DeepPose, CVPR 2014."""

    def __init__(self, in_channels: int, keypoints: int, values: int = 2) -> None:
        super().__init__()
        self.values = values
        self.fc = nn.Linear(in_channels, keypoints * values)
        _normal(self.fc, 0.01)

    @precise
    def forward(self, features: Tensor) -> Tensor:
        """(B, K, values): x and y as fractions of the input's width and height."""
        regressed: Tensor = self.fc(features.mean((2, 3)))
        return regressed.reshape(len(features), -1, self.values)


def _normal(layer: nn.Module, deviation: float) -> None:
    nn.init.normal_(layer.weight, std=deviation)  # type: ignore[arg-type]  # a convolution's or linear layer's tensors
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
