"""Results by film: the frames of one video together, for what needs all of them; a picture is a film of one frame."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from posecli.console import PosecliError
from posecli.results import Line, ResultsHeader, iterate_lines, results_writer
from posecli.skeleton import Skeleton
from posecli.smoothing import Smoother, smooth_person
from posecli.sources import USUAL_RATE
from posecli.tracking import Measure, make_tracker, track_people
from posecli.types import IN_PICTURE, FloatArray, IntArray, People, SampleId

CAMERA = "camera"
"""The column of 3D people who each have a pinhole camera, (N, 3): focal length and principal point, in pixels."""
PATIENCE = 1.0
"""For how many seconds a person who is not seen is remembered."""

Step = Callable[["Film"], "Film"]
"""What is done to a film: tracking, smoothing, lifting."""
Places = list[tuple[int, int]]
"""A person's frames, and its row in each."""


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
    """The films of a results file, one after the other.

    Raises PosecliError naming the line that is wrong, or the frame that does not follow the one before it.
    """
    seen: set[str] = set()
    for name, lines in itertools.groupby(iterate_lines(path), lambda line: frame_number(line.prediction.id)[0]):
        film = Film(name, tuple(lines))
        if name in seen or (film.numbers is None and len(film.lines) > 1):
            raise PosecliError(f"{path}: {name} comes a second time; a film's frames stand together, a picture once")
        if film.numbers is not None and (wrong := np.flatnonzero(np.diff(film.numbers) <= 0)).size:
            before, after = film.numbers[wrong[0] : wrong[0] + 2].tolist()
            raise PosecliError(f"{path}: frame {after} of {name} comes after frame {before}; put them in their order")
        seen.add(name)
        yield film


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
    """Smooths the tracks of films, in 3D and where 3D people are in the picture; who has no number stays as found."""

    smoother: Smoother

    def __call__(self, film: Film) -> Film:
        people = film.people
        if film.numbers is None or not any(map(len, people)) or not film.tracked:
            return film
        places = tracks_of(people)
        points = self._smooth([own.keypoints for own in people], places, film, _column(people, CAMERA))
        people = [dataclasses.replace(own, keypoints=new) for own, new in zip(people, points, strict=True)]
        pixels = _column(people, IN_PICTURE)
        if pixels is not None:
            seen = self._smooth(pixels, places, film)
            people = [
                own.with_extra(**{IN_PICTURE: new}) if len(own) else own for own, new in zip(people, seen, strict=True)
            ]
        return film.with_people(people)

    def _smooth(
        self,
        points: Sequence[FloatArray],
        places: Sequence[Places],
        film: Film,
        cameras: list[FloatArray] | None = None,
    ) -> list[FloatArray]:
        """The points of each frame (N, K, D), each track smoothed by itself; `cameras` (N, 3) where all have their own.

        A track is then smoothed as one camera sees it, for the own ones move and grow with the boxes.
        """
        assert film.numbers is not None
        found = [own.astype(np.float32) for own in points]  # copies
        for track in places:
            numbers = film.numbers[[frame for frame, _ in track]]
            numbers = numbers - numbers[0]
            poses: FloatArray = np.array([points[frame][row] for frame, row in track], np.float64)
            own = None if cameras is None else np.array([cameras[frame][row] for frame, row in track], np.float64)
            if own is not None:
                poses = seen_by(poses, own, own.mean(axis=0, keepdims=True))
            whole = np.full((numbers[-1] + 1, *poses.shape[1:]), np.nan)
            whole[numbers] = poses
            smooth = smooth_person(whole, self.smoother, film.rate)[numbers]
            if own is not None:
                smooth = seen_by(smooth, own.mean(axis=0, keepdims=True), own)
            for (frame, row), pose in zip(track, smooth, strict=True):
                found[frame][row] = pose
        return found


def seen_by(poses: FloatArray, own: FloatArray, other: FloatArray) -> FloatArray:
    """Poses (T, K, 3) of cameras `own` moved to where `other` sees them at the same place and size; both (T or 1, 3).

    Twice, with the cameras exchanged, is as before.
    """
    known = np.isfinite(poses).all(axis=-1, keepdims=True)
    middle = np.where(known, poses, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)  # (T, 3)
    ratio = middle[:, 2:] / own[:, :1]  # millimetres a pixel
    aside = middle[:, :2] + (own[:, 1:] - other[:, 1:]) * ratio
    moved = np.concatenate([aside, ratio * other[:, :1]], axis=1)
    return np.asarray(poses + (moved - middle)[:, None])


def _column(frames: Sequence[People], name: str) -> list[FloatArray] | None:
    """A column of everybody, frame by frame; None where somebody has none."""
    if not all(name in people.extra for people in frames if len(people)):
        return None
    return [people.extra[name] if len(people) else np.zeros(0, np.float32) for people in frames]


def tracks_of(frames: Sequence[People]) -> list[Places]:
    """Where each numbered person is found."""
    tracks: dict[int, Places] = {}
    for frame, people in enumerate(frames):
        if len(people):
            for row, number in enumerate(people.extra["track_id"].tolist()):
                tracks.setdefault(number, []).append((frame, row))
    return list(tracks.values())


def patience(rate: float) -> int:
    """For how many frames a person who is not seen is remembered."""
    return max(1, round(PATIENCE * rate))
