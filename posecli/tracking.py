"""Who is who from frame to frame: people matched by OKS or box overlap, and kept in mind while they are not seen.

numpy, and scipy for the assignment. Nothing is random: the same people in the same order get the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from posecli.console import PosecliError
from posecli.geometry import box_iou, keypoint_boxes
from posecli.skeleton import Skeleton
from posecli.suppression import instance_areas, oks_matrix
from posecli.types import FloatArray, IntArray, People

Measure = Literal["oks", "iou"]
LEAST: dict[Measure, float] = {"oks": 0.2, "iou": 0.2}
"""How alike two rows must be to be the same person."""
KEPT_SPEED = 0.6
"""The old speed's share in a track's speed; the rest is what was just seen."""
SLOWING = 0.9
"""How much of its speed a person keeps from frame to frame while not seen."""


@dataclass
class Track:
    """One person as last seen, and how it moves."""

    number: int
    person: People  # one row
    speed: FloatArray  # (2,) pixels a frame
    unseen: int = 0  # frames since

    def expected(self) -> People:
        """The person where it should be by now, going on ever more slowly."""
        step = self.speed * (1 - SLOWING**self.unseen) / (1 - SLOWING)
        boxes = None if self.person.boxes is None else self.person.boxes + np.tile(step, 2)
        return dataclasses.replace(self.person, keypoints=self.person.keypoints[..., :2] + step, boxes=boxes)

    def see(self, person: People) -> None:
        """Take in the person as it is in this frame."""
        step = shift(self.person, person) / self.unseen
        self.speed = KEPT_SPEED * self.speed + (1 - KEPT_SPEED) * step if self.speed.any() else step
        self.person, self.unseen = person, 0


@dataclass
class Tracker:
    """Takes the people of one frame after the other and numbers them, from 0 on in the order they come.

    A person is looked for where its speed takes it, the most alike pairs are found for all people of a frame together,
    and what is less alike than `least` is no pair. Who is not seen for more than `patience` frames is forgotten, and
    gets a new number when coming back.
    """

    measure: Measure
    sigmas: tuple[float, ...] | None = None  # (K,), for OKS
    patience: int = 25
    least: float | None = None
    _tracks: list[Track] = field(default_factory=list)
    _next: int = 0

    def __call__(self, people: People) -> IntArray:
        """The numbers (N,) of the people of the next frame."""
        numbers = np.full(len(people), -1, np.int64)
        for track in self._tracks:
            track.unseen += 1
        for index, row in self._pairs(people):
            track = self._tracks[index]
            track.see(people[row : row + 1])
            numbers[row] = track.number
        for row in np.flatnonzero(numbers < 0).tolist():
            numbers[row] = self._next
            self._tracks.append(Track(self._next, people[row : row + 1], np.zeros(2)))
            self._next += 1
        self._tracks = [track for track in self._tracks if track.unseen <= self.patience]
        return numbers

    def _pairs(self, people: People) -> Iterator[tuple[int, int]]:
        """Tracks and rows that are the same person."""
        from scipy.optimize import linear_sum_assignment

        if not self._tracks or not len(people):
            return
        alike = self._similarities(people)
        least = LEAST[self.measure] if self.least is None else self.least
        alike = np.where(alike >= least, alike, 0.0)  # what cannot be a pair must not keep others from being one
        for index, row in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
            if alike[index, row] > 0:
                yield int(index), int(row)

    def _similarities(self, people: People) -> FloatArray:
        """How alike each track, moved to now, is to each row: (T, N) from 0 to 1."""
        expected = People.concatenate([_plain(track.expected()) for track in self._tracks])
        if self.measure == "iou":
            return box_iou(boxes_of(expected), boxes_of(people))
        assert self.sigmas is not None
        # the longer unseen, the less is known about where: the tolerance grows like a random walk's
        unseen = np.array([track.unseen for track in self._tracks], np.float64)
        areas = instance_areas(expected) * unseen, instance_areas(people)
        return oks_matrix(expected, _plain(people), self.sigmas, areas)


def make_tracker(measure: Measure, skeleton: Skeleton, patience: int) -> Tracker:
    """The tracker for people of this skeleton. Raises PosecliError for OKS where the sigmas are unknown."""
    if measure == "oks" and skeleton.sigmas is None:
        raise PosecliError(
            f"--track oks needs the OKS sigmas of skeleton {skeleton.name!r}, which has none: use --track iou"
        )
    return Tracker(measure, skeleton.sigmas, patience)


def find_measure(name: Literal["auto", "oks", "iou", "none"], skeleton: Skeleton) -> Measure | None:
    """How people of this skeleton are told apart; `auto` is OKS where the sigmas are known, else boxes.

    Raises PosecliError for OKS where they are not.
    """
    if name == "none":
        return None
    if name == "auto":
        return "iou" if skeleton.sigmas is None else "oks"
    return make_tracker(name, skeleton, 1).measure


def track_people(frames: Iterable[People], tracker: Tracker) -> Iterator[People]:
    """The people of one frame after the other, with their numbers as `extra["track_id"]`."""
    for people in frames:
        yield people.with_extra(track_id=tracker(people))


def boxes_of(people: People) -> FloatArray:
    """The boxes (N, 4): their own, or tight ones around the keypoints."""
    return np.asarray(keypoint_boxes(people.keypoints[..., :2]) if people.boxes is None else people.boxes, np.float64)


def shift(before: People, after: People) -> FloatArray:
    """How far one person (one row each) has come, (2,) pixels: by the keypoints known in both, else by the boxes."""
    steps = after.keypoints[0, :, :2].astype(np.float64) - before.keypoints[0, :, :2]
    known = np.isfinite(steps).all(axis=-1)
    if known.any():
        return np.asarray(steps[known].mean(axis=0))
    centers = [boxes_of(people)[0].reshape(2, 2).mean(axis=0) for people in (before, after)]
    return np.asarray(np.nan_to_num(centers[1] - centers[0]))


def _plain(people: People) -> People:
    """Without scores and extras, so that rows of different frames go together."""
    return People(people.keypoints, people.scores, boxes_of(people).astype(np.float32))
