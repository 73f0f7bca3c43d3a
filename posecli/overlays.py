"""Overlays on disk: a picture for each picture, a video for each video, under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from posecli.console import PosecliError, RunFailed
from posecli.files import atomic_path, write_bytes
from posecli.images import mute_opencv
from posecli.sources import USUAL_RATE, Frame, Reader, Source, output_stems
from posecli.types import ImageArray

KEPT_SUFFIXES = (".jpg", ".jpeg", ".png")
QUALITY = 92
MPEG_LIMIT = 2**16


def overlay_paths(sources: Sequence[Source], folder: Path) -> dict[Source, Path]:
    """Where each source's overlay goes: its own file name, numbered where two have the same stem.

    Raises PosecliError when an overlay would take the place of a source.
    """
    originals = {source.place.resolve() for source in sources if isinstance(source.place, Path)}
    paths: dict[Source, Path] = {}
    for source, stem in output_stems(sources).items():
        path = folder / (stem + _suffix(source))
        if path.resolve() in originals:
            raise PosecliError(
                f"the overlay {path} would take the place of its source: choose another folder with --out"
            )
        paths[source] = path
    return paths


def _suffix(source: Source) -> str:
    if source.kind != "picture":
        return ".mp4"
    suffix = Path(source.name).suffix
    return suffix if suffix.lower() in KEPT_SUFFIXES else ".jpg"


class Overlays:
    """Writes drawn frames as they come, source by source. Used as a context: on leaving it, the last video is ended."""

    def __init__(self, paths: Mapping[Source, Path]) -> None:
        self.paths = paths
        self._video: _Video | None = None

    def __enter__(self) -> Overlays:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._video is not None:
            self._video.close(keep=kind is None)
            self._video = None

    def write(self, frame: Frame, drawn: ImageArray) -> None:
        """Write a picture, or the next frame of a video. Raises RunFailed when the disk is full.

        Of a video that is said when it ends.
        """
        if self._video is not None and self._video.source != frame.source:
            self._video.close(keep=True)
            self._video = None
        if frame.source.kind == "picture":
            write_bytes(self.paths[frame.source], encode(drawn, self.paths[frame.source].suffix))
            return
        if self._video is None:
            self._video = _Video(frame, self.paths[frame.source], drawn.shape[1::-1])
        self._video.write(drawn)


def encode(image: ImageArray, suffix: str) -> bytes:
    """An RGB picture as the bytes of a file with that suffix."""
    options = [] if suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    _, encoded = cv2.imencode(suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return bytes(encoded.tobytes())


def video_rate(rate: float) -> float:
    """Frames a second, up to 1000, as MPEG-4 can say them: as a decimal fraction whose numbers are below 2^16."""
    rounded = (round(rate, decimals) for decimals in (3, 2, 1))
    return next(value for value, scale in zip(rounded, (1000, 100, 10), strict=True) if value * scale < MPEG_LIMIT)


class _Video:
    """One MPEG-4 video, written beside its final place. Odd widths and heights lose their last line, as MPEG asks, and
    a single line is doubled."""

    def __init__(self, frame: Frame, path: Path, size: tuple[int, ...]) -> None:
        self.source = frame.source
        self.path = path
        self.size = (max(size[0] - size[0] % 2, 2), max(size[1] - size[1] % 2, 2))
        self._frames = 0
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path))
        mute_opencv()  # of a full disk it tells at every frame
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._temporary), code, video_rate(frame.rate or USUAL_RATE), self.size)
        if not self._writer.isOpened():
            self.close(keep=False)
            raise RunFailed(f"cannot write the video {path}: this OpenCV has no MPEG-4 encoder; use --no-draw")

    def write(self, image: ImageArray) -> None:
        if image.shape[1::-1] != self.size:
            inside = image[: self.size[1], : self.size[0]]
            image = inside if inside.shape[1::-1] == self.size else np.asarray(cv2.resize(image, self.size), np.uint8)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self, keep: bool) -> None:
        """End the video; without `keep` it vanishes, as does one that is not whole. Raises RunFailed for that."""
        self._writer.release()
        if keep and self._is_whole():
            self._stack.close()
            return
        self._stack.pop_all()
        self._temporary.unlink(missing_ok=True)
        if keep:
            raise RunFailed(
                f"the video {self.path} could not be written whole: most likely no space is left, free some and run "
                f"again; with --no-draw there are only results"
            )

    def _is_whole(self) -> bool:
        """Whether the ended video has all its frames; one that the disk had no room for has no end and counts none."""
        written = Source(self._temporary.name, "video", self._temporary)
        return Reader([written]).count() == self._frames
