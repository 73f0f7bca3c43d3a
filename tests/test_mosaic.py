"""Mosaics: labels agree with pixels, people stand near each other, and the same numbers give the same mosaics."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli import geometry
from posecli.config import DatasetConfig
from posecli.console import PosecliError
from posecli.datasets.config import MosaicConfig
from posecli.datasets.mosaic import OVERLAP, Plan, grown, mosaic_dataset, outline
from posecli.skeleton import Skeleton
from posecli.types import Dataset, People

SKELETON = Skeleton("square", ("a", "b", "c", "d"))


def photos(count: int = 12, unusable: int = 0) -> Dataset:
    """Photos of one person of one colour each; the last `unusable` have three labelled keypoints."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(10, 30, (count, 1, 2))
    points = (corners + np.array([[0, 0], [40, 5], [35, 50], [5, 45]])).astype(np.float32)
    scores = np.full((count, 4), 2, np.float32)
    if unusable:
        scores[-unusable:, 0], points[-unusable:, 0] = 0, np.nan
    images = [np.full((100, 90, 3), (20 * index, 100, 255 - 20 * index), np.uint8) for index in range(count)]
    extra = {"area": np.full(count, 1000.0), "crowd": np.zeros(count, bool)}
    people = People(points, scores, geometry.keypoint_boxes(points), None, extra)
    sizes = np.tile([[90, 100]], (count, 1))
    return Dataset("photos", SKELETON, list(range(count)), sizes, np.arange(count + 1), people, images)


def test_seen_keypoints_lie_on_their_person_and_hidden_ones_do_not() -> None:
    samples = mosaic_dataset(photos(), Plan(30, 0, (256, 192), (2, 5)))
    hidden = 0
    for index in range(len(samples)):
        picture, people = samples.images[index](), samples[index].people  # type: ignore[operator]
        assert picture.shape == (192, 256, 3)
        for row, source in enumerate(people.extra["source_row"].tolist()):
            for joint in np.flatnonzero(people.labelled[row]):
                x, y = np.rint(people.keypoints[row, joint]).astype(int)
                own = np.abs(picture[y, x].astype(int) - (20 * source, 100, 255 - 20 * source)).max() < 60
                if people.scores[row, joint] == 2:
                    assert own, (index, row, joint)
                hidden += int(people.scores[row, joint] == 1)
    assert hidden > 5


def test_people_are_near_but_not_over_each_other() -> None:
    samples = mosaic_dataset(photos(), Plan(40, 0, (256, 192), (2, 5)))
    counts = np.diff(samples.offsets)
    assert counts.max() == 5
    assert (counts >= 2).mean() > 0.9
    touching = 0
    for index in range(len(samples)):
        boxes = samples[index].people.boxes
        assert boxes is not None
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.maximum(high - low, 0).prod(axis=-1)
        areas = geometry.box_areas(boxes)
        smaller = np.minimum(areas[:, None], areas[None])
        others = ~np.eye(len(boxes), dtype=bool)
        assert (shared[others] <= OVERLAP * smaller[others] + 1).all()
        touching += int((shared[others] > 0).any())
        assert (boxes >= -0.1).all()
        assert (boxes <= [256, 192, 256, 192]).all()
    assert touching > 10


def test_areas_and_boxes_move_with_the_person() -> None:
    source = photos()
    samples = mosaic_dataset(source, Plan(5, 0, (256, 192), (2, 3)))
    people = samples.people
    assert people.boxes is not None
    rows = people.extra["source_row"]
    assert source.people.boxes is not None
    scale = (people.boxes[:, 2] - people.boxes[:, 0]) / (source.people.boxes[rows, 2] - source.people.boxes[rows, 0])
    assert np.allclose(people.extra["area"], 1000 * scale**2, rtol=1e-4)
    spans = people.keypoints.max(axis=1) - people.keypoints.min(axis=1)
    assert np.allclose(spans, people.boxes[:, 2:] - people.boxes[:, :2], atol=1e-3)


def test_same_numbers_same_mosaics() -> None:
    plan = Plan(6, 3, (128, 96), (1, 4))
    first, second = mosaic_dataset(photos(), plan), mosaic_dataset(photos(), plan)
    other = mosaic_dataset(photos(), Plan(6, 4, (128, 96), (1, 4)))
    assert np.array_equal(first.people.keypoints, second.people.keypoints, equal_nan=True)
    assert not np.array_equal(first.people.keypoints[:3], other.people.keypoints[:3], equal_nan=True)
    again = pickle.loads(pickle.dumps(first.images[4]))
    assert np.array_equal(again(), second.images[4]())  # type: ignore[operator]


def test_everybody_is_used_alike_and_nobody_twice_at_once() -> None:
    samples = mosaic_dataset(photos(unusable=2), Plan(60, 0, (256, 192), (3, 3)))
    rows = samples.people.extra["source_row"]
    used = np.bincount(rows, minlength=12)
    assert used[10:].tolist() == [0, 0]  # three keypoints are too few
    assert used[:10].min() >= 10
    for index in range(len(samples)):
        own = samples[index].people.extra["source_row"]
        assert len(set(own.tolist())) == len(own)


def test_more_people_than_photos() -> None:
    samples = mosaic_dataset(photos(3), Plan(4, 0, (256, 192), (5, 5)))
    assert np.diff(samples.offsets).max() <= 3
    assert "fewer than 5 people" in samples.notes[-1]


@pytest.mark.parametrize(
    ("plan", "source", "message"),
    [
        (Plan(3, 0, (64, 64), (0, 2)), photos(), "people is 0 to 2"),
        (Plan(3, 0, (64, 64), (3, 2)), photos(), "people is 3 to 2"),
        (Plan(3, 0, (64, 64), (1, 2)), photos(2, unusable=2), "nobody in 'photos' has 4 labelled keypoints"),
    ],
)
def test_impossible_mosaics(plan: Plan, source: Dataset, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        mosaic_dataset(source, plan)


def test_outlines_grow_by_their_margin() -> None:
    hull, margin = outline(np.array([[20.0, 20], [60, 20], [60, 60], [20, 60], [40, 40]]))
    assert (len(hull), margin) == (4, 4.0)
    mask = grown(hull, margin, (80, 80))
    rows = np.flatnonzero(mask[:, 40])
    assert (rows[0], rows[-1]) == (pytest.approx(16, abs=1), pytest.approx(64, abs=1))


def test_the_split_of_the_photos_is_kept(shared: Path) -> None:
    fields: dict[str, Any] = {"use": "lspet", "path": str(shared / "data/lspet"), "first": 60}
    sides = {}
    for side in ("train", "val"):
        config = DatasetConfig.model_validate(
            {"use": "mosaic", "photos": {**fields, "split": {"side": side}}, "count": 8, "size": [192, 160]}
        )
        assert isinstance(config, MosaicConfig)
        samples = config.build()
        pictures = samples.images
        sides[side] = {cut.image for index in range(8) for cut in pictures[index].cuts}  # type: ignore[union-attr]
        assert samples.images[0]().std() > 10  # type: ignore[operator]
        assert samples.skeleton.name == "lsp"
    assert len(sides["train"]) > 10
    assert not sides["train"] & sides["val"]
    assert all(cv2.haveImageReader(str(path)) for path in sides["val"])
