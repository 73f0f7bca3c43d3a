"""Inference: a small stand-in model that finds a bright spot, on every kind of source."""

from __future__ import annotations

import csv
import json
import re
import resource
import signal
import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posecli import geometry
from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch, alike
from posecli.console import PosecliError, RunFailed
from posecli.detection import read_boxes
from posecli.exports import Exports
from posecli.images import UnreadableImage, read_image
from posecli.inference import chunked, infer, stopping
from posecli.overlays import Overlays, overlay_paths
from posecli.predictor import BoxesFromFile, Predictor, Search
from posecli.results import ResultsHeader, read_results
from posecli.skeleton import Skeleton
from posecli.sources import Frame, Reader, Source, find_sources
from posecli.transforms import NO_PIXELS
from posecli.types import Dataset, Example, FloatArray, ImageArray, People, Prediction, Sample

SKELETON = Skeleton("spot", ("spot", "corner"), ((0, 1),))
SIDE = 32


@dataclass(frozen=True)
class CutOut:
    """The sample's first box, as SIDE × SIDE pixels."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        assert sample.people.boxes is not None
        center, scale = geometry.box_center_scale(sample.people.boxes[0].astype(np.float64), 1.0)
        matrix = geometry.crop_matrix(center, np.maximum(scale, scale.max()), (SIDE, SIDE))
        crop = cv2.warpAffine(read_image(sample.image), matrix, (SIDE, SIDE), flags=cv2.INTER_AREA)
        return Example({"image": np.asarray(crop, np.uint8)}, {}, sample, geometry.invert(matrix))


class OnePerBox(Sequence[Sample]):
    """A unit for each box."""

    def __init__(self, samples: Dataset) -> None:
        self.samples = [
            Sample(sample.id, sample.image, sample.size, sample.people[row : row + 1])
            for sample in (samples[index] for index in range(len(samples)))
            for row in range(len(sample.people))
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # slices are not asked for
        return self.samples[index]


class SpotFinder(Algorithm):
    """Keypoint 0 is the brightest pixel of the box, keypoint 1 the box's upper left corner with a poor score."""

    def __init__(self, needs: Literal["image", "boxes", "keypoints"] = "boxes") -> None:
        super().__init__()
        self.needs = needs
        self.skeleton = SKELETON
        self.weight = nn.Parameter(torch.ones(1))
        self.batch_sizes: list[int] = []

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        return OnePerBox(samples) if self.needs == "boxes" else super().units(samples, train)

    def transform(self, train: bool) -> Transform:
        assert not train
        return CutOut() if self.needs == "boxes" else whole

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("nothing is trained here")

    def predict(self, batch: Batch) -> list[Prediction]:
        self.batch_sizes.append(len(batch))
        brightness = batch.inputs["image"].float().sum(dim=-1) * self.weight  # (B, H, W)
        width = brightness.shape[2]
        peaks = brightness.flatten(1).argmax(dim=1)
        points = torch.stack([peaks % width, peaks // width], dim=1).double()
        places = (batch.undo[:, :, :2] @ points[:, :, None])[..., 0] + batch.undo[:, :, 2]
        return [self._prediction(sample, place.numpy()) for sample, place in zip(batch.samples, places, strict=True)]

    def _prediction(self, sample: Sample, place: FloatArray) -> Prediction:
        corner = [0.0, 0.0] if sample.people.boxes is None or not len(sample.people) else sample.people.boxes[0, :2]
        keypoints = np.array([[place, corner]], np.float32)
        boxes, scores = (sample.people.boxes, sample.people.instance_scores) if len(sample.people) else (None, None)
        scores = np.ones(1, np.float32) if scores is None else scores
        return Prediction(sample.id, People(keypoints, np.array([[0.9, 0.2]], np.float32), boxes, scores))


def whole(sample: Sample, generator: np.random.Generator) -> Example:
    """The picture as it is."""
    return Example({"image": read_image(sample.image)}, {}, sample, np.eye(2, 3))


def spotted(x: int, y: int, size: tuple[int, int] = (160, 120)) -> ImageArray:
    """A dark picture with a bright spot around (x, y)."""
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    cv2.circle(image, (x, y), 6, (250, 250, 250), -1)
    return image


def write_spots(path: Path, places: Sequence[tuple[int, int]], rate: float = 10.0) -> Path:
    """A video with a spot at one place a frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (160, 120))
    for place in places:
        writer.write(spotted(*place))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: two pictures of two sizes, a truncated one, a video, and boxes for the pictures."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    cv2.imwrite("photos/a.png", spotted(100, 60))
    cv2.imwrite("photos/b.jpg", spotted(20, 30, (64, 64)))
    write_spots(tmp_path / "clip.mp4", [(30 + 5 * number, 60) for number in range(12)])
    jpeg = cv2.imencode(".jpg", spotted(5, 5))[1].tobytes()
    Path("cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    return tmp_path


# --- one picture ----------------------------------------------------------------------------------------------------


def test_a_predictor_is_a_function_from_a_picture_to_people(folder: Path) -> None:
    predictor = Predictor(SpotFinder())
    for image in (spotted(100, 60), "photos/a.png", Path("photos/a.png")):
        people = predictor(image)
        assert len(people) == 1
        np.testing.assert_allclose(people.keypoints[0, 0], [100, 60], atol=6)
    with pytest.raises(UnreadableImage, match=r"nothing\.png"):
        predictor("nothing.png")


def test_boxes_say_where_to_look() -> None:
    image = np.maximum(spotted(40, 40), spotted(130, 90))
    people = Predictor(SpotFinder())(image, np.array([[10, 20, 70, 60], [100, 60, 160, 120]]))
    np.testing.assert_allclose(people.keypoints[:, 0], [[40, 40], [130, 90]], atol=6)
    assert len(Predictor(SpotFinder())(image, np.zeros((0, 4)))) == 0


def test_a_model_of_whole_pictures_needs_no_boxes() -> None:
    np.testing.assert_allclose(Predictor(SpotFinder("image"))(spotted(70, 20)).keypoints[0, 0], [70, 20], atol=6)


def test_a_lifter_is_refused() -> None:
    with pytest.raises(PosecliError, match="2D keypoints, not pictures"):
        Predictor(SpotFinder("keypoints"))


# --- a whole job ----------------------------------------------------------------------------------------------------


def test_pictures_and_videos_become_results_and_overlays(folder: Path) -> None:
    algorithm, out = SpotFinder(), folder / "out"
    predictor = Predictor(algorithm, batch_size=5, header=ResultsHeader(SKELETON, "spot.finder", "abc"))
    found = infer(find_sources(["photos", "clip.mp4"]), predictor, out)
    assert (found.pictures, found.videos, found.frames, found.people) == (2, 1, 14, 14)
    assert not found.skipped
    assert not found.stopped
    assert sorted(path.name for path in out.iterdir()) == [
        "a.png", "b.jpg", "clip.mp4", "coco_results.json", "keypoints.csv", "results.jsonl",
    ]  # fmt: skip
    assert algorithm.batch_sizes == [5, 5, 4]
    header, people = read_results(out / "results.jsonl")
    assert (header.model, header.checkpoint, header.skeleton) == ("spot.finder", "abc", SKELETON)
    assert list(people) == ["photos/a.png", "photos/b.jpg", *(f"clip.mp4#{number}" for number in range(12))]
    np.testing.assert_allclose(people["photos/b.jpg"].keypoints[0, 0], [20, 30], atol=6)
    for number in range(12):
        np.testing.assert_allclose(people[f"clip.mp4#{number}"].keypoints[0, 0], [30 + 5 * number, 60], atol=7)
    rows = json.loads((out / "coco_results.json").read_text())
    assert len(rows) == 14
    assert rows[1]["image_id"] == "photos/b.jpg"
    lines = list(csv.DictReader((out / "keypoints.csv").read_text().splitlines()))
    assert len(lines) == 28
    assert {line["keypoint"] for line in lines} == {"spot", "corner"}


def test_an_overlay_shows_what_was_found_in_a_picture_of_the_same_size(folder: Path) -> None:
    out = folder / "out"
    infer(find_sources(["photos", "clip.mp4"]), Predictor(SpotFinder()), out)
    before, after = read_image(Path("photos/a.png")), read_image(out / "a.png")
    assert after.shape == before.shape
    changed = np.argwhere((before != after).any(axis=-1))
    np.testing.assert_allclose(changed.mean(axis=0), [60, 100], atol=8)
    assert len(changed) < 400  # the poor keypoint, and so the link, is left out
    capture = cv2.VideoCapture(str(out / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    read, frame = capture.read()
    assert read
    assert frame.shape == (120, 160, 3)
    capture.release()


def test_the_threshold_decides_what_is_drawn(folder: Path) -> None:
    drawn = {}
    for threshold in (0.1, 0.3, 0.95):
        out = folder / f"out{threshold}"
        infer(find_sources(["photos/a.png"]), Predictor(SpotFinder()), out, threshold=threshold)
        drawn[threshold] = int((read_image(out / "a.png") != read_image(Path("photos/a.png"))).sum())
    assert drawn[0.1] > drawn[0.3] > drawn[0.95] == 0


def test_without_drawing_there_are_only_results(folder: Path) -> None:
    infer(find_sources(["photos"]), Predictor(SpotFinder()), folder / "out", draw=False)
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "coco_results.json", "keypoints.csv", "results.jsonl",
    ]  # fmt: skip


def test_unreadable_pictures_are_skipped_and_listed_or_refused(folder: Path) -> None:
    sources = find_sources(["photos", "cut.jpg"])
    found = infer(sources, Predictor(SpotFinder()), folder / "out")
    assert found.frames == 2
    assert found.skipped == ["cut.jpg: truncated JPEG"]
    with pytest.raises(UnreadableImage, match=r"cut\.jpg"):
        infer(sources, Predictor(SpotFinder()), folder / "strict", strict=True)
    assert not (folder / "strict" / "results.jsonl").exists()
    with pytest.raises(PosecliError, match=r"nothing could be read: cut\.jpg"):
        infer(find_sources(["cut.jpg"]), Predictor(SpotFinder()), folder / "none")


def test_nobody_in_the_picture_is_a_result_too(folder: Path) -> None:
    scores = {"a.png": 0.9, "b.jpg": 0.1}  # one of them too low to be looked at
    records = [{"file_name": name, "bbox": [80, 40, 40, 40], "score": score} for name, score in scores.items()]
    Path("boxes.json").write_text(json.dumps(records))
    predictor = Predictor(SpotFinder(), find_boxes=Search(boxes=Path("boxes.json")).open(torch.device("cpu")))
    found = infer(find_sources(["photos"]), predictor, folder / "out")
    assert (found.frames, found.people) == (2, 1)
    people = read_results(folder / "out/results.jsonl")[1]
    assert {name: len(rows) for name, rows in people.items()} == {"photos/a.png": 1, "photos/b.jpg": 0}
    unchanged = read_image(folder / "out/b.jpg").astype(int) - read_image(Path("photos/b.jpg"))
    assert np.abs(unchanged).max() < 30  # but for JPEG
    found = infer(find_sources(["photos/b.jpg", "clip.mp4"]), predictor, folder / "nobody")
    assert (found.frames, found.people) == (13, 0)
    assert json.loads((folder / "nobody/coco_results.json").read_text()) == []


def test_memory_does_not_grow_with_the_length_of_a_video(folder: Path) -> None:
    def peak(frames: int) -> int:
        path = write_spots(folder / f"{frames}.mp4", [(80, 60)] * frames)
        tracemalloc.start()
        assert infer(find_sources([str(path)]), Predictor(SpotFinder()), folder / f"out{frames}").frames == frames
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)  # what is loaded only once
    chunk = 8 * 160 * 120 * 3
    assert peak(300) < 8 * chunk  # five are under way at most; the whole video is 37 of them


def test_stopping_leaves_whole_files(folder: Path) -> None:
    write_spots(folder / "long.mp4", [(80, 60)] * 200)
    stop = threading.Event()

    class Stopping(SpotFinder):
        def predict(self, batch: Batch) -> list[Prediction]:
            if len(self.batch_sizes) == 20:
                stop.set()
            return super().predict(batch)

    found = infer(find_sources(["long.mp4"]), Predictor(Stopping(), batch_size=4), folder / "out", stop=stop)
    assert found.stopped
    assert 0 < found.frames <= 84  # what was predicted but not yet written is let go
    assert len(read_results(folder / "out/results.jsonl")[1]) == found.frames
    capture = cv2.VideoCapture(str(folder / "out/long.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == found.frames
    capture.release()


def test_ctrl_c_asks_to_stop_and_the_second_one_stops() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_middle_leaves_no_half_files(folder: Path) -> None:
    class Failing(SpotFinder):
        def predict(self, batch: Batch) -> list[Prediction]:
            if self.batch_sizes:
                raise RuntimeError("broken")
            return super().predict(batch)

    with pytest.raises(RuntimeError, match="broken"):
        infer(find_sources(["clip.mp4"]), Predictor(Failing(), batch_size=4), folder / "out")
    assert list((folder / "out").iterdir()) == []


# --- parts ----------------------------------------------------------------------------------------------------------


def write_overlay(folder: Path, images: Sequence[ImageArray], rate: float = 25.0) -> None:
    """The overlay clip.mp4 of so many frames."""
    source = Source("clip.mp4", "video", Path("clip.mp4"))
    with Overlays(overlay_paths([source], folder)) as overlays:
        for index, image in enumerate(images):
            overlays.write(Frame(source, index, NO_PIXELS, rate), image)


def test_a_video_that_the_disk_has_no_room_for_is_said_and_vanishes(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: OpenCV goes on in silence, and the file has no end."""
    images = list(np.random.default_rng(0).integers(0, 255, (30, 120, 160, 3), np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunFailed, match=r"clip\.mp4 could not be written whole"):
            write_overlay(tmp_path, images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [0.5, 7.3, 24000 / 1001, 65.777, 119.883, 240.0137, 1000.0])
@pytest.mark.parametrize("frames", [1, 40])
def test_whole_videos_are_kept_at_any_rate(rate: float, frames: int, tmp_path: Path) -> None:
    write_overlay(tmp_path, [np.full((61, 81, 3), index, np.uint8) for index in range(frames)], rate)
    assert len(list(Reader(find_sources([str(tmp_path / "clip.mp4")])))) == frames


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (1, 1)])
def test_videos_of_one_line_are_drawn_too(shape: tuple[int, int], tmp_path: Path) -> None:
    write_overlay(tmp_path, [np.full((*shape, 3), 99, np.uint8)])
    assert len(list(Reader(find_sources([str(tmp_path / "clip.mp4")])))) == 1


def test_overlays_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["a/x.jpg", "b/x.jpg", "b/x.JPG", "x.bmp", "x.png", "x.mp4", "c/x.avi"]
    sources = [Source(n, "video" if n[-3:] in ("mp4", "avi") else "picture", tmp_path / n) for n in names]
    paths = overlay_paths([*sources, Source("camera0", "camera", 0)], tmp_path / "out")
    assert [path.name for path in paths.values()] == [
        "x.jpg", "x-2.jpg", "x-3.JPG", "x-4.jpg", "x-5.png", "x.mp4", "x-2.mp4", "camera0.mp4",
    ]  # fmt: skip
    with pytest.raises(PosecliError, match=r"take the place of its source.*--out"):
        overlay_paths(sources, tmp_path / "a")


def test_files_of_one_picture_have_one_stem(tmp_path: Path) -> None:
    sources = [Source(name, "picture", tmp_path / name) for name in ("a/x.bmp", "a/x.jpg", "a/x.png", "b/x.png")]
    overlays = overlay_paths(sources, tmp_path / "out")
    exports = Exports(sources, tmp_path / "out", lambda prediction: {})
    assert {source: path.stem for source, path in overlays.items()} == {s: p.name for s, p in exports.stems.items()}
    assert [path.name for path in overlays.values()] == ["x.jpg", "x-2.jpg", "x-3.png", "x-4.png"]


def test_pictures_of_one_size_are_predicted_together() -> None:
    sample = Sample("s", np.zeros((0, 0, 3), np.uint8), (1, 1), People.empty(2))
    sizes = [3, 3, 3, 5, 5, 3]
    examples = [Example({"image": np.zeros((size, 4, 3))}, {}, sample, np.eye(2, 3)) for size in sizes]
    assert alike(examples, 2) == [[0, 1], [2, 5], [3, 4]]


def test_large_frames_are_held_few_at_a_time() -> None:
    source = Source("v", "video", Path("v"))
    small, large = np.zeros((10, 10, 3), np.uint8), np.zeros((2500, 3000, 3), np.uint8)
    assert [len(chunk) for chunk in chunked([Frame(source, 0, small)] * 20, 8)] == [8, 8, 4]
    assert [len(chunk) for chunk in chunked([Frame(source, 0, large)] * 5, 8)] == [2, 2, 1]


def test_a_box_file_that_knows_no_picture_is_refused(folder: Path) -> None:
    Path("boxes.json").write_text(json.dumps([{"file_name": "other.jpg", "bbox": [0, 0, 4, 4]}]))
    predictor = Predictor(SpotFinder(), find_boxes=BoxesFromFile(read_boxes(Path("boxes.json"))))
    with pytest.raises(PosecliError, match=r"boxes.json names none of the pictures, such as photos/a.png.*other.jpg"):
        infer(find_sources(["photos"]), predictor, folder / "out")


@pytest.mark.parametrize(
    ("sources", "names", "message"),
    [
        (
            ["clip.mp4"],
            ["clip.mp4"],
            r"no frame of clip.mp4 \(frames are named clip.mp4#FRAME, .*; it has .* clip.mp4$",
        ),
        (["photos", "clip.mp4"], ["x.png"], r"none of the pictures, such as photos/a.png, and no frame of clip.mp4 "),
    ],
    ids=["the video instead of its frames", "neither pictures nor frames"],
)
def test_a_box_file_that_knows_no_frame_is_refused(
    folder: Path, sources: list[str], names: list[str], message: str
) -> None:
    with pytest.raises(PosecliError, match=message):
        infer(find_sources(sources), Predictor(SpotFinder(), find_boxes=boxes_of(names)), folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("names", "warnings", "people"),
    [
        (["a.png", "b.jpg", "clip.mp4#3"], ["3 of the 3 boxes of boxes.json"], 3),
        (
            ["a.png", "b.jpg", "clip.mp4"],
            ["no frame of clip.mp4 is in boxes.json", "clip.mp4#FRAME", "2 of the 3 boxes.*: 1 of other pictures"],
            2,
        ),
        (["clip.mp4#3", "clip.mp4#4"], ["2 pictures are not in boxes.json", "2 of the 2 boxes"], 2),
    ],
    ids=["all", "the video instead of its frames", "frames only"],
)
def test_what_a_box_file_leaves_out_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], names: list[str], warnings: list[str], people: int
) -> None:
    predictor = Predictor(SpotFinder(), find_boxes=boxes_of(names))
    assert infer(find_sources(["photos", "clip.mp4"]), predictor, folder / "out", draw=False).people == people
    errors = capsys.readouterr().err
    assert all(re.search(warning, errors) for warning in warnings)
    assert errors.count("\n") == errors.count("warning: ") + 1


def boxes_of(names: Sequence[str]) -> BoxesFromFile:
    """A box file with one box of each of the names."""
    Path("boxes.json").write_text(json.dumps([{"file_name": name, "bbox": [0, 0, 9, 9]} for name in names]))
    return BoxesFromFile(read_boxes(Path("boxes.json")))
