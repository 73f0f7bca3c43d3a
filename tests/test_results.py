"""Results files: what is written reads back exactly, damage is named by its line."""

from __future__ import annotations

import csv
import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.results import (
    Line,
    ResultsHeader,
    Write,
    coco_writer,
    csv_writer,
    decode_people,
    encode_people,
    in_picture,
    is_coco_results,
    iterate_lines,
    iterate_results,
    read_coco_results,
    read_header,
    read_results,
    results_writer,
    to_coco_json,
    write_csv,
    write_results,
)
from posecli.skeleton import Skeleton
from posecli.types import People, Prediction

SKELETON = Skeleton("three", ("nose", "left", "right"), links=((0, 1),), flip_pairs=((1, 2),), sigmas=(0.1, 0.2, 0.3))
HEADER = ResultsHeader(SKELETON, "topdown.heatmap", "ab" * 32, "posecli infer a.jpg", {"posecli": "0.1.0"})


def make_people(count: int, seed: int = 0, dimensions: int = 2) -> People:
    random = np.random.default_rng(seed)
    return People(
        random.normal(300, 200, (count, 3, dimensions)).astype(np.float32),
        random.uniform(0, 1, (count, 3)).astype(np.float32),
        random.uniform(0, 640, (count, 4)).astype(np.float32),
        random.uniform(0, 1, count).astype(np.float32),
        {"row": np.arange(count), "track_id": np.arange(count) + 7},
    )


def assert_same(first: People, second: People) -> None:
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(first.scores, second.scores)
    for name in ("boxes", "instance_scores"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other)
    assert set(first.extra) == set(second.extra)
    for name, values in first.extra.items():
        np.testing.assert_array_equal(values, second.extra[name])
        assert values.dtype.kind == second.extra[name].dtype.kind, name


def hard_values() -> People:
    """float32 numbers that a careless decimal would change, and unknown ones."""
    values = np.array(
        [[[0.1, 1 / 3], [1e-30, 1e30], [np.nan, np.nan]], [[-0.0, 16777217.0], [np.pi * 1e4, -1e-7], [5, 1e5 + 0.1]]],
        dtype=np.float32,
    )
    return People(values, np.array([[0.1, 1e-12, np.nan], [1 - 2**-24, 0.7, 0]], dtype=np.float32))


@pytest.mark.parametrize(
    ("people", "note"),
    [
        (make_people(3), "everything there"),
        (make_people(2, dimensions=3), "3D keypoints"),
        (People.empty(3), "nobody"),
        (People(make_people(2).keypoints, make_people(2).scores), "keypoints alone"),
        (hard_values(), "numbers that are hard to write"),
        (
            make_people(2).with_extra(
                keypoints_3d=np.full((2, 3, 3), 0.25, np.float32),
                crowd=np.array([True, False]),
                hand=np.array(["a", "b"]),
            ),
            "other per-row arrays",
        ),
        (make_people(2).with_extra(depth=np.array([1.0, 2.0], np.float32)), "whole numbers that are floats"),
    ],
)
def test_round_trip(tmp_path: Path, people: People, note: str) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, [Prediction(5, people), Prediction("a b", make_people(1))], HEADER)
    header, found = read_results(path)
    assert header == HEADER
    assert list(found) == [5, "a b"]
    assert_same(found[5], people)
    assert_same(found["a b"], make_people(1))


def test_every_float32_reads_back_exactly() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32).view(np.float32)
    usual = np.random.default_rng(1).uniform(0, 2000, 60_000).astype(np.float32)
    values = np.concatenate([bits[np.isfinite(bits)], usual])
    values = values[: len(values) // 9 * 9].reshape(-1, 3, 3)
    people = People(values[..., :2], values[..., 2])
    text = json.dumps(encode_people(people), allow_nan=False)
    assert_same(decode_people(json.loads(text), 3), people)


def test_numbers_are_written_short() -> None:
    people = People(np.array([[[103.4, 7.25]]], np.float32), np.array([[0.9]], np.float32))
    assert json.dumps(encode_people(people)) == '[{"keypoints": [[103.4, 7.25, 0.9]]}]'


def test_the_form_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    people = People(
        np.array([[[1, 2], [3, 4], [np.nan, np.nan]]], np.float32),
        np.array([[0.5, 0.25, 0]], np.float32),
        np.array([[0, 0, 10, 20]], np.float32),
        np.array([0.75], np.float32),
        {"track_id": np.array([3])},
    )
    with results_writer(path, HEADER) as write:
        write(Line(Prediction(1, people), image="a.jpg", size=(640, 480), rate=12.5))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["schema"] == "posecli.results/1"
    assert first["skeleton"] == SKELETON.to_dict()
    assert second == {
        "id": 1,
        "image": "a.jpg",
        "size": [640, 480],
        "rate": 12.5,
        "people": [
            {
                "keypoints": [[1, 2, 0.5], [3, 4, 0.25], [None, None, 0]],
                "box": [0, 0, 10, 20],
                "score": 0.75,
                "track_id": 3,
            }
        ],
    }


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, [Prediction(1, make_people(1))], HEADER)
    before = path.read_bytes()

    def broken() -> None:
        with results_writer(path, HEADER) as write:
            write(Line(Prediction(2, make_people(2))))
            assert path.read_bytes() == before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _write_frames(count: int, writers: list[Write]) -> int:
    """Bytes in use at the peak while `count` frames are written."""
    people = make_people(2)
    tracemalloc.start()
    try:
        for frame in range(count):
            for write in writers:
                write(Line(Prediction(frame, people), "clip.mp4", (640, 480)))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    peaks = []
    for count in (30, 300):
        with (
            results_writer(tmp_path / "a.jsonl", HEADER) as lines,
            coco_writer(tmp_path / "a.json") as coco,
            csv_writer(tmp_path / "a.csv", HEADER) as table,
        ):
            peaks.append(_write_frames(count, [lines, coco, table]))
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("text", "message", "note"),
    [
        ("", "line 1: not a posecli results file", "an empty file"),
        ("[1, 2]\n", "line 1: not a posecli results file", "another JSON"),
        ('{"images": []}\n', "line 1: not a posecli results file", "a COCO file"),
        ("hello\n", "line 1: not a posecli results file", "no JSON at all"),
        ("[\n{}\n]\n", "line 1: not a posecli results file", "COCO results"),
        ('{"schema": "posecli.results/9"}\n', "posecli.results/9 is not known", "a later version"),
        ('{"schema": "posecli.results/1"}\n', "header is damaged", "no skeleton"),
        ('HEADER{"id": 1, "people": [{"keyp', "line 2: not valid JSON.*probably cut off", "cut in a line"),
        ('HEADER{"id": 1}\n', "line 2: not a prediction: 'people' is missing", "no people"),
        ('HEADER{"id": [1], "people": []}\n', "line 2: not a prediction: the id", "a list for an id"),
        ('HEADER{"id": 1, "people": [{}]}\n', "line 2: .*'keypoints' is missing", "no keypoints"),
        ('HEADER{"id": 1, "people": [{"keypoints": [[1, 2, 3]]}]}\n', "line 2: .*3 lists", "too few keypoints"),
        ('HEADER{"id": 1, "people": [{"keypoints": [[1, 2, 3], [1]]}]}\n', "line 2: .*3 lists", "a short keypoint"),
        ('HEADER{"id": 1, "people": [{"keypoints": [["a", 2, 3]]}]}\n', "line 2: .*3 lists", "no numbers"),
        ('HEADER{"id": 1, "people": 3}\n', "line 2: not a prediction", "people is a number"),
        ('HEADER{"id": 1, "people": []}\n{"id": 1, "people": []}\n', "line 3: sample 1 comes a second time", "twice"),
        ("HEADER7\n", "line 2: not a prediction", "a number for a line"),
    ],
)
def test_damage_is_one_line_with_its_place(tmp_path: Path, text: str, message: str, note: str) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, [], HEADER)
    path.write_text(text.replace("HEADER", path.read_text()))
    with pytest.raises(PosecliError, match=message) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match="No such file"):
        read_results(tmp_path / "nothing.jsonl")
    (tmp_path / "picture.jsonl").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(PosecliError, match="not UTF-8"):
        list(iterate_results(tmp_path / "picture.jsonl"))


def test_coco_results_are_read_by_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    people = make_people(2)
    people.keypoints[0, 1] = np.nan
    path = tmp_path / "coco.json"
    to_coco_json(path, [Prediction(4, people), Prediction(5, People.empty(3))])
    truth = COCO()
    truth.dataset = {"images": [{"id": 4}, {"id": 5}], "annotations": [], "categories": [{"id": 1}]}
    truth.createIndex()
    rows = list(truth.loadRes(str(path)).anns.values())
    assert [row["image_id"] for row in rows] == [4, 4]
    assert people.boxes is not None
    assert people.instance_scores is not None
    for row, keypoints, scores, box, score in zip(
        rows, people.keypoints, people.scores, people.boxes, people.instance_scores, strict=True
    ):
        known = np.isfinite(keypoints).all(axis=1)
        expected = np.where(known[:, None], np.concatenate([keypoints, scores[:, None]], axis=1), 0)
        np.testing.assert_array_equal(np.array(row["keypoints"], np.float32), expected.reshape(-1))
        np.testing.assert_allclose(row["bbox"], [box[0], box[1], box[2] - box[0], box[3] - box[1]], rtol=1e-6)
        assert np.float32(row["score"]) == score
        assert row["category_id"] == 1
    capsys.readouterr()


@pytest.mark.parametrize("boxed", [True, False])
def test_coco_results_read_back(tmp_path: Path, boxed: bool) -> None:
    people = make_people(3)
    people.keypoints[0, 1] = np.nan
    people.scores[0, 1] = 0
    people = dataclasses.replace(people, boxes=people.boxes if boxed else None, extra={"category": np.array([1, 5, 1])})
    path = tmp_path / "coco.json"
    to_coco_json(path, [Prediction("a.jpg", people[:2]), Prediction(5, people[2:]), Prediction(6, People.empty(3))])
    assert is_coco_results(path)
    found = read_coco_results(path, 3)
    assert list(found) == ["a.jpg", 5]
    for read, written in ((found["a.jpg"], people[:2]), (found[5], people[2:])):
        np.testing.assert_array_equal(read.keypoints, written.keypoints)
        np.testing.assert_array_equal(read.scores, written.scores)
        np.testing.assert_array_equal(read.instance_scores, written.instance_scores)
        assert read.extra["category"].tolist() == written.extra["category"].tolist()
        assert (read.boxes is None) == (not boxed)
        if boxed:
            np.testing.assert_allclose(read.boxes, written.boxes, rtol=1e-5)


def test_people_without_a_category_get_the_one_that_is_given(tmp_path: Path) -> None:
    to_coco_json(tmp_path / "a.json", [Prediction(1, make_people(2))], category=21)
    assert [row["category_id"] for row in json.loads((tmp_path / "a.json").read_text())] == [21, 21]


GOOD = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5] * 3, "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message", "note"),
    [
        ([GOOD, 7], "result 1 is not", "a number"),
        ([GOOD | {"image_id": [1]}], "image_id must be a number or a text", "a list for an id"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}], "'keypoints' is missing", "boxes"),
        ([GOOD | {"keypoints": [1, 2, 0.5] * 4}], "it has 4 keypoints, the data 3", "too many keypoints"),
        ([GOOD | {"keypoints": [1, 2]}], "a flat list of three numbers each", "pairs"),
        ([GOOD | {"keypoints": ["a"] * 9}], "could not convert", "no numbers"),
        ([GOOD | {"score": None}], "result 0 is not", "no score"),
        ([GOOD | {"bbox": [1, 2, 3]}], "result 0 is not", "a box of three numbers"),
    ],
)
def test_wrong_coco_results_are_named(tmp_path: Path, content: object, message: str, note: str) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PosecliError, match=message) as caught:
        read_coco_results(path, 3)
    assert str(path) in str(caught.value), note
    assert "\n" not in str(caught.value)


def test_coco_results_that_are_no_list(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    assert not is_coco_results(path)
    for text, message in (("[{", "cannot read the COCO results"), ("{}", "is no list of COCO results")):
        path.write_text(text)
        with pytest.raises(PosecliError, match=message):
            read_coco_results(path, 3)


def test_coco_results_of_nobody_and_of_3d(tmp_path: Path) -> None:
    to_coco_json(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []
    with pytest.raises(PosecliError, match="2D keypoints only"):
        to_coco_json(tmp_path / "deep.json", [Prediction(1, make_people(1, dimensions=3))])
    assert not (tmp_path / "deep.json").exists()
    assert [in_picture(make_people(1, dimensions=axes)) for axes in (2, 3)] == [True, False]


def test_3d_people_with_places_in_the_picture_are_coco_results(tmp_path: Path) -> None:
    people = make_people(2, dimensions=3)
    pixels = make_people(2, seed=1).keypoints
    pixels[1, 2] = np.nan
    to_coco_json(tmp_path / "a.json", [Prediction(1, people.with_extra(keypoints_2d=pixels))])
    rows = json.loads((tmp_path / "a.json").read_text())
    points = np.array([row["keypoints"] for row in rows], np.float32).reshape(2, 3, 3)
    np.testing.assert_array_equal(points[..., :2], np.nan_to_num(pixels))
    assert points[1, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("dimensions", "placed", "axes"),
    [
        (2, None, ["x", "y"]),
        (3, None, ["x_mm", "y_mm", "z_mm"]),
        (3, True, ["x_mm", "y_mm", "z_mm"]),
        (3, False, ["x", "y", "z_mm"]),
    ],
    ids=["2D", "3D", "in camera millimetres", "pixels and depth"],
)
def test_csv_names_what_coordinates_are(tmp_path: Path, dimensions: int, placed: bool | None, axes: list[str]) -> None:
    people = make_people(1, dimensions=dimensions)
    if placed is not None:
        people = people.with_extra(in_camera=np.array([placed]))
    nobody = Prediction("b", People.empty(3))
    write_results(tmp_path / "a.jsonl", [nobody, Prediction("a", people)], HEADER)
    write_csv(tmp_path / "a.csv", iterate_results(tmp_path / "a.jsonl"), HEADER, dimensions)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].split(",") == ["image", "person", "keypoint", *axes, "score"]
    assert len(lines) == 4
    write_csv(tmp_path / "none.csv", [nobody], HEADER, dimensions)
    assert (tmp_path / "none.csv").read_text().startswith("image,person,keypoint,x")


def test_tracks_are_in_every_form(tmp_path: Path) -> None:
    """JSON Lines, COCO results and CSV name the same person; a picture among them has no track."""
    tracked = [
        Prediction(f"clip.mp4#{frame}", make_people(2).with_extra(track_id=np.array([4, frame]))) for frame in range(3)
    ]
    picture = make_people(1)
    picture = dataclasses.replace(picture, extra={})
    predictions = [*tracked, Prediction("a.jpg", picture)]
    write_results(tmp_path / "a.jsonl", predictions, HEADER)
    read = [line.prediction.people for line in iterate_lines(tmp_path / "a.jsonl")]
    assert [people.extra["track_id"].tolist() for people in read[:3]] == [[4, 0], [4, 1], [4, 2]]
    assert "track_id" not in read[3].extra
    to_coco_json(tmp_path / "a.json", predictions)
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row.get("track_id") for row in rows] == [4, 0, 4, 1, 4, 2, None]
    write_csv(tmp_path / "a.csv", predictions, HEADER, tracked=True)
    with (tmp_path / "a.csv").open(newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["keypoint"] == SKELETON.names[0]]
    assert [line["track"] for line in lines] == ["4", "0", "4", "1", "4", "2", ""]


def test_classes_have_names(tmp_path: Path) -> None:
    """In the header of JSON Lines, which reads back; in CSV stands the likeliest of each, unknown of the last."""
    header = dataclasses.replace(HEADER, classes={"facing": ("left", "right"), "mood": ("glad", "sad", "cross")})
    chances = {
        "facing": np.array([[0.2, 0.8], [0.7, 0.3]], np.float32),
        "mood": np.array([[0.1, 0.3, 0.6], [0.8, 0.1, 0.1]], np.float32),
    }
    predictions = [Prediction("a", make_people(2).with_extra(**chances)), Prediction("b", make_people(1))]
    write_results(tmp_path / "a.jsonl", predictions, header)
    assert read_header(tmp_path / "a.jsonl") == header
    write_csv(tmp_path / "a.csv", iterate_results(tmp_path / "a.jsonl"), header)
    with (tmp_path / "a.csv").open(newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["keypoint"] == SKELETON.names[0]]
    assert [(line["facing"], line["mood"]) for line in lines] == [("right", "cross"), ("left", "glad"), ("", "")]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_csv_is_long(tmp_path: Path, dimensions: int) -> None:
    people = make_people(2, dimensions=dimensions)
    people.keypoints[1, 2] = np.nan
    path = tmp_path / "a.csv"
    write_csv(path, [Prediction("a, b.jpg", people)], HEADER, dimensions)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    axes = ["x", "y"] if dimensions == 2 else ["x_mm", "y_mm", "z_mm"]
    assert list(rows[0]) == ["image", "person", "keypoint", *axes, "score"]
    assert [(row["image"], row["person"], row["keypoint"]) for row in rows] == [
        ("a, b.jpg", str(person), name) for person in range(2) for name in SKELETON.names
    ]
    read = np.array([[float(row[axis] or "nan") for axis in axes] for row in rows], np.float32)
    np.testing.assert_array_equal(read.reshape(2, 3, dimensions), people.keypoints)
    np.testing.assert_array_equal(np.array([row["score"] for row in rows], np.float32).reshape(2, 3), people.scores)
