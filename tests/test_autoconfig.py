"""What the data decides: only what nobody stated, and for reasons that are told."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.autoconfig import experiment_for, summarize, train_fields, uprightness
from posecli.config import ConfigError, layers_of
from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import SyntheticMotionConfig
from posecli.summary import DataSummary
from posecli_topdown.config import HeatmapConfig, RegressionConfig, crop_for


def summary(**changes: object) -> DataSummary:
    facts = {
        "instances": 1000,
        "pictures": 400,
        "picture": (640.0, 480.0),
        "box": (100.0, 200.0),
        "whole_pictures": False,
        "uprightness": 0.9,
        "flip_pairs": 6,
        "has_upper": True,
        "has_sigmas": True,
    }
    return DataSummary(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "size", "padding", "note"),
    [
        ({}, [128, 256], 1.25, "upright people"),
        ({"box": (60.0, 60.0)}, [96, 96], 1.25, "small boxes are not blown up"),
        ({"box": (4000.0, 2000.0)}, [256, 128], 1.25, "large boxes are limited"),
        ({"box": (640.0, 480.0), "whole_pictures": True}, [320, 256], 1.0, "whole pictures are seen larger"),
        ({"box": (5.0, 5.0)}, [64, 64], 1.25, "never below two of the coarsest cells"),
    ],
)
def test_input_size(changes: dict, size: list[int], padding: float, note: str) -> None:
    assert crop_for(summary(**changes))[:2] == (padding, size), note


def test_flips_rotation_and_half_bodies() -> None:
    fields, reasons = HeatmapConfig.fields_for(summary(flip_pairs=None, uprightness=0.1, has_upper=False))
    assert fields["augment"] == {"rotate": 180.0, "rotate_probability": 1.0, "half_body": 0.0}
    assert any("no flips" in reason for reason in reasons)
    assert "sigma" in fields
    assert "sigma" not in RegressionConfig.fields_for(summary())[0]


@pytest.mark.parametrize("instances", [1, 10, 93, 1000, 100_000])
def test_every_amount_of_data_gets_a_schedule(instances: int) -> None:
    fields = train_fields(summary(instances=instances))
    assert 10 <= fields["epochs"] <= 300
    assert 4 <= fields["batch_size"] <= 32


def test_a_schedule_counts_what_the_network_sees() -> None:
    """Networks that see whole pictures need as many steps as there are pictures."""
    assert (train_fields(summary())["epochs"], train_fields(summary(), "pictures")["epochs"]) == (130, 300)


def test_crowds_are_looked_at_in_part() -> None:
    """Every pair of many keypoints of many people would not fit into memory."""
    points = np.zeros((200_000, 133, 2), np.float32)
    points[:, 1, 1] = 100
    assert uprightness(points) == pytest.approx(1)


def test_processes_share_the_steps_and_not_the_epochs() -> None:
    alone, shared = train_fields(summary(instances=1000)), train_fields(summary(instances=1000), processes=4)
    assert shared["epochs"] == alone["epochs"]
    assert (alone["schedule"]["warmup_steps"], shared["schedule"]["warmup_steps"]) == (200, 7 * alone["epochs"] // 10)


@pytest.mark.parametrize(
    ("angles", "expected", "note"),
    [
        ([0, 0, 0, 0], 1.0, "all the same way"),
        ([0, 90, 180, 270], 0.0, "all ways"),
        ([0, 180, 0, 0], 0.5, "one of four upside down"),
    ],
)
def test_uprightness(angles: list[float], expected: float, note: str) -> None:
    turned = np.deg2rad(angles)
    ends = np.stack([np.cos(turned), np.sin(turned)], axis=-1)[:, None] * 10
    keypoints = np.concatenate([np.zeros_like(ends), ends, np.full_like(ends, np.nan)], axis=1)
    assert uprightness(keypoints) == pytest.approx(expected, abs=1e-9), note


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """Ten pictures with four keypoints nobody knows."""
    images, annotations = [], []
    for index in range(10):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((100, 120, 3), np.uint8))
        images.append({"id": index, "file_name": f"{index}.png", "width": 120, "height": 100})
        keypoints = [20, 20, 2, 60, 20, 2, 60, 80, 2, 0, 0, 0]
        box = [15, 15, 50, 70]
        annotations.append({"id": index, "image_id": index, "category_id": 1, "keypoints": keypoints, "bbox": box})
    category = {"id": 1, "name": "thing", "keypoints": ["a", "b", "c", "d"]}
    path = tmp_path / "things.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def test_the_config_wins_over_the_data(own_data: Path) -> None:
    free, reasons = experiment_for(layers_of("topdown/custom"), own_data)
    settings = ["model.input_size=[64,64]", "train.epochs=3", "eval.metrics=[nme]"]
    stated, other_reasons = experiment_for(layers_of("topdown/custom", settings), own_data)
    assert free.model.input_size == (64, 96)  # type: ignore[attr-defined]
    assert (stated.model.input_size, stated.train.epochs) == ((64, 64), 3)  # type: ignore[attr-defined]
    assert free.eval.metrics == ("pck", "epe")
    assert "input 64×64: as stated" in other_reasons
    assert "sigma 1.5: 16 heatmap cells along the longer side" in other_reasons
    assert reasons[-2:] == [
        "schedule: 300 epochs of 2 steps of 4, for 8 instances",
        "metrics: PCK@0.05 of the box and EPE in pixels; no AP, sigmas are unknown",
    ]
    assert other_reasons[-2:] == ["schedule: 3 epochs of 2 steps of 4, for 8 instances", "metrics: nme, as stated"]


def test_settings_of_the_data_hold_for_the_users(own_data: Path) -> None:
    settings = ["data.train.split.val=0.5", "data.val.split.val=0.5", "data.workers=0"]
    experiment, reasons = experiment_for(layers_of("topdown/custom", settings), own_data, settings)
    assert (len(experiment.data.train.build()), len(experiment.data.val.build())) == (5, 5)
    assert experiment.data.workers == 0
    assert reasons[-2].endswith("for 5 instances")
    with pytest.raises(ConfigError, match=r"--set data.train.frist=0: train.frist: unknown key"):
        experiment_for(layers_of("topdown/custom"), own_data, ["data.train.frist=0"])


def test_3d_is_scored_in_3d(tmp_path: Path) -> None:
    motion = tmp_path / "motion"
    convert(SyntheticMotionConfig(clips=4, frames=5), motion, CocoWriter(), val=0.5)
    experiment, reasons = experiment_for(layers_of("lifter/custom"), motion)
    assert experiment.eval.metrics == ("mpjpe", "p-mpjpe")
    assert reasons[-1] == "metrics: mpjpe, p-mpjpe, as stated"


def test_models_without_a_sigma_take_data_too(own_data: Path) -> None:
    experiment, _ = experiment_for(layers_of("topdown/coco/deeppose-resnet-50"), own_data)
    assert experiment.model.input_size == (64, 96)  # type: ignore[attr-defined]


def test_nobody_labelled_is_said(own_data: Path) -> None:
    document = json.loads(own_data.read_text())
    for annotation in document["annotations"]:
        annotation["keypoints"] = [0] * 12
    own_data.write_text(json.dumps(document))
    with pytest.raises(PosecliError, match="label"):
        experiment_for(layers_of("topdown/custom"), own_data)


def test_summary_of_the_synthetic_people() -> None:
    from posecli.datasets.synthetic import synthetic_dataset

    facts = summarize(synthetic_dataset(30, 0, (128, 128), (1, 1)))
    assert 25 <= facts.instances <= 30
    assert (facts.whole_pictures, facts.flip_pairs, facts.has_sigmas) == (False, 8, True)
    assert facts.uprightness > 0.5
