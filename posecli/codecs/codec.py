"""What a codec is: how keypoints become training targets, and how a network's outputs become keypoints again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Size = tuple[int, int]
"""(width, height)."""

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, Tensor])
"""What a head gives: one tensor, or the pair (x, y) for SimCC."""


class Codec(ABC, Generic[Outputs]):
    """A pair of encode and decode for B instances of K keypoints; numbers only, no weights, any device, picklable.

    Frames: keypoints are pixels of the network's input, x right, y down, pixel centres at integers; every size is
    (width, height), every tensor is (..., height, width). Nothing here loops over instances or keypoints, nothing
    waits for the device, and all arithmetic is at least float32, also under autocast and for bf16 and fp16 outputs.
    """

    input_size: Size

    @abstractmethod
    def encode(self, keypoints: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """Targets of keypoints (B, K, 2) in input pixels with visibility (B, K).

        A keypoint is labelled where `visible` is at least 0.5 and both coordinates are finite; visibilities above 1
        count as 1. The dict holds float32 tensors: "weights" (B, K), the visibility, 0 where a keypoint is not
        labelled or lies too far outside, and the targets by names of the codec's own.
        """

    @abstractmethod
    def perfect(self, targets: dict[str, Tensor]) -> Outputs:
        """What `encode` returned, in the form of a head's outputs: what a loss compares outputs with.

        `decode(perfect(encode(keypoints, visible)))` gives the keypoints back, within the codec's resolution.
        """

    @abstractmethod
    def decode(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in input pixels and scores (B, K), float32, always finite."""

    @abstractmethod
    def flip(self, outputs: Outputs, flip_index: Tensor, shift: bool | None = None) -> Outputs:
        """Outputs for mirrored pictures, mirrored back: left and right swapped by `flip_index` (K,), then x reversed.

        `shift` moves the result to make up for the mirrored grid of cells, which does not fall on the grid; None
        does what is customary for this codec.
        """

    @abstractmethod
    def output_shapes(self, keypoints: int) -> tuple[tuple[int, ...], ...]:
        """The shape of each tensor a head must give for K keypoints, without the batch dimension."""

    def average(self, first: Outputs, second: Outputs) -> Outputs:
        """The mean of two outputs, as the flip test takes it."""
        if isinstance(first, tuple) and isinstance(second, tuple):
            return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
        return (first + second) / 2


def labelled(keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Keypoints (B, K, 2) float32 with zeros in place of NaN and infinities, and weights (B, K) float32 from 0 to 1."""
    known = torch.isfinite(keypoints).all(dim=-1)
    points = torch.where(known[..., None], keypoints, 0).float()
    weights = torch.where(known & (visible >= 0.5), visible, 0).float().clamp(max=1)
    return points, weights


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """A small tensor of the kind of `like`; the copy to its device does not wait for work queued there."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def finite(values: Tensor) -> Tensor:
    """`values` in float32 with 0, which is no evidence, in place of NaN and infinities."""
    return torch.nan_to_num(values.float(), nan=0.0, posinf=0.0, neginf=0.0)
