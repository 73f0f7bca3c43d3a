"""CrowdPose, AI Challenger, OCHuman and MHP; the crowd index and its levels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from golden_rule import assert_same_skeleton

from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.datacheck import check
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import AicConfig, CrowdPoseConfig, KnownKeypointsConfig, MhpConfig, OcHumanConfig
from posecli.datasets.crowds import aic_dataset, crowdpose_dataset, mhp_dataset, ochuman_dataset
from posecli.datasets.detect import coco_like, detect_dataset
from posecli.metrics.config import ApConfig
from posecli.metrics.crowding import crowd_index, crowd_indices, levels_of
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset, People

SAMPLES = "data/format-samples"
FORMATS = [
    (CrowdPoseConfig, "crowdpose", 2, 5, 47, (0, 3, [278, 158])),
    (AicConfig, "aic", 3, 9, 101, (0, 0, [313, 201])),
    (OcHumanConfig, "ochuman", 3, 5, 73, (0, 5, [478, 258])),
    (MhpConfig, "mhp", 2, 4, 41, (0, 0, [151.7425, 251.9075])),
]


@pytest.mark.parametrize(("kind", "name", "pictures", "people", "labelled", "point"), FORMATS)
def test_sample_files(
    shared: Path, kind: type[KnownKeypointsConfig], name: str, pictures: int, people: int, labelled: int, point: Any
) -> None:
    samples = kind.model_validate({"path": shared / SAMPLES / name / f"test_{name}.json"}).build()
    assert (len(samples), len(samples.people), samples.people.labelled.sum()) == (pictures, people, labelled)
    assert samples.skeleton == house_skeleton(kind.skeleton)
    row, joint, place = point
    assert np.allclose(samples.people.keypoints[row, joint], place, atol=1e-3)
    assert samples.people.boxes is not None
    boxes = samples.people.boxes
    body = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * 0.53
    assert np.allclose(samples.people.extra["area"], body) == (name != "ochuman"), "only OCHuman annotates areas"
    assert samples[0].size == cv2.imread(str(samples.images[0])).shape[1::-1]


@pytest.mark.parametrize("name", ["crowdpose", "aic", "mhp"])
def test_skeletons_are_the_reference_s(golden: Path, name: str) -> None:
    assert_same_skeleton(house_skeleton(name), golden, name)
    assert house_skeleton(name).weights is not None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("crowdpose", "crowdpose"),
        ("aic", "aic"),
        ("mhp", "mhp"),
        ("ochuman", "coco"),  # nothing tells its COCO form from COCO, and nothing needs to
        ("coco", "coco"),
    ],
)
def test_files_are_told_apart_and_checked(shared: Path, name: str, kind: str) -> None:
    file = shared / SAMPLES / name / f"test_{name}.json"
    assert coco_like(file).name == kind
    assert check(file, decode=False)[0].faults == 0


def test_people_without_keypoints_are_regions(shared: Path) -> None:
    samples = crowdpose_dataset(shared / SAMPLES / "crowdpose/test_crowdpose.json")
    (region,) = samples.ignore[0]
    assert np.allclose(region.min(axis=0), [108.5, 96.78], atol=1e-3)
    assert np.allclose(region.max(axis=0), [143.96, 127.01], atol=1e-3)
    assert 1 not in samples.ignore


def test_the_crowd_index_survives_writing(shared: Path, tmp_path: Path) -> None:
    file = shared / SAMPLES / "crowdpose/test_crowdpose.json"
    done = convert(CrowdPoseConfig(path=file), tmp_path, CocoWriter(), val=0)
    again, first = coco_dataset(done.sides[0].file), crowdpose_dataset(file)
    assert coco_like(done.sides[0].file).name == "coco"
    for read in (first, again):
        assert np.allclose(crowd_indices(read)[0], [0.33, 0.39])
    assert again.skeleton == first.skeleton
    assert np.allclose(again.people.extra["area"], first.people.extra["area"], atol=1e-5)


def test_keypoints_of_another_dataset_are_refused(shared: Path) -> None:
    with pytest.raises(PosecliError, match=r"its keypoints are Right Shoulder.*Read it as coco"):
        mhp_dataset(shared / SAMPLES / "aic/test_aic.json")


# --- AI Challenger as published ---------------------------------------------------------------------------------------


def published(folder: Path, change: Any = None) -> Path:
    """Two people in one picture, in AI Challenger's own words; the second stands first in the file."""
    points = {"human2": [*range(39), 0, 0, 3], "human1": [5, 6, 2] * 14}
    record = {
        "image_id": "abc",
        "url": "http://example.com",
        "human_annotations": {"human2": [10, 20, 30, 60], "human1": [0, 0, 40, 50]},
        "keypoint_annotations": points,
    }
    points["human2"][2::3] = [1] * 13 + [3]
    if change is not None:
        change(record)
    file = folder / "keypoint_train_annotations_20170902.json"
    file.write_text(json.dumps([record]))
    pictures = folder / "keypoint_train_images_20170902"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "abc.jpg"), np.zeros((60, 80, 3), np.uint8))
    return file


def test_aic_as_published(tmp_path: Path) -> None:
    file = published(tmp_path)
    samples = aic_dataset(file)
    assert samples[0].size == (80, 60)
    assert samples.people.boxes is not None
    assert samples.people.boxes.tolist() == [[0, 0, 40, 50], [10, 20, 30, 60]]
    assert samples.people.scores.tolist() == [[1] * 14, [2] * 13 + [0]]
    assert np.isnan(samples.people.keypoints[1, 13]).all()
    assert coco_like(file).name == "aic"
    assert check(file)[0].people == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("image_id"), "KeyError"),
        (lambda record: record["human_annotations"].update(human1=[1, 2]), "ValueError"),
        (lambda record: record["keypoint_annotations"]["human1"].__setitem__(2, 7), "KeyError"),
        (lambda record: record["keypoint_annotations"].update(human1=[1, 2, 1]), "1 keypoints, 14 are expected"),
    ],
)
def test_lists_that_are_not_aic_s(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        aic_dataset(published(tmp_path, change))


# --- OCHuman as published ---------------------------------------------------------------------------------------------


ARMS = [f"{side}_{part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")]
LEGS = [f"{side}_{part}" for side in ("right", "left") for part in ("hip", "knee", "ankle")]
HEAD = ["head", "neck", "right_ear", "left_ear", "nose", "right_eye", "left_eye"]
OCHUMAN_NAMES = [*ARMS, *LEGS, *HEAD]  # 19, in the order of ochuman.json


def ochuman_file(folder: Path, change: Any = None, pictures: int = 2) -> Path:
    """Pictures from last to first, each with one person of both, one without a mask, one without keypoints."""
    keypoints = [value for joint in range(19) for value in (joint, 100 + joint, joint % 4)]
    mask = {"outer": [[10, 10, 20, 10, 20, 30], [1, 2]], "inner": [], "height": 200, "width": 90}
    people = [
        {"bbox": [0, 90, 20, 130], "keypoints": keypoints, "segms": mask, "max_iou": 0.6},
        {"bbox": [5, 90, 25, 130], "keypoints": keypoints, "segms": None, "max_iou": 0.6},
        {"bbox": [5, 5, 25, 40], "keypoints": None, "segms": mask, "max_iou": 0.2},
    ]
    told: list[dict[str, Any]] = [
        {"image_id": f"{n:06d}", "file_name": f"{n:06d}.jpg", "width": 90, "height": 200, "annotations": people}
        for n in range(pictures, 0, -1)
    ]
    alone = {"image_id": "000000", "file_name": "000000.jpg", "width": 9, "height": 9, "annotations": people[1:]}
    kinds = {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3}
    document = {"images": [*told, alone], "keypoint_names": list(OCHUMAN_NAMES), "keypoint_visible": kinds}
    if change is not None:
        change(document)
    file = folder / "ochuman.json"
    file.write_text(json.dumps(document))
    (folder / "images").mkdir(exist_ok=True)
    for record in told[-2:]:
        cv2.imwrite(str(folder / "images" / record["file_name"]), np.zeros((200, 90, 3), np.uint8))
    return file


def test_ochuman_as_published(tmp_path: Path) -> None:
    """Who has both keypoints and a mask is a person, as in the authors' COCO files; others are regions."""
    file = ochuman_file(tmp_path)
    samples = ochuman_dataset(file)
    assert list(samples.ids) == ["000001", "000002"]
    assert samples[0].size == (90, 200)
    person = samples[0].people
    assert person.boxes is not None
    assert person.boxes.tolist() == [[0, 90, 20, 130]]
    assert person.extra["area"].tolist() == [800]
    for column, name in enumerate(samples.skeleton.names):
        kind = OCHUMAN_NAMES.index(name) % 4
        assert person.scores[0, column] == {0: 0, 1: 2, 2: 2, 3: 1}[kind], name
        if kind:
            assert person.keypoints[0, column].tolist() == [OCHUMAN_NAMES.index(name), 100 + OCHUMAN_NAMES.index(name)]
    box, mask = samples.ignore[0]
    assert box.tolist() == [[5, 90], [25, 90], [25, 130], [5, 130]]
    assert mask.tolist() == [[10, 10], [20, 10], [20, 30]]
    assert coco_like(file).name == "ochuman"
    assert check(file)[0].people == 2
    done = convert(OcHumanConfig(path=file), tmp_path / "out", CocoWriter(), val=0)
    again = coco_dataset(done.sides[0].file)
    assert again.skeleton == house_skeleton("coco")
    assert np.array_equal(again.people.scores, samples.people.scores)


def test_sides_of_ochuman(tmp_path: Path, shared: Path) -> None:
    file = ochuman_file(tmp_path, pictures=2502)
    sizes = {part: OcHumanConfig(path=file, images=tmp_path, part=part).build().ids for part in ("val", "test")}
    assert sizes["val"][-1] == "002500"
    assert list(sizes["test"]) == ["002501", "002502"]
    with pytest.raises(PosecliError, match=r"in COCO's form.*leave part out"):
        ochuman_dataset(shared / SAMPLES / "ochuman/test_ochuman.json", part="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document["keypoint_names"].remove("nose"), "not OCHuman's pictures.*nose"),
        (lambda document: document["keypoint_visible"].update(gone=4), "KeyError: 'gone'"),
        (lambda document: document["images"][0].pop("annotations"), "KeyError: 'annotations'"),
        (lambda document: document.update(images=[]), "lists no images"),
    ],
)
def test_files_that_are_not_ochuman_s(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        ochuman_dataset(ochuman_file(tmp_path, change))


# --- Multi-Human Parsing as published ---------------------------------------------------------------------------------


def mhp_side(folder: Path, people: dict[str, np.ndarray] | None = None) -> Path:
    """A side with the pictures 2, 10 and 30, the last with nobody; the first two hold `people`."""
    people = people or {"person_1": mhp_person(40), "person_0": mhp_person(10)}
    (folder / "pose_annos").mkdir(parents=True)
    (folder / "images").mkdir()
    for number in (10, 2, 30):
        scipy.io.savemat(folder / "pose_annos" / f"{number}.mat", people if number < 30 else {"none": np.zeros(1)})
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), np.zeros((60, 80, 3), np.uint8))
    return folder


def mhp_person(left: float) -> np.ndarray:
    """16 keypoints on a diagonal, the first outside the picture and the second hidden; face and box."""
    rows = np.array([[left + joint, 2 * joint, 0] for joint in range(16)], np.float32)
    rows[0], rows[1, 2] = (-1, -1, 2), 1
    corners = np.array([[0, 0, 0], [5, 5, 0], [left, 1, 0], [left + 20, 41, 0]], np.float32)
    return np.concatenate([rows, corners])


def test_mhp_as_published(tmp_path: Path) -> None:
    train = mhp_side(tmp_path / "train")
    samples = MhpConfig(path=train).build()
    assert list(samples.ids) == [2, 10, 30]
    assert [len(samples[index].people) for index in range(3)] == [2, 2, 0]
    assert samples[1].size == (80, 60)
    person = samples[1].people
    assert person.boxes is not None
    assert person.boxes.tolist() == [[10, 1, 30, 41], [40, 1, 60, 41]]
    assert person.scores[0].tolist() == [0, 1] + [2] * 14
    assert np.isnan(person.keypoints[0, 0]).all()
    assert person.keypoints[0, 1:].tolist() == [[10 + joint, 2 * joint] for joint in range(1, 16)]
    assert np.allclose(person.extra["area"], 800 * 0.53)
    assert check(train)[0].people == 4
    with pytest.raises(PosecliError, match="give one side of it"):
        mhp_dataset(tmp_path)
    mhp_side(tmp_path / "val")
    sides = detect_dataset(tmp_path)
    assert [side.path.name for side in sides[:2]] == ["train", "val"]
    assert detect_dataset(train)[0].split is not None
    assert [(Path(side.file).name, side.people) for side in check(tmp_path)] == [("train", 4), ("val", 4)]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((16, 3)), r"2\.mat: person_0 is 16×3; a person of MHP v2 is 20×3 numbers"),
        (np.array([["a"] * 3] * 20), "person_0 is"),
    ],
)
def test_matrices_that_are_no_people(tmp_path: Path, matrix: np.ndarray, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        mhp_dataset(mhp_side(tmp_path / "train", {"person_0": matrix}))


def test_mhp_files_that_cannot_be_read(tmp_path: Path) -> None:
    side = mhp_side(tmp_path / "train")
    for path in (side / "images", side / "pose_annos/10.mat"):
        with pytest.raises(PosecliError, match=r"no MHP v2 at .*: give the folder with images/ and pose_annos/"):
            mhp_dataset(path)
    (side / "pose_annos/10.mat").write_bytes(b"no")
    with pytest.raises(PosecliError, match=r"10\.mat is not a MATLAB file"):
        mhp_dataset(side)
    for file in (side / "pose_annos").iterdir():
        file.unlink()
    with pytest.raises(PosecliError, match="pose_annos lists no images"):
        mhp_dataset(side)


# --- the crowd index --------------------------------------------------------------------------------------------------


def test_the_computed_index_is_near_the_stated_one(shared: Path) -> None:
    samples = crowdpose_dataset(shared / SAMPLES / "crowdpose/test_crowdpose.json")
    computed = [crowd_index(samples[index].people) for index in range(2)]
    assert np.allclose(computed, [0.33, 0.39], atol=0.02)


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])


@pytest.mark.parametrize(
    ("corners", "expected", "note"),
    [
        ([(0, 0, 10)], 0.0, "alone"),
        ([(0, 0, 10), (20, 0, 10)], 0.0, "apart"),
        ([(0, 0, 10), (5, 5, 10)], 0.25, "one of four of each in the other's box"),
        ([(0, 0, 10), (2, 2, 4)], 0.5, "all of the second in the first's box, none the other way"),
        ([(0, 0, 10)] * 3, 1.0, "cut off at 1"),
        ([], 0.0, "nobody"),
    ],
)
def test_crowd_index(corners: list[tuple[float, float, float]], expected: float, note: str) -> None:
    points = np.array([square(*corner) for corner in corners]).reshape(-1, 4, 2)
    people = People(points, np.full(points.shape[:2], 2.0))
    assert crowd_index(people) == pytest.approx(expected), note


def crowded(levels: list[float]) -> Dataset:
    """A picture for each crowd index, with two people each."""
    generator = np.random.default_rng(0)
    points = generator.uniform(0, 200, (2 * len(levels), 4, 2))
    extra = {"crowd_index": np.repeat(levels, 2)}
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    skeleton = Skeleton("square", ("a", "b", "c", "d"), sigmas=(0.05,) * 4)
    return Dataset(
        "crowded",
        skeleton,
        list(range(len(levels))),
        np.full((len(levels), 2), 200),
        np.arange(0, 2 * len(levels) + 1, 2),
        People(points, np.full((len(points), 4), 2.0), boxes, extra=extra),
        [Path("x.jpg")] * len(levels),
    )


def test_levels_begin_at_their_bounds() -> None:
    parted = levels_of(np.array([0, 0.19, 0.2, 0.79, 0.8, 1]), (0.2, 0.8))
    assert {name: chosen.tolist() for name, chosen in parted.items()} == {
        "easy": [0, 1],
        "medium": [2, 3],
        "hard": [4, 5],
    }


def test_each_level_is_scored_as_if_alone() -> None:
    truth = crowded([0.0, 0.1, 0.5, 0.5, 0.9])
    generator = np.random.default_rng(1)
    predictions = {}
    for index in range(len(truth)):
        people = truth[index].people
        noise = generator.normal(0, 1 + 4 * index, people.keypoints.shape)
        predictions[truth.ids[index]] = People(
            people.keypoints + noise, np.ones((2, 4)), people.boxes, generator.uniform(0, 1, 2)
        )
    scores = {s.name: s for s in ApConfig.from_text(None, "crowd").build(truth.skeleton).compute(truth, predictions)}
    plain = ApConfig.from_text(None, "box").build(truth.skeleton)
    assert list(scores) == ["AP", "AP@0.5", "AP@0.75", "AR", "AR@0.5", "AR@0.75", "AP:easy", "AP:medium", "AP:hard"]
    assert scores["AP"].value == plain.compute(truth, predictions)[0].value
    for level, chosen in (("easy", [0, 1]), ("medium", [2, 3]), ("hard", [4])):
        part = {key: predictions[key] for key in chosen}
        assert scores[f"AP:{level}"].value == plain.compute(truth.take(chosen), part)[0].value
        assert f"{len(chosen)} pictures" in scores[f"AP:{level}"].note
    assert len({scores[f"AP:{level}"].value for level in ("easy", "medium", "hard")}) == 3
    moved = ApConfig(crowd=True, levels=(0.05, 0.6)).build(truth.skeleton).compute(truth, predictions)
    assert [score.note for score in moved[-3:]] == ["1 pictures", "3 pictures", "1 pictures"]


def test_without_an_index_it_is_computed() -> None:
    truth = crowded([0.0, 0.9])
    bare = dataclasses.replace(truth, people=dataclasses.replace(truth.people, extra={}))
    indices, source = crowd_indices(bare)
    assert source == "computed"
    assert indices.tolist() == [crowd_index(bare[0].people), crowd_index(bare[1].people)]
