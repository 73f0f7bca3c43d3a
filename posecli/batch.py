"""Examples stacked for the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posecli.types import Example, Sample


@dataclass(frozen=True)
class Batch:
    """B examples as tensors; pictures stay uint8 (B, H, W, 3) until the algorithm normalises them on the device."""

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    samples: tuple[Sample, ...]
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


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples of equal shapes."""
    return Batch(
        _stack([example.inputs for example in examples]),
        _stack([example.targets for example in examples]),
        tuple(example.sample for example in examples),
        torch.from_numpy(np.stack([example.undo for example in examples]).astype(np.float64)),
    )


def _stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
