"""Candidates of each keypoint put together to people by their tags.

Newell, Huang and Deng, Associative Embedding, NeurIPS 2017, section 3.2: keypoint after keypoint, each candidate goes
to the person whose mean tag is nearest, all candidates of a keypoint at once by the cheapest assignment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from posecli.types import FloatArray, IntArray
from posecli_associative.config import DecodeConfig

STEP = 100.0  # a tag distance rounded to a whole number outweighs all differences of heatmap values


class Groups:
    """People as far as they are known: their candidates and the mean of their tags."""

    def __init__(self, joints: int, candidates: int, tag_length: int) -> None:
        most = joints * candidates
        self.count = 0
        self.members = np.full((most, joints), -1, np.int64)
        self._sums = np.zeros((most, tag_length))
        self._sizes = np.zeros(most)

    def means(self, first: int) -> FloatArray:
        """The mean tags (M, L) of the `first` people."""
        means: FloatArray = (self._sums[:first] / self._sizes[:first, None]).astype(np.float32)
        return means

    def add(self, people: IntArray, joint: int, candidates: IntArray, tags: FloatArray) -> None:
        """Candidates (M,) of a keypoint with their tags (M, L) go to people (M,), all different."""
        self.members[people, joint] = candidates
        self._sums[people] += tags
        self._sizes[people] += 1

    def begin(self, joint: int, candidates: IntArray, tags: FloatArray) -> None:
        """A new person for each of the candidates (M,), one for those with the very same tags.

        Such candidates lie on one flat top, as resizing makes along the border; the first of them stays.
        """
        first = {tag.tobytes(): number for number, tag in reversed(list(enumerate(tags)))}
        alone = sorted(first.values())
        candidates, tags = candidates[alone], tags[alone]
        people = np.arange(self.count, self.count + len(candidates))
        self.count += len(candidates)
        self.add(people, joint, candidates, tags)


def group(
    values: FloatArray, tags: FloatArray, settings: DecodeConfig, order: Sequence[int], limit: int | None = None
) -> IntArray:
    """Which candidate of each keypoint belongs to whom, (N, K), -1 for none; people in the order they were begun.

    Candidates have heatmap values (K, C), in descending order, and tags (K, C, L); those not above the detection
    threshold do not exist. `limit` is the number of people after which nobody finds keypoints any more, though
    candidates still begin people: only the first `limit` are returned.
    """
    joints, candidates, tag_length = tags.shape
    groups = Groups(joints, candidates, tag_length)
    for joint in order:
        there = np.flatnonzero(values[joint] > settings.detection_threshold)
        known = groups.count if limit is None else min(groups.count, limit)
        rows, people = _assign(values[joint, there], tags[joint, there], groups.means(known), settings)
        groups.add(people, joint, there[rows], tags[joint, there[rows]])
        free = np.delete(there, rows)
        groups.begin(joint, free, tags[joint, free])
    return groups.members[: groups.count if limit is None else min(groups.count, limit)]


def _assign(
    values: FloatArray, tags: FloatArray, means: FloatArray, settings: DecodeConfig
) -> tuple[IntArray, IntArray]:
    """Pairs of candidate and person, (M,) each, whose tags are nearer than the threshold, out of the cheapest pairing.

    Candidates have values (C,) and tags (C, L), people have mean tags (P, L).
    """
    distances = np.sqrt(np.square(tags[:, None] - means).sum(axis=-1))  # (C, P)
    costs = distances
    if settings.use_detection_score:
        costs = np.round(distances) * STEP - values[:, None]
    rows, people = linear_sum_assignment(costs)
    near = distances[rows, people] < settings.tag_threshold
    return rows[near], people[near]
