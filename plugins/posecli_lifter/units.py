"""What a lifting network sees at once: windows of a person's frames to train on, whole clips to predict.

A person's frames are the rows with one `track_id`, in the order of the samples; a row without one is a clip of its
own. Where `extra["frame"]` numbers the frames, missing ones stay in the clip as unknown up to `LONGEST_GAP` of them; a
longer gap ends the clip, and another begins. Beyond the ends of a clip its first and last frame are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from posecli.transforms import NO_PIXELS
from posecli.types import Array, BoolArray, Chosen, Dataset, IntArray, Made, People, Sample

LONGEST_GAP = 10  # frames
COLUMNS = ("keypoints_3d", "track_id")
UNKNOWN = -1  # in place of a row, a frame that is missing


@dataclass(frozen=True)
class Clips:
    """The frames of all clips, one after the other; clip i is `rows[offsets[i]:offsets[i + 1]]`."""

    rows: IntArray  # (F,) rows of the dataset's people; UNKNOWN where a frame is missing
    offsets: IntArray  # (C + 1,)

    @property
    def lengths(self) -> IntArray:
        """Frames of each clip, (C,), missing ones included."""
        return np.diff(self.offsets)


def cut_clips(samples: Dataset) -> Clips:
    """Every row of a dataset in its clip. The first and last frame of a clip are never missing ones."""
    extra, count = samples.people.extra, len(samples.people)
    if count == 0:
        return Clips(np.zeros(0, np.int64), np.zeros(1, np.int64))
    tracks = np.asarray(extra["track_id"]) if "track_id" in extra else np.arange(count)
    order = np.argsort(tracks, kind="stable")
    tracks = tracks[order]
    starts = np.concatenate([[True], tracks[1:] != tracks[:-1]])
    if "frame" not in extra:
        return Clips(order, np.append(np.flatnonzero(starts), count))
    steps = _steps(np.asarray(extra["frame"])[order], starts)
    starts |= (steps < 1) | (steps > LONGEST_GAP + 1)
    places = np.cumsum(np.where(starts, 1, steps)) - 1  # (P,) where each row stands among all frames
    rows = np.full(places[-1] + 1, UNKNOWN)
    rows[places] = order
    return Clips(rows, np.append(places[starts], len(rows)))


def _steps(frames: IntArray, starts: BoolArray) -> IntArray:
    """How many frames on from the one before each row is, (P,), in units of its track's own smallest step."""
    steps = np.diff(frames, prepend=frames[:1])
    track = np.cumsum(starts) - 1
    inside = ~starts & (steps > 0)
    smallest = np.full(track[-1] + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, track[inside], steps[inside])
    return np.asarray(steps // smallest[track])


class Frames(Made[Sample]):
    """Units of several frames each; subclasses say which."""

    def __init__(self, samples: Dataset) -> None:
        self.samples = samples
        self.clips = cut_clips(samples)
        self.owners = samples.sample_of_row  # (P,)
        self.places = np.arange(len(self.owners)) - samples.offsets[self.owners]  # (P,) of each row in its sample
        self.columns = [name for name in COLUMNS if name in samples.people.extra]

    def put_together(self, clip: int, frames: IntArray, output: BoolArray) -> Sample:
        """A sample of the frames (T,) of a clip, counted from its first; those outside it repeat its ends.

        `people` has one row a frame: keypoints, scores, boxes, the columns above, `row` (in its own sample) and
        `output` (which rows are to be predicted); `frames` has their samples' ids. A missing frame has NaN
        keypoints, scores 0, and the `row` and id of the first frame to be predicted. The id, size and camera are
        those of that frame.
        """
        start, stop = self.clips.offsets[clip], self.clips.offsets[clip + 1]
        rows = self.clips.rows[np.clip(frames + start, start, stop - 1)]
        main = int(rows[output.argmax()])
        missing: BoolArray = np.asarray(rows < 0)
        if missing.any():
            rows = np.where(missing, main, rows)
        people = self._people(rows, output)
        if missing.any():
            _forget(people, missing)
        owners = self.owners[rows].tolist()
        index = int(self.owners[main])
        ids, cameras = self.samples.ids, self.samples.cameras
        width, height = self.samples.sizes[index].tolist()
        return Sample(
            id=ids[index],
            image=NO_PIXELS,
            size=(width, height),
            people=people,
            camera=None if cameras is None else cameras[index],
            frames=tuple([ids[owner] for owner in owners]),
        )

    def _people(self, rows: IntArray, output: BoolArray) -> People:
        people = self.samples.people
        extra: dict[str, Array] = {name: people.extra[name][rows] for name in self.columns}
        extra["row"] = self.places[rows]
        extra["output"] = output
        boxes = None if people.boxes is None else people.boxes[rows]
        return People(people.keypoints[rows], people.scores[rows], boxes, None, extra)

    def _there(self, clip: int, frames: IntArray) -> BoolArray:
        """Which of the frames (T,), counted from the clip's first, lie inside the clip and are not missing."""
        start, stop = self.clips.offsets[clip], self.clips.offsets[clip + 1]
        places = frames + start
        rows = self.clips.rows[np.clip(places, start, stop - 1)]
        return np.asarray((places >= start) & (places < stop) & (rows >= 0))

    def _trainable(self) -> BoolArray:
        """Which frames of the clips, (F,), are rows with something to learn from: any 3D joint, where there is 3D."""
        rows = self.clips.rows
        truth = self.samples.people.extra.get("keypoints_3d")
        if truth is None:
            return np.asarray(rows >= 0)
        known = np.asarray(np.isfinite(truth).all(axis=-1).any(axis=-1))  # (P,)
        return np.asarray((rows >= 0) & known[rows])


def _forget(people: People, missing: BoolArray) -> None:
    """Make the rows of missing frames unknown, in place: the arrays are copies."""
    people.keypoints[missing] = np.nan
    people.scores[missing] = 0
    if people.boxes is not None:
        people.boxes[missing] = np.nan
    if "keypoints_3d" in people.extra:
        people.extra["keypoints_3d"][missing] = np.nan
    people.extra["output"][missing] = False


class WindowUnits(Frames):
    """Windows of `frames` frames over every clip, made when asked for.

    output "one": one window around each frame, which is the one to be predicted; with `causal` the window ends with
    it. Of the frames to be predicted every `stride`-th is taken. Frames without any known 3D joint are left out
    where the dataset has 3D, unless `unlabelled`.
    output "all": windows that begin every `stride` frames, all of whose frames are to be predicted; the last one ends
    with the clip, and a clip that is shorter is padded at its end, the repeated frames not to be predicted.
    interval: the frames in a window are so many apart.
    """

    def __init__(
        self,
        samples: Dataset,
        frames: int,
        stride: int = 1,
        causal: bool = False,
        output: Literal["one", "all"] = "one",
        interval: int = 1,
        unlabelled: bool = False,
    ) -> None:
        super().__init__(samples)
        if frames < 1 or stride < 1 or interval < 1:
            raise ValueError(f"windows of {frames} frames, stride {stride}, interval {interval}: at least 1 each")
        self.whole = output == "all"
        before = frames - 1 if causal else frames // 2
        self.steps = (np.arange(frames) - (0 if self.whole else before)) * interval
        self.target = np.arange(frames) == (0 if self.whole else before)
        self.clip, self.start, main = self._all(stride) if self.whole else self._one(stride, unlabelled)
        self.sample_index = self.owners[main]  # (U,): the sample that a unit's id is of

    def _one(self, stride: int, unlabelled: bool) -> tuple[IntArray, IntArray, IntArray]:
        clip = np.repeat(np.arange(len(self.clips.lengths)), self.clips.lengths)
        start = np.arange(len(clip)) - self.clips.offsets[clip]
        chosen = (self.clips.rows >= 0 if unlabelled else self._trainable()) & (start % stride == 0)
        return clip[chosen], start[chosen], self.clips.rows[chosen]

    def labelled(self) -> BoolArray:
        """Which windows' first frame to be predicted has 3D, (U,)."""
        return np.asarray(self._trainable()[self.clips.offsets[self.clip] + self.start])

    def _all(self, stride: int) -> tuple[IntArray, IntArray, IntArray]:
        """Clip, first frame and main row of each window in which any frame is there."""
        found: list[tuple[int, int, int]] = []
        for clip, length in enumerate(self.clips.lengths.tolist()):
            last = max(length - int(self.steps[-1]) - 1, 0)
            for start in [*range(0, last, stride), last]:
                there = np.flatnonzero(self._there(clip, self.steps + start))
                if len(there):
                    main = self.clips.rows[self.clips.offsets[clip] + start + self.steps[there[0]]]
                    found.append((clip, start, int(main)))
        clips, starts, mains = np.array(found, dtype=np.int64).reshape(-1, 3).T
        return clips, starts, mains

    def __len__(self) -> int:
        return len(self.clip)

    def item(self, index: int) -> Sample:
        clip, start = int(self.clip[index]), int(self.start[index])
        frames = self.steps + start
        if not self.whole:
            return self.put_together(clip, frames, self.target.copy())
        return self.put_together(clip, frames, self._there(clip, frames))


def balanced(windows: WindowUnits) -> Sequence[Sample]:
    """Windows with and without 3D in equal parts: those of which there are fewer come several times."""
    known = windows.labelled()
    fewer, more = sorted((np.flatnonzero(known), np.flatnonzero(~known)), key=len)
    if not len(fewer):
        return windows
    return Chosen(windows, np.concatenate([more, np.resize(fewer, len(more))]))


class ClipUnits(Frames):
    """Whole clips in pieces of at most `longest` frames to be predicted, each frame of each clip in exactly one.

    Every piece has `margin` frames of context on both sides, or with `causal` twice as many before it and none after:
    those of the clip itself, beyond its ends the end repeated. All pieces of a clip are equally long; the last one
    begins early enough for that and predicts only what is left.
    """

    def __init__(self, samples: Dataset, longest: int, margin: int = 0, causal: bool = False) -> None:
        super().__init__(samples)
        if longest < 1 or margin < 0:
            raise ValueError(f"pieces of {longest} frames with a margin of {margin}: at least 1 and 0")
        self.before, self.after = (2 * margin, 0) if causal else (margin, margin)
        found: list[tuple[int, int, int, int, int]] = []
        for clip, frames in enumerate(self.clips.lengths.tolist()):
            length = min(frames, longest)
            for first in range(0, frames, longest):
                start = min(first, frames - length)
                there = np.flatnonzero(self._there(clip, np.arange(first, start + length)))
                if len(there):
                    main = self.clips.rows[self.clips.offsets[clip] + first + there[0]]
                    found.append((clip, first, start, length, int(main)))
        self.pieces = np.array(found, dtype=np.int64).reshape(-1, 5)  # (U, 5)
        self.sample_index = self.owners[self.pieces[:, 4]]  # (U,): the sample that a unit's id is of

    def __len__(self) -> int:
        return len(self.pieces)

    def item(self, index: int) -> Sample:
        clip, first, start, length = self.pieces[index, :4].tolist()
        frames = np.arange(start - self.before, start + length + self.after)
        wanted = (frames >= first) & (frames < start + length)
        return self.put_together(clip, frames, wanted & self._there(clip, frames))
