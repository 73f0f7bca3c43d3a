"""InterHand2.6M: what is read, from where, and what becomes of annotations with faults."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli.camera import back_project, project
from posecli.console import PosecliError
from posecli.conversion import convert, source_config
from posecli.datacheck import check
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import InterHandConfig
from posecli.datasets.detect import detect_dataset
from posecli.datasets.interhand import PADDED, find_data, interhand_dataset
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.types import Dataset

Document = dict[str, Any]
KINDS = {(1.0, 0.0): "right", (0.0, 1.0): "left", (1.0, 1.0): "interacting"}


def documents(dataset: Dataset) -> tuple[Document, Document, Document]:
    """The three files of a dataset of pairs: data, camera, joint_3d; one capture, a camera and a frame a picture."""
    assert dataset.cameras is not None
    people = dataset.people
    images, annotations, frames = [], [], {}
    fields: Document = {"campos": {}, "camrot": {}, "focal": {}, "princpt": {}}
    for row in range(len(dataset)):
        camera, name = dataset.cameras[row], f"40{row:04d}"
        width, height = dataset.sizes[row].tolist()
        place = {"capture": 0, "camera": name, "frame_idx": row}
        images.append({"id": 100 + row, "file_name": f"{row}.png", "width": width, "height": height, **place})
        x, y, right, bottom = people.boxes[row].tolist()  # type: ignore[index]
        kind = KINDS[tuple(people.extra["hand_type"][row].tolist())]
        valid = people.labelled[row].astype(int)[:, None].tolist()
        record = {"id": 500 + row, "image_id": 100 + row, "bbox": [x, y, right - x, bottom - y]}
        annotations.append(record | {"joint_valid": valid, "hand_type": kind, "hand_type_valid": 1})
        for key, value in zip(fields, (camera.position, camera.rotation, camera.focal, camera.center), strict=True):
            fields[key][name] = np.asarray(value).tolist()
        world = np.nan_to_num(people.extra["keypoints_3d"][row].astype(float), nan=1.0)
        frames[str(row)] = {"world_coord": (world @ camera.rotation + camera.position).tolist()}
    return {"images": images, "annotations": annotations}, {"0": fields}, {"0": frames}


def write(folder: Path, files: tuple[Document, Document, Document], stem: str = "InterHand2.6M_val") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in zip(("data", "camera", "joint_3d"), files, strict=True):
        (folder / f"{stem}_{name}.json").write_text(json.dumps(document))
    return folder / f"{stem}_data.json"


@pytest.fixture(scope="module")
def made() -> Dataset:
    return synthetic_hands(6, seed=4)


@pytest.fixture
def files(made: Dataset) -> tuple[Document, Document, Document]:
    return copy.deepcopy(documents(made))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for row in range(6):
        cv2.imwrite(str(tmp_path / f"{row}.png"), np.zeros((144, 144, 3), np.uint8))
    return tmp_path


# --- what is read -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(made: Dataset, files: tuple[Document, Document, Document], pictures: Path) -> None:
    dataset = interhand_dataset(write(pictures, files))
    assert not dataset.notes
    assert dataset.ids == [100, 101, 102, 103, 104, 105]
    np.testing.assert_allclose(dataset.people.keypoints, made.people.keypoints, atol=2e-3)
    for name in ("keypoints_3d", "hand_type", "hand_type_valid", "root_depth", "root_valid", "absolute_depth"):
        np.testing.assert_allclose(dataset.people.extra[name], made.people.extra[name], atol=1e-3, err_msg=name)
    assert dataset.people.boxes is not None
    assert made.people.boxes is not None
    np.testing.assert_allclose(dataset.people.boxes, made.people.boxes, atol=1e-3)
    np.testing.assert_array_equal(dataset.people.labelled, made.people.labelled)


def test_real_samples(shared: Path) -> None:
    """Four pictures: boxes hold the projected joints and are not much larger; depths as the joint file has them."""
    dataset = interhand_dataset(shared / "data/format-samples/interhand2.6m")
    people = dataset.people
    assert (len(dataset), people.labelled.sum(axis=1).tolist()) == (4, [42, 42, 21, 21])
    assert people.extra["hand_type"].tolist() == [[1, 1], [1, 1], [0, 1], [1, 0]]
    np.testing.assert_allclose(people.extra["root_depth"][:2], [57.792725, -39.540283], atol=1e-3)
    assert people.boxes is not None
    inside = np.where(people.labelled[..., None], people.keypoints, people.boxes[:, None, :2])
    assert (inside >= people.boxes[:, None, :2]).all()
    assert (inside <= people.boxes[:, None, 2:]).all()
    sides, extent = (
        people.boxes[:, 2:] - people.boxes[:, :2],
        np.nanmax(people.keypoints, 1) - np.nanmin(people.keypoints, 1),
    )
    np.testing.assert_allclose(extent / sides, 1 / 1.2, atol=0.01)  # InterHand2.6M's boxes are 1.2 times the joints
    assert all(path.is_file() for path in dataset.images)  # type: ignore[union-attr]


def test_real_samples_come_back_from_their_pixels(shared: Path) -> None:
    dataset = interhand_dataset(shared / "data/format-samples/interhand2.6m")
    assert dataset.cameras is not None
    for row, camera in enumerate(dataset.cameras):
        points = dataset.people.extra["keypoints_3d"][row].astype(np.float64)
        pixels = project(points, camera.focal, camera.center)
        known = dataset.people.labelled[row]
        back = back_project(dataset.people.keypoints[row].astype(np.float64), points[:, 2], camera.focal, camera.center)
        assert np.abs(back - points)[known].max() < 1e-3, "float32 pixels keep a thousandth of a millimetre"
        assert np.abs(back_project(pixels, points[:, 2], camera.focal, camera.center) - points)[known].max() < 1e-9


def test_single_hands_are_rows_in_the_order_of_other_hand_sets(
    made: Dataset, files: tuple[Document, Document, Document], pictures: Path
) -> None:
    files[0]["annotations"][0]["joint_valid"][:10] = [[0]] * 10  # of a right hand 11 are left, one too few
    dataset = interhand_dataset(write(pictures, files), single=True)
    hands = made.people.extra["hand_type"].sum(axis=1).astype(int)
    hands[0] -= int(made.people.extra["hand_type"][0, 0])
    np.testing.assert_array_equal(np.diff(dataset.offsets), hands)
    assert dataset.skeleton.names[0] == "wrist"
    assert dataset.people.keypoints.shape[1:] == (21, 2)
    row = int(dataset.offsets[1])  # the first hand of the second picture
    side = 0 if made.people.extra["hand_type"][1, 0] else 21
    for name, place in (("wrist", 20), ("thumb1", 3), ("thumb4", 0), ("forefinger1", 7), ("pinky_finger4", 16)):
        found = dataset.people.keypoints[row, dataset.skeleton.names.index(name)]
        np.testing.assert_allclose(found, made.people.keypoints[1, side + place], atol=2e-3)
    assert len(set(dataset.people.extra["annotation_id"].tolist())) == len(dataset.people)


def test_boxes_and_depths_of_rootnet(files: tuple[Document, Document, Document], pictures: Path) -> None:
    """RootNet's boxes are padded already; the reader takes the padding off, so that a model's own gives them back."""
    rows = [{"annot_id": 500 + row, "bbox": [10, 20, 100, 50], "abs_depth": [700 + row, 800.0]} for row in range(6)]
    (pictures / "rootnet.json").write_text(json.dumps(rows))
    path = write(pictures, files)
    people = interhand_dataset(path, rootnet=pictures / "rootnet.json").people
    assert people.boxes is not None
    sides = people.boxes[:, 2:] - people.boxes[:, :2]
    np.testing.assert_allclose(sides * PADDED, [[100, 50]] * 6, rtol=1e-6)
    np.testing.assert_allclose((people.boxes[:, :2] + people.boxes[:, 2:]) / 2, [[60, 45]] * 6, rtol=1e-6)
    np.testing.assert_array_equal(people.extra["absolute_depth"], [[700 + row, 800] for row in range(6)])
    truth = interhand_dataset(path).people.extra["root_depth"]
    np.testing.assert_array_equal(people.extra["root_depth"], truth, "what is to be learnt stays the truth")
    (pictures / "rootnet.json").write_text(json.dumps(rows[1:]))
    assert "RootNet's file has no box" in interhand_dataset(path, rootnet=pictures / "rootnet.json").notes[0]
    (pictures / "rootnet.json").write_text('[{"bbox": [1, 2, 3, 4]}]')
    with pytest.raises(PosecliError, match="not RootNet's output"):
        interhand_dataset(path, rootnet=pictures / "rootnet.json")


# --- faults -----------------------------------------------------------------------------------------------------------


def _drop_camera(data: Document, cameras: Document, joints: Document) -> None:
    del cameras["0"]["camrot"]["400002"]


def _drop_capture(data: Document, cameras: Document, joints: Document) -> None:
    data["images"][2]["capture"] = 9


def _drop_frame(data: Document, cameras: Document, joints: Document) -> None:
    del joints["0"]["2"]


def _short_frame(data: Document, cameras: Document, joints: Document) -> None:
    joints["0"]["2"]["world_coord"].pop()


def _no_joint(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["joint_valid"] = [[0]] * 42


def _wrong_hand(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2] |= {"hand_type": "right", "joint_valid": [[0]] * 21 + [[1]] * 21}


def _third_hand(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["hand_type"] = "foot"


def _no_picture(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["image_id"] = 9999


def _no_file_name(data: Document, cameras: Document, joints: Document) -> None:
    del data["images"][2]["file_name"]


def _short_validity(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["joint_valid"] = [[1]] * 21


def _short_box(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["bbox"] = [1, 2, 3]


def _text_size(data: Document, cameras: Document, joints: Document) -> None:
    data["images"][2]["width"] = "wide"


def _text_validity(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["joint_valid"] = [["yes"]] * 42


def _listed_hand(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["hand_type"] = ["right"]


def _text_joint(data: Document, cameras: Document, joints: Document) -> None:
    joints["0"]["2"]["world_coord"][3] = ["x", 1, 2]


def _listed_frame(data: Document, cameras: Document, joints: Document) -> None:
    joints["0"]["2"] = [joints["0"]["2"]["world_coord"]]


def _text_camera(data: Document, cameras: Document, joints: Document) -> None:
    cameras["0"]["campos"]["400002"] = ["x", 1, 2]


def _no_focal_length(data: Document, cameras: Document, joints: Document) -> None:
    cameras["0"]["focal"]["400002"] = [0, 0]


def _second_pair(data: Document, cameras: Document, joints: Document) -> None:
    data["annotations"][2]["image_id"] = data["annotations"][1]["image_id"]


FAULTS: list[tuple[Callable[[Document, Document, Document], None], str]] = [
    (_short_box, "their bbox is not four numbers"),
    (_text_size, "their picture's width and height are no numbers"),
    (_text_validity, "joint_valid has not 42 entries"),
    (_listed_hand, "the hand type ['right'] is none of right, left, interacting"),
    (_text_joint, "their frame has no 42 joints in the joint_3d file"),
    (_listed_frame, "their frame has no 42 joints in the joint_3d file"),
    (_text_camera, "camera 400002 of capture 0 is not in the camera file"),
    (_no_focal_length, "camera 400002 of capture 0 is not in the camera file"),
    (_second_pair, "their picture has a pair of hands already"),
    (_drop_camera, "camera 400002 of capture 0 is not in the camera file"),
    (_drop_capture, "camera 400002 of capture 9 is not in the camera file"),
    (_drop_frame, "their frame has no 42 joints in the joint_3d file"),
    (_short_frame, "their frame has no 42 joints in the joint_3d file"),
    (_no_joint, "no joint is labelled"),
    (_wrong_hand, "the hand type is right but joints of the left hand are labelled"),
    (_third_hand, "the hand type 'foot' is none of right, left, interacting"),
    (_no_picture, "their picture is not listed"),
    (_no_file_name, "their picture has no file_name"),
    (_short_validity, "joint_valid has not 42 entries"),
]


@pytest.mark.parametrize(("spoil", "reason"), FAULTS, ids=[spoil.__name__ for spoil, _ in FAULTS])
def test_faults_are_named_counted_and_left_out(
    files: tuple[Document, Document, Document],
    pictures: Path,
    spoil: Callable[[Document, Document, Document], None],
    reason: str,
) -> None:
    spoil(*files)
    path = write(pictures, files)
    dataset = interhand_dataset(path)
    assert dataset.notes == (f"1 left out, {reason}: annotation 502",)
    assert dataset.people.extra["annotation_id"].tolist() == [500, 501, 503, 504, 505]
    with pytest.raises(PosecliError, match=r"1 left out.*annotation 502"):
        interhand_dataset(path, strict=True)
    with pytest.raises(PosecliError, match="annotation 502"):
        InterHandConfig(path=path).refusing().build()
    assert len(InterHandConfig(path=path).refusing(False).build()) == 5


def test_a_type_that_is_not_valid_is_not_held_against_anyone(
    files: tuple[Document, Document, Document], pictures: Path
) -> None:
    _wrong_hand(*files)
    files[0]["annotations"][2]["hand_type_valid"] = 0
    dataset = interhand_dataset(write(pictures, files))
    assert len(dataset) == 6
    assert dataset.people.extra["hand_type_valid"].tolist() == [1, 1, 0, 1, 1, 1]


def test_many_faults_are_counted_by_kind(files: tuple[Document, Document, Document], pictures: Path) -> None:
    for row in range(5):
        files[0]["annotations"][row]["joint_valid"] = [[0]] * 42
    path = write(pictures, files)
    assert interhand_dataset(path).notes == ("5 left out, no joint is labelled: annotation 500, 501, 502, …",)
    files[0]["annotations"][5]["hand_type"] = "foot"
    with pytest.raises(PosecliError, match=r"5 left out, no joint.*; 1 left out, the hand type 'foot'"):
        interhand_dataset(write(pictures, files))  # nothing is left


@pytest.mark.parametrize(
    ("table", "lines", "kept"),
    [
        ("annotations", ("1 left out, they have no number as id: entry of annotations 2",), 5),
        (
            "images",
            (
                "1 left out, they have no id: entry of images 2",
                "1 left out, their picture is not listed: annotation 502",
            ),
            5,
        ),
    ],
)
def test_records_without_an_id(
    files: tuple[Document, Document, Document], pictures: Path, table: str, lines: tuple[str, ...], kept: int
) -> None:
    del files[0][table][2]["id"]
    dataset = interhand_dataset(write(pictures, files))
    assert (dataset.notes, len(dataset)) == (lines, kept)


@pytest.mark.parametrize(("file", "key"), [(1, "campos"), (2, None)], ids=["campos", "joint_3d"])
def test_a_capture_that_is_a_list(
    files: tuple[Document, Document, Document], pictures: Path, file: int, key: str | None
) -> None:
    """Nothing is left: reading refuses with the reason, data check counts it under a rule."""
    if key is None:
        files[file]["0"] = []
    else:
        files[file]["0"][key] = []
    path = write(pictures, files)
    with pytest.raises(PosecliError, match="left out"):
        interhand_dataset(path)
    for place in (path, pictures):
        (report,) = check(place)
        assert {rule: finding.count for rule, finding in report.findings.items()} == {"D213": 6}
        assert (report.pictures, report.people) == (6, 6)


def test_data_check_names_what_reading_leaves_out(files: tuple[Document, Document, Document], pictures: Path) -> None:
    _drop_camera(*files)
    (report,) = check(write(pictures, files))
    assert report.findings["D213"].examples == ["annotation 502: camera 400002 of capture 0 is not in the camera file"]
    assert report.people == 5


def test_the_first_picture_may_be_missing(files: tuple[Document, Document, Document], pictures: Path) -> None:
    (pictures / "0.png").unlink()
    assert len(interhand_dataset(write(pictures, files))) == 6


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "stem", "options"),
    [
        ("annotations/val", "InterHand2.6M_val", {"part": "val"}),
        ("annotations/machine_annot", "InterHand2.6M_val", {"part": "val"}),
        ("annotations/human_annot", "InterHand2.6M_test", {"subset": "human_annot"}),
    ],
    ids=["folders by part", "folders by annotator", "pictures beside annotations"],
)
def test_published_layouts(
    files: tuple[Document, Document, Document], tmp_path: Path, layout: str, stem: str, options: dict[str, Any]
) -> None:
    part = stem.rpartition("_")[2]
    write(tmp_path / layout, files, stem)
    other = "annotations/train" if layout.endswith("val") else "annotations/all"
    write(tmp_path / other, files, "InterHand2.6M_train" if options.get("part") else stem)
    (tmp_path / "images" / part).mkdir(parents=True)
    for row in range(6):
        cv2.imwrite(str(tmp_path / "images" / part / f"{row}.png"), np.zeros((144, 144, 3), np.uint8))
    dataset = InterHandConfig(path=tmp_path, **options).build()
    assert str(dataset.images[0]) == str(tmp_path / "images" / part / "0.png")


def test_data_is_recognised(files: tuple[Document, Document, Document], pictures: Path) -> None:
    """--data takes a data file, a folder of three files, or the published folder with sides of its own."""
    path = write(pictures, files)
    for data in (path, pictures):
        train, val, reason = detect_dataset(data)
        assert isinstance(train, InterHandConfig)
        assert (len(train.build()), len(val.build())) == (5, 1), reason
    published = pictures / "published"
    for part in ("train", "test"):
        write(published / "annotations/all", files, f"InterHand2.6M_{part}")
    sides = detect_dataset(published)
    assert [side.part for side in sides[:2] if isinstance(side, InterHandConfig)] == ["train", "test"]
    assert "score on test" in sides[2]


def test_files_that_are_not_there(files: tuple[Document, Document, Document], tmp_path: Path) -> None:
    path = write(tmp_path / "annotations/val", files)
    write(tmp_path / "annotations/test", files, "InterHand2.6M_test")
    with pytest.raises(PosecliError, match=r"choose with part.*InterHand2.6M_test_data.json, .*InterHand2.6M_val"):
        find_data(tmp_path, None, "all")
    with pytest.raises(PosecliError, match=r"no InterHand2\.6M at"):
        find_data(tmp_path / "nowhere", None, "all")
    with pytest.raises(PosecliError, match=r"give InterHand2.6M's \*_data.json"):
        find_data(path.with_name("InterHand2.6M_val_camera.json"), None, "all")
    path.with_name("InterHand2.6M_val_camera.json").unlink()
    with pytest.raises(PosecliError, match=r"cannot read .*_val_camera\.json"):
        interhand_dataset(path)
    path.write_text('{"images": []}')
    with pytest.raises(PosecliError, match="has no list `images`"):
        interhand_dataset(path)


# --- conversion -------------------------------------------------------------------------------------------------------


def test_converted_pairs_read_back_identical(files: tuple[Document, Document, Document], pictures: Path) -> None:
    """Keypoints, 3D, cameras and hand types survive COCO; without them hand types are not invented."""
    path = write(pictures / "in", files)
    config = source_config("interhand2.6m", str(path), [f"images={pictures}"])
    convert(config, pictures / "out", CocoWriter(), val=0)
    before, after = config.build(), coco_dataset(pictures / "out/train.json")
    assert after.skeleton == before.skeleton
    for name in ("hand_type", "hand_type_valid", "root_valid"):
        np.testing.assert_array_equal(after.people.extra[name], before.people.extra[name], name)
    for name in ("keypoints_3d", "root_depth", "absolute_depth"):
        np.testing.assert_allclose(after.people.extra[name], before.people.extra[name], atol=2e-3, err_msg=name)
    assert before.cameras is not None
    assert after.cameras is not None
    np.testing.assert_allclose(after.cameras[3].focal, before.cameras[3].focal)
    document = json.loads((pictures / "out/train.json").read_text())
    document["annotations"][0]["hand_type"] = "foot"
    (pictures / "out/train.json").write_text(json.dumps(document))
    with pytest.raises(PosecliError, match="hand_type 'foot'"):
        coco_dataset(pictures / "out/train.json")
    for annotation in document["annotations"]:
        del annotation["hand_type"]
    (pictures / "out/train.json").write_text(json.dumps(document))
    assert "hand_type" not in coco_dataset(pictures / "out/train.json").people.extra


def test_convert_counts_faults_and_strict_refuses(files: tuple[Document, Document, Document], pictures: Path) -> None:
    _drop_camera(*files)
    config = source_config("interhand2.6m", str(write(pictures / "in", files)), [f"images={pictures}"])
    done = convert(config, pictures / "out", CocoWriter(), val=0)
    assert "1 left out, camera 400002" in done.notes[0]
    with pytest.raises(PosecliError, match="camera 400002"):
        convert(config, pictures / "strict", CocoWriter(), val=0, strict=True)
