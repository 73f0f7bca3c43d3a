"""Whom top-down cuts out, what it says of them, and which detections are the same person."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.skeleton import Skeleton
from posecli.suppression import oks_matrix
from posecli.types import Dataset, People, Prediction
from posecli.units import PersonUnits
from posecli_topdown.config import HeatmapConfig

SKELETON = Skeleton("pair", ("left_eye", "right_eye"), flip_pairs=((0, 1),), sigmas=(0.05, 0.05))
IMAGE = np.zeros((100, 100, 3), np.uint8)


def dataset(people: People, offsets: list[int]) -> Dataset:
    count = len(offsets) - 1
    return Dataset(
        "made", SKELETON, list("abcdef")[:count], np.full((count, 2), 100), np.array(offsets), people, [IMAGE] * count
    )


def test_units_are_labelled_people_that_are_no_crowd() -> None:
    keypoints = np.full((5, 2, 2), 50.0)
    keypoints[1] = np.nan
    scores = np.where(np.isfinite(keypoints).all(axis=-1), 2.0, 0.0)
    boxes = np.array([[10, 10, 60, 60]] * 5, float)
    boxes[3, 2] = 10  # no width
    crowd = np.array([False, False, True, False, False])
    units = PersonUnits(dataset(People(keypoints, scores, boxes, extra={"crowd": crowd}), [0, 2, 2, 5]))
    assert [(unit.id, int(unit.people.extra["row"][0])) for unit in units] == [("a", 0), ("c", 2)]
    assert units.sample_index.tolist() == [0, 2]
    assert [unit.id for unit in units[1:]] == ["c"]


def test_detections_are_all_units_and_name_no_row() -> None:
    found = People(np.full((2, 2, 2), np.nan), np.zeros((2, 2)), np.array([[0, 0, 9, 9]] * 2, float), np.ones(2))
    units = PersonUnits(dataset(found, [0, 2]))
    assert len(units) == 2
    assert "row" not in units[0].people.extra


@pytest.mark.parametrize(
    ("method", "rows", "kept", "note"),
    [
        ("oks", False, 2, "the same person found twice is kept once"),
        ("none", False, 3, "nothing is suppressed"),
        ("soft-oks", False, 3, "the second is kept with a lower score"),
        ("oks", True, 3, "true boxes are different people"),
    ],
)
def test_same_people_are_suppressed(method: str, rows: bool, kept: int, note: str) -> None:
    config = HeatmapConfig(backbone={"use": "resnet", "depth": 18}, input_size=(64, 64), suppression={"method": method})
    model = config.build(SKELETON)
    keypoints = np.array([[[10, 10], [30, 10]], [[10.2, 10], [30, 10]], [[70, 70], [90, 70]]], float)
    boxes = np.array([[5, 5, 35, 45], [5, 5, 35, 45], [65, 65, 95, 99]], float)
    extra = {"row": np.arange(3)} if rows else {}
    people = People(keypoints, np.ones((3, 2)), boxes, np.array([0.9, 0.8, 0.7]), extra)
    (finished,) = model.finish([Prediction("a", people[row : row + 1]) for row in range(3)])
    assert len(finished.people) == kept, note
    if method == "soft-oks":
        assert finished.people.instance_scores is not None
        assert min(finished.people.instance_scores) < 0.6


def test_people_are_as_large_as_their_crops_to_suppression() -> None:
    """As to the reference: the box grown by the padding and to the input's aspect. By the bare box both would stay."""
    config = HeatmapConfig(backbone={"use": "resnet", "depth": 18}, input_size=(64, 64))
    model = config.build(SKELETON)
    first = np.array([[20.0, 20.0], [20.0, 90.0]])
    points = np.stack([first, first + np.array([3.0, 0.0])])
    boxes = np.array([[10.0, 10, 40, 110]] * 2)  # 30 × 100, and cut out 125 × 125
    people = People(points, np.ones((2, 2)), boxes, np.array([0.9, 0.8]))
    areas = [np.full(2, area) for area in (30.0 * 100, 125.0 * 125)]
    bare, cut = (oks_matrix(people, people, (0.05, 0.05), (area, area))[0, 1] for area in areas)
    assert bare < 0.9 < cut
    (finished,) = model.finish([Prediction("a", people[row : row + 1]) for row in range(2)])
    assert len(finished.people) == 1
