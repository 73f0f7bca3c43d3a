"""Examples stacked for the device."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecli.types import Array, Example, Sample


@dataclass(frozen=True)
class Batch:
    """B examples as tensors; pictures stay uint8 (B, H, W, 3) until the algorithm normalises them on the device."""

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    samples: Sequence[Sample]  # some are made anew each time they are asked for
    undo: Tensor  # (B, 2, 3) float64: input pixels -> image pixels

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def ids(self) -> list[str]:
        """The samples' ids, for messages."""
        return [str(sample.id) for sample in self.samples]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; copies run beside the computation where the memory is pinned."""
        return Batch(
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()},
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.targets.items()},
            self.samples,
            self.undo,
        )

    def pin_memory(self) -> Batch:
        """Called by the DataLoader: page-locked tensors for quick copies to a GPU."""
        return Batch(
            {name: tensor.pin_memory() for name, tensor in self.inputs.items()},
            {name: tensor.pin_memory() for name, tensor in self.targets.items()},
            self.samples,
            self.undo,
        )


Allocate = Callable[[tuple[int, ...], np.dtype[Any]], Array]
"""Memory for an array of that shape and type, whatever it holds."""


Shapes = tuple[tuple[int, ...], ...]
"""The shapes of an example's arrays, which have the same names in all of them: whole pictures may have sizes of their
own."""
_shape = operator.attrgetter("shape")


def shapes(example: Example) -> Shapes:
    """What examples of one batch have in common."""
    return (*map(_shape, example.inputs.values()), *map(_shape, example.targets.values()))


def alike(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Places of examples with equal shapes, at most `size` together."""
    groups: dict[Shapes, list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault(shapes(example), []).append(place)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


class Stack:
    """Examples of equal shapes on their way to a batch, each copied when it comes, still in the processor's cache."""

    def __init__(self, first: Example, capacity: int, allocate: Allocate = np.empty) -> None:
        """Memory for `capacity` examples like the first, which is not added yet."""
        self._inputs = {name: _rows(array, capacity, allocate) for name, array in first.inputs.items()}
        self._targets = {name: _rows(array, capacity, allocate) for name, array in first.targets.items()}
        self._undo = allocate((capacity, 2, 3), np.dtype(np.float64))
        self._samples: list[Sample] = []
        self._next: dict[str, Array] = {}

    def rows(self) -> dict[str, Array]:
        """Where the inputs of the next example will be, by name; what is written there need not be copied."""
        row = len(self._samples)
        self._next = {name: array[row] for name, array in self._inputs.items()} if row < len(self._undo) else {}
        return self._next

    def add(self, example: Example) -> None:
        """Copy another example."""
        row = len(self._samples)
        for name, array in self._inputs.items():
            if example.inputs[name] is not self._next.get(name):
                array[row] = example.inputs[name]
        for name, array in self._targets.items():
            array[row] = example.targets[name]
        self._undo[row] = example.undo
        self._samples.append(example.sample)

    def batch(self) -> Batch:
        """All that were added."""
        count = len(self._samples)
        return Batch(
            {name: torch.from_numpy(array[:count]) for name, array in self._inputs.items()},
            {name: torch.from_numpy(array[:count]) for name, array in self._targets.items()},
            tuple(self._samples),
            torch.from_numpy(self._undo[:count]),
        )


def _rows(array: Array, count: int, allocate: Allocate) -> Array:
    first = np.asarray(array)
    return allocate((count, *first.shape), first.dtype)


def collate(examples: Sequence[Example]) -> Batch:
    """Examples of equal shapes as a batch."""
    stack = Stack(examples[0], len(examples))
    for example in examples:
        stack.add(example)
    return stack.batch()
