"""Results by film: the frames of one video together, for what needs all of them; a picture is a film of one frame."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from posecli.results import Line, ResultsHeader, iterate_lines, results_writer
from posecli.skeleton import Skeleton
from posecli.smoothing import Smoother, smooth_person
from posecli.sources import USUAL_RATE
from posecli.tracking import Measure, make_tracker, track_people
from posecli.types import IntArray, People, SampleId

PATIENCE = 1.0
"""For how many seconds a person who is not seen is remembered."""

Step = Callable[["Film"], "Film"]
"""What is done to a film: tracking, smoothing, lifting."""


@dataclass(frozen=True)
class Film:
    """Lines of a results file that are frames of one film, in its order; memory holds their people, no pictures."""

    name: str
    lines: tuple[Line, ...]

    @cached_property
    def numbers(self) -> IntArray | None:
        """The frames' numbers in the film (F,); None for a picture."""
        numbers = [frame_number(line.prediction.id)[1] for line in self.lines]
        return None if None in numbers else np.array(numbers, np.int64)

    @property
    def moving(self) -> bool:
        """Whether it is a film at all."""
        return self.numbers is not None

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.lines[0].rate or USUAL_RATE

    @property
    def tracked(self) -> bool:
        """Whether its people are numbered."""
        return all("track_id" in people.extra for people in self.people if len(people))

    @property
    def people(self) -> list[People]:
        """The people of each frame."""
        return [line.prediction.people for line in self.lines]

    def with_people(self, people: Sequence[People]) -> Film:
        """The same frames with other people in them."""
        lines = [
            dataclasses.replace(line, prediction=dataclasses.replace(line.prediction, people=own))
            for line, own in zip(self.lines, people, strict=True)
        ]
        return Film(self.name, tuple(lines))


def frame_number(sample_id: SampleId) -> tuple[str, int | None]:
    """The film's name and the frame's number of an id such as `clip.mp4#12`; None for a picture's id."""
    name, mark, number = str(sample_id).rpartition("#")
    return (name, int(number)) if name and mark and number.isdigit() else (str(sample_id), None)


def films(path: Path) -> Iterator[Film]:
    """The films of a results file, one after the other. Raises PosecliError naming the line that is wrong."""
    for name, lines in itertools.groupby(iterate_lines(path), lambda line: frame_number(line.prediction.id)[0]):
        yield Film(name, tuple(lines))


def refine(source: Path, target: Path, header: ResultsHeader, steps: Sequence[Step]) -> None:
    """Write the results file `target` (which may be `source`) with every film of `source` after all steps."""
    with results_writer(target, header) as write:
        for film in films(source):
            for step in steps:
                film = step(film)
            for line in film.lines:
                write(line)


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbering:
    """Numbers the people of films that are not numbered yet."""

    measure: Measure
    skeleton: Skeleton

    def __call__(self, film: Film) -> Film:
        if not film.moving or film.tracked:
            return film
        tracker = make_tracker(self.measure, self.skeleton, patience(film.rate))
        return film.with_people(list(track_people(film.people, tracker)))


@dataclass(frozen=True)
class Smoothing:
    """Smooths the tracks of films; people without a number stay as they are."""

    smoother: Smoother

    def __call__(self, film: Film) -> Film:
        rows = [(frame, row) for frame, people in enumerate(film.people) for row in range(len(people))]
        if film.numbers is None or not rows or not film.tracked:
            return film
        points = [people.keypoints.astype(np.float64) for people in film.people]
        tracks: dict[int, list[tuple[int, int]]] = {}
        for frame, row in rows:
            tracks.setdefault(int(film.people[frame].extra["track_id"][row]), []).append((frame, row))
        for places in tracks.values():
            numbers = film.numbers[[frame for frame, _ in places]]
            numbers = numbers - numbers[0]
            track = np.full((numbers[-1] + 1, *points[places[0][0]].shape[1:]), np.nan)
            track[numbers] = [points[frame][row] for frame, row in places]
            smooth = smooth_person(track, self.smoother, film.rate)[numbers]
            for (frame, row), pose in zip(places, smooth, strict=True):
                points[frame][row] = pose
        return film.with_people(
            [
                dataclasses.replace(people, keypoints=own.astype(np.float32))
                for people, own in zip(film.people, points, strict=True)
            ]
        )


def patience(rate: float) -> int:
    """For how many frames a person who is not seen is remembered."""
    return max(1, round(PATIENCE * rate))
