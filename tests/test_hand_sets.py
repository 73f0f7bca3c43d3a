"""2D hand sets: what the samples hold, in one order of keypoints, and FreiHAND as it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli.camera import project
from posecli.config import parse_metric
from posecli.console import PosecliError
from posecli.datasets.config import FreiHandConfig, OneHand10KConfig, PanopticHandConfig, RhdConfig, StoredDatasetConfig
from posecli.datasets.hand_sets import FINGERS_OUTWARD, RHD_ORDER, freihand_dataset, rhd_dataset
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray

SETS: list[tuple[str, type[StoredDatasetConfig]]] = [
    ("freihand", FreiHandConfig),
    ("onehand10k", OneHand10KConfig),
    ("rhd", RhdConfig),
    ("panoptic", PanopticHandConfig),
]


def read(shared: Path, folder: str, kind: type[StoredDatasetConfig], **options: Any) -> Dataset:
    return kind(path=shared / f"data/format-samples/{folder}", **options).build()


def counted(shared: Path, folder: str) -> tuple[int, int]:
    document = json.loads((shared / f"data/format-samples/{folder}/test_{folder}.json").read_text())
    flat = [np.array(record["keypoints"], dtype=float).reshape(21, 3) for record in document["annotations"]]
    return len(flat), int(sum((points[:, 2] > 0).sum() for points in flat))


@pytest.mark.parametrize(("folder", "kind"), SETS, ids=[row[0] for row in SETS])
def test_samples_are_read_whole(shared: Path, folder: str, kind: type[StoredDatasetConfig]) -> None:
    dataset = read(shared, folder, kind)
    assert (len(dataset.people), int(dataset.people.labelled.sum())) == counted(shared, folder)
    assert dataset.skeleton.names == house_skeleton("coco_wholebody_hand").names
    assert all(path.is_file() for path in dataset.images)  # type: ignore[union-attr]
    assert dataset.people.boxes is not None
    for row in range(len(dataset.people)):
        x1, y1, x2, y2 = dataset.people.boxes[row].tolist()
        x, y = dataset.people.keypoints[row][dataset.people.labelled[row]].T
        middle = np.array([np.median(x), np.median(y)])
        assert x1 <= middle[0] <= x2, "the keypoints lie in the box"
        assert y1 <= middle[1] <= y2


def outward(points: FloatArray) -> FloatArray:
    """How far joints (N, 21, D) lie from the wrist, by finger and joint, (N, 5, 4)."""
    return np.asarray(np.linalg.norm(points[:, 1:] - points[:, :1], axis=-1)).reshape(-1, 5, 4)


def test_fingers_of_rhd_are_read_from_the_root(shared: Path) -> None:
    """RHD's category calls the first joint of a finger thumb1, forefinger1 …; its 3D joints show that it is the tip."""
    dataset = read(shared, "rhd", RhdConfig)
    points = dataset.people.extra["keypoints_3d"].astype(float)
    steps = np.linalg.norm(np.diff(points[:, 1:].reshape(-1, 5, 4, 3), axis=2), axis=-1)
    assert (steps[:, 1:, 0] > steps[:, 1:, 2]).mean() > 0.9, "the bone at the knuckle is longer than that at the tip"
    assert (outward(points)[:, 1:, 0] > 50).all()
    assert dataset.cameras is not None
    for row, camera in enumerate(dataset.cameras):
        seen = project(points[row], camera.focal, camera.center)
        assert np.abs(seen - dataset.people.keypoints[row]).max() < 0.5, "2D and 3D are in the same order"


def test_rhd_without_cameras_is_2d(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/format-samples/rhd"
    document = json.loads((folder / "test_rhd.json").read_text())
    before = rhd_dataset(folder)
    for picture in document["images"]:
        del picture["cam_param"]
    for record in document["annotations"]:
        record["keypoints"] = np.array(record["keypoints"]).reshape(-1).tolist()  # flat, as COCO has it
    (tmp_path / "rhd.json").write_text(json.dumps(document))
    dataset = rhd_dataset(tmp_path / "rhd.json", folder)
    assert "keypoints_3d" not in dataset.people.extra
    assert dataset.cameras is None
    np.testing.assert_array_equal(dataset.people.keypoints, before.people.keypoints)


@pytest.mark.parametrize("order", [FINGERS_OUTWARD, RHD_ORDER], ids=["interhand", "rhd"])
def test_orders_lose_no_joint(order: FloatArray) -> None:
    assert sorted(order.tolist()) == list(range(21))


def test_interhands_order_goes_from_the_wrist_outward() -> None:
    names = house_skeleton("interhand").names
    wanted = house_skeleton("coco_wholebody_hand").names
    assert [names[index].removeprefix("right_") for index in FINGERS_OUTWARD] == list(wanted)


def test_panoptic_heads_scale_pck(shared: Path) -> None:
    """The reference's PCKh@0.7: a keypoint counts when its error is below 0.7 of the annotated head size."""
    dataset = read(shared, "panoptic", PanopticHandConfig)
    np.testing.assert_allclose(dataset.people.extra["head_size"], [140.0, 140.0, 72.5531, 72.5531])
    metric = parse_metric("pck@0.7:head").build(dataset.skeleton)
    moved = (
        dataset.people.keypoints
        + np.array([0.69, 0.71, 0.69, 0.71])[:, None, None]
        * np.array([1.0, 0.0])
        * (dataset.people.extra["head_size"][:, None, None])
    )
    predictions = {}
    for index in range(len(dataset)):
        people = dataset[index].people
        predictions[dataset.ids[index]] = type(people)(moved[index : index + 1], people.scores, people.boxes)
    assert metric.compute(dataset, predictions)[0].value == pytest.approx(0.5)


def test_freihand_whole_pictures(shared: Path) -> None:
    dataset = read(shared, "freihand", FreiHandConfig, box="picture")
    np.testing.assert_array_equal(dataset.people.boxes, [[0, 0, 224, 224]] * 8)


# --- FreiHAND as published --------------------------------------------------------------------------------------------


def published(folder: Path, poses: int = 3, pictures: int = 7) -> FloatArray:
    """A folder as FreiHAND's, of synthetic right hands; the poses (N, 21, 3) in millimetres."""
    made = synthetic_hands(40, interacting=0.0)
    rows = np.flatnonzero(made.people.extra["hand_type"][:, 0] > 0)[:poses]
    points = made.people.extra["keypoints_3d"][rows][:, FINGERS_OUTWARD].astype(float)
    matrix = [[480.0, 0.0, 112.0], [0.0, 470.0, 110.0], [0.0, 0.0, 1.0]]
    (folder / "training/rgb").mkdir(parents=True)
    (folder / "training_xyz.json").write_text(json.dumps((points / 1000).tolist()))
    (folder / "training_K.json").write_text(json.dumps([matrix] * poses))
    for number in range(pictures):
        cv2.imwrite(str(folder / f"training/rgb/{number:08d}.jpg"), np.zeros((224, 224, 3), np.uint8))
    return points


def test_published_freihand(tmp_path: Path) -> None:
    """Seven pictures of three poses: pictures 3 to 5 show the poses of 0 to 2 again, 6 that of 0."""
    points = published(tmp_path)
    dataset = freihand_dataset(tmp_path)
    assert dataset.ids == list(range(7))
    np.testing.assert_allclose(dataset.people.extra["keypoints_3d"], points[[0, 1, 2, 0, 1, 2, 0]], atol=1e-3)
    x = points[1, 8, 0] / points[1, 8, 2] * 480 + 112
    assert dataset.people.keypoints[4, 8, 0] == pytest.approx(x, abs=1e-3)
    assert dataset.sizes.tolist() == [[224, 224]] * 7
    assert dataset.cameras is not None
    assert dataset.cameras[5].focal.tolist() == [480.0, 470.0]


def test_published_freihand_with_faults(tmp_path: Path) -> None:
    published(tmp_path)
    matrices = json.loads((tmp_path / "training_K.json").read_text())
    (tmp_path / "training_K.json").write_text(json.dumps(matrices[:2]))
    with pytest.raises(PosecliError, match=r"3 poses in training_xyz.json, 2 in training_K.json"):
        freihand_dataset(tmp_path)
    (tmp_path / "training_K.json").write_text("[[1, 2], 3]")
    with pytest.raises(PosecliError, match=r"training_K.json: a list of 3×3 numbers"):
        freihand_dataset(tmp_path)
    published(tmp_path / "bare", pictures=0)
    with pytest.raises(PosecliError, match="has no pictures"):
        freihand_dataset(tmp_path / "bare")
