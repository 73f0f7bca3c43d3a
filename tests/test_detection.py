"""Where the people are: box files, published weights, torchvision's detectors and Keypoint R-CNN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posecli.console import PosecliError
from posecli.detection import (
    Detector,
    KeypointRCNN,
    detector_names,
    keypoint_rcnn_file,
    open_detector,
    open_keypoint_rcnn,
    picture_keys,
    read_boxes,
)
from posecli.predictor import Predictor, Search

CPU = torch.device("cpu")
SMALL = "torchvision/ssdlite320_mobilenet_v3_large"

# --- box files ------------------------------------------------------------------------------------------------------

BOX = [10, 20, 30, 40]
CORNERS = [10.0, 20.0, 40.0, 60.0]


@pytest.mark.parametrize(
    ("content", "name", "expected", "note"),
    [
        ([{"image_id": 139, "category_id": 1, "bbox": BOX, "score": 0.9}], "val/000000000139.jpg", 1, "COCO's number"),
        ([{"image_id": "139", "bbox": BOX}], "139.jpg", 1, "a number as a text, no score, no category"),
        ([{"file_name": "val/a.jpg", "bbox": BOX}], "val/a.jpg", 1, "the path as given"),
        ([{"file_name": "a.jpg", "bbox": BOX}], "val/a.jpg", 1, "the file name"),
        ([{"image_id": "a", "bbox": BOX}], "val/a.jpg", 1, "the stem"),
        ([{"image_id": "clip.mp4#12", "bbox": BOX}], "films/clip.mp4#12", 1, "a frame of a video"),
        ([{"image_id": "clip.mp4#12", "bbox": BOX}], "films/clip.mp4#1", 0, "another frame"),
        ([{"file_name": "a.jpg", "bbox": BOX}] * 3, "a.jpg", 3, "several people"),
        ([{"file_name": "a.jpg", "category_id": 18, "bbox": BOX}], "a.jpg", 1, "a dog alone"),
        ([{"file_name": "a.jpg", "category_id": kind, "bbox": BOX} for kind in (17, 18)], "a.jpg", 2, "cat and dog"),
        ([{"file_name": "a.jpg", "category_id": kind, "bbox": BOX} for kind in (1, 18)], "a.jpg", 1, "man and dog"),
        ([{"file_name": "a.jpg", "bbox": BOX, "score": 0.49}], "a.jpg", 0, "unsure"),
        ([{"file_name": "a.jpg", "bbox": BOX, "score": float("nan")}], "a.jpg", 0, "no score at all"),
        ([{"file_name": "a.jpg", "bbox": [10, 20, float("nan"), 40]}], "a.jpg", 0, "of unknown width"),
        ([{"file_name": "a.jpg", "bbox": [10, 20, float("inf"), 40]}], "a.jpg", 0, "without an end"),
        ([{"file_name": "a.jpg", "bbox": [10, 20, 0, 40]}], "a.jpg", 0, "without area"),
        ([], "a.jpg", 0, "nothing"),
        (
            {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"image_id": 7, "bbox": BOX}]},
            "a.jpg",
            1,
            "an annotation file",
        ),
    ],
)
def test_boxes_are_found_by_the_pictures_name(
    tmp_path: Path, content: object, name: str, expected: int, note: str
) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    boxes, scores = read_boxes(path, threshold=0.5).find(name)
    assert boxes.shape == (expected, 4), note
    assert scores.shape == (expected,)
    assert boxes.tolist() == [CORNERS] * expected


def test_boxes_that_are_not_looked_into_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.jpg", "bbox": BOX, "category_id": 1},
        {"file_name": "a.jpg", "bbox": BOX, "category_id": 18},
        {"file_name": "a.jpg", "bbox": [1, 2, -3, 4], "score": 0.1},
        {"file_name": "a.jpg", "bbox": BOX, "score": 0.1},
        {"file_name": "b.jpg", "bbox": BOX},
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(rows))
    whole = f"5 boxes of {path} are looked into; left out: 1 of other categories (18), 1 without area, "
    file = read_boxes(path, threshold=0.5)
    assert file.note(["a.jpg", "b.jpg"]) == f"2 of the {whole}1 scored below 0.5"
    assert file.note(["a.jpg"]) == f"1 of the {whole}1 scored below 0.5, 1 of other pictures"
    path.write_text(json.dumps(rows[-1:]))
    assert read_boxes(path).note(["b.jpg"]) == f"1 of the 1 boxes of {path} are looked into"


def test_the_exact_name_comes_first() -> None:
    assert picture_keys("val/0139.jpg") == ["val/0139.jpg", "0139.jpg", "0139", "139"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the detections"),
        ("[", "not valid JSON"),
        ('{"a": 1}', "neither a list of COCO detections nor"),
        ('[{"image_id": 1}]', r"detection 0 is not {image_id or file_name, bbox: \[x, y, width, height\]"),
        ('[{"image_id": 1, "bbox": [1, 2, 3]}]', "detection 0 is not"),
        ('[{"bbox": [1, 2, 3, 4]}]', "detection 0 is not"),
        ("[7]", "detection 0 is not"),
    ],
)
def test_a_wrong_box_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "boxes.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PosecliError, match=message):
        read_boxes(path)


def test_boxes_and_a_detector_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match="give one of them"):
        Search(boxes=tmp_path / "boxes.json", detector=SMALL).open(CPU)


# --- published weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's empty cache, and no network; the folder where weights are looked for."""

    def refuse(url: str, *_: Any, **__: Any) -> None:
        raise URLError("no network here")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "hub" / "checkpoints"


def test_without_a_network_the_error_names_file_folder_and_option(offline: Path) -> None:
    with pytest.raises(PosecliError) as caught:
        open_detector("torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", CPU, 0.5)
    message = str(caught.value)
    for part in (
        "https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        "no network here",
        str(offline),
        "--detector-weights",
    ):
        assert part in message
    assert "\n" not in message
    with pytest.raises(PosecliError, match=r"keypointrcnn_resnet50_fpn_coco-fc266e95\.pth.*--model-weights"):
        keypoint_rcnn_file()


def test_a_file_in_the_cache_with_another_hash_is_refused(offline: Path) -> None:
    offline.mkdir(parents=True)
    (offline / "keypointrcnn_resnet50_fpn_coco-fc266e95.pth").write_bytes(b"something else")
    with pytest.raises(PosecliError, match="fc266e95"):
        keypoint_rcnn_file()


def test_a_file_of_ones_own_is_not_looked_for_elsewhere(offline: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    with pytest.raises(PosecliError, match=r"no weights file .*own\.pth"):
        keypoint_rcnn_file(own)
    torch.save({"a": torch.ones(1)}, own)
    assert keypoint_rcnn_file(own) == own
    with pytest.raises(PosecliError, match="do not fit"):
        open_detector(SMALL, CPU, 0.5, own)


class Harmful:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_weights_file_is_not_run(offline: Path, tmp_path: Path) -> None:
    torch.save({"a": Harmful(tmp_path / "harm")}, tmp_path / "bad.pth")
    with pytest.raises(PosecliError, match="does not hold plain weights"):
        open_keypoint_rcnn(tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


# --- detectors ------------------------------------------------------------------------------------------------------


def test_an_unknown_detector_is_refused_with_the_nearest_name() -> None:
    assert "torchvision/fasterrcnn_resnet50_fpn_v2" in detector_names()
    assert not [name for name in detector_names() if "keypoint" in name]
    with pytest.raises(PosecliError, match="did you mean 'torchvision/fasterrcnn_resnet50_fpn_v2'"):
        open_detector("torchvision/fasterrcnn_resnet50_fpn_v3", CPU, 0.5)


def test_a_detector_opens_from_a_file_and_looks_at_pictures_of_any_size(offline: Path, tmp_path: Path) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    torch.save(get_model(SMALL.split("/")[1], weights=None, weights_backbone=None).state_dict(), tmp_path / "own.pth")
    detector = open_detector(SMALL, CPU, 0.0, tmp_path / "own.pth")
    generator = np.random.default_rng(0)
    found = detector([generator.integers(0, 255, (*size, 3), np.uint8) for size in ((60, 80), (90, 50))])
    assert len(found) == 2
    for boxes, scores in found:
        assert boxes.shape == (len(scores), 4)
        assert (np.diff(scores) <= 0).all()


class Fixed(nn.Module):
    """Stands for a network: the same answer for every picture; remembers what it saw."""

    def __init__(self, **answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Tensor] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.seen += images
        return [self.answer for _ in images]


def test_only_people_above_the_threshold_are_kept_and_pictures_arrive_as_rgb_from_0_to_1() -> None:
    boxes = torch.arange(16.0).reshape(4, 4)
    network = Fixed(boxes=boxes, labels=torch.tensor([1, 18, 1, 1]), scores=torch.tensor([0.9, 0.8, 0.5, 0.4]))
    image = np.zeros((6, 8, 3), np.uint8)
    image[..., 0] = 255
    ((found, scores),) = Detector(network, CPU, 0.5)([image])
    np.testing.assert_array_equal(found, boxes[[0, 2]])
    np.testing.assert_allclose(scores, [0.9, 0.5])
    assert network.seen[0].shape == (3, 6, 8)
    assert network.seen[0][:, 0, 0].tolist() == [1, 0, 0]


# --- Keypoint R-CNN -------------------------------------------------------------------------------------------------


def answer() -> dict[str, Tensor]:
    """Three people, the last one unsure."""
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(3, 17, 3, generator=generator) * 100
    return {
        "boxes": torch.rand(3, 4, generator=generator),
        "scores": torch.tensor([0.99, 0.7, 0.2]),
        "labels": torch.ones(3),
        "keypoints": keypoints,
        "keypoints_scores": torch.tensor([8.0, 0.0, -8.0])[:, None].expand(3, 17),
    }


def test_keypoint_rcnn_gives_people_in_image_pixels() -> None:
    algorithm = KeypointRCNN(Fixed(**answer()), threshold=0.5)
    people = Predictor(algorithm)(np.zeros((50, 70, 3), np.uint8))
    assert algorithm.skeleton.name == "coco"
    assert len(people) == 2
    np.testing.assert_allclose(people.keypoints, answer()["keypoints"][:2, :, :2])
    assert people.scores[0].min() > 0.99
    assert people.scores[1].tolist() == [0.5] * 17
    np.testing.assert_allclose(people.instance_scores, [0.99, 0.7])


def test_torchvisions_own_network_runs_through_the_same_code() -> None:
    from torchvision.models.detection import KeypointRCNN as Network
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    class Backbone(nn.Sequential):
        out_channels = 8

    torch.manual_seed(0)
    backbone = Backbone(nn.Conv2d(3, 8, 3, 16, 1), nn.ReLU())
    roi = {size: MultiScaleRoIAlign(["0"], output_size=size, sampling_ratio=2) for size in (7, 14)}
    network = Network(
        backbone,
        2,
        min_size=64,
        max_size=96,
        rpn_anchor_generator=AnchorGenerator(((32,),), ((1.0,),)),
        box_roi_pool=roi[7],
        keypoint_roi_pool=roi[14],
        box_detections_per_img=3,
    )
    people = Predictor(KeypointRCNN(network.eval(), threshold=0.0))(np.full((48, 80, 3), 90, np.uint8))
    assert 1 <= len(people) <= 3
    assert people.keypoints.shape[1:] == (17, 2)
    assert (people.scores > 0).all()
    assert (people.scores < 1).all()
    assert people.keypoints[..., 0].max() <= 81
    assert people.keypoints[..., 1].max() <= 49


def test_keypoint_rcnn_is_not_trained_here() -> None:
    with pytest.raises(PosecliError, match="for prediction only"):
        KeypointRCNN(nn.Identity(), 0.5).losses(None)  # type: ignore[arg-type]  # refused before it is looked at
