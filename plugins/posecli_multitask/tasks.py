"""What a head is asked for: its targets, its loss, and what its outputs mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from posecli.codecs.codec import Codec
from posecli.codecs.heatmap import Heatmap
from posecli.codecs.regression import Regression

Found = TypeVar("Found")


class Task(ABC, Generic[Found]):
    """The part of one head that has no weights. Outputs are what the head gives for B crops."""

    name: str
    weight: float

    @abstractmethod
    def loss(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The loss, not yet weighted, a scalar; targets as `MultiTaskTransform` makes them."""

    @abstractmethod
    def average(self, outputs: Tensor, mirrored: Tensor, flip_index: Tensor) -> Tensor:
        """The mean of outputs and of those for mirrored crops, mirrored back."""

    @abstractmethod
    def decode(self, outputs: Tensor) -> Found:
        """What was found."""


class KeypointTask(Task[tuple[Tensor, Tensor]]):
    """Keypoints (B, K, 2) in input pixels and their scores (B, K), by a codec."""

    def __init__(
        self,
        name: str,
        codec: Heatmap | Regression,
        loss: Callable[[Tensor, Tensor, Tensor], Tensor],
        weight: float = 1.0,
    ) -> None:
        self.name = name
        self.codec: Codec[Tensor] = codec
        self.error = loss
        self.weight = weight

    def loss(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        encoded = self.codec.encode(targets["keypoints"], targets["visible"])
        return self.error(outputs, self.codec.perfect(encoded), encoded["weights"])

    def average(self, outputs: Tensor, mirrored: Tensor, flip_index: Tensor) -> Tensor:
        return self.codec.average(outputs, self.codec.flip(mirrored, flip_index))

    def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.codec.decode(outputs)


class ClassTask(Task[Tensor]):
    """Probabilities (B, C) of classes; the loss is cross entropy over the people whose class is known."""

    def __init__(
        self, name: str, column: str, classes: Sequence[str], mirror: Sequence[int], weight: float = 1.0
    ) -> None:
        """`mirror` (C,) says which class each one is in a mirror."""
        self.name = name
        self.column = column
        self.classes = tuple(classes)
        self.mirror = list(mirror)
        self.weight = weight

    def loss(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The mean over all B, those of unknown class counting as no error."""
        truth = targets[self.name]  # (B,), -1 where unknown
        errors = F.cross_entropy(outputs.float(), truth.clamp(min=0), reduction="none")
        return (errors * (truth >= 0)).mean()

    def average(self, outputs: Tensor, mirrored: Tensor, flip_index: Tensor) -> Tensor:
        chances = self.decode(outputs) + self.decode(mirrored)[:, self.mirror]
        return (chances / 2).clamp(min=1e-12).log()

    def decode(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs.float(), dim=1)
