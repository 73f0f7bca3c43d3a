"""Reading pictures: always RGB uint8, turned as the camera was held; what cannot be read is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from posecli.images import UnreadableImage, read_image, reduction_for

RED, GREEN = (255, 0, 0), (0, 255, 0)


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    """Left half red, right half green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = RED, GREEN
    return image


@pytest.mark.parametrize(
    ("pixels", "suffix", "expected", "note"),
    [
        (picture(), "png", RED, "colour"),
        (np.full((48, 64), 70, np.uint8), "png", (70, 70, 70), "grey"),
        (np.full((48, 64), 70 * 256, np.uint16), "png", (70, 70, 70), "16 bits"),
        (np.dstack([picture(), np.full((48, 64), 9, np.uint8)]), "png", RED, "transparent"),
        (picture(), "jpg", RED, "JPEG"),
        (picture(), "webp", RED, "WebP"),
    ],
)
def test_everything_becomes_rgb(tmp_path: Path, pixels: np.ndarray, suffix: str, expected: tuple, note: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(pixels).save(path)
    image = read_image(path)
    assert image.shape == (48, 64, 3), note
    assert image.dtype == np.uint8
    assert np.abs(image[24, 8].astype(int) - expected).max() <= 3, note


def test_rotation_of_the_camera_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "held.jpg"
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: show it a quarter clockwise
    Image.fromarray(picture()).save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (64, 48, 3)
    assert np.abs(image[8, 24].astype(int) - RED).max() < 20  # what was left is above
    assert read_image(path, reduce=2).shape == (32, 24, 3)


@pytest.mark.parametrize(
    ("content", "name", "message", "note"),
    [
        (None, "none.jpg", "No such file", "missing"),
        (b"", "empty.png", "not a picture", "empty"),
        (b"hello", "text.jpg", "not a picture", "text"),
        ("half", "half.jpg", "truncated", "half a JPEG"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, content: bytes | str | None, name: str, message: str, note: str
) -> None:
    path = tmp_path / name
    if content == "half":
        encoded = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8))[1]
        content = encoded.tobytes()[: len(encoded) // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=message):
        read_image(path)


def test_pixels_and_callables_pass_through() -> None:
    image = picture()
    assert read_image(image) is image
    assert read_image(lambda: image) is image


@pytest.mark.parametrize(
    ("name", "shrink", "factor"),
    [("a.jpg", 1.9, 1), ("a.jpg", 2.0, 2), ("a.JPEG", 5.0, 4), ("a.jpg", 40, 8), ("a.png", 40, 1)],
)
def test_reduction(name: str, shrink: float, factor: int) -> None:
    assert reduction_for(Path(name), shrink) == factor
    assert reduction_for(picture(), shrink) == 1
