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
    evenly over them; rows without `track_id` are clips of their own. Raises PosecliError when the keypoints are not the
    same, a dataset has no cameras, or the labelled one no 3D.
    """
    if labelled.skeleton.names != unlabelled.skeleton.names:
        raise PosecliError(
            f"{labelled.name} and {unlabelled.name} have other keypoints: they cannot be learnt together"
        )
    if labelled.cameras is None or unlabelled.cameras is None:
        raise PosecliError("poses of unlabelled clips are projected by their cameras: one of the datasets has none")
    if "keypoints_3d" not in labelled.people.extra:
        raise PosecliError(f"{labelled.name} has no 3D to learn from: name labelled clips under `labelled`")
    first = _numbered(labelled.people, 0)
    later = _numbered(unlabelled.people, int(first.extra["track_id"].max(initial=-1)) + 1)
    kept = _kept_clips(first, share)
    people = People.concatenate([_hidden(first, ~kept), _hidden(later, np.ones(len(later), dtype=bool))])
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


def _numbered(people: People, first: int) -> People:
    """With track numbers from `first` on where they began at 0; one for each row where there were none."""
    tracks = people.extra["track_id"] if "track_id" in people.extra else np.arange(len(people))
    return people.with_extra(track_id=np.asarray(tracks) + first)


def _hidden(people: People, rows: BoolArray) -> People:
    """Without the 3D of these rows (P,)."""
    unknown = np.full((*people.keypoints.shape[:2], 3), np.nan, np.float32)
    poses = np.array(people.extra.get("keypoints_3d", unknown))
    poses[rows] = np.nan
    return people.with_extra(keypoints_3d=poses)
