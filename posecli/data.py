"""From units to batches: which unit goes where, made in workers, the same whatever their number."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from posecli import distributed
from posecli.algorithm import Transform
from posecli.batch import Batch, Shapes, Stack, shapes
from posecli.console import PosecliError
from posecli.images import UnreadableImage, read_image, stop_early
from posecli.memory import keep_freed_memory
from posecli.sharing import Parcel, Ring
from posecli.transforms import Rows, StagedTransform
from posecli.types import Example, ImageArray, ImageSource, IntArray, Sample

AHEAD = 2  # batches that a worker makes before they are asked for
Key = tuple[int, int]
"""Epoch and unit: all that a worker is told, and all that the unit's randomness comes from, beside the seed."""


@dataclass(frozen=True)
class Fault:
    """Why a unit could not be made; `skippable` for pictures that cannot be read."""

    message: str
    skippable: bool


Made = tuple[list[Batch], list[Fault]]
"""The units that could be made, in batches of equal shapes, and what went wrong with the others."""
Sent = tuple[list[Parcel], list[Fault]]
"""The same as a worker sends it."""


class Order:
    """Which units make up which batch of which rank, epoch by epoch; a batch sampler.

    In training (`shuffle`) every rank gets the same number of batches, and the ranks' n-th batches together are the
    n-th batch that one process with the batch size of all would get. In evaluation each rank gets its own stretch of
    the units: none twice, none left out.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        groups: IntArray | None = None,  # (count,): units with equal numbers stay together
        drop_last: bool = False,
        accumulate: int = 1,  # the number of batches is a multiple of it where there are enough
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.groups = groups
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.skip = 0  # batches of this epoch that are already done
        self.batches = self._count_batches(drop_last, accumulate)

    def _count_batches(self, drop_last: bool, accumulate: int) -> int:
        if not self.shuffle:
            return math.ceil(len(self._own_stretch()) / self.batch_size)
        whole, rest = divmod(self.count, self.batch_size * self.world)
        batches = whole + (rest > 0 and not (drop_last and whole))
        return batches - batches % accumulate if batches > accumulate else batches

    def _own_stretch(self) -> range:
        return range(self.count * self.rank // self.world, self.count * (self.rank + 1) // self.world)

    def __len__(self) -> int:
        return self.batches - self.skip

    def __iter__(self) -> Iterator[list[Key]]:
        units = self.units()
        for batch in range(self.skip, self.batches):
            yield [(self.epoch, int(unit)) for unit in self._batch(units, batch)]

    def units(self) -> IntArray:
        """All units in the order of this epoch: of every rank in training, of this rank in evaluation."""
        if not self.shuffle:
            own = self._own_stretch()
            return np.arange(own.start, own.stop)
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.groups is None:
            return generator.permutation(self.count)
        _, group = np.unique(self.groups, return_inverse=True)
        places = generator.permutation(int(group.max()) + 1)
        return np.argsort(places[group], kind="stable")

    def _batch(self, units: IntArray, batch: int) -> IntArray:
        if not self.shuffle:
            return units[batch * self.batch_size : (batch + 1) * self.batch_size]
        together = self.batch_size * self.world
        chunk = units[batch * together : (batch + 1) * together]
        share = math.ceil(len(chunk) / self.world)
        # an incomplete batch begins again from its start, so that all ranks have equal shares of it
        return np.resize(chunk, share * self.world)[self.rank * share : (self.rank + 1) * share]


Finish = Callable[[Rows], Example]
"""What is left to do for a unit, once all is done but the pixels."""
Item = tuple[int, Example | Fault]
"""A unit's number, and what was made of it."""
Making = Generator[Item, Rows, None]
"""Items that come one by one, each made when the rows for it are sent."""


def unit_generator(seed: int, epoch: int, unit: int) -> np.random.Generator:
    """The randomness of a unit in an epoch, counted from 0."""
    return np.random.default_rng((seed, epoch, unit))


class UnitSource(TorchDataset[Item]):
    """Makes the network input of a unit. Everything random comes from (seed, epoch, unit), so any worker may do it."""

    def __init__(
        self,
        units: Sequence[Sample],
        transform: Transform,
        seed: int,
        *,
        share_decoding: bool,
        substitute: bool,
        keep: int = 0,
    ) -> None:
        """`keep` is how many bytes of pictures stay in memory for the next epoch."""
        self.units = units
        self.transform = transform
        self.seed = seed
        self.sample_index = sample_index(units) if share_decoding or keep else None
        self.substitute = substitute
        self._kept: dict[int, ImageArray] = {}  # pictures by the number of their sample
        self._room = keep
        self._decoded: tuple[int, ImageArray] | None = None  # the sample decoded last, and its picture

    def __getitem__(self, key: Key) -> Item:
        return key[1], self._finish(self._begin(key), {})

    def _begin(self, key: Key) -> Finish | Fault:
        epoch, unit = key
        try:
            sample, generator = self.units[unit], unit_generator(self.seed, epoch, unit)
            if self.sample_index is None or isinstance(sample.image, np.ndarray):
                return self._begin_transform(sample, generator)
            decode = functools.partial(self._decode, int(self.sample_index[unit]), sample.image)
            finish = self._begin_transform(dataclasses.replace(sample, image=decode), generator)
            return functools.partial(_with_source, finish, sample.image)
        except PosecliError as error:
            return _fault(error)

    def _begin_transform(self, sample: Sample, generator: np.random.Generator) -> Finish:
        if isinstance(self.transform, StagedTransform):
            return self.transform.begin(sample, generator).finish
        return lambda _: self.transform(sample, generator)

    def _finish(self, begun: Finish | Fault, rows: Rows) -> Example | Fault:
        if isinstance(begun, Fault):
            return begun
        try:
            return begun(rows)
        except PosecliError as error:
            return _fault(error)

    def _decode(self, index: int, image: ImageSource) -> ImageArray:
        if index in self._kept:
            return self._kept[index]
        if self._decoded is None or self._decoded[0] != index:
            self._decoded = None  # never two pictures at once
            self._decoded = (index, read_image(image))
            self._keep(*self._decoded)
        return self._decoded[1]

    def _keep(self, index: int, picture: ImageArray) -> None:
        """What was decoded first stays: an epoch goes through all pictures, so throwing out would not help."""
        if picture.nbytes <= self._room:
            self._room -= picture.nbytes
            self._kept[index] = picture

    def __getitems__(self, keys: list[Key]) -> Making:
        """The units of one batch, one by one; in training an unreadable one is followed by a substitute.

        What is sent in return are rows for the next one.
        """
        rows: Rows = {}
        for key, begun in [(key, self._begin(key)) for key in keys]:
            made = self._finish(begun, rows)
            rows = yield key[1], made
            if self.substitute and _is_skippable(made):
                rows = yield from self._substitutes(key, rows)

    def _substitutes(self, key: Key, rows: Rows, attempts: int = 100) -> Generator[Item, Rows, Rows]:
        """Units drawn at random, until one can be read.

        So batches keep their size on every rank: a rank without a batch would leave the others waiting.
        """
        for attempt in range(attempts):
            drawn = int(np.random.default_rng((self.seed, *key, attempt)).integers(len(self.units)))
            made = self._finish(self._begin((key[0], drawn)), rows)
            rows = yield drawn, made
            if not _is_skippable(made):
                break
        return rows


def _with_source(finish: Finish, image: ImageSource, rows: Rows) -> Example:
    """The finished example, whose sample has the picture's source."""
    example = finish(rows)
    return dataclasses.replace(example, sample=dataclasses.replace(example.sample, image=image))


def _fault(error: PosecliError) -> Fault:
    return Fault(str(error), skippable=isinstance(error, UnreadableImage))


def _is_skippable(made: Example | Fault) -> bool:
    return isinstance(made, Fault) and made.skippable


def sample_index(units: Sequence[Sample]) -> IntArray:
    """The sample that each unit was cut from, (U,); a unit that does not say is a sample of its own."""
    index: IntArray | None = getattr(units, "sample_index", None)
    return np.arange(len(units)) if index is None else np.asarray(index)


@dataclass(frozen=True)
class Gather:
    """Batches of units that come one by one, at most `capacity`; a worker stacks them in the ring and sends parcels."""

    capacity: int
    ring: Ring | None

    def __call__(self, items: Making) -> Made | Sent:
        if self.ring is not None:
            self.ring.begin()
        allocate = np.empty if self.ring is None else self.ring.allocate
        stacks: dict[Shapes, tuple[Stack, list[int]]] = {}
        faults = []
        item = next(items, None)
        while item is not None:
            unit, made = item
            rows: Rows = {}
            if isinstance(made, Fault):
                faults.append(made)
            else:
                key = shapes(made)
                if key not in stacks:
                    left = self.capacity - sum(len(units) for _, units in stacks.values())
                    stacks[key] = Stack(made, left, allocate), []
                stack, units = stacks[key]
                stack.add(made)
                units.append(unit)
                rows = stack.rows()
            try:
                item = items.send(rows)
            except StopIteration:
                item = None
        if self.ring is None:
            return [stack.batch() for stack, _ in stacks.values()], faults
        return [self.ring.pack(stack.batch(), units) for stack, units in stacks.values()], faults


def _start_worker(worker: int) -> None:
    """A worker computes on one thread and leaves stopping to the main process, which may be saving."""
    import cv2

    gc.freeze()  # what was garbage in the main process stays: a GPU's objects, freed here, would end the worker
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    if _mute_libraries():
        stop_early()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, _stop_later)


def _mute_libraries() -> bool:
    """Send what C libraries print on the standard error nowhere; Python's goes where it went. False if there is none.

    A picture that cannot be read is reported by the main process, in one line.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError):
        return False
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    sys.stderr = os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    return True


def _stop_later(number: int, frame: object) -> None:
    signal.alarm(20)  # a dying worker stops its main process at once: this is the time to save in


class Loader:
    """Batches of one rank, epoch by epoch. `skipped` lists the pictures that could not be read, each once."""

    def __init__(self, source: UnitSource, order: Order, workers: int, *, strict: bool, pin_memory: bool) -> None:
        self.order = order
        self._source = source
        self.strict = strict
        self.pin_memory = pin_memory
        self.skipped: list[str] = []
        forks = "fork" in multiprocessing.get_all_start_methods()
        self._ring = Ring(workers) if workers and forks else None
        self._batches: DataLoader[Any] = DataLoader(
            source,
            batch_sampler=order,
            num_workers=workers,
            collate_fn=Gather(order.batch_size, self._ring),  # type: ignore[arg-type]  # takes what __getitems__ gives
            prefetch_factor=AHEAD if workers else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(order.seed),  # else an epoch moves the global generator on
            persistent_workers=workers > 0 and order.shuffle,
            multiprocessing_context=("fork" if forks else "spawn") if workers else None,
        )

    def __len__(self) -> int:
        return self.order.batches

    @property
    def units(self) -> int:
        """How many units this rank makes of an epoch, those that cannot be read among them."""
        return self.order.batches * self.order.batch_size if self.order.shuffle else len(self.order.units())

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Which epoch comes next, and how many of its batches are left out because they are done."""
        self.order.epoch = epoch
        self.order.skip = skip

    def __iter__(self) -> Iterator[Batch]:
        for sent, faults in self._start():
            # out of the ring at once: the worker will write there again
            batches = [self._received(batch) for batch in sent]
            for fault in faults:
                self._note(fault)
            yield from batches

    def _received(self, sent: Batch | Parcel) -> Batch:
        if isinstance(sent, Parcel):
            assert self._ring is not None
            return self._ring.unpack(sent, self._source.units, self.pin_memory)
        return sent.pin_memory() if self.pin_memory else sent

    def _start(self) -> Iterator[Any]:
        with warnings.catch_warnings():
            # workers touch no lock that another thread of this process could hold
            warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
            return iter(self._batches)

    def _note(self, fault: Fault) -> None:
        if self.strict or not fault.skippable:
            raise (UnreadableImage if fault.skippable else PosecliError)(fault.message)
        if fault.message not in self.skipped:
            self.skipped.append(fault.message)


def unit_loader(
    units: Sequence[Sample],
    transform: Transform,
    *,
    batch_size: int,
    workers: int,
    seed: int = 0,
    shuffle: bool = False,
    share_decoding: bool = False,
    keep: int = 0,
    drop_last: bool = False,
    accumulate: int = 1,
    strict: bool = False,
    pin_memory: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Loader:
    """Batches of this rank's units. With `shuffle` they are for training, else each unit comes exactly once.

    workers: processes that make them, 0 for none of their own; never more than there are cores.
    share_decoding: a picture is decoded once for all of its units, which then follow each other.
    keep: bytes of pictures that each worker holds in memory, drawn or decoded at full scale, for the next epoch.
    drop_last: an incomplete last batch is left out, unless it is the only one.
    strict: an unreadable picture raises UnreadableImage instead of being skipped and listed.
    """
    order = Order(
        len(units),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        groups=sample_index(units) if share_decoding else None,
        drop_last=drop_last,
        accumulate=accumulate,
        rank=rank,
        world=world,
    )
    source = UnitSource(units, transform, seed, share_decoding=share_decoding, substitute=shuffle, keep=keep)
    return Loader(source, order, min(workers, distributed.cores()), strict=strict, pin_memory=pin_memory)
