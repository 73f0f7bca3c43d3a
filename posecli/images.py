"""Reading pictures: RGB uint8 whatever the file holds, at reduced scale and no further down than is needed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from posecli import geometry
from posecli.console import PosecliError
from posecli.types import FloatArray, ImageArray, ImageSource

REDUCED_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
JPEG_SUFFIXES = {".jpg", ".jpeg"}
PLAIN_PIXELS = 2**26  # of a plain JPEG at most; others are left to OpenCV, which refuses those without measure
ROWS = 16  # of a JPEG are coded together, at most
CONTEXT = 2  # rows below a row that its colours may depend on
AHEAD_BYTES = 2**20  # files up to this size are read before their turn to be decoded

SAME = 1e-6  # of a factor: rounding
PartReader = Callable[[ImageArray | None], ImageArray]
"""Reads a part of a picture, (H, W, 3) uint8 RGB; into the memory that it is given, where that has this shape."""


class UnreadableImage(PosecliError):
    """A picture is missing, truncated or of an unknown format."""


_may_stop_early = False


def stop_early() -> None:
    """From now on this process may decode JPEGs down to the last row that is needed, and no further.

    The decoder then complains of the rest on the standard error of the process, whose C libraries must be muted.
    """
    global _may_stop_early
    _may_stop_early = True


def read_image(image: ImageSource, reduce: int = 1, rows: int | None = None) -> ImageArray:
    """The picture as RGB uint8 (H, W, 3).

    EXIF rotation is applied; grey, 16-bit and transparent pictures become RGB uint8. `reduce` in 1, 2, 4, 8 shrinks
    a file while it is decoded; pixels and callables ignore it. With `rows` only so many of the file's upper rows are
    needed: those below may be missing. Raises UnreadableImage.
    """
    if not isinstance(image, Path):
        return image if isinstance(image, np.ndarray) else image()
    return _decoder(image, reduce, rows)()


def part_reader(image: ImageSource, matrix: FloatArray, size: tuple[int, int], *, rough: bool = False) -> PartReader:
    """What reads the part of the picture that `warp` would make, once it is called.

    The picture is decoded no further down than the part goes. With `rough`, for training, a JPEG is decoded at reduced
    scale where the part shrinks it by as much, and by libjpeg's quick ways otherwise. All that is small is done at
    once: where the pixels lie, and what a file holds, unless it is large. Raises UnreadableImage, now or then.
    """
    reduce = reduction_for(image, matrix) if rough else 1
    if reduce > 1:
        matrix = geometry.compose(matrix, geometry.invert(geometry.reduction_matrix(reduce)))
    piece = _piece(matrix, size)
    if isinstance(image, Path):
        decode = _decoder(image, reduce, piece.rows.stop * reduce, _Ways(opaque=True, rough=rough))
    else:
        decode = functools.partial(read_image, image)
    return lambda out: _warp(decode(), piece, size, out)


def reduction_for(image: ImageSource, matrix: FloatArray) -> int:
    """The largest factor at which `image` may be decoded when `matrix` (2, 3) will shrink it by as much anyway.

    Only JPEG decodes faster at reduced scale. What is left has at least the part's resolution.
    """
    if not isinstance(image, Path) or image.suffix.lower() not in JPEG_SUFFIXES:
        return 1
    (a, b, _), (c, d, _) = matrix.tolist()
    area = abs(a * d - b * c)  # of the part, for each pixel of the picture
    return next((factor for factor in (8, 4, 2) if area * factor**2 <= 1 + SAME), 1)


def warp(image: ImageArray, matrix: FloatArray, size: tuple[int, int]) -> ImageArray:
    """The part of a picture (H, W, 3) that `matrix` (2, 3) maps into `size` (width, height).

    Black outside, bilinear.
    """
    return _warp(image, _piece(matrix, size), size)


class _Piece(NamedTuple):
    """What a part is made of: rows and columns of the picture, and the map (2, 3) of their pixels to the part's."""

    rows: slice
    columns: slice
    matrix: FloatArray


def _piece(matrix: FloatArray, size: tuple[int, int]) -> _Piece:
    """The rectangle that `matrix` (2, 3) maps into `size`, and a little around it."""
    (a, b, x), (c, d, y) = geometry.invert(matrix).tolist()
    across, down = size[0] - 1, size[1] - 1
    left, right = int(x + min(a * across, 0) + min(b * down, 0)) - 2, int(x + max(a * across, 0) + max(b * down, 0)) + 3
    top, bottom = int(y + min(c * across, 0) + min(d * down, 0)) - 2, int(y + max(c * across, 0) + max(d * down, 0)) + 3
    left, top = max(left, 0), max(top, 0)
    (a, b, x), (c, d, y) = matrix.tolist()
    shifted = np.array([[a, b, x + a * left + b * top], [c, d, y + c * left + d * top]])
    return _Piece(slice(top, max(bottom, 0)), slice(left, max(right, 0)), shifted)


def _warp(image: ImageArray, piece: _Piece, size: tuple[int, int], out: ImageArray | None = None) -> ImageArray:
    """See warp; written into `out`, uint8 and contiguous, where that has the shape (height, width, 3).

    The piece is copied to four channels first, unless the picture has them: OpenCV warps four a pixel twice as fast as
    three, with the same result.
    """
    width, height = size
    pixels = image[piece.rows, piece.columns]
    if out is None or out.shape != (height, width, 3):
        out = np.empty((height, width, 3), np.uint8)
    if not pixels.size:
        out[:] = 0
        return out
    four = pixels if pixels.shape[2] == 4 else cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, piece.matrix, size, flags=cv2.INTER_LINEAR)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
    return out


class _Ways(NamedTuple):
    """What pixels need not be."""

    opaque: bool = False  # there may be a fourth channel of 255, where it costs nothing
    rough: bool = False  # they may be off by rounding, and by colours at the edges of colours, where that is faster


EXACT = _Ways()


def _decoder(path: Path, reduce: int, rows: int | None, ways: _Ways = EXACT) -> Callable[[], ImageArray]:
    """What decodes the file when it is called: it holds the file's content by then, unless that is large.

    No more than `rows` are decoded where that can be.
    """
    length = _length(path)
    encode = functools.partial(_encoded, path, length, rows)
    if length > AHEAD_BYTES:
        return lambda: _decode(encode(), reduce, ways)
    return functools.partial(_decode, encode(), reduce, ways)


class _Encoded(NamedTuple):
    """A picture file's content, and the height and width of a plain JPEG as far as it is to be decoded."""

    path: Path
    content: ImageArray
    plain: tuple[int, int] | None


def _encoded(path: Path, length: int, rows: int | None) -> _Encoded:
    """What the file of `length` bytes holds, changed so that no more than `rows` are decoded where that can be.

    Ends are checked: OpenCV fills the missing part of a truncated JPEG with grey, and libpng prints what it misses.
    """
    try:
        content = _content(path, length)
    except OSError as error:
        raise _unreadable(path, error) from error
    head = content.data
    plain = _plain_jpeg(head)
    if not ends_as_jpeg(content, 0 if plain is None else plain.scan):
        raise UnreadableImage(f"{path}: truncated JPEG")
    if not ends_as_png(content):
        raise UnreadableImage(f"{path}: truncated PNG")
    if plain is None:
        return _Encoded(path, content, None)
    if rows is not None and _may_stop_early:
        _shorten(head, plain.height, rows)
    return _Encoded(path, content, (_number(head, plain.height), _number(head, plain.height + 2)))


def _decode(encoded: _Encoded, reduce: int, ways: _Ways) -> ImageArray:
    """RGB pixels, or RGBA, see _decoder."""
    path, content, plain = encoded
    decode_plain = _plain_decoder() if reduce == 1 else None
    if plain is not None and decode_plain is not None:
        try:
            return decode_plain(content, _pixels(*plain, 4 if ways.opaque else 3), ways.rough)
        except ValueError:
            pass  # OpenCV judges
    mute_opencv()
    try:
        decoded = cv2.imdecode(content, REDUCED_FLAGS[reduce]) if len(content) else None
    except cv2.error as error:
        raise UnreadableImage(f"{path}: {error}") from error
    if decoded is None:
        raise UnreadableImage(f"{path}: not a picture that can be decoded")
    if reduce > 1:  # OpenCV has no flag for reduced RGB
        cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
    return np.asarray(decoded, dtype=np.uint8)


@functools.cache
def _plain_decoder() -> Callable[[ImageArray, ImageArray, bool], ImageArray] | None:
    """Writes a JPEG's pixels into an array (H, W, 3 or 4) by simplejpeg, where it is installed.

    It has OpenCV's libjpeg-turbo, so the same pixels unless they may be rough, and saves copying them. Rough ones are
    1.4 grey levels off on average, 0.6 in luma. Raises ValueError.
    """
    try:
        import simplejpeg
    except ImportError:
        return None

    def decode(encoded: ImageArray, pixels: ImageArray, rough: bool) -> ImageArray:
        colors = "RGB" if pixels.shape[2] == 3 else "RGBA"
        return np.asarray(simplejpeg.decode_jpeg(encoded, colors, rough, rough, buffer=pixels, strict=False))

    return decode


def _pixels(height: int, width: int, channels: int) -> ImageArray:
    """Memory for a plain JPEG's pixels, which begins beside the multiples of 16 bytes.

    Where all rows begin at such multiples, libjpeg-turbo writes past the processor's cache; a warp, which reads them
    next, then takes one and a half times as long.
    """
    count = height * width * channels
    memory = np.empty(count + 16, np.uint8)
    start = (8 - memory.ctypes.data) % 16
    return memory[start : start + count].reshape(height, width, channels)


def _number(encoded: memoryview, place: int) -> int:
    """Two bytes of a JPEG's header."""
    return encoded[place] << 8 | encoded[place + 1]


def _length(path: Path) -> int:
    """Bytes of a file."""
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _content(path: Path, length: int) -> ImageArray:
    """The bytes of a file, `length` at most."""
    with open(path, "rb", buffering=0) as file:
        content = np.empty(length, np.uint8)
        return content[: file.readinto(content.data)]


def _unreadable(path: Path, error: OSError) -> UnreadableImage:
    return UnreadableImage(f"{path}: {error.strerror or error}")


def ends_as_jpeg(encoded: np.ndarray, start: int = 0) -> bool:
    """Whether a JPEG's end marker FF D9 is there, from `start` on; some cameras pad the file after it."""
    if encoded[:2].tobytes() != b"\xff\xd8":
        return True  # not a JPEG whatever its name says; the decoder judges
    return encoded[-2:].tobytes() == b"\xff\xd9" or b"\xff\xd9" in encoded[max(start, len(encoded) - 65536) :].tobytes()


def ends_as_png(encoded: np.ndarray) -> bool:
    """Whether a PNG's last chunk is there; something may follow it."""
    return encoded[:4].tobytes() != b"\x89PNG" or b"IEND" in encoded[-65536:].tobytes()


@functools.cache  # once is enough
def mute_opencv() -> None:
    """Let OpenCV be silent in this process: what it prints of itself names neither the file nor a remedy."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _shorten(encoded: memoryview, height_place: int, rows: int) -> None:
    """Let a JPEG's header say that there are only its first `rows`, and those that are coded together with them.

    The decoder stops there, with the same pixels above.
    """
    rows = -(-(rows + CONTEXT) // ROWS) * ROWS
    if rows < _number(encoded, height_place):
        encoded[height_place], encoded[height_place + 1] = rows >> 8, rows & 255


class _PlainJpeg(NamedTuple):
    """Where a plain JPEG has what is looked for."""

    height: int  # its two bytes, before those of the width
    scan: int  # the pixels, after all else


def _plain_jpeg(encoded: memoryview) -> _PlainJpeg | None:
    """The places in a plain JPEG (ITU-T T.81, B.2); None for any other file.

    In a plain one, rows are coded one after the other, in one scan, and no EXIF turns the picture.
    """
    if bytes(encoded[:2]) != b"\xff\xd8":
        return None
    place, at, parts = None, 2, 0
    while at + 12 <= len(encoded) and encoded[at] == 0xFF:
        kind, length = encoded[at + 1], _number(encoded, at + 2)
        if kind == 0xE1 and bytes(encoded[at + 4 : at + 8]) == b"Exif":
            return None
        if kind in (0xC0, 0xC1):
            if encoded[at + 4] != 8 or _number(encoded, at + 5) * _number(encoded, at + 7) > PLAIN_PIXELS:
                return None
            place, parts = at + 5, encoded[at + 9]
        elif 0xC2 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return None  # progressive, lossless or arithmetic
        elif kind == 0xDA:
            return None if place is None or encoded[at + 4] != parts else _PlainJpeg(place, at + 2 + length)
        at += 2 + length
    return None
