"""From a network's outputs to one set of heatmaps and tags a picture: flip test, stages and scales put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MapSize = tuple[int, int]
"""(height, width) in cells."""


@dataclass(frozen=True)
class Maps:
    """The heatmaps and tags of B pictures, stage by stage as the network gives them, coarse to fine."""

    heatmaps: list[Tensor]  # each (B, K, h, w)
    tags: list[Tensor]  # each (B, K, h, w), or (B, 1, h, w) where all keypoints share one map


def split_outputs(
    outputs: Sequence[Tensor], keypoints: int, with_heatmaps: Sequence[bool], with_tags: Sequence[bool]
) -> Maps:
    """Heatmaps and tags of outputs (B, C, h, w): a stage's first `keypoints` channels are heatmaps, the rest tags.

    A stage without heatmaps has tags only; a stage with neither is left out. One flag a stage.
    """
    heatmaps, tags = [], []
    for output, has_heatmaps, has_tags in zip(outputs, with_heatmaps, with_tags, strict=True):
        if has_heatmaps:
            heatmaps.append(output[:, :keypoints])
        if has_tags:
            tags.append(output[:, keypoints:] if has_heatmaps else output)
    return Maps(heatmaps, tags)


def aggregate(
    maps: Maps,
    flipped: Maps | None,
    flip_index: Tensor | None,
    size: MapSize | None = None,
    align_corners: bool = False,
) -> tuple[Tensor, Tensor]:
    """Heatmaps (B, K, H, W), the mean over stages and flips, and tags (B, K, H, W, L), one for each stage and flip.

    `flipped` are maps of mirrored pictures, as the network gave them; with them `flip_index` (K,) is needed. The maps
    are `size` large, by default as large as the last stage's heatmaps. Bilinear; `align_corners` is UDP's way, where
    pixels count between the centres of the corner cells. In float32, whatever the outputs' type.
    """
    size = size or (maps.heatmaps[-1].shape[-2], maps.heatmaps[-1].shape[-1])
    heatmaps = [stage.float() for stage in maps.heatmaps]
    tags = [stage.float() for stage in maps.tags]
    if flipped is not None:
        if flip_index is None:
            raise ValueError("maps of mirrored pictures need flip_index")
        mirrored = [mirror(stage.float(), flip_index) for stage in flipped.heatmaps]
        heatmaps = [(stage + other) / 2 for stage, other in zip(heatmaps, mirrored, strict=True)]
        tags += [mirror(stage.float(), flip_index) for stage in flipped.tags]
    mean = torch.stack([resize(stage, size, align_corners) for stage in heatmaps]).mean(dim=0)
    joints = mean.shape[1]
    layers = [resize(stage, size, align_corners).expand(-1, joints, -1, -1) for stage in tags]
    return mean, torch.stack(layers).permute(1, 2, 3, 4, 0)  # each layer in one piece


def aggregate_scales(heatmaps: Sequence[Tensor], align_corners: bool = False) -> Tensor:
    """The mean of heatmaps (B, K, h, w) of the same pictures at several scales, as large as the first of them.

    Tags are not averaged: those of scale 1 count alone.
    """
    if len(heatmaps) == 1:
        return heatmaps[0]
    size = heatmaps[0].shape[-2], heatmaps[0].shape[-1]
    return torch.stack([resize(scale, size, align_corners) for scale in heatmaps]).mean(dim=0)


def mirror(maps: Tensor, flip_index: Tensor) -> Tensor:
    """Maps (B, K, h, w) of mirrored pictures, mirrored back: columns reversed, left and right keypoints swapped.

    Maps that all keypoints share (B, 1, h, w) have nothing to swap.
    """
    return (maps if maps.shape[1] == 1 else maps[:, flip_index]).flip(-1)


def resize(maps: Tensor, size: MapSize, align_corners: bool) -> Tensor:
    """Maps (B, K, h, w) at another size, bilinear; as they are where they have it."""
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=align_corners)
