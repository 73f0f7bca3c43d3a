"""The crop of a pair of hands: targets beside keypoints, mirroring that swaps hands, and the way back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from posecli import geometry
from posecli.augmentation import Augmentation
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.types import Dataset, Example, Sample
from posecli_interhand.transform import HandsTransform, depths, mirrored

SHAPES = {
    "keypoints": (42, 2),
    "visible": (42,),
    "depth": (42,),
    "hand_type": (2,),
    "hand_type_valid": (),
    "root_depth": (),
    "root_valid": (),
}
ALWAYS = Augmentation(flip=1.0, half_body=0.0, rotate=45.0, scale=(0.75, 1.25), shift=0.15, shift_probability=1.0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_hands(12, seed=1)


def example(dataset: Dataset, row: int, augmentation: Augmentation | None = None) -> Example:
    transform = HandsTransform(dataset.skeleton, (128, 96), 1.1, augmentation)
    return transform(dataset[row], np.random.default_rng(row))


def test_targets_have_their_shapes(dataset: Dataset) -> None:
    made = example(dataset, 0)
    assert {name: array.shape for name, array in made.targets.items()} == SHAPES
    assert {array.dtype for array in made.targets.values()} == {np.dtype(np.float32)}
    assert made.inputs["image"].shape == (96, 128, 3)
    assert all(np.isfinite(array).all() for array in made.targets.values())


@pytest.mark.parametrize("augmentation", [None, ALWAYS], ids=["as it is", "mirrored and turned"])
def test_targets_are_the_truth(dataset: Dataset, augmentation: Augmentation | None) -> None:
    for row in range(len(dataset)):
        made, people = example(dataset, row, augmentation), dataset[row].people
        assert geometry.is_mirrored(made.undo) == (augmentation is not None)
        order = np.arange(42) if augmentation is None else np.r_[21:42, 0:21]
        points = people.extra["keypoints_3d"][0][order]
        known = np.isfinite(points).all(axis=1)
        np.testing.assert_array_equal(made.targets["visible"], known)
        back = geometry.apply(made.undo, made.targets["keypoints"].astype(float))
        np.testing.assert_allclose(back[known], people.keypoints[0][order][known], atol=1e-3)
        wrists = np.repeat(points[[20, 41], 2], 21)
        np.testing.assert_allclose(made.targets["depth"][known], (points[:, 2] - wrists)[known], atol=1e-4)
        assert (made.targets["depth"][~known] == 0).all()
        kind = people.extra["hand_type"][0]
        assert made.targets["hand_type"].tolist() == (kind if augmentation is None else kind[::-1]).tolist()
        if kind.all():
            assert made.targets["root_depth"] == pytest.approx(points[41, 2] - points[20, 2], abs=1e-3)
        assert made.targets["root_valid"] == float(kind.all())


def test_mirroring_twice_is_nothing(dataset: Dataset) -> None:
    truth = depths(dataset[int(np.flatnonzero(dataset.people.extra["root_valid"])[0])].people)
    once, twice = mirrored(truth), mirrored(mirrored(truth))
    for name, values in truth.items():
        np.testing.assert_array_equal(twice[name], values)
    assert once["root_depth"] == -truth["root_depth"] != 0
    np.testing.assert_array_equal(once["depth"][:21], truth["depth"][21:])


def test_a_hand_whose_wrist_is_unknown_has_no_depth(dataset: Dataset) -> None:
    sample = dataset[0]
    present = int(np.flatnonzero(sample.people.extra["hand_type"][0])[0])
    points = sample.people.extra["keypoints_3d"].copy()
    points[0, 21 * present + 20] = np.nan
    people = sample.people.with_extra(keypoints_3d=points)
    made = HandsTransform(dataset.skeleton, (96, 96))(
        dataclasses.replace(sample, people=people), np.random.default_rng(0)
    )
    hand = slice(21 * present, 21 * present + 21)
    assert (made.targets["visible"][hand] == 0).all()
    assert (made.targets["depth"][hand] == 0).all()


def test_pictures_without_truth_have_empty_targets(dataset: Dataset) -> None:
    sample = dataset[0]
    people = dataclasses.replace(sample.people, extra={}, instance_scores=np.ones(1, np.float32))
    bare: Sample = dataclasses.replace(sample, people=people)
    made = HandsTransform(dataset.skeleton, (96, 96))(bare, np.random.default_rng(0))
    assert {name: array.shape for name, array in made.targets.items()} == SHAPES
    assert all((made.targets[name] == 0).all() for name in SHAPES if name != "keypoints")
