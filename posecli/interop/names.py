"""What MMPose calls the tensors of its networks, and what posecli calls the same ones. Data, one table a network.

A table is a list of (their prefix, our prefix). The longest fitting prefix is replaced; names without one stay as they
are, which holds for ResNet, ResNeXt, HRNet and the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from posecli.config import BackboneConfig
from posecli.nn.config import MobileNetV2Config, VGGConfig

Prefixes = list[tuple[str, str]]

OLDER: Prefixes = [("keypoint_head.", "head.")]  # MMPose 0.x -> 1.x
IGNORED = ("data_preprocessor.", "ema_")  # normalisation constants; averaged copies that 0.x keeps beside the weights
UNCOUNTED = "num_batches_tracked"  # of normalisation layers; old checkpoints lack it and nothing here uses it


def mobilenet_v2_prefixes(_: BackboneConfig) -> Prefixes:
    """MMPose counts blocks by stage and names both parts of a step; torchvision counts through and numbers them."""
    prefixes = _step("conv1", "features.0")
    block = 1
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), start=1):
        for position in range(blocks):
            theirs, ours = f"layer{stage}.{position}.conv", f"features.{block}.conv"
            last = 1 if stage == 1 else 2  # the first block has no widening step
            for step in range(last):
                prefixes += _step(f"{theirs}.{step}", f"{ours}.{step}")
            prefixes += [(f"{theirs}.{last}.conv.", f"{ours}.{last}."), (f"{theirs}.{last}.bn.", f"{ours}.{last + 1}.")]
            block += 1
    return prefixes + _step("conv2", f"features.{block}")


def _step(theirs: str, ours: str) -> Prefixes:
    return [(f"{theirs}.conv.", f"{ours}.0."), (f"{theirs}.bn.", f"{ours}.1.")]


def vgg_prefixes(config: BackboneConfig) -> Prefixes:
    """MMPose counts convolutions and poolings, torchvision also normalisations and rectifiers."""
    assert isinstance(config, VGGConfig)
    stages = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[config.depth]
    prefixes: Prefixes = []
    theirs = ours = 0
    for convolutions in stages:
        for _ in range(convolutions):
            prefixes.append((f"features.{theirs}.conv.", f"features.{ours}."))
            if config.batch_norm:
                prefixes.append((f"features.{theirs}.bn.", f"features.{ours + 1}."))
            theirs, ours = theirs + 1, ours + (3 if config.batch_norm else 2)
        theirs, ours = theirs + 1, ours + 1  # the pooling
    return prefixes


BACKBONES: dict[str, Callable[[BackboneConfig], Prefixes]] = {
    MobileNetV2Config.name: mobilenet_v2_prefixes,
    VGGConfig.name: vgg_prefixes,
}


def our_names(
    names: Iterable[str], backbone: BackboneConfig | None, more: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """Their name -> ours, for every name, in order; `more` are prefixes of the model's own."""
    table = [] if backbone is None or backbone.name not in BACKBONES else BACKBONES[backbone.name](backbone)
    prefixes = [*more, *OLDER, *((f"backbone.{theirs}", f"backbone.{ours}") for theirs, ours in table)]
    prefixes.sort(key=lambda pair: -len(pair[0]))
    return {name: _renamed(name, prefixes) for name in names}


def _renamed(name: str, prefixes: Prefixes) -> str:
    for theirs, ours in prefixes:
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return name
