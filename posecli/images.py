"""Reading pictures: RGB uint8 whatever the file holds, at reduced scale and no further down than is needed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

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
    return _decode(image, reduce, rows)


def read_part(
    image: ImageSource, matrix: FloatArray, size: tuple[int, int], reduce: int = 1, out: ImageArray | None = None
) -> ImageArray:
    """What `warp` makes of the picture, decoded at reduced scale and no further down than the part goes."""
    if isinstance(image, Path):
        _, _, _, bottom = _bounds(matrix, size)
        pixels = _decode(image, reduce, rows=max(bottom, 0) + 3 * reduce, opaque=True)
    else:
        pixels = read_image(image)
    if reduce > 1:
        matrix = geometry.compose(matrix, geometry.invert(geometry.reduction_matrix(reduce)))
    return warp(pixels, matrix, size, out)


def reduction_for(image: ImageSource, shrink: float) -> int:
    """The largest factor at which `image` may be decoded when it will be shrunk `shrink` times anyway.

    Only JPEG decodes faster at reduced scale. What is left has at least the crop's resolution.
    """
    if not isinstance(image, Path) or image.suffix.lower() not in JPEG_SUFFIXES:
        return 1
    return next((factor for factor in (8, 4, 2) if shrink >= factor), 1)


def warp(image: ImageArray, matrix: FloatArray, size: tuple[int, int], out: ImageArray | None = None) -> ImageArray:
    """The part of a picture (H, W, 3) that `matrix` (2, 3) maps into `size` (width, height); black outside, bilinear.

    It is written into `out`, uint8 and contiguous, where that has the shape (height, width, 3).

    The part is copied to four channels first, unless the picture has them: OpenCV warps four a pixel twice as fast as
    three, with the same result.
    """
    width, height = size
    left, top, right, bottom = _bounds(matrix, size)
    left, top = max(left, 0), max(top, 0)
    part = image[top : max(bottom, 0), left : max(right, 0)]
    if out is None or out.shape != (height, width, 3):
        out = np.empty((height, width, 3), np.uint8)
    if not part.size:
        out[:] = 0
        return out
    (a, b, x), (c, d, y) = matrix.tolist()
    shifted = np.array([[a, b, x + a * left + b * top], [c, d, y + c * left + d * top]])
    four = part if part.shape[2] == 4 else cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, shifted, size, flags=cv2.INTER_LINEAR)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
    return out


def _bounds(matrix: FloatArray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part that `matrix` (2, 3) maps into `size`, and a little around it."""
    a, b, x, c, d, y = geometry.invert(matrix).ravel().tolist()
    across, down = size[0] - 1, size[1] - 1
    left, right = int(x + min(a * across, 0) + min(b * down, 0)) - 2, int(x + max(a * across, 0) + max(b * down, 0)) + 3
    top, bottom = int(y + min(c * across, 0) + min(d * down, 0)) - 2, int(y + max(c * across, 0) + max(d * down, 0)) + 3
    return left, top, right, bottom


def _decode(path: Path, reduce: int, rows: int | None, *, opaque: bool = False) -> ImageArray:
    """RGB pixels; with `opaque` there may be a fourth channel of 255, where it costs nothing.

    Ends are checked: OpenCV fills the missing part of a truncated JPEG with grey, and libpng prints what it misses.
    """
    try:
        encoded = _content(path)
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}") from error
    if not ends_as_jpeg(encoded):
        raise UnreadableImage(f"{path}: truncated JPEG")
    if not ends_as_png(encoded):
        raise UnreadableImage(f"{path}: truncated PNG")
    height_place = _height_place(encoded.data)
    if height_place is not None:
        if rows is not None and _may_stop_early:
            _shorten(encoded, height_place, rows)
        decode_plain = _plain_decoder() if reduce == 1 else None
        if decode_plain is not None:
            try:
                return decode_plain(encoded, _pixels(encoded, height_place, 4 if opaque else 3))
            except ValueError:
                pass  # OpenCV judges
    mute_opencv()
    try:
        decoded = cv2.imdecode(encoded, REDUCED_FLAGS[reduce]) if len(encoded) else None
    except cv2.error as error:
        raise UnreadableImage(f"{path}: {error}") from error
    if decoded is None:
        raise UnreadableImage(f"{path}: not a picture that can be decoded")
    if reduce > 1:  # OpenCV has no flag for reduced RGB
        cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
    return np.asarray(decoded, dtype=np.uint8)


@functools.cache
def _plain_decoder() -> Callable[[ImageArray, ImageArray], ImageArray] | None:
    """Writes a JPEG's pixels into an array (H, W, 3 or 4) by simplejpeg, where it is installed.

    It has OpenCV's libjpeg-turbo, so the same pixels, and saves copying them. Raises ValueError.
    """
    try:
        import simplejpeg
    except ImportError:
        return None

    def decode(encoded: ImageArray, pixels: ImageArray) -> ImageArray:
        colors = "RGB" if pixels.shape[2] == 3 else "RGBA"
        return np.asarray(simplejpeg.decode_jpeg(encoded, colors, buffer=pixels, strict=False))

    return decode


def _pixels(encoded: ImageArray, height_place: int, channels: int) -> ImageArray:
    """Memory for a plain JPEG's pixels, which begins beside the multiples of 16 bytes.

    Where all rows begin at such multiples, libjpeg-turbo writes past the processor's cache; a warp, which reads them
    next, then takes one and a half times as long.
    """
    height, width = (_number(encoded, place) for place in (height_place, height_place + 2))
    count = height * width * channels
    memory = np.empty(count + 16, np.uint8)
    start = (8 - memory.ctypes.data) % 16
    return memory[start : start + count].reshape(height, width, channels)


def _number(encoded: ImageArray | memoryview, place: int) -> int:
    """Two bytes of a JPEG's header."""
    return int(encoded[place]) << 8 | int(encoded[place + 1])


def _content(path: Path) -> ImageArray:
    """The bytes of a file."""
    with open(path, "rb", buffering=0) as file:
        content = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        return content[: file.readinto(content.data)]


def ends_as_jpeg(encoded: np.ndarray) -> bool:
    """Whether a JPEG's end marker FF D9 is there; some cameras pad the file after it."""
    if encoded[:2].tobytes() != b"\xff\xd8":
        return True  # not a JPEG whatever its name says; the decoder judges
    return encoded[-2:].tobytes() == b"\xff\xd9" or b"\xff\xd9" in encoded[-65536:].tobytes()


def ends_as_png(encoded: np.ndarray) -> bool:
    """Whether a PNG's last chunk is there; something may follow it."""
    return encoded[:4].tobytes() != b"\x89PNG" or b"IEND" in encoded[-65536:].tobytes()


@functools.cache  # once is enough
def mute_opencv() -> None:
    """Let OpenCV be silent in this process: what it prints of itself names neither the file nor a remedy."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _shorten(encoded: ImageArray, height_place: int, rows: int) -> None:
    """Let a JPEG's header say that there are only its first `rows`, and those that are coded together with them.

    The decoder stops there, with the same pixels above.
    """
    rows = -(-(rows + CONTEXT) // ROWS) * ROWS
    if rows < _number(encoded, height_place):
        encoded[height_place], encoded[height_place + 1] = rows >> 8, rows & 255


def _height_place(encoded: memoryview) -> int | None:
    """Where a plain JPEG has the two bytes of its height (ITU-T T.81, B.2).

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
            return place if encoded[at + 4] == parts else None
        at += 2 + length
    return None
