"""A job of `infer`: pictures, videos and cameras in; people, and pictures of them, out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np

from posecli import console, distributed
from posecli.console import PosecliError, listed
from posecli.detection import BoxFile
from posecli.drawing import PAPER, draw_people
from posecli.exports import Exports
from posecli.films import Film, Numbering, Smoothing, Step, films, patience, refine
from posecli.lifting import Lifting, Stage, beside
from posecli.overlays import Overlays, overlay_paths
from posecli.predictor import BoxesFromFile, Predictor
from posecli.results import Line, in_picture, iterate_results, read_header, results_writer, to_coco_json, write_csv
from posecli.skeleton import Skeleton
from posecli.smoothing import Smoother
from posecli.sources import Frame, Reader, Source, prefetch
from posecli.tracking import Measure, make_tracker
from posecli.types import ImageArray, People, Prediction, SampleId

RESULTS = "results.jsonl"
POSE2D = "pose2d.jsonl"
COCO_RESULTS = "coco_results.json"
CSV_RESULTS = "keypoints.csv"
HELD_BYTES = 32 << 20
"""How many bytes of pictures are predicted together at most, so that large frames do not fill the memory."""
LEAST_STAGE, MOST_STAGE = 360, 1080
"""Pixels of the side of a 3D view beside a frame."""


# --- a whole job ----------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What came of a job."""

    pictures: int = 0
    videos: int = 0  # and cameras
    frames: int = 0  # of both
    people: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)  # "path: reason"
    stopped: bool = False  # by the user, before the end

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Count one frame."""
        self.pictures += frame.source.kind == "picture"
        self.videos += frame.source.kind != "picture" and frame.index == 0
        self.frames += 1
        self.people += len(prediction.people)

    def add_film(self, film: Film) -> None:
        """Count the frames of one film, or a picture."""
        self.pictures += not film.moving
        self.videos += film.moving
        self.frames += len(film.lines)
        self.people += sum(len(people) for people in film.people)


@dataclass(frozen=True)
class Motion:
    """What is made of people who move."""

    track: Measure | None = None  # how people are told apart from frame to frame
    smoother: Smoother | None = None  # for the tracks of what comes out, 2D or 3D
    lifting: Lifting | None = None

    @property
    def whole_films(self) -> bool:
        """Whether something waits until all frames of a film are known."""
        return self.smoother is not None or self.lifting is not None

    @property
    def steps(self) -> list[Step]:
        """What is done to whole films."""
        smoothing: list[Step] = [] if self.smoother is None else [Smoothing(self.smoother)]
        return smoothing if self.lifting is None else [self.lifting, *smoothing]


STILL = Motion()


def infer(
    sources: Sequence[Source],
    predictor: Predictor,
    out: Path,
    *,
    motion: Motion = STILL,
    threshold: float = 0.3,
    draw: bool = True,
    strict: bool = False,
    stop: threading.Event | None = None,
) -> Found:
    """Predict every frame and write `results.jsonl`, COCO results, long CSV and, with `draw`, overlays into `out`.

    Where `motion` needs whole films, frames are predicted first, then films are smoothed and lifted, then videos are
    read again to draw them; a lifter's 2D people are in `pose2d.jsonl`, its 3D people in the results. Memory holds the
    people of one film and never its frames. What an algorithm makes of a picture beside keypoints, such as a mesh, lies
    under the picture's name. Setting `stop` ends early with whole files. With torch.distributed every rank takes its
    own stretch of the sources, and the first one puts the results together. What cannot be read is skipped and listed;
    with `strict` it raises UnreadableImage. Raises PosecliError when nothing could be read.
    """
    paths = overlay_paths(sources, out)
    _check_boxes(predictor, sources)
    rank, world = distributed.rank(), distributed.world()
    own = sources[len(sources) * rank // world : len(sources) * (rank + 1) // world]
    reader = Reader(own, strict, stop or threading.Event())
    start = time.perf_counter()
    files = Files(out, rank, world, motion.lifting is not None)
    painter = Painter(predictor.algorithm.draw, threshold)
    exports = Exports(sources, out, predictor.algorithm.files)
    with files.parts():
        with Overlays(paths if draw and not motion.whole_films else {}) as overlays:
            found = _predict_all(reader, predictor, motion.track, files.first, overlays, painter, exports)
        if motion.whole_films:
            refine(files.first, files.last, (motion.lifting or predictor).header, motion.steps)
            if draw:
                seen = [source for source in own if source.kind != "camera"]  # what a camera saw is gone
                again = Reader(seen, stop=reader.stop)
                _draw_films(again, files, motion.lifting, painter, Overlays(paths), found.frames)
        found.seconds = time.perf_counter() - start
        return _put_together(found, files)


def infer_results(
    results: Path,
    out: Path,
    motion: Motion,
    *,
    threshold: float = 0.3,
    draw: bool = True,
    stop: threading.Event | None = None,
) -> Found:
    """Lift the 2D keypoints of a results file; what is written into `out` is as for `infer`, drawn on plain paper.

    Raises PosecliError when the file is no results file, is empty, or holds no 2D keypoints.
    """
    assert motion.lifting is not None
    start, stop = time.perf_counter(), stop or threading.Event()
    header = read_header(results)
    files = Files(out, 0, 1, lifts=True)
    if files.first.resolve() == results.resolve() or files.last.resolve() == results.resolve():
        raise PosecliError(f"the results in {out} would take the place of {results}: choose another folder with --out")
    found = Found()
    for film in films(results):
        motion.lifting.dataset(film)  # what is wrong with the file is said before anything is written
        found.add_film(film)
    if not found.frames:
        raise PosecliError(f"{results} holds no frame: there is nothing to lift")
    refine(results, files.first, header, [] if motion.track is None else [Numbering(motion.track, header.skeleton)])
    refine(files.first, files.last, motion.lifting.header, motion.steps)
    if draw:
        painter = Painter(functools.partial(_draw_flat, skeleton=header.skeleton), threshold)
        overlays = Overlays(overlay_paths([_film_source(film) for film in films(results)], out))
        _draw_films(_blank_frames(files.first, stop), files, motion.lifting, painter, overlays, found.frames)
    found.seconds, found.stopped = time.perf_counter() - start, stop.is_set()
    return _put_together(found, files)


@dataclass(frozen=True)
class Files:
    """Where one rank's results go: those of the first pass over the frames, and those that are given out."""

    out: Path
    rank: int
    world: int
    lifts: bool

    @property
    def names(self) -> list[str]:
        """The results files in the folder, in the order in which they are made."""
        return [POSE2D, RESULTS] if self.lifts else [RESULTS]

    @property
    def first(self) -> Path:
        """2D people as they are predicted."""
        return self.part(self.names[0], self.rank)

    @property
    def last(self) -> Path:
        """What comes out of all steps."""
        return self.part(self.names[-1], self.rank)

    def part(self, name: str, rank: int) -> Path:
        """A rank's part of a file: the file itself when there is one rank."""
        return self.out / name if self.world == 1 else self.out / f".{name}.{rank}"

    @contextmanager
    def parts(self) -> Iterator[None]:
        """Remove this rank's parts where the block that puts them together fails."""
        try:
            yield
        except BaseException:
            for name in self.names if self.world > 1 else []:
                self.part(name, self.rank).unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class Painter:
    """How 2D people are drawn over a frame."""

    draw: Callable[[ImageArray, Prediction, float], ImageArray]
    threshold: float

    def __call__(self, image: ImageArray, prediction: Prediction) -> ImageArray:
        return self.draw(image, prediction, self.threshold)


def _predict_all(
    reader: Reader,
    predictor: Predictor,
    track: Measure | None,
    results: Path,
    overlays: Overlays,
    painter: Painter,
    exports: Exports,
) -> Found:
    found = Found()
    total = reader.count() if console.interactive() else None
    # reading, predicting and writing run side by side, each in a thread; what waits between them is a chunk of frames
    prepared = (predictor.prepare(frames) for frames in chunked(reader, predictor.batch_size))
    predicted = ((work.frames, predictor.predict(work)) for work in prefetch(prepared, 1, reader.stop))
    numbers = _Numbers(predictor.algorithm.skeleton, track)
    with results_writer(results, predictor.header) as write, console.progress(total, "infer", "frame") as bar:
        for frames, predictions in prefetch(predicted, 1, reader.stop):
            for frame, found_now in zip(frames, predictions, strict=True):
                prediction = numbers(frame, found_now)
                write(_line(frame, prediction))
                if overlays.paths:
                    overlays.write(frame, painter(frame.image, prediction))
                exports.write(frame, prediction)
                found.add(frame, prediction)
            bar.update(len(frames))
    found.skipped, found.stopped = reader.skipped, reader.stop.is_set()
    return found


class _Numbers:
    """Numbers the people of videos as their frames come; everybody in a picture is seen once."""

    def __init__(self, skeleton: Skeleton, track: Measure | None) -> None:
        self.skeleton = skeleton
        self.track = track
        self.source: Source | None = None

    def __call__(self, frame: Frame, prediction: Prediction) -> Prediction:
        if self.track is None or frame.source.kind == "picture":
            return prediction
        if frame.source != self.source:
            self.source = frame.source
            self.tracker = make_tracker(self.track, self.skeleton, patience(frame.rate))
        people = prediction.people
        return Prediction(prediction.id, people.with_extra(track_id=self.tracker(people)))


def _line(frame: Frame, prediction: Prediction) -> Line:
    name = frame.source.name if isinstance(frame.source.place, Path) else None
    return Line(prediction, name, (frame.image.shape[1], frame.image.shape[0]), frame.rate or None)


# --- drawing what is known afterwards -------------------------------------------------------------------------------


def _draw_films(
    frames: Iterable[Frame], files: Files, lifting: Lifting | None, painter: Painter, overlays: Overlays, total: int
) -> None:
    """Draw the results over frames, which come in the same order; those without a result are left out."""
    shown = _flat_drawings(files.last, painter) if lifting is None else _deep_drawings(files, lifting, painter)
    with overlays, console.progress(total, "draw", "frame") as bar:
        wanted, drawing = next(shown, (None, None))
        for frame in frames:
            if frame.id == wanted and drawing is not None:
                overlays.write(frame, drawing(frame.image))
                bar.update(1)
                wanted, drawing = next(shown, (None, None))


Drawing = Callable[[ImageArray], ImageArray]


def _flat_drawings(results: Path, painter: Painter) -> Iterator[tuple[SampleId, Drawing]]:
    for prediction in iterate_results(results):
        yield prediction.id, functools.partial(painter, prediction=prediction)


def _deep_drawings(files: Files, lifting: Lifting, painter: Painter) -> Iterator[tuple[SampleId, Drawing]]:
    """The 2D people over the frame, the 3D people beside it."""
    for flat, deep in zip(films(files.first), films(files.last), strict=True):
        stage = Stage.of(flat, deep, lifting.algorithm.skeleton)
        for index, line in enumerate(flat.lines):
            yield line.prediction.id, functools.partial(_both, stage, index, painter, line.prediction)


def _both(stage: Stage, index: int, painter: Painter, prediction: Prediction, image: ImageArray) -> ImageArray:
    height = min(max(image.shape[0], LEAST_STAGE), MOST_STAGE)
    return beside(painter(image, prediction), stage.draw(index, height))


def _draw_flat(image: ImageArray, prediction: Prediction, threshold: float, skeleton: Skeleton) -> ImageArray:
    return draw_people(image, prediction.people, skeleton, threshold)


def _film_source(film: Film) -> Source:
    return Source(film.name, "video" if film.moving else "picture", Path(film.name))


def _blank_frames(results: Path, stop: threading.Event) -> Iterator[Frame]:
    """Empty paper of the frames' sizes."""
    for film in films(results):
        source = _film_source(film)
        for index, line in enumerate(film.lines):
            if stop.is_set():
                return
            assert line.size is not None
            paper = np.full((line.size[1], line.size[0], 3), PAPER, np.uint8)
            number = 0 if film.numbers is None else int(film.numbers[index])
            yield Frame(source, number, paper, film.rate if film.moving else 0.0)


# --- parts of a job -------------------------------------------------------------------------------------------------


def chunked(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Lists of up to `size` frames, fewer where frames are so large that they would hold more than HELD_BYTES."""
    chunk: list[Frame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size or sum(held.image.nbytes for held in chunk) >= HELD_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _check_boxes(predictor: Predictor, sources: Sequence[Source]) -> None:
    """Raises PosecliError when a box file knows none of the sources; says which ones it leaves out, and how much of it
    is used."""
    if not isinstance(predictor.find_boxes, BoxesFromFile):
        return
    file = predictor.find_boxes.file
    keys = [_box_keys(file, source) for source in sources]
    missing = [source for source, own in zip(sources, keys, strict=True) if not own]
    pictures = [source.name for source in missing if source.kind == "picture"]
    videos = [source.name for source in missing if source.kind != "picture"]
    form = f"frames are named {Path(videos[0]).name}#FRAME, from {Path(videos[0]).name}#0" if videos else ""
    if missing and len(missing) == len(sources):
        none = [f"none of the pictures, such as {pictures[0]}"] if pictures else []
        none += [f"no frame of {videos[0]} ({form})"] if videos else []
        raise PosecliError(
            f"the box file {file.path} names {', and '.join(none)}; "
            f"it has boxes for {', '.join(list(file.boxes)[:3]) or 'nothing'}"
        )
    if distributed.rank() != 0:
        return
    if pictures:
        console.warn(f"{len(pictures)} pictures are not in {file.path}, so nobody is looked for in {listed(pictures)}")
    if videos:
        console.warn(f"no frame of {listed(videos)} is in {file.path}, so nobody is looked for there; {form}")
    console.note(file.note({key for own in keys for key in own}))


def _box_keys(file: BoxFile, source: Source) -> list[str]:
    """What a box file calls a picture, or the frames of a video that it names."""
    if source.kind == "picture":
        key = file.key(source.name)
        return [] if key is None else [key]
    return [key for key in file.boxes if key.startswith((f"{source.name}#", f"{Path(source.name).name}#"))]


def _put_together(found: Found, files: Files) -> Found:
    """The ranks' counts added up, on every rank; the first one joins their results and writes the other formats.

    Where nothing could be read every rank leaves, the first one with a PosecliError, after they have met: one that
    still waits for another would fail with an error of its own.
    """
    together = _sum([Found(**fields) for fields in distributed.gather_json([dataclasses.asdict(found)])])
    nothing_read = together.frames == 0 and bool(together.skipped) and not together.stopped
    if files.rank == 0:
        if files.world > 1:
            for name in files.names:
                _join_parts(files, name)
        if nothing_read:
            for name in files.names:
                (files.out / name).unlink()
        else:
            _write_formats(files, together.videos > 0)
    distributed.barrier()
    if nothing_read and files.rank > 0:
        raise SystemExit(PosecliError.exit_code)
    if nothing_read:
        raise PosecliError(f"nothing could be read: {'; '.join(together.skipped[:5])}")
    return together


def _sum(parts: Sequence[Found]) -> Found:
    return Found(
        pictures=sum(part.pictures for part in parts),
        videos=sum(part.videos for part in parts),
        frames=sum(part.frames for part in parts),
        people=sum(part.people for part in parts),
        seconds=max(part.seconds for part in parts),
        skipped=[line for part in parts for line in part.skipped],
        stopped=any(part.stopped for part in parts),
    )


def _join_parts(files: Files, name: str) -> None:
    """One results file of the ranks' parts, in the order of the sources, line by line; the parts vanish."""
    from posecli.files import atomic_path

    parts = [files.part(name, rank) for rank in range(files.world)]
    with atomic_path(files.out / name) as temporary, temporary.open("wb") as joined:
        for number, path in enumerate(parts):
            with path.open("rb") as part:
                header = part.readline()
                joined.write(header if number == 0 else b"")
                joined.writelines(part)
    for path in parts:
        path.unlink()


def _write_formats(files: Files, tracked: bool) -> None:
    """COCO results (of 2D keypoints) and long CSV, from the results file, one prediction at a time."""
    results = files.out / RESULTS
    nobody = People.empty(0, 3 if files.lifts else 2)
    first = next((p.people for p in iterate_results(results) if len(p.people)), nobody)
    dimensions = first.keypoints.shape[2]
    if in_picture(first):
        to_coco_json(files.out / COCO_RESULTS, iterate_results(results))
    write_csv(files.out / CSV_RESULTS, iterate_results(results), read_header(results), dimensions, tracked)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that files are ended well; the second Ctrl-C stops at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.note("stopping: ending the files; again to stop at once")

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGINT, handle)
            stack.callback(signal.signal, signal.SIGINT, before)
        yield stop
