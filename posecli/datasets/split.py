"""Which pictures belong to which side of a split, alike for configs, `--data` and `convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posecli.console import PosecliError
from posecli.types import Dataset, IntArray

if TYPE_CHECKING:
    from posecli.datasets.config import SplitConfig


def split_indices(count: int, val: float, seed: int = 0, order: str = "random") -> tuple[IntArray, IntArray]:
    """Indices of the train and val side of `count` pictures, each ascending, together all of them.

    `val` is the share of the val side, or from 1 on its number of pictures; with a share, neither side is empty
    where there are two pictures. Raises PosecliError when `val` leaves nothing to train on.
    `order` is "random", by `seed`, or "order": the last pictures are val.
    """
    held_out = round(val) if val >= 1 else round(count * val)
    if val >= 1 and held_out >= count:
        raise PosecliError(f"{held_out} of {count} pictures held out leave none to train on")
    if 0 < val < 1:
        held_out = min(max(held_out, 1), count - 1)
    shuffled = np.random.default_rng(seed).permutation(count) if order == "random" else np.arange(count)
    return np.sort(shuffled[: count - held_out]), np.sort(shuffled[count - held_out :])


def cut(dataset: Dataset, skip: int = 0, first: int | None = None, split: SplitConfig | None = None) -> Dataset:
    """The pictures `skip` … `skip + first`, then one side of the split. Raises PosecliError when nothing is left."""
    if not skip and first is None and split is None:
        return dataset
    indices = np.arange(len(dataset))[skip : None if first is None else skip + first]
    if split is not None:
        train, val = split_indices(len(indices), split.val, split.seed, split.order)
        indices = indices[train if split.side == "train" else val]
    if not len(indices):
        raise PosecliError(
            f"dataset {dataset.name!r}: no picture of {len(dataset)} is left after skip, first and split"
        )
    return dataset.take(indices)
