"""MPII and MPII-TRB, and the score they have, PCKh."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from golden_rule import assert_same_skeleton

from posecli.config import DatasetConfig, parse_metric
from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.datacheck import check
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import MpiiConfig, MpiiTrbConfig, PanopticHandConfig
from posecli.datasets.detect import coco_like, detect_dataset
from posecli.datasets.mpii import mpii_dataset, mpii_trb_dataset
from posecli.metrics.metric import Score
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset, People, SampleId

SAMPLES = "data/format-samples/mpii"
Predictions = dict[SampleId, People]
Run = Callable[..., subprocess.CompletedProcess[str]]


def person(name: str = "012.jpg", **change: Any) -> dict[str, Any]:
    """16 joints on a diagonal from (11, 21) on, in pixels that count from 1."""
    joints = [[11 + joint, 21 + 2 * joint] for joint in range(16)]
    told = {"image": name, "center": [50, 40], "scale": 0.2, "joints": joints, "joints_vis": [1] * 16}
    return told | change


def people_list(folder: Path, people: list[Any], name: str = "mpii_val.json") -> Path:
    """The list, beside black pictures of 90×80."""
    file = folder / name
    file.write_text(json.dumps(people))
    for record in people:
        if isinstance(record, dict) and isinstance(record.get("image"), str):
            cv2.imwrite(str(folder / record["image"]), np.zeros((80, 90, 3), np.uint8))
    return file


def head_boxes(file: Path, diagonals: list[float]) -> Path:
    """An mpii_gt_val.mat whose boxes have sides 3 : 4."""
    sides = np.array([[0.6, 0.8]]).T * np.array(diagonals)  # (2, N)
    corner = np.array([[5.0], [6.0]]) + 0 * sides
    scipy.io.savemat(file, {"headboxes_src": np.stack([corner, corner + sides])})
    return file


# --- the reference's samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "labelled", "row", "point", "box"),
    [
        # 1.3.2's bbox of the first entry: centre (965, 339 + 15 × 4.718488), side 200 × 4.718488
        ("test_mpii.json", "mpii", 76, 0, [803, 710], [493.1512, -62.07148, 1436.8488, 881.62612]),
        # 0.29's scale of annotation 2736: 256 / 0.1756068552 pixels, padded by 1.25 here
        ("test_mpii_trb.json", "mpii-trb", 181, 1, [1067, 253], [382.879255, -243.120745, 1549.120745, 923.120745]),
    ],
)
def test_sample_files(
    shared: Path, file: str, name: str, labelled: int, row: int, point: list[float], box: list[float]
) -> None:
    config = coco_like(shared / SAMPLES / file)
    assert config.name == name
    samples = config.build()
    assert (len(samples), len(samples.people), samples.people.labelled.sum()) == (5, 5, labelled)
    assert samples.ids[row] == 5808361
    assert samples.people.keypoints[row, 0].tolist() == point
    assert samples.people.boxes is not None
    np.testing.assert_allclose(samples.people.boxes[row], box, atol=1e-3)
    assert "head_size" not in samples.people.extra
    assert any("no head sizes, which pckh needs" in note for note in samples.notes)
    (report,) = check(shared / SAMPLES / file)
    assert (report.faults, report.people, report.labelled) == (0, 5, labelled)


def test_the_same_joints_in_both_sets(shared: Path) -> None:
    """MPII-TRB has MPII's own joints, whose pixels count from 1; MPII's count from 0 here."""
    mpii, trb = (
        dataset(shared / SAMPLES / file)
        for dataset, file in ((mpii_dataset, "test_mpii.json"), (mpii_trb_dataset, "test_mpii_trb.json"))
    )
    names = {"head": "head_top", "neck": "upper_neck"}
    joints = [mpii.skeleton.names.index(names.get(name, name)) for name in trb.skeleton.names[:14]]
    for index, sample_id in enumerate(trb.ids):
        other = mpii[mpii.ids.index(sample_id)].people
        np.testing.assert_allclose(trb[index].people.keypoints[0, :14], other.keypoints[0, joints] + 1, atol=1e-3)


@pytest.mark.parametrize("name", ["mpii", "mpii_trb"])
def test_skeletons_are_the_reference_s(golden: Path, name: str) -> None:
    assert_same_skeleton(house_skeleton(name), golden, name)


# --- the list of people -----------------------------------------------------------------------------------------------


def test_people_of_a_picture_are_one_sample(tmp_path: Path) -> None:
    """People of a picture need not stand beside each other in the list; head sizes are theirs all the same."""
    file = people_list(tmp_path, [person("012.jpg"), person("x7.jpg"), person("012.jpg", center=[30, 40])])
    head_boxes(tmp_path / "mpii_gt_val.mat", [10, 20, 30])
    samples = MpiiConfig(path=file).build()
    assert list(samples.ids) == [12, "x7"]
    assert [len(samples[index].people) for index in range(2)] == [2, 1]
    assert samples[0].size == (90, 80)
    np.testing.assert_allclose(samples.people.extra["head_size"], [6, 18, 12])
    assert samples.people.boxes is not None
    assert samples.people.boxes[:, 0].tolist() == [29, 9, 29]
    np.testing.assert_allclose(samples.people.extra["area"], 0.53 * 40**2)


@pytest.mark.parametrize(
    ("joint", "seen", "expected", "note"),
    [
        ([11, 21], 1, [10, 20], "pixels count from 1 in the file"),
        ([11.5, 21.25], 1, [10.5, 20.25], "also between two"),
        ([0, 0], 1, [-1, -1], "a joint just beyond the edge"),
        ([11, 21], 0, None, "not visible is not labelled"),
        ([-1, -1], 0, None, "as the list has unknown joints"),
        ([-1, 21], 1, None, "nor is a negative place labelled, whatever it is said to be"),
        ([11, -1], 1, None, "nor downward"),
    ],
)
def test_joints(tmp_path: Path, joint: list[float], seen: int, expected: list[float] | None, note: str) -> None:
    told = person()
    told["joints"][3], told["joints_vis"][3] = joint, seen
    people = mpii_dataset(people_list(tmp_path, [told])).people
    assert people.labelled[0].sum() == 15 + (expected is not None), note
    assert people.scores[0, 3] == (0 if expected is None else 2), note
    assert expected is None or people.keypoints[0, 3].tolist() == expected, note


@pytest.mark.parametrize(
    ("center", "scale", "box", "note"),
    [
        ([51, 41], 0.2, [30, 23, 70, 63], "200 × scale around the centre, which moves down by 15 × scale"),
        ([51, 41], 1, [-50, -45, 150, 155], "also beyond the picture"),
        ([-1, -1], 0.2, [10, 20, 25, 50], "no centre: tight"),
        ([51, 41], -1, [10, 20, 25, 50], "no scale: tight"),
        ([51, 41], float("inf"), [10, 20, 25, 50], "nor is this one"),
    ],
)
def test_boxes(tmp_path: Path, center: list[float], scale: float, box: list[float], note: str) -> None:
    boxes = mpii_dataset(people_list(tmp_path, [person(center=center, scale=scale)])).people.boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes[0], box, err_msg=note)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"joints": [[float("nan"), 1]] * 16}, "keypoints without a finite place"),
        ({"center": [float("nan"), 40]}, "a bbox that is not finite"),
    ],
)
def test_faults_are_noted_or_refused(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    config = MpiiConfig(path=people_list(tmp_path, [person(), person(**change)]))
    assert any(f"1 annotations have {fault}" in note for note in config.build().notes)
    with pytest.raises(PosecliError, match=fault):
        config.refusing().build()


@pytest.mark.parametrize(
    ("people", "message", "note"),
    [
        ([1, 2], r"entry 0 has not image, center, scale, joints and joints_vis.*TypeError", "numbers"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "entry 0 has not image.*KeyError: 'center'", "detections"),
        ([person(), person(joints=None)], "entry 1 has not image", "a person without joints"),
        ([person(joints_vis=[1])], "entry 0 has not image.*ValueError", "joints and flags of two lengths"),
        ([person(center="left")], "entry 0 has not image.*ValueError", "a centre in words"),
        ([person(scale="large")], "entry 0 has not image.*TypeError", "a scale in words"),
        ([person(image=7)], "entry 0 has not image.*TypeError", "a picture by number"),
        (
            [person(joints=[[1, 2]] * 15, joints_vis=[1] * 15)],
            "has 15 keypoints, 16 are expected",
            "a joint less",
        ),
        ([], "lists no images", "nobody"),
        ({"images": []}, "is no list of MPII's people", "COCO's form"),
    ],
)
def test_lists_of_other_things(tmp_path: Path, people: Any, message: str, note: str) -> None:
    with pytest.raises(PosecliError, match=message):
        mpii_dataset(people_list(tmp_path, people))


# --- head boxes -------------------------------------------------------------------------------------------------------


def test_head_boxes_beside_the_list_are_found(tmp_path: Path) -> None:
    file = people_list(tmp_path, [person(), person()])
    head_boxes(tmp_path / "mpii_gt_val.mat", [10, 20, 30])
    samples = mpii_dataset(file)
    assert "head_size" not in samples.people.extra
    assert any("mpii_gt_val.mat has head boxes of 3 people, mpii_val.json lists 2" in note for note in samples.notes)
    head_boxes(tmp_path / "mpii_gt_val.mat", [10, 20])
    samples = mpii_dataset(file)
    np.testing.assert_allclose(samples.people.extra["head_size"], [6, 12])
    assert not any("head" in note for note in samples.notes)
    other = head_boxes(tmp_path / "other.mat", [30, 50])
    np.testing.assert_allclose(MpiiConfig(path=file, headboxes=other).build().people.extra["head_size"], [18, 30])


@pytest.mark.parametrize(
    ("content", "message", "note"),
    [
        (None, r"there is no .*heads\.mat; give mpii_gt_val\.mat by headboxes", "no file"),
        (b"no", r"heads\.mat is not a MATLAB file that can be read", "another file"),
        ({"other": np.zeros(3)}, r"heads\.mat has no headboxes_src of 2×2×N numbers", "another matrix"),
        ({"headboxes_src": np.zeros((2, 2))}, "no headboxes_src of 2×2×N", "one box"),
        ({"headboxes_src": np.array([["a"]], object)}, "no headboxes_src of 2×2×N", "no numbers"),
        ({"headboxes_src": np.zeros((2, 2, 3))}, r"of 3 people, mpii_val\.json lists 1: give the", "too many"),
    ],
)
def test_head_boxes_that_are_none(tmp_path: Path, content: Any, message: str, note: str) -> None:
    heads = tmp_path / "heads.mat"
    if isinstance(content, bytes):
        heads.write_bytes(content)
    elif content is not None:
        scipy.io.savemat(heads, content)
    with pytest.raises(PosecliError, match=message):
        mpii_dataset(people_list(tmp_path, [person()]), headboxes=heads)


@pytest.mark.parametrize("kind", ["mpii", "mpii-trb", "panoptic-hand"])
def test_head_sizes_and_skeleton_survive_writing(shared: Path, tmp_path: Path, kind: str) -> None:
    """MPII's keypoints bear MHP's names, and are MPII's still."""
    heads = head_boxes(tmp_path / "heads.mat", [60, 70, 80, 90, 99])
    configs: dict[str, DatasetConfig] = {
        "mpii": MpiiConfig(path=shared / SAMPLES / "test_mpii.json", headboxes=heads),
        "mpii-trb": MpiiTrbConfig(path=with_head_boxes(shared, tmp_path), images=shared / SAMPLES),
        "panoptic-hand": PanopticHandConfig(path=shared / "data/format-samples/panoptic/test_panoptic.json"),
    }
    config = configs[kind]
    first = config.build()
    done = convert(config, tmp_path / "out", CocoWriter(), val=0)
    assert "head_size" not in " ".join(done.notes)
    again = coco_dataset(done.sides[0].file)
    assert coco_like(done.sides[0].file).name == "coco"
    assert again.skeleton == first.skeleton
    np.testing.assert_allclose(again.people.extra["head_size"], first.people.extra["head_size"], atol=1e-6)


# --- MPII-TRB ---------------------------------------------------------------------------------------------------------


def with_head_boxes(shared: Path, folder: Path, change: Callable[[Any], Any] = lambda record: None) -> Path:
    """The sample file whose annotations have head boxes, the last one none."""
    document = json.loads((shared / SAMPLES / "test_mpii_trb.json").read_text())
    for number, record in enumerate(document["annotations"][:-1], start=10):
        record["headbox"] = [100, 50, 100 + 3 * number, 50 + 4 * number]
    change(document["annotations"][0])
    file = folder / "mpii_trb_val.json"
    file.write_text(json.dumps(document))
    return file


def test_head_boxes_of_mpii_trb(shared: Path, tmp_path: Path) -> None:
    file = with_head_boxes(shared, tmp_path)
    samples = MpiiTrbConfig(path=file, images=shared / SAMPLES).build()
    document = json.loads(file.read_text())
    known = {record["id"]: record for record in document["annotations"]}
    assert samples.people.boxes is not None
    for row, identity in enumerate(samples.people.extra["annotation_id"].tolist()):
        box = known[identity].get("headbox")
        expected = np.nan if box is None else 0.6 * np.hypot(box[2] - box[0], box[3] - box[1])
        np.testing.assert_allclose(samples.people.extra["head_size"][row], expected)
        left, top, right, bottom = samples.people.boxes[row]
        assert 1.25 * (right - left) == pytest.approx(256 / known[identity]["scale"], rel=1e-6), "0.29's crop"
        assert [(left + right) / 2, (top + bottom) / 2] == pytest.approx(known[identity]["center"], abs=1e-3)
    assert not any("head" in note for note in samples.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("center"), r"annotation \d+ has not center.*KeyError"),
        (lambda record: record.update(scale=0), r"annotation \d+ has not center.*ValueError: scale 0"),
        (lambda record: record.update(headbox=[1, 2]), r"annotation \d+ has not.*a headbox of 4 numbers"),
        (lambda record: record.update(keypoints=[1, 2, 1]), "has 1 keypoints, 40 are expected"),
    ],
)
def test_annotations_that_are_not_mpii_trb_s(
    shared: Path, tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(PosecliError, match=message):
        mpii_trb_dataset(with_head_boxes(shared, tmp_path, change), shared / SAMPLES)


# --- PCKh -------------------------------------------------------------------------------------------------------------


def made(
    keypoints: np.ndarray, labelled: np.ndarray, sizes: np.ndarray | None, skeleton: Skeleton, alone: bool = True
) -> Dataset:
    """People (P, K, 2), one a picture or all in one; head sizes (P,)."""
    count = len(keypoints)
    points = np.where(labelled[..., None], keypoints, np.nan).astype(np.float32)
    extra = {} if sizes is None else {"head_size": sizes}
    people = People(points, np.where(labelled, 2, 0).astype(np.float32), None, None, extra)
    offsets = np.arange(count + 1) if alone else np.array([0, count])
    pictures = len(offsets) - 1
    blank = [Path(f"{index}.jpg") for index in range(pictures)]
    return Dataset("made", skeleton, list(range(pictures)), np.full((pictures, 2), 640), offsets, people, blank)


def predicted(keypoints: np.ndarray, alone: bool = True) -> Predictions:
    """A prediction for each person."""
    people = People(keypoints.astype(np.float32), np.ones(keypoints.shape[:2], np.float32))
    if not alone:
        return {0: people.with_extra(row=np.arange(len(people)))}
    return {row: people[[row]].with_extra(row=np.zeros(1, np.int64)) for row in range(len(people))}


def pckh(text: str, truth: Dataset, predictions: Predictions) -> Score:
    (score,) = parse_metric(text).build(truth.skeleton).compute(truth, predictions)
    return score


def test_golden_pckh(golden: Path) -> None:
    """TopDownMpiiDataset.evaluate of MMPose 0.29: functional29_metrics.npz."""
    with np.load(golden / "functional29_metrics.npz") as stored:
        given = {key.rpartition("/")[2]: stored[key] for key in stored.files if key.startswith("TopDownMpii.evaluate")}
    corners = given["headboxes_src"]
    sizes = 0.6 * np.linalg.norm(corners[1] - corners[0], axis=0)
    labelled = given["jnt_missing"].T == 0
    truth = made(given["pos_gt_src"].transpose(2, 0, 1) - 1, labelled, sizes, house_skeleton("mpii"))
    predictions = predicted(given["preds"][..., :2])
    score = pckh("pckh", truth, predictions)
    assert score.name == "PCKh@0.5"
    assert 100 * score.value == pytest.approx(float(given["PCKh"]), abs=1e-9)
    tight = pckh("pckh@0.1", truth, predictions)
    assert 100 * tight.value == pytest.approx(float(given["PCKh@0.1"]), abs=1e-5), "of float32 there"
    kinds = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
    assert list(score.details or ()) == [kind.lower() for kind in kinds]
    for kind in kinds:
        assert 100 * (score.details or {})[kind.lower()] == pytest.approx(float(given[kind]), abs=1e-9), kind


@pytest.mark.parametrize("name", ["mpii", "mpii_trb", "coco"])
@pytest.mark.parametrize("seed", [0, 1])
def test_pckh_by_hand(name: str, seed: int) -> None:
    """One joint after the other, as it is defined; some people have no head size, some no prediction."""
    random = np.random.default_rng(seed)
    skeleton = house_skeleton(name)
    count, joints = 40, len(skeleton)
    keypoints = random.uniform(50, 400, (count, joints, 2))
    labelled = random.random((count, joints)) < 0.8
    sizes = np.where(random.random(count) < 0.2, np.nan, random.uniform(10, 60, count))
    found = keypoints + random.normal(0, 12, keypoints.shape)
    truth, alone = made(keypoints, labelled, sizes, skeleton), bool(seed)
    if not alone:
        truth = made(keypoints, labelled, sizes, skeleton, alone)
    predictions = predicted(found, alone)
    missing = set(range(0, count, 7)) if alone else set()
    for row in missing:
        del predictions[row]
    tally: dict[str, list[int]] = {kind: [0, 0] for kind in ("all", "skeleton", "contour")}
    for row in range(count):
        for joint, word in enumerate(skeleton.names):
            if not labelled[row, joint] or np.isnan(sizes[row]) or word in ("pelvis", "thorax"):
                continue
            distance = float(np.linalg.norm(found[row, joint] - keypoints[row, joint]))
            right = distance < 0.5 * sizes[row] and row not in missing
            for kind in ("all", "skeleton" if joint < 14 else "contour"):
                tally[kind][0] += right
                tally[kind][1] += 1
    score = pckh("pckh@0.5", truth, predictions)
    assert score.value == pytest.approx(tally["all"][0] / tally["all"][1])
    if name == "mpii_trb":  # joints 0–13 and 14–39 of the reference, whose threshold is 0.3 of the diagonal
        for kind in ("skeleton", "contour"):
            assert (score.details or {})[kind] == pytest.approx(tally[kind][0] / tally[kind][1])
    assert f"{int(np.isnan(sizes).sum())} people without head size left out" in score.note
    assert ("people not predicted" in score.note) == bool(missing)


@pytest.mark.parametrize(
    ("error", "value", "strict", "note"),
    [
        (0.0, 1, 1, "no error"),
        (10.0, 1, 0, "as large as the threshold: right for MPII's own evaluation, wrong for MMPose 1.x and for pck"),
        (10.001, 0, 0, "larger"),
        (np.nan, 0, 0, "not predicted"),
    ],
)
def test_errors_at_the_threshold(error: float, value: float, strict: float, note: str) -> None:
    keypoints = np.full((1, 16, 2), 100.0)
    truth = made(keypoints, np.ones((1, 16), bool), np.array([20.0]), house_skeleton("mpii"))
    predictions = predicted(keypoints + np.array([error, 0]))
    assert pckh("pckh", truth, predictions).value == value, note
    assert pckh("pck@0.5:head", truth, predictions).value == strict, note


def test_pelvis_and_thorax_do_not_count() -> None:
    keypoints, labelled = np.full((1, 16, 2), 100.0), np.ones((1, 16), bool)
    skeleton = house_skeleton("mpii")
    wrong = keypoints.copy()
    wrong[0, 6:8] += 500
    truth = made(keypoints, labelled, np.array([20.0]), skeleton)
    assert pckh("pckh", truth, predicted(wrong)).value == 1
    plain = Skeleton("plain", tuple(f"point {index}" for index in range(16)))
    score = pckh("pckh", dataclasses.replace(truth, skeleton=plain), predicted(wrong))
    assert score.value == pytest.approx(14 / 16), "where no keypoint bears their names all count"
    assert list(score.details or ()) == list(plain.names)


def test_pckh_without_head_sizes() -> None:
    keypoints, labelled = np.full((2, 16, 2), 100.0), np.ones((2, 16), bool)
    for sizes in (None, np.full(2, np.nan), np.zeros(2)):
        truth = made(keypoints, labelled, sizes, house_skeleton("mpii"))
        with pytest.raises(PosecliError, match=r"pckh needs head sizes.*mpii_gt_val\.mat.*headboxes.*head_size"):
            pckh("pckh", truth, predicted(keypoints))
    with pytest.raises(PosecliError, match=r"pckh divides by the head size alone"):
        parse_metric("pckh:torso")


# --- the command line -------------------------------------------------------------------------------------------------


def test_sides_of_a_folder_of_mpii(tmp_path: Path) -> None:
    """The reference's folder has a list of both sides beside them."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    for name in ("mpii_train.json", "mpii_val.json", "mpii_trainval.json", "mpii_test.json"):
        people_list(folder, [person()], name)
    train, val, reason = detect_dataset(tmp_path)
    assert [(side.name, side.path.name) for side in (train, val)] == [
        ("mpii", "mpii_train.json"),
        ("mpii", "mpii_val.json"),
    ]
    assert reason == "train on mpii_train.json, score on mpii_val.json, read as mpii"


def test_a_results_file_is_scored(posecli: Run, tmp_path: Path) -> None:
    file = people_list(tmp_path, [person()])
    flat = [value for x, y in person()["joints"] for value in (x - 1, y - 1 + 3, 1.0)]
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"image_id": 12, "category_id": 1, "keypoints": flat, "score": 1.0}]))
    arguments = ("eval", str(results), "--data", str(file), "--metric", "pckh", "--metric", "pckh@0.1")
    refused = posecli(*arguments)
    assert (refused.returncode, refused.stderr.count("error:")) == (2, 1)
    assert "mpii_gt_val.mat beside the list" in refused.stderr
    head_boxes(tmp_path / "mpii_gt_val.mat", [20])
    done = posecli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    scores = {score["name"]: score["value"] for score in json.loads(done.stdout)["scores"]}
    assert scores == {"PCKh@0.5": 1, "PCKh@0.1": 0}, "3 pixels of a head of 12"


@pytest.mark.parametrize(
    ("content", "settings", "message", "note"),
    [
        ('[{"image": "a.jpg", "cen', (), "is not JSON", "cut off"),
        ("[1, 2]", (), "entry 0 has not image, center, scale", "another list"),
        (json.dumps([person()]), ("--set", "headboxes=other.mat"), "there is no other.mat", "no head boxes"),
    ],
)
def test_bad_input_is_one_line(
    posecli: Run, tmp_path: Path, content: str, settings: tuple[str, ...], message: str, note: str
) -> None:
    file = tmp_path / "mpii_val.json"
    file.write_text(content)
    done = posecli("convert", "mpii", str(file), str(tmp_path / "out"), *settings)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr, note
