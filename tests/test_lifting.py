"""Lifting: a stand-in with a known answer, on films with gaps, several people and pictures; drawings beside them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.checkpoint import Header, save_checkpoint
from posecli.config import Experiment, dump
from posecli.console import PosecliError
from posecli.films import Film
from posecli.inference import Motion, infer_results
from posecli.lifting import Lifting, Stage, beside, standing
from posecli.report import write_samples
from posecli.results import Line, ResultsHeader, read_results, results_writer
from posecli.skeleton import Skeleton, house_skeleton
from posecli.smoothing import find_smoother
from posecli.types import Dataset, Example, FloatArray, People, Prediction, Sample

FLAT = Skeleton("flat", ("left_hip", "right_hip", "nose"), ((0, 1),))
DEEP = Skeleton("deep", ("root", "nose", "left_hip", "right_hip"), ((0, 1), (2, 3)), flip_pairs=((2, 3),))
BODY = np.array([[20, 100], [-20, 100], [0, 0]], np.float32)
Run = Callable[..., "CompletedProcess[str]"]


class AddDepth(Algorithm):
    """Pixels relative to the root, times ten, in a plane; all joints moved by `place` mm along each axis."""

    needs = "keypoints"

    def __init__(self, place: float = 0.0) -> None:
        super().__init__()
        self.skeleton = DEEP
        self.place = place
        self.seen: list[Dataset] = []

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        self.seen.append(samples)
        chosen = [index for index in range(len(samples)) if len(samples[index].people)]
        return [samples[index] for index in reversed(chosen)]  # any order will do

    def transform(self, train: bool) -> Transform:
        return as_it_is

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("nothing is trained here")

    def predict(self, batch: Batch) -> list[Prediction]:
        found = []
        for sample in batch.samples:
            points = sample.people.keypoints
            flat = 10 * (points - points[:, :1])
            poses = np.concatenate([flat, np.full_like(flat[..., :1], 0)], axis=2) + np.float32(self.place)
            extra = {"row": np.arange(len(poses))}
            people = People(poses, sample.people.scores, None, None, extra)
            found.append(Prediction(sample.id, people[np.arange(len(poses))[::-1]]))
        return found


def as_it_is(sample: Sample, generator: np.random.Generator) -> Example:
    return Example({"count": np.array([len(sample.people)], np.float32)}, {}, sample, np.eye(2, 3))


def people(*places: tuple[float, float], numbers: Sequence[int] = ()) -> People:
    points = np.array([BODY + place for place in places], np.float32).reshape(-1, 3, 2)
    extra = {"track_id": np.array(numbers, np.int64)} if numbers else {}
    scores = np.linspace(0.5, 0.9, len(points), dtype=np.float32)
    return People(points, np.full(points.shape[:2], 0.8, np.float32), None, scores, extra)


def film(frames: Sequence[People], size: tuple[int, int] | None = (640, 480)) -> Film:
    lines = [Line(Prediction(f"v.mp4#{n}", own), "v.mp4", size, 10.0) for n, own in enumerate(frames)]
    return Film("v.mp4", tuple(lines))


def write(path: Path, films: Sequence[Film], skeleton: Skeleton = FLAT) -> Path:
    with results_writer(path, ResultsHeader(skeleton)) as append:
        for one in films:
            for line in one.lines:
                append(line)
    return path


TWO = [
    people((100, 100), (300, 120), numbers=[0, 1]),
    people((300, 120), (104, 100), numbers=[1, 0]),
    people(),
    people((112, 100), numbers=[0]),
]


def test_people_keep_order_numbers_and_scores() -> None:
    lifter = AddDepth()
    deep = Lifting(lifter, FLAT, batch_size=2)(film(TWO))
    assert [own.extra["track_id"].tolist() for own in deep.people if len(own)] == [[0, 1], [1, 0], [0]]
    for own, seen in zip(deep.people, TWO, strict=True):
        assert own.keypoints.shape == (len(seen), 4, 3)
        np.testing.assert_allclose(own.keypoints[:, 1, :2], np.tile([0.0, -1000.0], (len(seen), 1)), atol=1e-3)
        if len(seen):
            assert own.instance_scores is not None
            assert seen.instance_scores is not None
            np.testing.assert_array_equal(own.instance_scores, seen.instance_scores)


def test_what_the_lifter_is_given() -> None:
    """The lifter's joints by name, the root from the hips; numbers of tracks and frames; sizes; no truth."""
    lifter = AddDepth()
    Lifting(lifter, FLAT)(film(TWO))
    (samples,) = lifter.seen
    assert samples.skeleton == DEEP
    assert samples.ids == [f"v.mp4#{n}" for n in range(4)]
    assert samples.offsets.tolist() == [0, 2, 4, 4, 5]
    assert samples.sizes.tolist() == [[640, 480]] * 4
    assert samples.people.extra["track_id"].tolist() == [0, 1, 1, 0, 0]
    assert samples.people.extra["frame"].tolist() == [0, 0, 1, 1, 3]
    assert samples.people.instance_scores is not None
    np.testing.assert_allclose(samples.people.keypoints[0], [[100, 200], [100, 100], [120, 200], [80, 200]])


def test_a_picture_is_lifted_too() -> None:
    lifter = AddDepth()
    picture = Film("a.jpg", (Line(Prediction("a.jpg", people((50, 50), (90, 50))), "a.jpg", (200, 200)),))
    deep = Lifting(lifter, FLAT)(picture)
    assert deep.people[0].keypoints.shape == (2, 4, 3)
    assert "track_id" not in lifter.seen[0].people.extra


def test_wrong_films() -> None:
    with pytest.raises(PosecliError, match="do not say how large the picture is"):
        Lifting(AddDepth(), FLAT)(film(TWO, size=None))
    with pytest.raises(PosecliError, match="3D keypoints already"):
        Lifting(AddDepth(), DEEP)(Lifting(AddDepth(), FLAT)(film(TWO)))
    with pytest.raises(PosecliError, match="cannot stand for"):
        Lifting(AddDepth(), Skeleton("mouse", ("snout", "tail")))


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_one_person_stands_in_the_middle_and_several_apart() -> None:
    lifting = Lifting(AddDepth(), FLAT)
    alone = film([people((100 + 50 * n, 100), numbers=[0]) for n in range(3)])
    for own in standing(alone, lifting(alone), DEEP):
        assert np.abs(own[:, 0, [0, 2]]).max() < 1e-3
        assert own[..., 1].max() == pytest.approx(0), "the feet are on the floor"
    both = film(TWO)
    first, second, nobody, last = standing(both, lifting(both), DEEP)
    apart = first[1, 0] - first[0, 0]
    assert apart[0] == pytest.approx(2000, rel=0.02), "200 pixels at 10 mm a pixel"
    np.testing.assert_allclose(second[0, 0, 0], first[1, 0, 0], rtol=1e-3)
    assert nobody.shape == (0, 4, 3)
    assert last[0, 0, 0] - first[0, 0, 0] == pytest.approx(120, rel=0.02)


def test_one_keypoint_alone_says_nothing_of_a_size() -> None:
    """Somebody of whom one keypoint is known stands within a walk of the others, not at the end of the world."""
    both = people((100, 100), (300, 100), numbers=[0, 1])
    both.keypoints[0, 1:] = np.nan
    flat = film([both])
    found = standing(flat, Lifting(AddDepth(), FLAT)(film([people((100, 100), (300, 100), numbers=[0, 1])])), DEEP)
    assert np.nanmax(np.abs(found[0])) < 2e6


def test_a_pose_around_the_middle_of_its_hips_stands_on_the_floor() -> None:
    """Where no joint is the root; somebody who is unknown in a frame changes nothing."""
    hips = Skeleton("hips", ("foot", "left_hip", "right_hip"))
    pose = np.array([[0, 900, 0], [100, 0, 0], [-100, 0, 0]], np.float32)
    scores = np.zeros((2, 3), np.float32)
    flat = film([People(np.zeros((2, 3, 2), np.float32), scores)])
    deep = flat.with_people([People(np.stack([pose, np.full_like(pose, np.nan)]), scores)])
    stage = Stage.of(flat, deep, hips)
    assert stage.poses[0][0, :, 1].max() == pytest.approx(0)
    assert np.isnan(stage.poses[0][1]).all()
    assert stage.draw(0, 100).shape[0] == 100


def test_a_known_place_is_kept() -> None:
    flat = film([people((100, 100), numbers=[0])])
    deep = Lifting(AddDepth(place=3000), FLAT)(flat)
    np.testing.assert_allclose(standing(flat, deep, DEEP)[0], deep.people[0].keypoints)


def test_a_stage_turns_with_the_film() -> None:
    flat = film([people((100, 100), numbers=[0])] * 60)
    stage = Stage.of(flat, Lifting(AddDepth(), FLAT)(flat), DEEP)
    first, later = stage.draw(0, 200), stage.draw(20, 200)  # two seconds: a quarter turn
    assert first.shape == later.shape == (200, 200, 3)
    assert (first != later).any(axis=-1).mean() > 0.01
    assert Stage.of(film([people()]), film([People.empty(4, 3)]), DEEP).draw(0, 100).shape == (100, 100, 3)
    picture = Film("a.jpg", (Line(Prediction("a.jpg", people((50, 50))), "a.jpg", (200, 200)),))
    assert Stage.of(picture, Lifting(AddDepth(), FLAT)(picture), DEEP).draw(0, 150).shape == (150, 300, 3)


def test_pictures_beside_each_other() -> None:
    left, right = np.zeros((10, 20, 3), np.uint8), np.full((30, 30, 3), 9, np.uint8)
    whole = beside(left, right)
    assert whole.shape == (30, 50, 3)
    assert (whole[10:20, :20] == 0).all()
    assert (whole[:, 20:] == 9).all()


def test_samples_of_a_training(tmp_path: Path) -> None:
    """Three pictures a sample: the 2D input, the true and the predicted pose; no picture is needed."""
    random = np.random.default_rng(0)
    points = random.normal(0, 300, (9, 4, 3)).astype(np.float32)
    flat = People(points[..., :2], np.ones((9, 4), np.float32), None, None, {"keypoints_3d": points})
    truth = Dataset(
        "made", DEEP, [*range(9)], np.full((9, 2), 100), np.arange(10), flat, [np.zeros((0, 0, 3), np.uint8)] * 9
    )
    predictions = [Prediction(n, People(points[n, None], np.ones((1, 4)), None, np.ones(1))) for n in range(9)]
    write_samples(tmp_path / "samples.png", AddDepth(), truth, predictions, 4)
    sheet = cv2.imread(str(tmp_path / "samples.png"))
    assert sheet is not None
    shown, true, predicted = (sheet[6:262, 6 + 518 * place : 518 * (place + 1)].astype(int) for place in range(3))
    assert len(sheet) > 4 * 256
    assert (shown != shown[0, 0]).any()
    assert (true == predicted).all()
    assert (true != shown).any()


# --- a results file ---------------------------------------------------------------------------------------------------


def test_a_results_file_becomes_3d(tmp_path: Path) -> None:
    """Numbers are given where the file has none; a video on paper beside the 3D view; CSV in millimetres."""
    picture = Film("a.jpg", (Line(Prediction("a.jpg", people((50, 50))), "a.jpg", (200, 100)),))
    moving = film([people((100 + 4 * n, 100), (300, 120)) for n in range(12)])
    source = write(tmp_path / "in.jsonl", [picture, moving])
    lifting = Lifting(AddDepth(), FLAT, header=ResultsHeader(DEEP, "add.depth"))
    found = infer_results(source, tmp_path / "out", Motion("iou", find_smoother("gaussian"), lifting))
    assert (found.pictures, found.videos, found.frames, found.people) == (1, 1, 13, 25)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.jpg", "keypoints.csv", "pose2d.jsonl", "results.jsonl", "v.mp4"]
    header, deep = read_results(tmp_path / "out" / "results.jsonl")
    assert (header.skeleton, header.model) == (DEEP, "add.depth")
    assert deep["v.mp4#5"].extra["track_id"].tolist() == [0, 1]
    assert deep["a.jpg"].keypoints.shape == (1, 4, 3)
    assert read_results(tmp_path / "out" / "pose2d.jsonl")[1]["v.mp4#5"].extra["track_id"].tolist() == [0, 1]
    with (tmp_path / "out" / "keypoints.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["image", "person", "track", "keypoint", "x_mm", "y_mm", "z_mm", "score"]
    assert rows[0]["track"] == ""
    assert rows[-1]["track"] == "1"
    capture = cv2.VideoCapture(str(tmp_path / "out" / "v.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 640 + 480
    capture.release()


def test_nobody_is_lifted_to_nobody(tmp_path: Path) -> None:
    """In 3D: no COCO results, which are 2D, and columns in millimetres."""
    source = write(tmp_path / "in.jsonl", [film([people(), people()])])
    found = infer_results(source, tmp_path / "out", Motion("iou", None, Lifting(AddDepth(), FLAT)), draw=False)
    assert (found.frames, found.people) == (2, 0)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["keypoints.csv", "pose2d.jsonl", "results.jsonl"]
    assert (tmp_path / "out" / "keypoints.csv").read_text().strip().endswith("x_mm,y_mm,z_mm,score")


@pytest.mark.parametrize(
    ("films", "message"),
    [
        ([], "holds no frame"),
        ([film(TWO, size=None)], "do not say how large"),
        ([Lifting(AddDepth(), FLAT)(film(TWO))], "3 lists|3D keypoints already"),
    ],
)
def test_wrong_results_leave_nothing_behind(tmp_path: Path, films: Sequence[Film], message: str) -> None:
    deep = bool(films) and films[0].people[0].keypoints.shape[2] == 3
    source = write(tmp_path / "in.jsonl", films, DEEP if deep else FLAT)
    with pytest.raises(PosecliError, match=message):
        infer_results(source, tmp_path / "out", Motion("iou", None, Lifting(AddDepth(), FLAT)))
    assert not (tmp_path / "out").exists()


def test_the_source_is_not_written_over(tmp_path: Path) -> None:
    source = write(tmp_path / "pose2d.jsonl", [film(TWO)])
    with pytest.raises(PosecliError, match="choose another folder"):
        infer_results(source, tmp_path, Motion("iou", None, Lifting(AddDepth(), FLAT)))


# --- the command, with an untrained lifter ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained 2D model and an untrained lifter, a short video and 2D results."""
    folder = tmp_path_factory.mktemp("lift")
    torch.manual_seed(0)
    for name, skeleton, model in (
        ("flat", house_skeleton("coco"), {
            "use": "topdown.heatmap",
            "backbone": {"use": "resnet", "depth": 18},
            "input_size": [64, 64],
            "deconv_filters": 16,
        }),
        ("lifter", house_skeleton("h36m"), {"use": "lifter.temporal", "kernels": [3, 3], "channels": 16}),
    ):  # fmt: skip
        data = {"train": {"use": "synthetic"}, "val": {"use": "synthetic"}}
        experiment = Experiment.model_validate({"model": model, "data": data})
        header = Header(dump(experiment), skeleton.to_dict(), {}, 0, 0, "posecli train", {})
        state = experiment.model.build(skeleton).state_dict()
        save_checkpoint(folder / name / "best.safetensors", state, header)
    random = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for _ in range(6):
        writer.write(random.integers(0, 255, (120, 160, 3), np.uint8))
    writer.release()
    boxes = [{"file_name": f"clip.mp4#{n}", "bbox": [10, 10, 100, 100], "score": 0.9} for n in range(6) if n != 2]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder


def test_a_video_is_lifted(work: Path, posecli: Run) -> None:
    ran = posecli(
        *["infer", str(work / "clip.mp4"), "--model", str(work / "lifter"), "--pose2d", str(work / "flat")],
        *["--boxes", str(work / "boxes.json"), "--smooth", "gaussian", "--out", str(work / "out"), "--device", "cpu"],
    )
    assert ran.returncode == 0, ran.stderr
    assert "6 frames" in ran.stdout
    header, deep = read_results(work / "out" / "results.jsonl")
    assert header.skeleton.name == "h36m"
    assert [len(own) for own in deep.values()] == [1, 1, 0, 1, 1, 1]
    poses: list[FloatArray] = [own.keypoints for own in deep.values() if len(own)]
    assert all(np.isfinite(pose).all() and pose.shape == (1, 17, 3) for pose in poses)
    assert {own.extra["track_id"].tolist()[0] for own in deep.values() if len(own)} == {0}
    assert (work / "out" / "pose2d.jsonl").is_file()
    capture = cv2.VideoCapture(str(work / "out" / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 160 + 360
    capture.release()
    again = posecli(
        *["infer", str(work / "out" / "pose2d.jsonl"), "--model", str(work / "lifter"), "--smooth", "gaussian"],
        *["--out", str(work / "again"), "--device", "cpu", "--no-draw"],
    )
    assert again.returncode == 0, again.stderr
    twice = read_results(work / "again" / "results.jsonl")[1]
    for name, own in deep.items():
        np.testing.assert_allclose(twice[name].keypoints, own.keypoints, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "--model", "lifter"], "say what finds them with --pose2d RUN"),
        (["clip.mp4", "--model", "lifter", "--pose2d", "lifter"], "is a lifter itself"),
        (["clip.mp4", "--model", "flat", "--pose2d", "flat"], "leave it out"),
        (["flat.jsonl", "--model", "flat"], "name a lifter with --model"),
        (["flat.jsonl", "clip.mp4", "--model", "lifter"], "give it alone"),
        (["flat.jsonl", "--model", "lifter", "--pose2d", "flat"], "leave out --pose2d"),
        (["none.jsonl", "--model", "lifter"], "cannot read the results file"),
        (["clip.mp4", "--model", "flat", "--smooth", "savgol", "--track", "none"], "leave out --track none"),
    ],
)
def test_what_does_not_go_together(
    work: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """Errors of one line; in this process, as they are raised."""
    import typer

    from posecli.commands import infer

    monkeypatch.chdir(work)
    write(work / "flat.jsonl", [film(TWO)])
    app = typer.Typer()
    infer.add(app)
    with pytest.raises(PosecliError, match=message) as caught:
        app([*arguments, "--device", "cpu", "--out", "wrong"], standalone_mode=False)
    assert "\n" not in str(caught.value)
    assert not (work / "wrong").exists()
