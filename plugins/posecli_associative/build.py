"""The only place where associative-embedding models are put together from their configs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from torch import nn

from posecli.console import PosecliError
from posecli.nn.backbone import Backbone
from posecli.skeleton import Skeleton
from posecli_associative.config import AssociativeConfig, HigherConfig, HourglassConfig, TagsConfig
from posecli_associative.heads import HigherHead, StagesHead, TagHead
from posecli_associative.hourglass import StackedHourglass
from posecli_associative.losses import StageLoss
from posecli_associative.model import Associative, Stage
from posecli_associative.transform import SceneTransform


def build_tags(config: TagsConfig, skeleton: Skeleton) -> Associative:
    """One stage of heatmaps and tags."""
    backbone = config.backbone.build()
    filters = [config.deconv_filters] * _doublings(backbone, config.stride)
    head = TagHead(backbone.channels[-1], len(skeleton), filters)
    return _assemble(config, skeleton, backbone, head, [Stage()])


def build_higher(config: HigherConfig, skeleton: Skeleton) -> Associative:
    """A stage of heatmaps and tags, then one of finer heatmaps."""
    backbone = config.backbone.build()
    head = HigherHead(backbone.channels[-1], len(skeleton), config.deconv_filters or backbone.channels[-1])
    return _assemble(config, skeleton, backbone, head, [Stage(), Stage(tags=False)])


def build_hourglass(config: HourglassConfig, skeleton: Skeleton) -> Associative:
    """A stage of heatmaps and tags for each stack, of which the last is decoded."""
    network = StackedHourglass(2 * len(skeleton), config.stacks, config.channels)
    stages = [Stage(decoded=stack == config.stacks - 1) for stack in range(config.stacks)]
    return _assemble(config, skeleton, network, StagesHead(), stages, config.multiple)


def _assemble(
    config: AssociativeConfig,
    skeleton: Skeleton,
    backbone: nn.Module,
    head: nn.Module,
    stages: Sequence[Stage],
    multiple: int = 1,
) -> Associative:
    """`multiple`: what the sides of every input are multiples of."""
    scene = functools.partial(
        SceneTransform,
        skeleton,
        config.input_size,
        max_people=config.max_people,
        unbiased=config.codec == "udp",
        scales=config.scales,
        border=config.border,
        multiple=multiple,
    )
    loss, count = config.loss, len(stages)
    heatmap, pull, push = (_each(name, getattr(loss, name), count) for name in ("heatmap", "pull", "push"))
    losses = [
        StageLoss(heatmap[stage], pull[stage], push[stage], loss.push_kind, loss.supervise_empty, loss.foreground)
        for stage in range(count)
    ]
    return Associative(
        backbone,
        head,
        stages,
        losses,
        skeleton,
        scene(augmentation=config.augment),
        scene(augmentation=None),
        unbiased=config.codec == "udp",
        cells=config.cells,
        sigma=config.sigma,
        max_people=config.max_people,
        flip_test=config.flip_test,
        settings=config.decode,
    )


def _each(name: str, weights: tuple[float, ...], stages: int) -> Sequence[float]:
    """A weight for every stage."""
    if len(weights) not in (1, stages):
        raise PosecliError(f"model.loss.{name}: {len(weights)} weights, give one or as many as stages, {stages}")
    return weights * stages if len(weights) == 1 else weights


def _doublings(backbone: Backbone, stride: int) -> int:
    """How many deconvolutions make the backbone's coarsest map as fine as the heatmaps."""
    doublings = math.log2(backbone.strides[-1] / stride)
    if doublings != int(doublings) or doublings < 0:
        raise PosecliError(
            f"model.stride: the backbone ends at stride {backbone.strides[-1]}, no doubling makes {stride}"
        )
    return int(doublings)
