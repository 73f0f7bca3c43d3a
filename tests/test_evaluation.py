"""Evaluation: who is predicted, in which order, what is said about what is missing; `posecli eval` as a command."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from typer.testing import CliRunner

from posecli import console
from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.checkpoint import Header, save_checkpoint
from posecli.commands import eval as command
from posecli.config import Experiment, dump
from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import SyntheticConfig
from posecli.datasets.pictures import NoPictures
from posecli.evaluation import (
    build_metrics,
    check_pictures,
    evaluate_results,
    predict_dataset,
    score,
    usual_metrics,
)
from posecli.images import UnreadableImage, read_image
from posecli.interop.detections import detected_dataset
from posecli.results import ResultsHeader, read_results, to_coco_json, write_results
from posecli.scoring import instance_scores
from posecli.skeleton import Skeleton
from posecli.types import Dataset, Example, People, Prediction, Sample

NAMES = ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip")
SKELETON = Skeleton("five", NAMES, flip_pairs=((1, 2), (3, 4)), sigmas=(0.026, 0.079, 0.079, 0.107, 0.107))


class Units(Sequence[Sample]):
    """One unit a person."""

    def __init__(self, samples: Dataset) -> None:
        self.samples = samples
        self.sample_index = samples.sample_of_row

    def __len__(self) -> int:
        return len(self.samples.people)

    def __getitem__(self, index: Any) -> Any:
        sample = self.samples[int(self.sample_index[index])]
        row = index - int(self.samples.offsets[self.sample_index[index]])
        return dataclasses.replace(sample, people=sample.people[row : row + 1])


class ReadPicture:
    """Reads the picture, so that a broken one is noticed, and hands on its mean grey value."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        grey = np.float32(read_image(sample.image).mean())
        return Example({"grey": np.array([grey])}, {}, sample, np.eye(2, 3))


class Guesser(Algorithm):
    """Puts all keypoints of a person at the box's corner, and remembers how it was called."""

    needs = "boxes"

    def __init__(self) -> None:
        super().__init__()
        self.skeleton = SKELETON
        self.norm = torch.nn.BatchNorm1d(1)
        self.frozen = torch.nn.Dropout()
        self.calls: list[tuple[bool, bool, int]] = []

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        return Units(samples)

    def transform(self, train: bool) -> Transform:
        assert not train
        return ReadPicture()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def predict(self, batch: Batch) -> list[Prediction]:
        self.calls.append((self.training, torch.is_inference_mode_enabled(), len(batch)))
        return [self._prediction(sample) for sample in batch.samples]

    def _prediction(self, sample: Sample) -> Prediction:
        people = sample.people
        assert people.boxes is not None
        corner = np.repeat(people.boxes[:, None, :2], 5, axis=1)
        extra = {name: people.extra[name] for name in ("row",) if name in people.extra}
        return Prediction(sample.id, People(corner, np.ones((1, 5)), people.boxes, people.instance_scores, extra))


@pytest.fixture
def pictures(tmp_path: Path) -> Dataset:
    """Four pictures with 2, 0, 3 and 1 people; the box of person i begins at (10 i, 5)."""
    counts = [2, 0, 3, 1]
    total = sum(counts)
    for index in range(len(counts)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((60, 80, 3), 20 * index, np.uint8))
    start = np.array([[10.0 * index, 5.0] for index in range(total)])
    people = People(
        np.repeat(start[:, None], 5, axis=1),
        np.full((total, 5), 2.0),
        np.concatenate([start, start + 30], axis=1),
        None,
        {"category": np.ones(total, np.int64)},
    )
    return Dataset(
        "pictures",
        SKELETON,
        [7, 3, 5, 4],
        np.tile([80, 60], (4, 1)),
        np.concatenate([[0], np.cumsum(counts)]),
        people,
        [tmp_path / f"{index}.png" for index in range(4)],
    )


def predict(samples: Dataset, algorithm: Guesser | None = None, **options: Any) -> list[Prediction]:
    settings = {"batch_size": 2, "workers": 0, "device": torch.device("cpu"), **options}
    return predict_dataset(algorithm or Guesser(), samples, **settings)


# --- predicting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_every_person_is_predicted_once_in_the_order_of_the_samples(pictures: Dataset, workers: int) -> None:
    predictions = predict(pictures, workers=workers)
    assert [prediction.id for prediction in predictions] == [7, 5, 4]
    assert [prediction.people.extra["row"].tolist() for prediction in predictions] == [[0, 1], [0, 1, 2], [0]]
    scores = score(pictures, predictions, build_metrics(["epe", "pck", "ap:0.1"], SKELETON))
    assert [one.value for one in scores[:3]] == [0, 0, 1]


def test_the_model_is_in_evaluation_mode_and_goes_back(pictures: Dataset) -> None:
    algorithm = Guesser().train()
    algorithm.frozen.eval()
    predict(pictures, algorithm)
    assert algorithm.calls == [(False, True, 2), (False, True, 2), (False, True, 2)]
    assert (algorithm.training, algorithm.norm.training, algorithm.frozen.training) == (True, True, False)


def test_an_unreadable_picture_is_skipped_and_said(pictures: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    broken = pictures.images[2]
    assert isinstance(broken, Path)
    broken.write_bytes(broken.read_bytes()[:20])
    predictions = predict(pictures)
    assert [prediction.id for prediction in predictions] == [7, 4]
    said = capsys.readouterr().err
    assert "1 pictures could not be read and were skipped" in said
    assert "2.png" in said
    (pck,) = score(pictures, predictions, build_metrics(["pck"], SKELETON))
    assert pck.value == pytest.approx(0.5)  # the three people in it count as missed
    with pytest.raises(UnreadableImage, match=r"2\.png"):
        predict(pictures, strict=True)


def test_nobody_to_predict(pictures: Dataset) -> None:
    nobody = dataclasses.replace(pictures, people=pictures.people[:0], offsets=np.zeros(5, np.int64))
    assert predict(nobody) == []


# --- scoring ----------------------------------------------------------------------------------------------------------


def test_predictions_of_other_samples(pictures: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = build_metrics(["pck"], SKELETON)
    predictions = predict(pictures)
    strangers = [Prediction(f"other {prediction.id}", prediction.people) for prediction in predictions]
    (mixed,) = score(pictures, [*strangers, *predictions], metrics)
    assert mixed.value == 1
    assert "3 predicted samples are not in the data 'pictures'" in capsys.readouterr().err
    with pytest.raises(PosecliError, match=r"none of the 3 predicted samples.*'other 7'"):
        score(pictures, strangers, metrics)


def test_metrics_are_built_once_each_and_chosen_by_what_the_skeleton_has() -> None:
    assert len(build_metrics(["pck", "epe", "pck"], SKELETON)) == 2
    assert usual_metrics(SKELETON) == ("ap", "pck")
    assert "ap" not in usual_metrics(dataclasses.replace(SKELETON, sigmas=None))
    with pytest.raises(PosecliError, match="did you mean 'pck'"):
        build_metrics(["pckk"], SKELETON)


@pytest.mark.parametrize(
    ("mode", "expected", "note"),
    [
        ("box", [0.5, 0.8], "as it is"),
        ("keypoint", [0.5, 0.1], "the mean of all"),
        ("box-keypoint", [0.5 * 0.75, 0.0], "the mean of those above 0.2; none above: 0"),
        ("box-rle", [0.5 + 0.5 + 0.9, 0.8 + 0.1 + 0.1], "box + mean + largest"),
    ],
)
def test_instance_scores(mode: Any, expected: list[float], note: str) -> None:
    scores = np.array([[0.9, 0.6, 0.0], [0.1, 0.1, 0.1]])
    people = People(np.zeros((2, 3, 2)), scores, None, np.array([0.5, 0.8]))
    np.testing.assert_allclose(instance_scores(people, mode), expected)
    np.testing.assert_allclose(instance_scores(people[:0], mode), [])


# --- detections -------------------------------------------------------------------------------------------------------


def detection(image: int | str, x: float, score: float, category: int = 1) -> dict[str, Any]:
    return {"image_id": image, "bbox": [x, 5, 30, 30], "score": score, "category_id": category}


def write_detections(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_detections_take_the_place_of_the_true_boxes(pictures: Dataset, tmp_path: Path) -> None:
    rows = [
        detection(4, 50, 0.9),
        detection(7, 10, 0.6),
        detection(7, 0, 0.8),
        detection(7, 0, 0.05),
        detection(5, 20, 0.9, category=3),
        detection(99, 20, 0.9),
        detection(4, 50, 0.9) | {"bbox": [50, 5, -3, 30]},
    ]
    asked, notes = detected_dataset(pictures, write_detections(tmp_path / "det.json", rows), threshold=0.1)
    assert np.diff(asked.offsets).tolist() == [2, 0, 0, 1]
    assert asked.people.boxes is not None
    assert asked.people.boxes.tolist() == [[10, 5, 40, 35], [0, 5, 30, 35], [50, 5, 80, 35]]
    assert re.search(
        r"3 of the 7 boxes of .*det.json are looked into; left out: 1 of other categories \(3\), 1 without area, "
        r"1 scored below 0.1, 1 of other pictures$",
        notes[0],
    )
    assert "1 pictures that are not in 'pictures': 99" in notes[1]
    predictions = predict(asked)
    assert [prediction.id for prediction in predictions] == [7, 4]
    for prediction in predictions:
        assert "row" not in prediction.people.extra  # a detection's row is not a true person's
    scores = predictions[0].people.instance_scores
    assert scores is not None
    np.testing.assert_allclose(scores, [0.6, 0.8], rtol=1e-6)
    epe = score(pictures, predictions, build_metrics(["epe"], SKELETON))[0]
    assert epe.value == 0
    assert "3 of 6 people not predicted" in epe.note


PLAIN = {"bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("rows", "counts", "note"),
    [
        ([{"image_id": 5, **PLAIN}], [0, 0, 1, 0], "an id, neither score nor category"),
        ([{"file_name": "1.png", **PLAIN}, {"file_name": "x/2.png", **PLAIN}], [0, 1, 1, 0], "file names"),
        ([{"image_id": "0.png", **PLAIN}], [1, 0, 0, 0], "a file name for an id"),
        ([{"image_id": 7, "file_name": "2.png", **PLAIN}], [1, 0, 0, 0], "ids before names"),
        ([{"image_id": 98, "file_name": "2.png", **PLAIN}], [0, 0, 1, 0], "an id of other data, and a name"),
        ([{"image_id": 7, **PLAIN}, {"file_name": "3.png", **PLAIN}], [1, 0, 0, 1], "one by id and one by name"),
        (
            [{"image_id": 7, "file_name": "x.png", **PLAIN}, {"image_id": 3, "file_name": "x.png", **PLAIN}],
            [1, 1, 0, 0],
            "two ids with one name",
        ),
        (
            {"images": [{"id": 98, "file_name": "2.png"}], "annotations": [{"image_id": 98, **PLAIN}]},
            [0, 0, 1, 0],
            "another annotation file of the pictures",
        ),
    ],
)
def test_boxes_are_of_the_samples_with_their_ids_or_file_names(
    pictures: Dataset, tmp_path: Path, rows: Any, counts: list[int], note: str
) -> None:
    asked, notes = detected_dataset(pictures, write_detections(tmp_path / "det.json", rows), threshold=0.5)
    assert np.diff(asked.offsets).tolist() == counts, note
    assert asked.people.instance_scores is not None
    assert asked.people.instance_scores.tolist() == [1] * sum(counts)  # certain where the file has no score
    assert asked.people.extra["category"].tolist() == [1] * sum(counts)
    assert len(notes) == 1


def test_boxes_without_a_category_are_of_the_datas(pictures: Dataset, tmp_path: Path) -> None:
    people = pictures.people.with_extra(category=np.full(len(pictures.people), 21))
    cows = dataclasses.replace(pictures, people=people)
    rows = [{"image_id": 7, **PLAIN}, {"image_id": 7, "category_id": 1, **PLAIN}]
    asked, notes = detected_dataset(cows, write_detections(tmp_path / "det.json", rows))
    assert asked.people.extra["category"].tolist() == [21]
    assert "1 of other categories (1)" in notes[0]


@pytest.mark.parametrize(
    ("rows", "message", "note"),
    [
        ([{"image_id": 7, "bbox": [1, 2, 3]}], "detection 0 is not", "a box of three numbers"),
        ([detection(98, 0, 1)], r"none of its 1 boxes.*98.*7, 3, 5, 4", "another dataset's"),
        ([detection("7", 0, 1)], r"none of its 1 boxes.*'7'.*7, 3", "texts for numbers"),
        ([3], "detection 0 is not", "a number"),
    ],
)
def test_wrong_detections(pictures: Dataset, tmp_path: Path, rows: Any, message: str, note: str) -> None:
    with pytest.raises(PosecliError, match=message):
        detected_dataset(pictures, write_detections(tmp_path / "det.json", rows))


def test_detections_that_are_no_json(pictures: Dataset, tmp_path: Path) -> None:
    (tmp_path / "det.json").write_text("[{")
    with pytest.raises(PosecliError, match="not valid JSON"):
        detected_dataset(pictures, tmp_path / "det.json")
    with pytest.raises(PosecliError, match="No such file"):
        detected_dataset(pictures, tmp_path / "nothing.json")


# --- the command, scoring a file --------------------------------------------------------------------------------------


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    command.add(application)
    return application


def write_truth(path: Path, count: int = 6) -> list[Prediction]:
    """A COCO file with one person a picture, and perfect predictions for it."""
    random = np.random.default_rng(0)
    annotations, predictions = [], []
    for index in range(1, count + 1):
        points = random.uniform(20, 200, (5, 2)).round(2)
        low, high = points.min(0) - 5, points.max(0) + 5
        flat = [value for x, y in points.tolist() for value in (x, y, 2)]
        box = [*low.tolist(), *(high - low).tolist()]
        annotations.append(
            {
                "id": index,
                "image_id": index,
                "category_id": 1,
                "keypoints": flat,
                "num_keypoints": 5,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
        people = People(points[None], np.ones((1, 5)), np.array([[*low, *high]]), np.array([1 - index / 100]))
        predictions.append(Prediction(index, people))
    images = [{"id": index, "file_name": f"{index}.jpg", "width": 220, "height": 220} for index in range(1, count + 1)]
    category = {
        "id": 1,
        "name": "five",
        "keypoints": list(NAMES),
        "skeleton": [],
        "sigmas": list(SKELETON.sigmas or ()),
    }
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return predictions


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    """results.jsonl with perfect predictions, and the truth."""
    truth, results = tmp_path / "ann.json", tmp_path / "results.jsonl"
    write_results(results, write_truth(truth), ResultsHeader(SKELETON, "some.model", "c0ffee"))
    return results, truth


@pytest.mark.parametrize(
    ("folders", "scores", "note"),
    [
        (["a"], 1.0, "the pictures themselves"),
        (["a", "b"], 1.0, "others of the same names come after"),
        (["b", "a"], 1.0, "and before"),
        (["b", "c"], None, "two that are as near"),
    ],
)
def test_pictures_of_one_name_are_told_apart_by_their_folders(
    tmp_path: Path, folders: list[str], scores: float | None, note: str
) -> None:
    truth = tmp_path / "ann.json"
    right = write_truth(truth)
    document = json.loads(truth.read_text())
    for image in document["images"]:
        image["file_name"] = f"a/{image['file_name']}"
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / image["file_name"]).touch()
    truth.write_text(json.dumps(document))
    predictions = []
    for folder in folders:
        for one in right:
            wrong = dataclasses.replace(one.people, keypoints=one.people.keypoints + 90)
            people = one.people if folder == "a" else wrong
            predictions.append(Prediction(f"pictures/{folder}/{one.id}.jpg", people))
    results = tmp_path / "results.jsonl"
    write_results(results, predictions, ResultsHeader(SKELETON))
    if scores is None:
        with pytest.raises(PosecliError, match="none of the"):
            evaluate_results(results, truth, ["pck"])
    else:
        assert evaluate_results(results, truth, ["pck"]).scores[0].value == scores, note


def test_a_results_file_is_scored_by_a_process_of_its_own(scored: tuple[Path, Path]) -> None:
    results, truth = scored
    arguments = ["eval", str(results), "--data", str(truth), "--metric", "ap", "--metric", "pck@0.2:torso", "--json"]
    ran = subprocess.run([sys.executable, "-m", "posecli", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)  # nothing else is there
    found = {one["name"]: one for one in summary["scores"]}
    assert found["AP"]["value"] == pytest.approx(1)
    assert "sigmas of skeleton 'five'" in found["AP"]["note"]
    assert found["PCK@0.2:torso"]["value"] == 1
    assert found["PCK@0.2:torso"]["details"] == dict.fromkeys(NAMES, 1)
    assert (summary["samples"], summary["people"], summary["predicted"]) == (6, 6, 6)
    assert (summary["model"], summary["checkpoint"]) == ("some.model", "c0ffee")


def test_wrong_input_is_one_line_and_exit_code_2(scored: tuple[Path, Path]) -> None:
    results, truth = scored
    arguments = ["eval", str(results), "--data", str(truth), "--metric", "pckk"]
    ran = subprocess.run([sys.executable, "-m", "posecli", *arguments], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert "did you mean 'pck'" in ran.stderr


def test_the_table_and_the_details(app: typer.Typer, scored: tuple[Path, Path]) -> None:
    results, truth = scored
    ran = CliRunner().invoke(app, [str(results), "--data", str(truth), "--metric", "epe", "--details"])
    assert ran.exit_code == 0
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert ["EPE", "0.0000", "px", "mean", "over", "30", "keypoints", "of", "6", "people"] in lines
    assert ["left_hip", "0.0000"] in lines


def test_without_a_metric_the_data_decides(app: typer.Typer, scored: tuple[Path, Path]) -> None:
    results, truth = scored
    ran = CliRunner().invoke(app, [str(results), "--data", str(truth), "--json"])
    names = [one["name"] for one in json.loads(ran.stdout)["scores"]]
    assert {"AP", "PCK@0.05"} <= set(names)
    content = json.loads(truth.read_text())
    del content["categories"][0]["sigmas"]
    truth.write_text(json.dumps(content))
    ran = CliRunner().invoke(app, [str(results), "--data", str(truth), "--json"])
    names = [one["name"] for one in json.loads(ran.stdout)["scores"]]
    assert "PCK@0.05" in names
    assert "AP" not in names
    ran = CliRunner().invoke(app, [str(results), "--data", str(truth), "--metric", "ap"])
    assert isinstance(ran.exception, PosecliError)
    assert "needs the OKS sigmas of skeleton" in str(ran.exception)


def test_values_that_do_not_exist_are_null(app: typer.Typer, scored: tuple[Path, Path], tmp_path: Path) -> None:
    _, truth = scored
    empty = tmp_path / "empty.jsonl"
    write_results(empty, [], ResultsHeader(SKELETON))
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, [str(empty), "--data", str(truth), "--metric", "epe", "--json", "--out", str(out)])
    assert ran.exit_code == 0, ran.exception
    assert json.loads(ran.stdout)["scores"][0]["value"] is None
    assert json.loads((out / "scores.json").read_text())["scores"][0]["value"] is None
    assert read_results(out / "results.jsonl")[1] == {}


def coco_ap(truth: Path, results: Path) -> float:
    """AP of COCO results by pycocotools alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(truth))
        evaluation = COCOeval(known, known.loadRes(str(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(SKELETON.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.mark.parametrize(("category", "kept"), [(1, True), (21, False)], ids=["of persons", "of animals, unsaid"])
def test_coco_results_score_like_the_results_file(app: typer.Typer, tmp_path: Path, category: int, kept: bool) -> None:
    truth, results, out = tmp_path / "ann.json", tmp_path / "results.jsonl", tmp_path / "out"
    random = np.random.default_rng(1)
    predictions = []
    for one in write_truth(truth):
        points = one.people.keypoints + random.normal(0, 6, one.people.keypoints.shape)
        points[0, random.integers(5)] = np.nan
        extra = {"category": np.array([category])} if kept else {}
        predictions.append(Prediction(one.id, dataclasses.replace(one.people, keypoints=points, extra=extra)))
    document = json.loads(truth.read_text())
    for record in document["annotations"]:
        record["category_id"] = category
    document["categories"][0]["id"] = category
    truth.write_text(json.dumps(document))
    write_results(results, predictions, ResultsHeader(SKELETON))
    arguments = ["--data", str(truth), "--metric", "ap", "--metric", "epe", "--json"]
    ran = CliRunner().invoke(app, [str(results), *arguments, "--out", str(out)])
    assert ran.exit_code == 0, ran.exception
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "coco_results.json", "scores.json"}
    again = CliRunner().invoke(app, [str(out / "coco_results.json"), *arguments])
    assert again.exit_code == 0, again.exception
    first, second = json.loads(ran.stdout), json.loads(again.stdout)
    assert [one["value"] for one in first["scores"]] == [one["value"] for one in second["scores"]]
    assert 0 < first["scores"][0]["value"] < 1
    assert coco_ap(truth, out / "coco_results.json") == pytest.approx(first["scores"][0]["value"], abs=1e-9)


def test_coco_results_are_matched_by_file_names(scored: tuple[Path, Path], tmp_path: Path) -> None:
    moved = [Prediction(f"photos/{key}.jpg", people) for key, people in read_results(scored[0])[1].items()]
    to_coco_json(tmp_path / "coco.json", moved)
    assert evaluate_results(tmp_path / "coco.json", scored[1], ["epe"]).scores[0].value == 0


def test_3d_predictions_with_places_in_the_picture_are_coco_results(app: typer.Typer, tmp_path: Path) -> None:
    truth, results, out = tmp_path / "ann.json", tmp_path / "results.jsonl", tmp_path / "out"
    flat = write_truth(truth)[0].people
    deep = np.concatenate([flat.keypoints, np.ones((1, 5, 1))], axis=2)
    people = dataclasses.replace(flat, keypoints=deep).with_extra(keypoints_2d=flat.keypoints)
    write_results(results, [Prediction(1, people)], ResultsHeader(SKELETON))
    ran = CliRunner().invoke(app, [str(results), "--data", str(truth), "--metric", "epe", "--out", str(out)])
    assert ran.exit_code == 0, ran.exception
    assert "results.jsonl, coco_results.json and scores.json are in" in ran.output
    assert evaluate_results(out / "coco_results.json", truth, ["epe"]).scores[0].value == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RESULTS"], "say what .* is scored against: --data"),
        (["RESULTS", "--data", "TRUTH", "--model", "runs/x"], "not both"),
        (["RESULTS", "--data", "TRUTH", "--guess"], "--guess is of a model"),
        (["RESULTS", "--data", "TRUTH", "--set", "eval.batch_size=2"], "--set is of a model"),
        (["runs.safetensors", "--data", "TRUTH"], "name it with --model"),
        (["nothing.jsonl", "--data", "TRUTH"], "cannot read the results file nothing.jsonl"),
        (["TRUTH", "--data", "TRUTH"], "not a posecli results file"),
        (["BOXES", "--data", "TRUTH"], "result 0 is not .*'keypoints' is missing"),
        (["RESULTS", "--data", "nothing.json"], "nothing.json"),
        (["RESULTS", "--data", "TRUTH", "--metric", "pck:knee"], "two keypoints"),
        (["--model", "runs/nothing"], "no model runs/nothing"),
    ],
)
def test_what_is_missing_or_does_not_fit(
    app: typer.Typer, scored: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    boxes = write_detections(scored[0].with_name("boxes.json"), [detection(1, 0, 1)])
    names = {"RESULTS": str(scored[0]), "TRUTH": str(scored[1]), "BOXES": str(boxes)}
    ran = CliRunner().invoke(app, [names.get(argument, argument) for argument in arguments])
    assert isinstance(ran.exception, PosecliError), ran.output
    assert ran.exception.exit_code == console.WRONG_INPUT
    assert re.search(message, str(ran.exception)), ran.exception


@pytest.mark.parametrize("value", ["nan", "7", "-1"])
def test_the_box_threshold_is_a_share(app: typer.Typer, value: str) -> None:
    ran = CliRunner().invoke(app, ["--box-threshold", value])
    assert ran.exit_code == console.WRONG_INPUT
    assert f"{value} is not a number from 0 to 1" in ran.output


def test_a_results_file_of_another_skeleton(app: typer.Typer, scored: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    people = People(np.zeros((1, 2, 2)), np.ones((1, 2)))
    write_results(other, [Prediction(1, people)], ResultsHeader(Skeleton("two", ("a", "b"))))
    ran = CliRunner().invoke(app, [str(other), "--data", str(scored[1])])
    assert "2 keypoints a person are predicted (skeleton 'two')" in str(ran.exception)


def test_results_are_matched_by_the_names_of_joints_and_pictures(scored: tuple[Path, Path], tmp_path: Path) -> None:
    """As `infer` names them: the pictures by their paths; the joints in another order than the data has them."""
    order = [4, 0, 3, 1, 2]
    moved = [
        Prediction(f"/photos/{sample_id}.jpg", dataclasses.replace(people, keypoints=people.keypoints[:, order]))
        for sample_id, people in read_results(scored[0])[1].items()
    ]
    results = tmp_path / "infer.jsonl"
    write_results(results, moved, ResultsHeader(Skeleton("moved", tuple(NAMES[place] for place in order))))
    evaluation = evaluate_results(results, scored[1], ["epe", "pck@0.2:torso"])
    assert [(one.name, one.value) for one in evaluation.scores][::2] == [("EPE", 0.0), ("PCK@0.2:torso", 1.0)]


def test_a_model_of_pictures_needs_pictures(pictures: Dataset) -> None:
    motion = dataclasses.replace(pictures, images=NoPictures(4))
    with pytest.raises(PosecliError, match="4 of its 4 frames have no picture, which this model looks at"):
        check_pictures(Guesser(), motion)
    check_pictures(Guesser(), pictures)


# --- the command, scoring a model -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained top-down model with seven synthetic pictures to be scored on."""
    torch.manual_seed(0)
    experiment = Experiment.model_validate(
        {
            "model": {
                "use": "topdown.heatmap",
                "backbone": {"use": "resnet", "depth": 18},
                "input_size": [64, 64],
                "deconv_filters": 8,
            },
            "data": {
                "train": {"use": "synthetic", "count": 8},
                "val": {"use": "synthetic", "count": 7, "seed": 1},
                "workers": 0,
            },
            "eval": {"metrics": ["epe"], "batch_size": 4},
        }
    )
    skeleton = experiment.data.val.build().skeleton
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    algorithm = experiment.model.build(skeleton)
    save_checkpoint(path, algorithm.state_dict(), Header(dump(experiment), skeleton.to_dict()))
    return path


def test_a_model_and_its_results_file_score_alike(app: typer.Typer, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--model", str(checkpoint), "--device", "cpu", "--json", "--out", str(out)]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.exception
    summary = json.loads(ran.stdout)
    assert summary["scores"][0]["name"] == "EPE"  # what the checkpoint's config asks for
    assert summary == json.loads((out / "scores.json").read_text())
    header, people = read_results(out / "results.jsonl")
    assert header.model == "topdown.heatmap"
    assert header.checkpoint == summary["checkpoint"]
    truth = Experiment.model_validate(_experiment(checkpoint)).data.val.build()
    predictions = [Prediction(key, value) for key, value in people.items()]
    again = score(truth, predictions, build_metrics(["epe"], truth.skeleton))
    assert [one.value for one in again] == pytest.approx([one["value"] for one in summary["scores"]], rel=1e-6)


def _experiment(checkpoint: Path) -> dict[str, Any]:
    from posecli.checkpoint import read_header

    return read_header(checkpoint).experiment


def test_settings_reach_model_and_data(app: typer.Typer, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(checkpoint), "--device", "cpu", "--json"]
    plain = json.loads(CliRunner().invoke(app, arguments).stdout)
    ran = CliRunner().invoke(app, [*arguments, "--set", "model.flip_test=false", "--set", "data.val.count=3"])
    assert ran.exit_code == 0, ran.exception
    changed = json.loads(ran.stdout)
    assert (plain["samples"], changed["samples"]) == (7, 3)
    assert plain["scores"][0]["value"] != changed["scores"][0]["value"]
    own = tmp_path / "own"
    convert(SyntheticConfig(count=6), own, CocoWriter(), val=0.5)
    ran = CliRunner().invoke(app, [*arguments, "--data", str(own), "--set", "data.val.first=2"])
    assert ran.exit_code == 0, ran.exception
    assert json.loads(ran.stdout)["samples"] == 2
    ran = CliRunner().invoke(app, [*arguments, "--set", "model.backbone.depth=50"])
    assert "do not fit the model that --set makes of it" in str(ran.exception)


def test_two_processes_score_like_one(app: typer.Typer, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(checkpoint), "--device", "cpu", "--metric", "epe", "--metric", "pck", "--json", "--out"]
    alone = CliRunner().invoke(app, [*arguments, str(tmp_path / "1")])
    both = subprocess.run(
        [sys.executable, "-m", "posecli", "eval", *arguments, str(tmp_path / "2"), "--nproc", "2"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert both.returncode == 0, both.stderr
    one, two = json.loads(alone.stdout), json.loads(both.stdout)  # one object: only the first rank speaks
    assert one["predicted"] == two["predicted"] == 7  # none twice, none left out
    for single, shared in zip(one["scores"], two["scores"], strict=True):
        assert shared["value"] == pytest.approx(single["value"], rel=1e-4)
    results = [read_results(tmp_path / name / "results.jsonl")[1] for name in ("1", "2")]
    assert list(results[0]) == list(results[1])
    for key, people in results[0].items():
        np.testing.assert_allclose(results[1][key].keypoints, people.keypoints, atol=1e-3)
