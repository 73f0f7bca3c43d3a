"""`posecli infer` as users call it: an untrained top-down model, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
import typer

from posecli.checkpoint import Header, save_checkpoint
from posecli.commands import infer
from posecli.config import Experiment, dump
from posecli.console import PosecliError
from posecli.results import read_results
from posecli.skeleton import Skeleton

SKELETON = Skeleton("mouse", ("snout", "tail"), ((0, 1),))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/latest`, an untrained model of two keypoints, and pictures to try it on."""
    folder = tmp_path_factory.mktemp("work")
    experiment = Experiment.model_validate(
        {
            "model": {
                "use": "topdown.heatmap",
                "backbone": {"use": "resnet", "depth": 18},
                "input_size": [64, 64],
                "deconv_filters": 16,
            },
            "data": {"train": {"use": "synthetic"}, "val": {"use": "synthetic"}},
        }
    )
    torch.manual_seed(0)
    model = experiment.model.build(SKELETON)
    header = Header(dump(experiment), SKELETON.to_dict(), {}, 0, 0, "posecli train", {})
    save_checkpoint(folder / "runs" / "latest" / "best.safetensors", model.state_dict(), header)
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"photos/{index}.png"), generator.integers(0, 255, (60, 80, 3), np.uint8))
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (80, 60))
    for _ in range(20):
        writer.write(generator.integers(0, 255, (60, 80, 3), np.uint8))
    writer.release()
    return folder


def posecli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posecli", "infer", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(), timeout=120)


def environment() -> dict[str, str]:
    """One thread, no GPU: the same numbers everywhere."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def done(run_folder: Path) -> subprocess.CompletedProcess[str]:
    """The plainest call."""
    return posecli(run_folder, "photos", "clip.mp4")


def test_pictures_and_a_video_with_the_latest_model(run_folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert "5 pictures and 1 video with 20 frames: 25 instances found" in done.stdout
    assert "--detector finds people" in done.stderr
    (out,) = (run_folder / "infer").iterdir()
    assert f"results: {out.relative_to(run_folder)}" in done.stdout
    assert {path.name for path in out.iterdir()} == {
        *(f"{index}.png" for index in range(5)),
        *("clip.mp4", "results.jsonl", "coco_results.json", "keypoints.csv"),
    }
    header, people = read_results(out / "results.jsonl")
    assert header.model == "topdown.heatmap"
    assert len(header.checkpoint) == 64
    assert header.command == "posecli infer photos clip.mp4"
    assert len(people) == 25


def test_two_processes_give_the_results_of_one(run_folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    shared = posecli(run_folder, "photos", "clip.mp4", "--nproc", "2", "--out", "two", "--json")
    assert shared.returncode == 0, shared.stderr
    summary = json.loads(shared.stdout)
    assert (summary["pictures"], summary["videos"], summary["frames"], summary["people"]) == (5, 1, 25, 25)
    (one,) = (run_folder / "infer").iterdir()
    assert {path.name for path in (run_folder / "two").iterdir()} == {path.name for path in one.iterdir()}
    _, expected = read_results(one / "results.jsonl")
    _, people = read_results(run_folder / "two" / "results.jsonl")
    assert list(people) == list(expected)
    for name, row in people.items():  # batches differ, and so do last digits
        np.testing.assert_allclose(row.keypoints, expected[name].keypoints, atol=1e-3)


def call(*arguments: str) -> None:
    """The command in this process: raises what the command line would print in one line."""
    app = typer.Typer()
    infer.add(app)
    app(list(arguments), standalone_mode=False)


@pytest.fixture
def here(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder as the working folder, without a network."""

    def refuse(url: str, *_: object, **__: object) -> None:
        raise URLError("no network here")

    monkeypatch.chdir(run_folder)
    monkeypatch.setenv("TORCH_HOME", "torch")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return run_folder


@pytest.mark.parametrize(
    ("arguments", "message", "note"),
    [
        (["nothing.jpg"], "no such file or folder: nothing.jpg", "a missing picture"),
        (["photos", "--model", "elsewhere"], "elsewhere", "a missing model"),
        (["photos", "--detector"], "--detector-weights", "a detector without a network"),
        (["photos", "--model", "torchvision/keypointrcnn"], "fc266e95.pth", "a published model without a network"),
        (["photos", "--model", "torchvision/resnet18"], "torchvision/keypointrcnn", "an unknown published model"),
        (["photos", "--model-weights", "x.pth"], "a checkpoint holds its own weights", "weights for a run"),
        (["photos", "--detector-model", "yolo"], "no detector named 'yolo'", "an unknown detector"),
        (["photos", "--boxes", "none.json"], "cannot read the detections none.json", "a missing box file"),
        (["photos", "cut.jpg", "--strict"], "cut.jpg", "an unreadable picture, strictly"),
        (["photos", "--out", "photos"], "choose another folder with --out", "overlays over their sources"),
        (["photos", "--out", "photos/0.png"], "0.png is a file; choose a folder", "a file instead of a folder"),
        (["photos", "--out", "photos/0.png/deep"], "0.png is a file; choose a folder", "a folder within a file"),
        (["photos", "--precision", "int4"], "no precision 'int4'", "an unknown precision"),
    ],
)
def test_wrong_input_gets_one_line_and_code_2(here: Path, arguments: list[str], message: str, note: str) -> None:
    Path("cut.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((50, 50, 3), np.uint8))[1].tobytes()[:-200])
    with pytest.raises(PosecliError) as caught:
        call(*arguments, "--device", "cpu", *([] if "--out" in arguments else ["--out", "wrong"]))
    assert message in str(caught.value), note
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert not Path("wrong").exists()


@pytest.mark.parametrize(
    ("value", "message", "note"),
    [
        ("nan", "nan is not a number from 0 to 1", "nothing is below or above it"),
        ("7", "7 is not a number from 0 to 1", "no score is so high"),
        ("-0.1", "-0.1 is not a number from 0 to 1", "all scores are higher"),
        ("inf", "inf is not a number from 0 to 1", "endless"),
    ],
)
@pytest.mark.parametrize("option", ["--box-threshold", "--threshold"])
def test_thresholds_are_shares(option: str, value: str, message: str, note: str) -> None:
    with pytest.raises(typer.BadParameter, match=message) as caught:
        call("photos", option, value)
    assert caught.value.exit_code == 2, note


@pytest.mark.parametrize("more", [[], ["--strict"], ["--nproc", "2"]], ids=["", "strict", "two processes"])
def test_where_nothing_could_be_read_no_folder_is_left(run_folder: Path, tmp_path: Path, more: list[str]) -> None:
    for name in ("bad.jpg", "broken.mp4"):
        (tmp_path / name).write_text("nothing")
    (tmp_path / "empty.png").touch()
    model = ("--model", str(run_folder / "runs" / "latest"))
    failed = posecli(tmp_path, "bad.jpg", "empty.png", "broken.mp4", *model, *more)
    assert failed.returncode == 2, failed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jpg", "broken.mp4", "empty.png"]
    if "--nproc" not in more:
        assert failed.stderr.splitlines()[-1].startswith("error: "), failed.stderr
        assert "OpenCV" not in failed.stderr


def test_processes_that_lose_another_stop_in_one_line(run_folder: Path, tmp_path: Path) -> None:
    """The one that fails says why; the one that waits for it says that it waits no more."""
    pictures = [str(run_folder / "photos" / f"{number}.png") for number in range(3)]
    (tmp_path / "bad.jpg").write_text("nothing")
    model = ("--model", str(run_folder / "runs" / "latest"))
    failed = posecli(tmp_path, *pictures, "bad.jpg", *model, "--strict", "--nproc", "2", "--no-draw", "--out", "out")
    assert failed.returncode == 2, failed.stderr
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: bad.jpg: ")
    assert errors[1:] in ([], ["error: another process of this job has stopped, so this one does too"])
    assert "RuntimeError" not in failed.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_of_the_user_s_is_not_replaced(here: Path) -> None:
    """Only overlays of an earlier job are."""
    Path("album").mkdir()
    Path("album/0.png").write_bytes(b"mine")
    with pytest.raises(PosecliError, match=r"the overlay album/0\.png would replace a file of that name"):
        call("photos/0.png", "--out", "album", "--device", "cpu")
    assert [(path.name, path.read_bytes()) for path in Path("album").iterdir()] == [("0.png", b"mine")]


def test_an_old_folder_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for told in (False, True):
        call("photos/0.png", "--out", "again", "--no-draw", "--device", "cpu")
        assert ("again holds the results of an earlier job" in capsys.readouterr().err) == told


def test_skipped_pictures_are_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.png").write_text("no picture")
    call("photos/0.png", "text.png", "--out", "skipping", "--no-draw", "--device", "cpu")
    output, errors = capsys.readouterr()
    assert "1 picture: 1 instance found, 1 skipped" in output
    assert "skipped text.png: " in errors
    assert not Path("skipping/0.png").exists()


def test_boxes_from_a_file_say_who_is_looked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [{"image_id": 0, "bbox": [5, 5, 20, 20]}, {"image_id": 0, "bbox": [40, 20, 30, 30], "score": 0.8}]
    Path("boxes.json").write_text(json.dumps(records))
    call("photos/0.png", "photos/1.png", "--boxes", "boxes.json", "--out", "boxed", "--device", "cpu", "--json")
    output, errors = capsys.readouterr()
    assert json.loads(output)["people"] == 2
    assert "1 pictures are not in boxes.json" in errors
    people = read_results(Path("boxed/results.jsonl"))[1]["photos/0.png"]
    assert people.boxes is not None
    np.testing.assert_allclose(people.boxes, [[5, 5, 25, 25], [40, 20, 70, 50]])


def test_ctrl_c_during_a_video_ends_the_files_and_exits_with_130(run_folder: Path) -> None:
    writer = cv2.VideoWriter(str(run_folder / "long.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (80, 60))
    for _ in range(3000):
        writer.write(np.zeros((60, 80, 3), np.uint8))
    writer.release()
    command = [sys.executable, "-m", "posecli", "infer", "long.mp4", "--out", "long"]
    with subprocess.Popen(
        command, cwd=run_folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        until = time.monotonic() + 60
        while not any((run_folder / "long").glob(".long.mp4*")) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    frames = len(read_results(run_folder / "long/results.jsonl")[1])
    assert 0 < frames < 3000
    assert f"1 video with {frames} frames" in output
    capture = cv2.VideoCapture(str(run_folder / "long/long.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames
    capture.release()
