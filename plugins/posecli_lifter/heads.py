"""Heads of lifting networks: features of each frame to 3D joints, in the units of the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posecli.nn.precise import precise


class TemporalHead(nn.Module):
    """A linear map of each frame's features: (B, D, T) -> (B, T, joints, 3); one joint is a trajectory."""

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.conv = nn.Conv1d(channels, joints * 3, 1)

    @precise
    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.conv(features).transpose(1, 2)
        return outputs.reshape(*outputs.shape[:2], self.joints, 3)


class MotionHead(nn.Module):
    """MotionBERT's: a bounded layer, then a linear map of each joint's features, (B, T, K, D) -> (B, T, K, 3)."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.pre_logits = nn.ModuleDict({"fc": nn.Linear(channels, embedding)})
        self.fc = nn.Linear(embedding, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self._last(torch.tanh(self.pre_logits["fc"](features)))

    @precise
    def _last(self, bounded: Tensor) -> Tensor:
        outputs: Tensor = self.fc(bounded)
        return outputs
