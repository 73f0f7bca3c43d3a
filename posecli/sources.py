"""What `infer` reads: pictures, folders, patterns, videos and cameras, as one stream of frames."""

from __future__ import annotations

import glob
import math
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np

from posecli.console import PosecliError
from posecli.images import UnreadableImage, mute_opencv, read_image
from posecli.types import ImageArray

Item = TypeVar("Item")
Kind = Literal["picture", "video", "camera"]

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
USUAL_RATE = 25.0
"""Frames a second where a video or camera does not say."""


@dataclass(frozen=True)
class Source:
    """One picture, video or camera. `name` is how the user wrote it, and the id of its predictions."""

    name: str
    kind: Kind
    place: Path | int  # a file, or the camera's number


@dataclass(frozen=True)
class Frame:
    """One picture on its way to the model."""

    source: Source
    index: int  # number within its video, 0 for a picture
    image: ImageArray  # (H, W, 3) RGB uint8
    rate: float = 0.0  # frames a second, 0 for a picture

    @property
    def id(self) -> str:
        """The source's name, for a video or camera with the frame's number: `clip.mp4#12`."""
        return self.source.name if self.source.kind == "picture" else f"{self.source.name}#{self.index}"


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """What the arguments name, in their order, each file once.

    An argument is a file, a folder (its pictures and videos in the order of their names, without subfolders), a
    pattern with * or ?, or the number of a camera. Raises PosecliError for what is not there.
    """
    found: dict[object, Source] = {}
    for argument in arguments:
        for source in _find(argument):
            key = source.place.resolve() if isinstance(source.place, Path) else source.place
            found.setdefault(key, source)
    return list(found.values())


def _find(argument: str) -> list[Source]:
    path = Path(argument).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return [_file(path)]
    if argument.isdigit():
        return [Source(f"camera{argument}", "camera", int(argument))]
    if glob.has_magic(argument):
        return _pattern(str(path))
    raise PosecliError(f"no such file or folder: {argument} (looked for {path.absolute()}){_near(path)}")


def _folder(path: Path) -> list[Source]:
    entries = sorted(entry for entry in path.iterdir() if _readable(entry))
    if not entries:
        raise PosecliError(
            f"no pictures or videos in the folder {path}: looked for {', '.join(PICTURES + VIDEOS)}, but "
            f"not in subfolders; for those give a pattern such as '{path}/**/*.jpg'"
        )
    return [_file(entry) for entry in entries]


def _pattern(pattern: str) -> list[Source]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    entries = [match for match in matches if _readable(match)]
    if not entries:
        raise PosecliError(f"no picture or video matches {pattern} (looked from {Path.cwd()})")
    return [_file(entry) for entry in entries]


def _readable(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in PICTURES + VIDEOS and not path.name.startswith(".")


def _file(path: Path) -> Source:
    return Source(path.as_posix(), "video" if path.suffix.lower() in VIDEOS else "picture", path)


def _near(path: Path) -> str:
    """A hint with the files of the same stem, for a wrong suffix."""
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    alike = sorted(entry.name for entry in folder.iterdir() if path.stem and entry.stem.lower() == path.stem.lower())
    return f"; did you mean {alike[0]}?" if alike else ""


def output_stems(sources: Sequence[Source]) -> dict[Source, str]:
    """The stem of all files that are written of each source: its own, numbered where several pictures share it.

    Videos and cameras are numbered among themselves.
    """
    stems: dict[Source, str] = {}
    taken: set[tuple[bool, str]] = set()
    for source in sources:
        own, still, number = Path(source.name).stem, source.kind == "picture", 1
        stem = own
        while (still, stem.lower()) in taken:  # some file systems take A.jpg for a.jpg
            number += 1
            stem = f"{own}-{number}"
        taken.add((still, stem.lower()))
        stems[source] = stem
    return stems


@dataclass
class Reader:
    """The frames of `sources`, one after the other; holds one at a time.

    What cannot be read is left out and listed in `skipped`, as "path: reason"; with `strict` it raises UnreadableImage.
    A camera goes on until `stop` is set.
    """

    sources: Sequence[Source]
    strict: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        for source in self.sources:
            if self.stop.is_set():
                return
            try:
                yield from self._picture(source) if source.kind == "picture" else self._video(source)
            except UnreadableImage as error:
                if self.strict:
                    raise
                self.skipped.append(str(error))

    def _picture(self, source: Source) -> Iterator[Frame]:
        assert isinstance(source.place, Path)
        yield Frame(source, 0, read_image(source.place))

    def _video(self, source: Source) -> Iterator[Frame]:
        capture = _open(source)
        try:
            rate, promised = _rate(capture), _frame_count(capture)
            index = 0
            while not self.stop.is_set():
                read, pixels = capture.read()
                if not read:
                    _check_length(source, index, promised)
                    return
                yield Frame(source, index, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8), rate)
                index += 1
        finally:
            capture.release()

    def count(self) -> int | None:
        """How many frames will come, None when a video or camera does not say. Opens every video."""
        total = 0
        for source in self.sources:
            count = 1 if source.kind == "picture" else _length(source)
            if count is None:
                return None
            total += count
        return total


def _open(source: Source) -> cv2.VideoCapture:
    """The opened video or camera, turned upright as its file asks. Raises UnreadableImage."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    mute_opencv()
    if isinstance(source.place, int):
        capture = cv2.VideoCapture(source.place)
        if not capture.isOpened():
            raise PosecliError(f"no camera {source.place}: it does not exist, is in use, or may not be opened")
        return capture
    capture = cv2.VideoCapture(str(source.place), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise UnreadableImage(f"{source.name}: not a video that can be decoded, or cut off")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _rate(capture: cv2.VideoCapture) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0 < rate <= 1000 else USUAL_RATE


def _frame_count(capture: cv2.VideoCapture) -> int | None:
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and 0 < count < 1e9 else None


def _length(source: Source) -> int | None:
    if source.kind == "camera":
        return None
    try:
        capture = _open(source)
    except UnreadableImage:
        return 0
    try:
        return _frame_count(capture)
    finally:
        capture.release()


def _check_length(source: Source, read: int, promised: int | None) -> None:
    """Raises UnreadableImage when a video ended well before the length its file gives, which may be an estimate."""
    if read == 0:
        raise UnreadableImage(f"{source.name}: no frame could be decoded")
    if promised is not None and source.kind == "video" and read < 0.95 * promised - 2:
        raise UnreadableImage(f"{source.name}: cut off or damaged: {read} of about {promised} frames could be decoded")


def prefetch(items: Iterable[Item], depth: int, stop: threading.Event) -> Iterator[Item]:
    """The same items, made up to `depth` ahead in a thread. Errors arrive where the item would have.

    Ends early when `stop` is set; leaving the loop stops the thread.
    """
    waiting: queue.Queue[Callable[[], Item] | None] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def fill() -> None:
        try:
            for item in items:
                if not _put(waiting, _Ready(item), closed):
                    return
            _put(waiting, None, closed)
        except BaseException as error:
            _put(waiting, _Failed(error), closed)

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while not stop.is_set():
            try:
                ready = waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            if ready is None:
                return
            yield ready()
    finally:
        closed.set()
        thread.join(timeout=5)


@dataclass(frozen=True)
class _Ready:
    item: Any

    def __call__(self) -> Any:
        return self.item


@dataclass(frozen=True)
class _Failed:
    error: BaseException

    def __call__(self) -> Any:
        raise self.error


def _put(waiting: queue.Queue[Any], value: object, closed: threading.Event) -> bool:
    """Wait for room; False when nobody listens any more."""
    while not closed.is_set():
        try:
            waiting.put(value, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
