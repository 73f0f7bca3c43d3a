"""The only place where top-down models are put together from their configs."""

from __future__ import annotations

import functools
import math

from torch import Tensor, nn

from posecli.codecs.codec import Codec
from posecli.codecs.heatmap import Heatmap
from posecli.codecs.regression import Regression
from posecli.codecs.simcc import SimCC
from posecli.console import PosecliError
from posecli.losses.heatmap import HardKeypointMSE, JointsMSE
from posecli.losses.regression import L1, SmoothL1, Wing
from posecli.losses.simcc import DiscreteKL
from posecli.nn.backbone import Backbone
from posecli.nn.heads import RegressionHead, SimCCHead, StackedHead, map_head
from posecli.skeleton import Skeleton
from posecli.transforms import CropTransform
from posecli_topdown.config import HeatmapConfig, RegressionConfig, SimCCConfig, TopDownConfig
from posecli_topdown.model import Loss, TopDown


def build_heatmap(config: HeatmapConfig, skeleton: Skeleton) -> TopDown:
    """A deconvolution head and Gaussian heatmaps."""
    backbone = config.backbone.build()
    codec = Heatmap(config.input_size, _map_size(config.input_size, config.stride), config.sigma, config.codec)
    loss = JointsMSE() if config.loss == "mse" else HardKeypointMSE(config.hard_keypoints)
    return _assemble(config, skeleton, backbone, _map_head(config, backbone, len(skeleton)), codec, loss)


def _map_head(config: HeatmapConfig, backbone: Backbone, keypoints: int) -> nn.Module:
    if not config.stacked:
        filters = _deconvolutions(backbone, config.stride, config.deconv_filters)
        return map_head(backbone.channels, backbone.strides, keypoints, filters, config.pyramid)
    if config.pyramid:
        raise PosecliError("model.stacked and model.pyramid are two ways to use all maps: choose one")
    if backbone.strides[0] != config.stride:
        raise PosecliError(
            f"model.stacked: heatmaps are as fine as the backbone's first map, at stride {backbone.strides[0]}, "
            f"and model.stride is {config.stride}"
        )
    return StackedHead(backbone.channels, keypoints)


def build_simcc(config: SimCCConfig, skeleton: Skeleton) -> TopDown:
    """A classification of x and one of y over each keypoint's map."""
    backbone = config.backbone.build()
    codec = SimCC(config.input_size, config.sigma, config.split_ratio)
    filters = _deconvolutions(backbone, config.stride, config.deconv_filters)
    map_size = _map_size(config.input_size, config.stride)
    (_, across), (_, down) = codec.output_shapes(len(skeleton))
    head = SimCCHead(backbone.channels[-1], len(skeleton), map_size, (across, down), filters, [4] * len(filters))
    return _assemble(config, skeleton, backbone, head, codec, DiscreteKL(average=True))


def build_regression(config: RegressionConfig, skeleton: Skeleton) -> TopDown:
    """Coordinates from the pooled features."""
    backbone = config.backbone.build()
    head = RegressionHead(backbone.channels[-1], len(skeleton))
    losses = {"smooth-l1": SmoothL1, "l1": L1, "wing": Wing}
    return _assemble(config, skeleton, backbone, head, Regression(config.input_size), losses[config.loss]())


def _assemble(
    config: TopDownConfig,
    skeleton: Skeleton,
    backbone: Backbone,
    head: nn.Module,
    codec: Codec[Tensor] | Codec[tuple[Tensor, Tensor]],
    loss: Loss,
) -> TopDown:
    unbiased = isinstance(codec, Heatmap) and codec.variant == "udp"
    crop = functools.partial(CropTransform, skeleton, config.input_size, config.padding, unbiased)
    return TopDown(
        backbone,
        head,
        codec,
        loss,
        skeleton,
        crop(config.augment),
        crop(None),
        flip_test=config.flip_test,
        keypoint_weights=config.keypoint_weights,
        score_mode=config.score,
        score_threshold=config.score_threshold,
        suppression=config.suppression,
    )


def _map_size(input_size: tuple[int, int], stride: int) -> tuple[int, int]:
    width, height = input_size
    if width % stride or height % stride:
        raise PosecliError(f"model.input_size: {width}×{height} is no multiple of the heatmap stride {stride}")
    return width // stride, height // stride


def _deconvolutions(backbone: Backbone, stride: int, filters: int) -> list[int]:
    """As many deconvolutions as double the backbone's coarsest map up to the heatmap."""
    doublings = math.log2(backbone.strides[-1] / stride)
    if doublings != int(doublings) or doublings < 0:
        raise PosecliError(
            f"model.stride: the backbone ends at stride {backbone.strides[-1]}, no doubling makes {stride}"
        )
    return [filters] * int(doublings)
