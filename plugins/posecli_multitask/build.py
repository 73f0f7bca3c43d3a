"""The only place where models of several tasks are put together from their configs."""

from __future__ import annotations

import functools
import math

from torch import nn

from posecli.codecs.heatmap import Heatmap
from posecli.codecs.regression import Regression
from posecli.console import PosecliError
from posecli.losses.heatmap import JointsMSE
from posecli.losses.regression import L1, SmoothL1, Wing
from posecli.nn.heads import RegressionHead, map_head
from posecli.skeleton import Skeleton
from posecli.transforms import CropTransform
from posecli_multitask import config as configs
from posecli_multitask.config import MultiTaskConfig, NeckConfig
from posecli_multitask.model import MultiTask, Network
from posecli_multitask.networks import ClassHead, ConvolutionNeck, PoolNeck
from posecli_multitask.tasks import ClassTask, KeypointTask
from posecli_multitask.transform import ClassColumn, MultiTaskTransform


def build_multitask(config: MultiTaskConfig, skeleton: Skeleton) -> MultiTask:
    """Raises PosecliError where a head does not fit onto its neck."""
    backbone = config.backbone.build()
    channels = backbone.channels[-1]
    heads: dict[str, nn.Module] = {}
    tasks: list[KeypointTask | ClassTask] = []
    for name, fields in config.heads.items():
        neck = None if fields.neck is None else config.necks[fields.neck]
        inputs = neck.channels if neck is not None and neck.kind == "convolution" else channels
        if isinstance(fields, configs.ClassTask):
            heads[name] = ClassHead(inputs, len(fields.classes), fields.hidden)
            tasks.append(ClassTask(name, fields.column, fields.classes, mirror_of(fields), fields.weight))
        elif isinstance(fields, configs.RegressionTask):
            heads[name] = RegressionHead(inputs, len(skeleton))
            tasks.append(_regression(name, fields, config))
        else:
            _check_map(name, neck)
            filters = _deconvolutions(name, backbone.strides[-1], fields)
            seen = (*backbone.channels[:-1], inputs)
            heads[name] = map_head(seen, backbone.strides, len(skeleton), filters, fields.pyramid)
            tasks.append(_heatmap(name, fields, config))
    network = Network(
        backbone,
        nn.ModuleDict({name: _neck(neck, channels) for name, neck in config.necks.items()}),
        nn.ModuleDict(heads),
        {name: fields.neck for name, fields in config.heads.items()},
    )
    columns = tuple(ClassColumn(t.name, t.column, tuple(t.mirror)) for t in tasks if isinstance(t, ClassTask))
    crop = functools.partial(CropTransform, skeleton, config.input_size, config.padding, _is_unbiased(config))
    return MultiTask(
        network,
        tasks,
        config.main or "",
        skeleton,
        MultiTaskTransform(crop(config.augment), columns),
        MultiTaskTransform(crop(None), columns),
        flip_test=config.flip_test,
    )


def mirror_of(fields: configs.ClassTask) -> list[int]:
    """Which class each one is in a mirror, (C,)."""
    swap = {name: other for pair in fields.mirrored for name, other in (pair, pair[::-1])}
    return [fields.classes.index(swap.get(name, name)) for name in fields.classes]


def _neck(neck: NeckConfig, channels: int) -> nn.Module:
    return PoolNeck() if neck.kind == "pool" else ConvolutionNeck(channels, neck.channels)


def _regression(name: str, fields: configs.RegressionTask, config: MultiTaskConfig) -> KeypointTask:
    losses = {"smooth-l1": SmoothL1, "l1": L1, "wing": Wing}
    return KeypointTask(name, Regression(config.input_size), losses[fields.loss](), fields.weight)


def _heatmap(name: str, fields: configs.HeatmapTask, config: MultiTaskConfig) -> KeypointTask:
    width, height = config.input_size
    if width % fields.stride or height % fields.stride:
        raise PosecliError(f"model.input_size: {width}×{height} is no multiple of the stride of heads.{name}")
    codec = Heatmap(config.input_size, (width // fields.stride, height // fields.stride), fields.sigma, fields.codec)
    return KeypointTask(name, codec, JointsMSE(), fields.weight)


def _check_map(name: str, neck: NeckConfig | None) -> None:
    if neck is not None and neck.kind == "pool":
        raise PosecliError(f"model.heads.{name}.neck: heatmaps need a map, after pooling there is none")


def _deconvolutions(name: str, coarsest: int, fields: configs.HeatmapTask) -> list[int]:
    """As many deconvolutions as double the backbone's coarsest map up to the heatmap."""
    doublings = math.log2(coarsest / fields.stride)
    if doublings != int(doublings) or doublings < 0:
        raise PosecliError(
            f"model.heads.{name}.stride: the backbone ends at stride {coarsest}, no doubling makes {fields.stride}"
        )
    return [fields.deconv_filters] * int(doublings)


def _is_unbiased(config: MultiTaskConfig) -> bool:
    """Whether crops are cut out UDP's way. Raises PosecliError where heads do not agree."""
    codecs = [fields.codec for fields in config.heads.values() if isinstance(fields, configs.HeatmapTask)]
    if "udp" in codecs and set(codecs) != {"udp"}:
        raise PosecliError("model.heads: the codec udp needs crops of its own; use it for all heatmaps or for none")
    return "udp" in codecs
