"""Clips with 3D truth and clips without, as one dataset to learn from both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from posecli.console import PosecliError
from posecli.types import BoolArray, Dataset, Item, Made, People


class Joined(Made[Item]):
    """The items of two sequences, one after the other."""

    def __init__(self, first: Sequence[Item], second: Sequence[Item]) -> None:
        self.first = first
        self.second = second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def item(self, index: int) -> Item:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def partly_labelled(labelled: Dataset, unlabelled: Dataset, share: float = 1.0) -> Dataset:
    """Both datasets in one; the 3D of `unlabelled` is unknown, its cameras are kept.

    The ids of the unlabelled samples begin with `unlabelled/`. Of the labelled clips the share keeps its 3D, spread
    evenly over them. Raises PosecliError when the keypoints are not the same or a dataset has no cameras.
    """
    if labelled.skeleton.names != unlabelled.skeleton.names:
        raise PosecliError(
            f"{labelled.name} and {unlabelled.name} have other keypoints: they cannot be learnt together"
        )
    if labelled.cameras is None or unlabelled.cameras is None:
        raise PosecliError("poses of unlabelled clips are projected by their cameras: one of the datasets has none")
    kept = _kept_clips(labelled.people, share)
    people = People.concatenate([_hidden(labelled.people, ~kept), _hidden(_later(unlabelled, labelled), True)])
    return dataclasses.replace(
        labelled,
        name=f"{labelled.name} and {unlabelled.name}",
        ids=[*labelled.ids, *(f"unlabelled/{name}" for name in unlabelled.ids)],
        sizes=np.concatenate([labelled.sizes, unlabelled.sizes]),
        offsets=np.concatenate([labelled.offsets, unlabelled.offsets[1:] + labelled.offsets[-1]]),
        people=people,
        images=Joined(labelled.images, unlabelled.images),
        cameras=Joined(labelled.cameras, unlabelled.cameras),
        notes=(f"3D is known in {int(kept.sum())} of {len(people)} rows",),
    )


def _kept_clips(people: People, share: float) -> BoolArray:
    """Which rows, (P,), belong to the share of the clips that keep their 3D; at least one clip does."""
    tracks, clip = np.unique(people.extra["track_id"], return_inverse=True)
    count = max(round(share * len(tracks)), 1)
    chosen = np.linspace(0, len(tracks) - 1, count).round().astype(np.int64)
    return np.asarray(np.isin(clip, chosen))


def _later(samples: Dataset, before: Dataset) -> People:
    """The people of a dataset with track numbers that those of another do not have."""
    first = int(before.people.extra["track_id"].max(initial=-1)) + 1
    return samples.people.with_extra(track_id=samples.people.extra["track_id"] + first)


def _hidden(people: People, rows: BoolArray | bool) -> People:
    """Without the 3D of these rows."""
    poses = people.extra["keypoints_3d"].copy()
    poses[rows] = np.nan
    return people.with_extra(keypoints_3d=poses)
