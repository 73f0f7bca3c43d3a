"""Batches from workers without copies: arrays are stacked straight into shared memory that is used again and again.

torch's own way is a new shared file for each tensor: made, filled, handed over and mapped once more. Filling memory for
the first time costs more than the copy itself, and some containers allow only little of such shared files.
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from posecli.batch import Batch
from posecli.types import Array, Chosen, Sample

SLOT_BYTES = 256 << 20
"""Reserved for all that a worker sends at once; only what is written takes memory. What is larger goes torch's way."""
SLOTS = 4
"""A worker's slots: two batches are made ahead, one is read, and one more for good measure."""
PAGE = 4096


@dataclass(frozen=True)
class Place:
    """An array in a slot."""

    worker: int
    slot: int
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Parcel:
    """A batch on its way: places instead of tensors, or the tensors that found no place; numbers instead of samples."""

    inputs: dict[str, Place | Tensor]
    targets: dict[str, Place | Tensor]
    units: tuple[int, ...]
    undo: Place | Tensor


class Ring:
    """Every worker's slots, written in turn. Made before the workers are forked, so that all see the same memory.

    A slot's content must be read before the worker's next batch but one is asked for.
    """

    def __init__(self, workers: int) -> None:
        self.slots = [[mmap.mmap(-1, SLOT_BYTES) for _ in range(SLOTS)] for _ in range(workers)]
        self.turn = 0  # of this process, a worker
        self.filled = 0  # bytes of the slot in turn
        self.places: dict[int, Place] = {}  # by the address of the array's first byte

    def begin(self) -> None:
        """Go on to the worker's next slot."""
        self.turn = (self.turn + 1) % SLOTS
        self.filled = 0
        self.places = {}

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array in the slot in turn, or in memory of its own when the slot is full."""
        worker = get_worker_info()
        assert worker is not None
        count = int(np.prod(shape))
        start, length = self.filled, count * dtype.itemsize
        if start + length > SLOT_BYTES or not length:
            return np.empty(shape, dtype)
        self.filled = -(-(start + length) // PAGE) * PAGE
        array = self._view(Place(worker.id, self.turn, start, shape, dtype.str))
        self.places[array.ctypes.data] = Place(worker.id, self.turn, start, shape, dtype.str)
        return array

    def pack(self, batch: Batch, units: Sequence[int]) -> Parcel:
        """What is sent instead of a batch of these units, whose arrays were allocated here."""
        return Parcel(
            {name: self._place(tensor) for name, tensor in batch.inputs.items()},
            {name: self._place(tensor) for name, tensor in batch.targets.items()},
            tuple(units),
            self._place(batch.undo),
        )

    def unpack(self, parcel: Parcel, units: Sequence[Sample], pinned: bool = False) -> Batch:
        """The batch, copied out of the slot, page-locked if `pinned`; its samples are taken from all units."""
        return Batch(
            {name: self._tensor(place, pinned) for name, place in parcel.inputs.items()},
            {name: self._tensor(place, pinned) for name, place in parcel.targets.items()},
            Chosen(units, np.array(parcel.units)),
            self._tensor(parcel.undo),
        )

    def _view(self, place: Place) -> Array:
        slot = self.slots[place.worker][place.slot]
        count = int(np.prod(place.shape))
        return np.frombuffer(slot, place.dtype, count, place.offset).reshape(place.shape)

    def _place(self, tensor: Tensor) -> Place | Tensor:
        """Where a tensor is in its slot, or a copy of one that found no place: torch would send all of its memory."""
        place = self.places.get(tensor.data_ptr())
        return tensor.clone() if place is None else dataclasses.replace(place, shape=tuple(tensor.shape))

    def _tensor(self, place: Place | Tensor, pinned: bool = False) -> Tensor:
        if isinstance(place, Tensor):
            return place.pin_memory() if pinned else place
        view = torch.from_numpy(self._view(place))
        return torch.empty(view.shape, dtype=view.dtype, pin_memory=pinned).copy_(view)
