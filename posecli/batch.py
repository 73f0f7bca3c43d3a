"""Examples stacked for the device."""

from __future__ import annotations

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


def collate(examples: Sequence[Example], allocate: Allocate = np.empty) -> Batch:
    """Stack examples of equal shapes, into memory that `allocate` gives."""
    undo = [np.asarray(example.undo, np.float64) for example in examples]
    return Batch(
        _stack_each([example.inputs for example in examples], allocate),
        _stack_each([example.targets for example in examples], allocate),
        tuple(example.sample for example in examples),
        _stack(undo, allocate),
    )


def _stack_each(rows: Sequence[dict[str, Array]], allocate: Allocate) -> dict[str, Tensor]:
    return {name: _stack([row[name] for row in rows], allocate) for name in rows[0]}


def _stack(arrays: Sequence[Array], allocate: Allocate) -> Tensor:
    first = np.asarray(arrays[0])
    return torch.from_numpy(np.stack(arrays, out=allocate((len(arrays), *first.shape), first.dtype)))


def alike(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Places of examples with equal shapes, at most `size` together: whole pictures may have sizes of their own."""
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
    for place, example in enumerate(examples):
        shapes = [(name, array.shape) for name, array in (example.inputs | example.targets).items()]
        groups.setdefault(tuple(shapes), []).append(place)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]
