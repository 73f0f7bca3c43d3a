"""Which pictures belong to which side of a split, alike for configs, `--data` and `convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posecli.console import PosecliError
from posecli.types import Dataset, IntArray

if TYPE_CHECKING:
    from posecli.datasets.config import SplitConfig


def split_indices(
    count: int, val: float, seed: int = 0, order: str = "random", counted: str = "pictures"
) -> tuple[IntArray, IntArray]:
    """Indices of the train and val side of `count` pictures, each ascending, together all of them.

    `val` is the share of the val side, or from 1 on its number of pictures; with a share, neither side is empty
    where there are two pictures. Raises PosecliError when `val` leaves nothing to train on.
    `order` is "random", by `seed`, or "order": the last pictures are val. `counted` is what messages call them.
    """
    held_out = round(val) if val >= 1 else round(count * val)
    if val >= 1 and held_out >= count:
        raise PosecliError(f"{held_out} of {count} {counted} held out leave none to train on")
    if 0 < val < 1:
        held_out = min(max(held_out, 1), count - 1)
    shuffled = np.random.default_rng(seed).permutation(count) if order == "random" else np.arange(count)
    return np.sort(shuffled[: count - held_out]), np.sort(shuffled[count - held_out :])


def split_dataset(
    dataset: Dataset, indices: IntArray, val: float, seed: int = 0, order: str = "random"
) -> tuple[IntArray, IntArray]:
    """The samples `indices` of a dataset (N,) in a train and a val side, each in the order given, together all of them.

    As `split_indices` draws them, but what belongs together stays together: all frames of a person
    (`extra["track_id"]`), and all films of one motion (`extra["group"]`). Then `val` counts those.
    """
    bundles = bundles_of(dataset)
    if bundles is None:
        train, held_out = split_indices(len(indices), val, seed, order)
        return indices[train], indices[held_out]
    names, bundle = np.unique(bundles[indices], return_inverse=True)
    _, held_out = split_indices(len(names), val, seed, order, f"{_bundle_name(dataset)}s")
    is_held_out = np.isin(bundle, held_out)
    return indices[~is_held_out], indices[is_held_out]


def _bundle_name(dataset: Dataset) -> str:
    """What messages call samples that belong together."""
    return "motion" if "group" in dataset.people.extra else "group"


def bundles_of(dataset: Dataset) -> IntArray | None:
    """A number for every sample, (N,), equal where samples belong together, in the order in which they first come;
    None where each sample stands for itself."""
    columns = [dataset.people.extra[name] for name in ("group", "track_id") if name in dataset.people.extra]
    if not columns:
        return None
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, rows = len(dataset), dataset.sample_of_row
    links: list[tuple[IntArray, IntArray]] = []
    total = count
    for column in columns:  # a sample is linked to the node of every group or track that it shows
        node = np.unique(column, return_inverse=True)[1]
        links.append((rows, np.asarray(total + node)))
        total += int(node.max(initial=-1)) + 1
    first, second = (np.concatenate(side) for side in zip(*links, strict=True))
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(total, total))
    _, bundle = connected_components(graph, directed=False)
    _, start, inverse = np.unique(bundle[:count], return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(start))[inverse])


def cut(dataset: Dataset, skip: int = 0, first: int | None = None, split: SplitConfig | None = None) -> Dataset:
    """The pictures `skip` … `skip + first`, then one side of the split. Raises PosecliError when nothing is left."""
    if not skip and first is None and split is None:
        return dataset
    indices: IntArray = np.arange(len(dataset))[skip : None if first is None else skip + first]
    chosen = len(indices)
    if split is not None:
        sides = split_dataset(dataset, indices, split.val, split.seed, split.order)
        indices = np.asarray(sides[0] if split.side == "train" else sides[1])
    if not len(indices):
        raise PosecliError(f"dataset {dataset.name!r}: {_why_nothing(dataset, chosen, skip, first)}")
    return dataset.take(indices)


def _why_nothing(dataset: Dataset, chosen: int, skip: int, first: int | None) -> str:
    """Why no picture is left on a side, `chosen` of them being left before the split."""
    bundles = bundles_of(dataset)
    stop = None if first is None else skip + first
    if chosen > 1 and bundles is not None and len(np.unique(bundles[skip:stop])) == 1:
        name = _bundle_name(dataset)
        return f"all {chosen} frames belong to one {name}, which is never split: give a val.json of another {name}"
    if chosen == 1:
        return "one picture makes no train and val side: label more, or put a val.json beside its file as train.json"
    return f"no picture of {len(dataset)} is left after skip, first and split"
