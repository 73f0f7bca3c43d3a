"""Reading pictures: RGB uint8 whatever the file holds, at reduced scale where that is enough."""

from __future__ import annotations

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


class UnreadableImage(PosecliError):
    """A picture is missing, truncated or of an unknown format."""


def read_image(image: ImageSource, reduce: int = 1) -> ImageArray:
    """The picture as RGB uint8 (H, W, 3).

    EXIF rotation is applied; grey, 16-bit and transparent pictures become RGB uint8. `reduce` in 1, 2, 4, 8 shrinks
    a file while it is decoded; pixels and callables ignore it. Raises UnreadableImage.
    """
    if not isinstance(image, Path):
        return image if isinstance(image, np.ndarray) else image()
    decoded = _decode(image, reduce)
    if reduce > 1:  # OpenCV has no flag for reduced RGB
        cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
    return decoded


def reduction_for(image: ImageSource, shrink: float) -> int:
    """The largest factor at which `image` may be decoded when it will be shrunk `shrink` times anyway.

    Only JPEG decodes faster at reduced scale. What is left has at least the crop's resolution.
    """
    if not isinstance(image, Path) or image.suffix.lower() not in JPEG_SUFFIXES:
        return 1
    return next((factor for factor in (8, 4, 2) if shrink >= factor), 1)


def warp(image: ImageArray, matrix: FloatArray, size: tuple[int, int]) -> ImageArray:
    """The part of a picture (H, W, 3) that `matrix` (2, 3) maps into `size` (width, height); black outside, bilinear.

    The part is copied to four channels first: OpenCV warps four a pixel twice as fast as three, with the same result.
    """
    width, height = size
    a, b, x, c, d, y = geometry.invert(matrix).ravel().tolist()
    across, down = width - 1, height - 1
    left = max(int(x + min(a * across, 0) + min(b * down, 0)) - 2, 0)
    top = max(int(y + min(c * across, 0) + min(d * down, 0)) - 2, 0)
    right = int(x + max(a * across, 0) + max(b * down, 0)) + 3
    bottom = int(y + max(c * across, 0) + max(d * down, 0)) + 3
    part = image[top : max(bottom, 0), left : max(right, 0)]
    if not part.size:
        return np.zeros((height, width, 3), np.uint8)
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (left, top)
    warped = cv2.warpAffine(cv2.cvtColor(part, cv2.COLOR_RGB2RGBA), shifted, size, flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), dtype=np.uint8)


def _decode(path: Path, reduce: int) -> ImageArray:
    """RGB pixels, BGR when reduced. OpenCV fills the missing part of a truncated JPEG with grey: its end is checked."""
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}") from error
    if path.suffix.lower() in JPEG_SUFFIXES and not ends_as_jpeg(encoded):
        raise UnreadableImage(f"{path}: truncated JPEG")
    try:
        decoded = cv2.imdecode(encoded, REDUCED_FLAGS[reduce]) if len(encoded) else None
    except cv2.error as error:
        raise UnreadableImage(f"{path}: {error}") from error
    if decoded is None:
        raise UnreadableImage(f"{path}: not a picture that can be decoded")
    return np.asarray(decoded, dtype=np.uint8)


def ends_as_jpeg(encoded: np.ndarray) -> bool:
    """Whether a JPEG's end marker FF D9 is there; some cameras pad the file after it."""
    if encoded[:2].tobytes() != b"\xff\xd8":
        return True  # not a JPEG whatever its name says; the decoder judges
    return encoded[-2:].tobytes() == b"\xff\xd9" or b"\xff\xd9" in encoded[-65536:].tobytes()
