"""How crowded pictures are: the crowd index of CrowdPose (Li et al., CVPR 2019), and scores by its levels."""

from __future__ import annotations

import numpy as np

from posecli.geometry import keypoint_boxes
from posecli.types import Dataset, FloatArray, IntArray, People

LEVELS = ("easy", "medium", "hard")


def crowd_indices(samples: Dataset) -> tuple[FloatArray, str]:
    """The crowd index of every sample, (N,), and where it is from: the data, or computed where the data has none."""
    stated = samples.people.extra.get("crowd_index")
    if stated is None:
        return np.array([crowd_index(samples[index].people) for index in range(len(samples))]), "computed"
    known = np.asarray(stated, dtype=np.float64)
    indices = np.zeros(len(samples))  # nobody is no crowd
    filled = np.diff(samples.offsets) > 0
    indices[filled] = known[samples.offsets[:-1][filled]]
    for index in np.flatnonzero(np.isnan(indices)).tolist():
        indices[index] = crowd_index(samples[index].people)
    return indices, "as the data states it"


def crowd_index(people: People) -> float:
    """From 0, nobody in another's box, to 1: the mean over people of others' keypoints in the box by their own in it.

    Crowd rows and people without a labelled keypoint in their box do not count.
    """
    people = people[people.labelled.any(axis=1) & ~people.crowd]
    boxes = people.boxes if people.boxes is not None else keypoint_boxes(people.keypoints)
    points = np.where(people.labelled[..., None], people.keypoints, np.nan)[None]  # (1, N, K, 2)
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    inside = ((points >= low) & (points <= high)).all(axis=-1).sum(axis=-1)  # (N, N): in row's box, of column
    own = np.diagonal(inside)
    counted = own > 0
    if not counted.any():
        return 0.0
    return float(min(1.0, ((inside.sum(axis=1) - own)[counted] / own[counted]).mean()))


def levels_of(indices: FloatArray, bounds: tuple[float, float]) -> dict[str, IntArray]:
    """The samples of each level, by their crowd indices (N,): easy below the first bound, hard from the second on."""
    level = np.digitize(indices, bounds)
    return {name: np.flatnonzero(level == number) for number, name in enumerate(LEVELS)}
