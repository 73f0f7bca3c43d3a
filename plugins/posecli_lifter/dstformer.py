"""DSTFormer, the network of MotionBERT (Zhu et al., ICCV 2023): attention over joints and frames, in both orders."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention of several heads: (N, L, D) -> (N, L, D)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj = nn.Linear(channels, channels)
        self.qkv = nn.Linear(channels, channels * 3)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = self.qkv(tokens).unflatten(2, (3, self.heads, -1))  # (N, L, 3, heads, D / heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class DualBlock(nn.Module):
    """Attention and a two-layer network over the joints of a frame, and the same over the frames of a joint."""

    def __init__(self, channels: int, heads: int, hidden: int, space_first: bool) -> None:
        super().__init__()
        self.space_first = space_first
        self.norm1_s, self.norm1_t, self.norm2_s, self.norm2_t = (nn.LayerNorm(channels, eps=1e-6) for _ in range(4))
        self.attn_s, self.attn_t = Attention(channels, heads), Attention(channels, heads)
        self.mlp_s, self.mlp_t = _mlp(channels, hidden), _mlp(channels, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, K, D) -> (B, T, K, D)."""
        return self._time(self._space(features)) if self.space_first else self._space(self._time(features))

    def _space(self, features: Tensor) -> Tensor:
        batch = features.shape[0]
        features = features + self.attn_s(self.norm1_s(features).flatten(0, 1)).unflatten(0, (batch, -1))
        return features + self.mlp_s(self.norm2_s(features))  # type: ignore[no-any-return]

    def _time(self, features: Tensor) -> Tensor:
        batch = features.shape[0]
        joints = self.norm1_t(features).transpose(1, 2).flatten(0, 1)  # (B K, T, D)
        features = features + self.attn_t(joints).unflatten(0, (batch, -1)).transpose(1, 2)
        return features + self.mlp_t(self.norm2_t(features))  # type: ignore[no-any-return]


def _mlp(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


class DSTFormer(nn.Module):
    """Features (B, T, K, D) of keypoints (B, T, K, C), T at most `frames`.

    Two streams of blocks, one with space first and one with time first; each depth weighs them by a softmax.
    """

    def __init__(
        self, inputs: int, joints: int, channels: int, depth: int, heads: int, mlp_ratio: float, frames: int
    ) -> None:
        super().__init__()
        self.channels = channels
        self.frames = frames
        self.before = self.after = 0  # a frame can be told without others
        self.joints_embed = nn.Linear(inputs, channels)
        self.temp_embed = nn.Parameter(torch.zeros(1, frames, 1, channels))
        self.spat_embed = nn.Parameter(torch.zeros(1, joints, channels))
        hidden = int(channels * mlp_ratio)
        self.blocks_st = nn.ModuleList(DualBlock(channels, heads, hidden, True) for _ in range(depth))
        self.blocks_ts = nn.ModuleList(DualBlock(channels, heads, hidden, False) for _ in range(depth))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.attn_regress = nn.ModuleList(nn.Linear(channels * 2, 2) for _ in range(depth))
        self._initialise()

    def _initialise(self) -> None:
        """Small random weights, and streams that begin with equal weight."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.temp_embed, std=0.02)
        nn.init.trunc_normal_(self.spat_embed, std=0.02)
        for mixing in self.attn_regress:
            assert isinstance(mixing, nn.Linear)
            nn.init.zeros_(mixing.weight)

    def forward(self, keypoints: Tensor) -> Tensor:
        features = self.joints_embed(keypoints) + self.spat_embed + self.temp_embed[:, : keypoints.shape[1]]
        for space_first, time_first, mixing in zip(self.blocks_st, self.blocks_ts, self.attn_regress, strict=True):
            one, other = space_first(features), time_first(features)
            share = mixing(torch.cat([one, other], dim=-1)).softmax(dim=-1)
            features = one * share[..., :1] + other * share[..., 1:]
        return self.norm(features)  # type: ignore[no-any-return]
