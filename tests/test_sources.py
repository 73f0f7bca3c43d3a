"""Sources: what the arguments of infer name, and the frames that come of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.images import UnreadableImage
from posecli.sources import PICTURES, Reader, Source, find_sources, output_stems, prefetch


def write_video(path: Path, frames: int, size: tuple[int, int] = (160, 120), rate: float = 12.5) -> Path:
    """A video whose frame n is a grey of level 2 n (mod 200) + 20 with a white square."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    for number in range(frames):
        frame = np.full((size[1], size[0], 3), 20 + 2 * number % 200, np.uint8)
        cv2.rectangle(frame, (10, 10), (40, 40), (255, 255, 255), -1)
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures of every kind, a video, a text and a subfolder."""
    monkeypatch.chdir(tmp_path)
    color = np.zeros((30, 40, 3), np.uint8)
    color[..., 2] = 200  # red, in OpenCV's order
    Path("many/deep").mkdir(parents=True)
    for name in ("many/b.png", "many/A.JPG", "many/deep/c.png", "odd [1].png"):
        cv2.imencode(Path(name).suffix.lower(), color)[1].tofile(name)
    cv2.imwrite("grey.png", color[..., 2])
    cv2.imwrite("deep.png", color.astype(np.uint16) * 257)
    Path("many/readme.txt").write_text("not a picture")
    Path("many/.hidden.png").write_bytes(b"")
    write_video(tmp_path / "many/z.mp4", 3)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "names", "note"),
    [
        (["grey.png"], ["grey.png"], "a file"),
        (["many"], ["many/A.JPG", "many/b.png", "many/z.mp4"], "a folder, by name, without subfolders and texts"),
        (["many/"], ["many/A.JPG", "many/b.png", "many/z.mp4"], "the same with a slash"),
        (["*.png"], ["deep.png", "grey.png", "odd [1].png"], "a pattern the shell left alone"),
        (["many/**/*.png"], ["many/b.png", "many/deep/c.png"], "a pattern with subfolders"),
        (["odd [1].png"], ["odd [1].png"], "a file whose name looks like a pattern"),
        (["many/b.png", "many", "./many/b.png"], ["many/b.png", "many/A.JPG", "many/z.mp4"], "each file once"),
        (["0"], ["camera0"], "a camera"),
        (["many/readme.txt"], ["many/readme.txt"], "a file named outright is tried whatever its suffix"),
    ],
)
def test_arguments_name_sources(folder: Path, arguments: list[str], names: list[str], note: str) -> None:
    assert [source.name for source in find_sources(arguments)] == names, note


def test_kinds_follow_the_suffix(folder: Path) -> None:
    kinds = {source.name: source.kind for source in find_sources(["many", "1"])}
    assert kinds == {"many/A.JPG": "picture", "many/b.png": "picture", "many/z.mp4": "video", "camera1": "camera"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing.jpg", "no such file or folder: nothing.jpg"),
        ("grey.jpg", "did you mean grey.png"),
        ("nowhere/x.jpg", "the folder nowhere does not exist either"),
        ("*.gif", r"no picture or video matches \*.gif"),
        ("empty", r"no pictures or videos in the folder empty: looked for \.jpg"),
    ],
)
def test_what_is_missing_is_said_in_one_line(folder: Path, argument: str, message: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(PosecliError, match=message) as caught:
        find_sources([argument])
    assert "\n" not in str(caught.value)


def test_pictures_come_as_rgb_uint8(folder: Path) -> None:
    frames = {frame.id: frame.image for frame in Reader(find_sources(["many/b.png", "grey.png", "deep.png"]))}
    assert all(image.shape == (30, 40, 3) and image.dtype == np.uint8 for image in frames.values())
    assert frames["many/b.png"][0, 0].tolist() == [200, 0, 0]
    assert frames["grey.png"][0, 0].tolist() == [200, 200, 200]
    assert frames["deep.png"][0, 0].tolist() == [200, 0, 0]


def test_a_video_comes_frame_by_frame(tmp_path: Path) -> None:
    sources = find_sources([str(write_video(tmp_path / "clip.mp4", 30))])
    reader = Reader(sources)
    frames = list(reader)
    assert reader.count() == 30
    assert [frame.index for frame in frames] == list(range(30))
    assert frames[7].id == f"{(tmp_path / 'clip.mp4').as_posix()}#7"
    assert frames[0].rate == pytest.approx(12.5)
    levels = [int(frame.image[100, 100, 1]) for frame in frames]
    assert np.abs(np.array(levels) - (20 + 2 * np.arange(30))).max() <= 4  # the codec loses a little
    assert reader.skipped == []


def test_a_turned_video_comes_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "phone.mp4", 5)
    turn_by_90(path)
    assert [frame.image.shape for frame in Reader(find_sources([str(path)]))] == [(160, 120, 3)] * 5


def turn_by_90(path: Path) -> None:
    """Rewrite the display matrix in the track header of an MP4, as a phone held upright does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 4 * 4 + 4 + 8 + 2 * 4  # version, times and ids, duration, ... volume
    identity = np.array([0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000], ">i4").tobytes()
    place = content.index(identity, place - 16)
    content[place : place + 36] = np.array([0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000], ">i4").tobytes()
    path.write_bytes(bytes(content))


def broken(tmp_path: Path) -> dict[str, Path]:
    """A truncated JPEG, a text called PNG, a video without its index, and a video that lacks most of its frames."""
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    whole = write_video(tmp_path / "whole.mp4", 60).read_bytes()
    contents = {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "text.png": b"this is no picture",
        "cut.mp4": whole[: len(whole) // 2],
        "holes.mp4": without_frames(whole),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def without_frames(video: bytes) -> bytes:
    """The video with its index intact and the second half of its frames' bytes lost to zeros."""
    start = video.index(b"mdat") + 4
    end = video.index(b"moov") - 4
    middle = (start + end) // 2
    return video[:middle] + bytes(end - middle) + video[end:]


@pytest.mark.parametrize("name", ["cut.jpg", "text.png", "cut.mp4", "holes.mp4"])
def test_what_cannot_be_read_is_skipped_and_listed_or_refused(tmp_path: Path, name: str) -> None:
    path = broken(tmp_path)[name]
    good = write_video(tmp_path / "good.mp4", 2)
    sources = find_sources([str(path), str(good)])
    reader = Reader(sources)
    frames = list(reader)
    assert [frame.source.name for frame in frames][-2:] == [good.as_posix()] * 2
    assert len(reader.skipped) == 1
    assert reader.skipped[0].startswith(f"{path.as_posix()}: ")
    with pytest.raises(UnreadableImage, match=name):
        list(Reader(sources, strict=True))


def test_opencv_says_nothing_of_its_own(tmp_path: Path) -> None:
    """In a process of its own: FFmpeg reads how much it is to say when it is used first."""
    paths = broken(tmp_path)
    video = write_video(tmp_path / "whole.avi", 60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(video[: len(video) // 2])
    (tmp_path / "text.mp4").write_text("no video")
    names = [str(path) for path in (paths["cut.mp4"], paths["holes.mp4"], tmp_path / "cut.avi", tmp_path / "text.mp4")]
    code = (
        "import sys\n"
        "from posecli.console import PosecliError\n"
        "from posecli.sources import Reader, find_sources\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        list(Reader(find_sources([name]), strict=True))\n"
        "    except PosecliError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *names, "7"], capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == len(names) + 1, done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a/x.png", "b/y.png"], ["x", "y"]),
        (["a/x.bmp", "a/x.jpg", "a/x.png", "b/X.png"], ["x", "x-2", "x-3", "X-4"]),
        (["x.png", "x-2.png", "b/x.png"], ["x", "x-2", "x-3"]),
        (["x.png", "b/x.png", "x-2.png"], ["x", "x-2", "x-2-2"]),
        (["x.png", "x.mp4", "b/x.png", "b/x.avi"], ["x", "x", "x-2", "x-2"]),
    ],
    ids=["different", "numbered", "a number that is taken", "a name that is taken", "videos for themselves"],
)
def test_each_source_has_a_stem_of_its_own(names: list[str], stems: list[str]) -> None:
    sources = [Source(name, "picture" if name.endswith(PICTURES) else "video", Path(name)) for name in names]
    assert list(output_stems(sources).values()) == stems


def test_a_camera_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PosecliError, match="no camera 99"):
        list(Reader([Source("camera99", "camera", 99)]))


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        sources = find_sources([str(write_video(tmp_path / f"{frames}.mp4", frames))])
        tracemalloc.start()
        assert sum(1 for _ in prefetch(Reader(sources), 2, threading.Event())) == frames
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)  # what is loaded only once
    assert peak(300) < 12 * 160 * 120 * 3


def test_stopping_ends_a_stream() -> None:
    stop = threading.Event()

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    seen = []
    for number in prefetch(endless(), 2, stop):
        seen.append(number)
        if number == 5:
            stop.set()
    assert seen == list(range(6))


def test_an_error_arrives_after_the_items_before_it_and_threads_end() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    stream = prefetch(failing(), 4, threading.Event())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(stream)
    for number in prefetch(iter(range(1000)), 2, threading.Event()):
        if number == 3:
            break
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch" and thread.is_alive()]
