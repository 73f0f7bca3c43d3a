"""The only place where models of pairs of hands are put together from their configs."""

from __future__ import annotations

import functools
import math

from posecli.console import PosecliError
from posecli.nn.heads import map_head
from posecli.skeleton import Skeleton
from posecli_interhand.config import InterNetConfig
from posecli_interhand.heads import HANDS, JOINTS, HandHead
from posecli_interhand.model import InterHand
from posecli_interhand.transform import HandsTransform
from posecli_interhand.volume import DepthBins, Volume


def build_internet(config: InterNetConfig, skeleton: Skeleton) -> InterHand:
    """Raises PosecliError for a skeleton that is no pair of hands, and for sizes that do not divide."""
    if len(skeleton) != HANDS * JOINTS or skeleton.flip_index is None:
        raise PosecliError(
            f"interhand models look at pairs of hands, {HANDS * JOINTS} keypoints with flip pairs; skeleton "
            f"{skeleton.name!r} has {len(skeleton)}: use a top-down model for single hands"
        )
    width, height = config.input_size
    if width % config.stride or height % config.stride:
        raise PosecliError(f"model.input_size: {width}×{height} is no multiple of the stride {config.stride}")
    backbone = config.backbone.build()
    filters = [config.deconv_filters] * _doublings(backbone.strides[-1], config.stride)
    map_size = (width // config.stride, height // config.stride)
    transform = functools.partial(HandsTransform, skeleton, config.input_size, config.padding)
    maps = JOINTS * config.depth
    right, left = (map_head(backbone.channels, backbone.strides, maps, filters, config.pyramid) for _ in range(HANDS))
    return InterHand(
        backbone,
        HandHead(right, left, backbone.channels[-1], config.depth, config.root_bins, config.hidden),
        Volume(config.input_size, map_size, config.depth, config.depth_bound, config.sigma, config.peak),
        DepthBins(config.root_bins, config.root_bound),
        config.loss,
        skeleton,
        transform(config.augment),
        transform(None),
        decode=config.decode,
        flip_test=config.flip_test,
    )


def _doublings(coarsest: int, stride: int) -> int:
    """As many deconvolutions as double the backbone's coarsest map up to the volume."""
    doublings = math.log2(coarsest / stride)
    if doublings != int(doublings) or doublings < 0:
        raise PosecliError(f"model.stride: the backbone ends at stride {coarsest}, no doubling makes {stride}")
    return int(doublings)
