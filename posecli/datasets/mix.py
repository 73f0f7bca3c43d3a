"""Several datasets as one, in given shares: what some of them do not know stays unknown. numpy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.console import PosecliError
from posecli.mapping import house_rules
from posecli.skeleton import Skeleton
from posecli.types import Array, Camera, Dataset, IntArray, Item, Made, People, SampleId

NAMED = ("category", "action")  # columns of numbers that each dataset has names of its own for
COUNTED = ("track_id", "group")  # columns of numbers that are told apart in the whole dataset


@dataclass(frozen=True)
class Part:
    """A dataset and its share of the mix; shares are relative to each other."""

    dataset: Dataset
    share: float


def mix_datasets(parts: Sequence[Part], count: int | None = None, seed: int = 0) -> Dataset:
    """`count` samples of the parts by their shares, each part's in a random order and again from its start.

    Without a count it is as many as show every sample of every part at least once. The skeleton is the first part's;
    of the others, keypoints are taken by name, and those they have not are unlabelled. Extra columns that only some
    parts have are NaN, 0 or False elsewhere; categories and actions are left out. Ids are PART/ID, from the second
    time on PART/ID/TIME. Raises PosecliError for a part without samples, or one that shares no keypoint with the first.
    """
    for part in parts:
        if not len(part.dataset):
            raise PosecliError(f"mix: the dataset {part.dataset.name!r} has no samples")
    total = sum(part.share for part in parts)
    shares = [part.share / total for part in parts]
    if count is None:
        count = max(math.ceil(len(part.dataset) / share) for part, share in zip(parts, shares, strict=True))
    edges = np.rint(np.cumsum([0.0, *shares]) * count).astype(np.int64)
    generator = np.random.default_rng(seed)
    chosen = [
        _choose(len(part.dataset), int(amount), generator) for part, amount in zip(parts, np.diff(edges), strict=True)
    ]
    skeleton = parts[0].dataset.skeleton
    taken = [_onto(part.dataset, skeleton).take(rows) for part, rows in zip(parts, chosen, strict=True)]
    ids = [name for number, rows in enumerate(chosen) for name in _names(number, parts[number].dataset.ids, rows)]
    return _joined(taken, ids)


def _choose(length: int, amount: int, generator: np.random.Generator) -> IntArray:
    """`amount` of `length` samples: every one as often as every other, but for one."""
    rounds = [generator.permutation(length) for _ in range(-(-amount // length))]
    return np.concatenate(rounds)[:amount] if rounds else np.zeros(0, dtype=np.int64)


def _names(number: int, ids: Sequence[SampleId], rows: IntArray) -> list[SampleId]:
    times: dict[int, int] = {}
    names: list[SampleId] = []
    for row in rows.tolist():
        times[row] = times.get(row, 0) + 1
        names.append(f"{number}/{ids[row]}" + (f"/{times[row]}" if times[row] > 1 else ""))
    return names


def _onto(dataset: Dataset, skeleton: Skeleton) -> Dataset:
    """The dataset with the keypoints of another skeleton, found by their names."""
    if dataset.skeleton.names == skeleton.names:
        return dataset
    rules = house_rules()
    own = dataset.skeleton.names
    found = [next((own.index(name) for name in rules.called(joint) if name in own), -1) for joint in skeleton.names]
    index = np.array(found)
    if (index < 0).all():
        raise PosecliError(f"mix: {dataset.name!r} has no keypoint that the skeleton {skeleton.name!r} names")
    people = dataset.people
    extra = dict(people.extra)
    if "keypoints_3d" in extra:
        extra["keypoints_3d"] = _picked(extra["keypoints_3d"], index, np.nan)
    moved = dataclasses.replace(
        people,
        keypoints=_picked(people.keypoints, index, np.nan),
        scores=_picked(people.scores, index, 0),
        extra=extra,
    )
    return dataclasses.replace(dataset, people=moved, skeleton=skeleton)


def _picked(values: Array, index: IntArray, empty: float) -> Array:
    """Columns of (N, K, ...) by their index, `empty` where that is -1."""
    picked = values[:, np.maximum(index, 0)].copy()
    picked[:, index < 0] = empty
    return picked


def _joined(parts: Sequence[Dataset], ids: Sequence[SampleId]) -> Dataset:
    """All samples of all parts, one part after the other."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    boxed = all(part.people.boxes is not None for part in parts)
    names = dict.fromkeys(name for part in parts for name in part.people.extra if name not in NAMED)
    firsts = np.cumsum([0, *(len(part) for part in parts[:-1])]).tolist()
    ignore = [
        (first + at, shapes) for first, part in zip(firsts, parts, strict=True) for at, shapes in part.ignore.items()
    ]
    return Dataset(
        name="mix",
        skeleton=parts[0].skeleton,
        ids=list(ids),
        sizes=np.concatenate([part.sizes for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        people=People(
            np.concatenate([part.people.keypoints for part in parts]),
            np.concatenate([part.people.scores for part in parts]),
            np.concatenate([part.people.boxes for part in parts if part.people.boxes is not None]) if boxed else None,
            extra={name: _column(parts, name) for name in names},
        ),
        images=_OneAfterTheOther([part.images for part in parts]),
        cameras=_cameras(parts),
        ignore=dict(ignore),
        notes=tuple(f"{part.name}: {note}" for part in parts for note in part.notes),
    )


def _column(parts: Sequence[Dataset], name: str) -> Array:
    """A column of all parts. Raises PosecliError where parts disagree about its shape."""
    if name in COUNTED:
        return _recounted(parts, name)
    known = [part.people.extra[name] for part in parts if name in part.people.extra]
    if len({values.shape[1:] for values in known}) > 1:
        told = ", ".join(str(values.shape[1:]) for values in known)
        raise PosecliError(f"mix: the parts disagree about {name}: {told} a row; they cannot be mixed")
    empty = np.nan if np.issubdtype(known[0].dtype, np.floating) else 0
    shape, dtype = known[0].shape[1:], known[0].dtype
    return np.concatenate(
        [part.people.extra.get(name, np.full((len(part.people), *shape), empty, dtype)) for part in parts]
    )


def _recounted(parts: Sequence[Dataset], name: str) -> IntArray:
    """Numbers that are equal in one part only where they were; who has none gets one of its own."""
    columns: list[IntArray] = []
    first = 0
    for part in parts:
        own = part.people.extra.get(name, np.arange(len(part.people)))
        _, numbers = np.unique(own, return_inverse=True)
        columns.append(numbers + first)
        first += int(numbers.max(initial=-1)) + 1
    return np.concatenate(columns)


def _cameras(parts: Sequence[Dataset]) -> Sequence[Camera] | None:
    known = [part.cameras for part in parts if part.cameras is not None]
    return _OneAfterTheOther(known) if len(known) == len(parts) else None


class _OneAfterTheOther(Made[Item]):
    """Sequences joined, each kept as it is."""

    def __init__(self, parts: Sequence[Sequence[Item]]) -> None:
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def item(self, index: int) -> Item:
        number = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[number][index - int(self.ends[number]) + len(self.parts[number])]
