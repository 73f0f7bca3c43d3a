"""InterNet (Moon et al., ECCV 2020), its heads: volumes of both hands' joints, root depth, which hands there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from posecli.nn.heads import HeatmapHead, PyramidHead, seen_by

HANDS = 2
JOINTS = 21  # of a hand; the right hand's come first


class HandOutputs(NamedTuple):
    """What the network says of B pictures."""

    volumes: Tensor  # (B, 42, D, H, W), right hand first; D voxels along the depth
    root: Tensor  # (B, 1) in bins of depth: where the left wrist lies behind the right one
    hand_type: Tensor  # (B, 2) logits of there being a right and a left hand


class HandHead(nn.Module):
    """Four heads side by side on a backbone's maps (B, C, h, w), from fine to coarse."""

    def __init__(
        self,
        right: HeatmapHead | PyramidHead,
        left: HeatmapHead | PyramidHead,
        channels: int,
        depth: int,
        root_bins: int,
        hidden: int,
    ) -> None:
        """`right` and `left` give JOINTS × `depth` maps each; `channels` are those of the coarsest map."""
        super().__init__()
        self.depth = depth
        self.right_hand_head = right
        self.left_hand_head = left
        self.root_head = DepthHead(channels, hidden, root_bins)
        self.hand_type_head = TypeHead(channels, hidden)

    def forward(self, maps: Sequence[Tensor]) -> HandOutputs:
        hands = (self.right_hand_head, self.left_hand_head)
        flat = torch.cat([head(seen_by(head, maps)) for head in hands], dim=1)  # (B, 42 D, H, W)
        pooled = maps[-1].mean((2, 3))
        volumes = flat.contiguous().view(len(flat), HANDS * JOINTS, self.depth, *flat.shape[2:])
        return HandOutputs(volumes, self.root_head(pooled), self.hand_type_head(pooled))


class DepthHead(nn.Module):
    """Pooled features (B, C) to a place along the bins (B, 1): the mean of a softmax over them."""

    bins: Tensor

    def __init__(self, channels: int, hidden: int, bins: int) -> None:
        super().__init__()
        self.fc = _two_layers(channels, hidden, bins)
        self.register_buffer("bins", torch.arange(bins, dtype=torch.float32), persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        chances = torch.softmax(self.fc(pooled).float(), dim=1)
        return (chances * self.bins).sum(dim=1, keepdim=True)


class TypeHead(nn.Module):
    """Pooled features (B, C) to logits (B, 2) of there being a right and a left hand."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc = _two_layers(channels, hidden, HANDS)

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.fc(pooled)
        return logits


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))
