"""Reading pictures: always RGB uint8, turned as the camera was held; what cannot be read is said."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from posecli import geometry, images
from posecli.images import UnreadableImage, part_reader, read_image, reduction_for, warp

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
        ("half", "half.jpg", "truncated JPEG", "half a JPEG"),
        ("half", "half.png", "truncated PNG", "half a PNG"),
        ("half", "half.bmp", "not a picture", "half a BMP"),
        ("half", "half.tiff", "not a picture", "half a TIFF"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: bytes | str | None,
    name: str,
    message: str,
    note: str,
) -> None:
    path = tmp_path / name
    if content == "half":
        encoded = cv2.imencode(path.suffix, np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8))[1]
        content = encoded.tobytes()[: len(encoded) // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=message):
        read_image(path)
    assert capfd.readouterr().err == "", "decoders have nothing to say"


def test_pixels_and_callables_pass_through() -> None:
    image = picture()
    assert read_image(image) is image
    assert read_image(lambda: image) is image


@pytest.mark.parametrize(
    ("name", "shrink", "factor"),
    [("a.jpg", 1.9, 1), ("a.jpg", 2.0, 2), ("a.JPEG", 5.0, 4), ("a.jpg", 40, 8), ("a.png", 40, 1)],
)
@pytest.mark.parametrize("flip", [False, True])
def test_reduction(name: str, shrink: float, factor: int, flip: bool) -> None:
    matrix = geometry.crop_matrix((70.0, 90.0), (48 * shrink, 64 * shrink), (48, 64), 33.0, flip)
    assert reduction_for(Path(name), matrix) == factor
    assert reduction_for(picture(), matrix) == 1


# --- decoding no further than is needed -------------------------------------------------------------------------------


def textured(path: Path, mode: str = "RGB", **how: object) -> Path:
    """A JPEG of noise at all scales, 150 wide and 230 high, which is no whole number of coded rows."""
    generator = np.random.default_rng(0)
    shapes = [((230 + scale - 1) // scale, (150 + scale - 1) // scale, 3) for scale in (1, 4, 16)]
    layers = [
        cv2.resize(generator.uniform(0, 85, shape), (150, 230), interpolation=cv2.INTER_CUBIC) for shape in shapes
    ]
    pixels = np.clip(np.sum(layers, axis=0), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **how)
    return path


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("how", "shorter", "note"),
    [
        ({"subsampling": "4:2:0"}, True, "a row's colours depend on its neighbours"),
        ({"subsampling": "4:2:2"}, True, "colours at half the width"),
        ({"subsampling": "4:4:4"}, True, "colours at full resolution, 8 rows coded together"),
        ({"subsampling": "4:2:0", "restart_marker_rows": 2}, True, "restart markers"),
        ({"mode": "L"}, True, "grey"),
        ({"progressive": True}, False, "several scans, each of the whole picture"),
        ({"exif": turned()}, False, "turned: its height is a width"),
    ],
)
@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize("ahead", [0, 2**20])
def test_parts_are_those_of_the_whole_picture(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, object],
    shorter: bool,
    note: str,
    reduce: int,
    ahead: int,
) -> None:
    """To the last bit, wherever the part is, whoever decodes, and whether the file is read before its turn; and what
    lies below it is not where that can be."""
    path = textured(tmp_path / "noise.jpg", **how)  # type: ignore[arg-type]
    monkeypatch.setattr(images, "AHEAD_BYTES", ahead)
    with monkeypatch.context() as patch:
        patch.setattr(images, "_plain_decoder", lambda: None)
        whole = read_image(path, reduce)
    monkeypatch.setattr(images, "_may_stop_early", True)
    size = (40, 60)
    for middle in (-50, 0, 20, 60, 120, 200, 300):
        for angle in (0.0, 33.0):
            matrix = geometry.crop_matrix((70.0, middle), (44.0 * reduce, 66.0 * reduce), size, angle)
            reduced = geometry.compose(matrix, geometry.invert(geometry.reduction_matrix(reduce)))
            expected = warp(whole, matrix if reduce == 1 else reduced, size)
            part = part_reader(path, matrix, size, rough=reduce > 1)(None)
            assert np.array_equal(part, expected), f"{note}, at {middle}"
    assert (len(read_image(path, reduce, rows=20)) < len(whole)) == shorter, note
    assert len(read_image(path, reduce)) == len(whole)


@pytest.mark.parametrize("decoder", ["simplejpeg", "OpenCV"])
def test_rough_pixels_are_nearly_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    """For training, where simplejpeg is installed; what is predicted never depends on it."""
    if decoder == "OpenCV":
        monkeypatch.setattr(images, "_plain_decoder", lambda: None)
    else:
        pytest.importorskip("simplejpeg")
    path = textured(tmp_path / "noise.jpg", quality=90)
    matrix = geometry.crop_matrix((70.0, 90.0), (50.0, 75.0), (40, 60), 33.0)
    whole = warp(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), matrix, (40, 60))
    assert np.array_equal(part_reader(path, matrix, (40, 60))(None), whole)
    rough = part_reader(path, matrix, (40, 60), rough=True)(None)
    away = np.abs(rough.astype(int) - whole).mean()
    assert 0 < away < 6 if decoder == "simplejpeg" else away == 0


def test_a_plain_jpeg_is_decoded_beside_the_multiples_of_16_bytes(tmp_path: Path) -> None:
    """Otherwise libjpeg-turbo writes past the cache, which the next reader pays for."""
    pytest.importorskip("simplejpeg")
    path = textured(tmp_path / "noise.jpg")
    for _ in range(20):
        assert read_image(path).ctypes.data % 16 == 8


@pytest.mark.parametrize("damage", ["a broken header", "broken data", "an absurd size"])
def test_damaged_jpegs_are_judged_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """By simplejpeg and by OpenCV: the same pixels, or none."""
    path = textured(tmp_path / "noise.jpg")
    encoded = bytearray(path.read_bytes())
    if damage == "a broken header":
        encoded[encoded.index(b"\xff\xdb") + 4] = 9  # a quantisation table of no kind there is
    elif damage == "an absurd size":
        place = encoded.index(b"\xff\xc0") + 5
        encoded[place : place + 4] = b"\xff\xff\xff\xff"
    else:
        middle = len(encoded) // 2
        encoded[middle : middle + 40] = bytes(40)
    path.write_bytes(encoded)
    outcomes = []
    for decoder in (images._plain_decoder, lambda: None):
        monkeypatch.setattr(images, "_plain_decoder", decoder)
        try:
            outcomes.append(read_image(path).tobytes())
        except UnreadableImage as error:
            outcomes.append(str(error).encode())
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("decoder", ["simplejpeg", "OpenCV"])
def test_the_end_of_a_thumbnail_is_not_the_picture_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    """Photoshop keeps a small JPEG before the large one."""
    path = textured(tmp_path / "noise.jpg")
    whole, small = path.read_bytes(), cv2.imencode(".jpg", picture(32, 24))[1].tobytes()
    body = b"Photoshop 3.0\0" + b"8BIM\x04\x0c\0\0" + small
    path.write_bytes((whole[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + whole[2:])[:-3000])
    if decoder == "OpenCV":
        monkeypatch.setattr(images, "_plain_decoder", lambda: None)
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(path)


def test_only_processes_without_a_voice_stop_early(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The decoder complains of rows that are left, so others read on."""
    assert len(read_image(textured(tmp_path / "noise.jpg"), rows=20)) == 230
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "head",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\xff\xff" + bytes(20), b"\xff\xd8\xff\xda" + bytes(20), bytes(50)],
)
def test_headers_that_are_none(head: bytes) -> None:
    assert images._plain_jpeg(memoryview(head)) is None
