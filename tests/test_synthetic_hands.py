"""Synthetic hands: exact geometry, limits of fingers, occlusion, and pictures that show what the labels say."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from posecli.camera import project
from posecli.datasets.interhand import interhand_dataset
from posecli.datasets.synthetic_draws import Draws
from posecli.datasets.synthetic_hand import BONES, LARGEST, SMALLEST, draw_hands
from posecli.datasets.synthetic_hand_skin import MATERIALS, facets, place_skin
from posecli.datasets.synthetic_hands import (
    DEEPEST,
    FLESH,
    ROOM,
    draw_picture,
    hand_scenes,
    hidden_joints,
    paint_hands,
    synthetic_hands,
)
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray

HANDS = {"right": slice(0, 21), "left": slice(21, 42)}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_hands(200, seed=5)


def test_a_picture_depends_on_seed_and_number_alone(dataset: Dataset) -> None:
    few = synthetic_hands(7, seed=5)
    np.testing.assert_array_equal(few.people.keypoints, dataset.people.keypoints[:7])
    np.testing.assert_array_equal(few.images[6](), dataset.images[6]())  # type: ignore[operator]
    other = synthetic_hands(7, seed=6)
    assert not np.isclose(other.people.extra["keypoints_3d"], few.people.extra["keypoints_3d"]).any()
    assert (other.images[6]() != few.images[6]()).mean() > 0.5  # type: ignore[operator]


def test_labels_are_the_cameras_view_of_the_joints(dataset: Dataset) -> None:
    assert dataset.cameras is not None
    for index in range(len(dataset)):
        camera, people = dataset.cameras[index], dataset[index].people
        seen = project(people.extra["keypoints_3d"][0].astype(float), camera.focal, camera.center)
        np.testing.assert_allclose(seen, people.keypoints[0], atol=2e-3)
        box = people.boxes[0]  # type: ignore[index]
        known = people.keypoints[0][people.labelled[0]]
        assert (known >= box[:2]).all()
        assert (known <= box[2:]).all()
        assert (box[:2] >= 0).all()
        assert (box[2:] <= dataset.sizes[index]).all()


def test_columns_agree(dataset: Dataset) -> None:
    extra = dataset.people.extra
    labelled = dataset.people.labelled.reshape(-1, 2, 21)
    assert (labelled.all(axis=2) == (extra["hand_type"] > 0)).all(), "a hand that is there has all joints"
    assert (labelled.any(axis=2) == (extra["hand_type"] > 0)).all(), "one that is not has none"
    wrists = extra["keypoints_3d"][:, [20, 41], 2]
    np.testing.assert_array_equal(extra["absolute_depth"], wrists)
    both = extra["root_valid"] > 0
    np.testing.assert_allclose(extra["root_depth"][both], (wrists[:, 1] - wrists[:, 0])[both], atol=1e-3)
    assert np.isnan(extra["root_depth"][~both]).all()
    assert 0.4 < both.mean() < 0.6
    assert 0.15 < (extra["hand_type"] == [1, 0]).all(axis=1).mean() < 0.35
    relative = extra["keypoints_3d"][..., 2].reshape(-1, 2, 21) - wrists[..., None]
    assert np.nanmax(np.abs(relative)) < 200, "a heatmap can say it"
    assert np.nanmax(np.abs(extra["root_depth"])) < 200


@pytest.mark.parametrize(("share", "kinds"), [(0.0, {1.0}), (1.0, {2.0})])
def test_only_single_or_only_interacting(share: float, kinds: set[float]) -> None:
    assert set(synthetic_hands(20, interacting=share).people.extra["hand_type"].sum(axis=1)) == kinds


def test_fingers_bend_as_fingers_do() -> None:
    """Outer joints bend to the palm, at most 110 degrees, or very little back; bones have plausible lengths."""
    hands = draw_hands(Draws(3, np.arange(500)))
    joints = hands.joints[:, :20].reshape(-1, 5, 4, 3)[:, :, ::-1]  # from the root outward
    bones = np.diff(joints, axis=2)
    lengths = np.linalg.norm(bones, axis=-1)
    np.testing.assert_allclose(lengths, hands.bones, atol=1e-9)
    assert (lengths > SMALLEST * 0.85 * BONES).all()
    assert (lengths < LARGEST * 1.15 * BONES).all()
    directions = bones / lengths[..., None]
    cosines = (directions[:, :, 1:] * directions[:, :, :-1]).sum(axis=-1)
    assert np.degrees(np.arccos(np.clip(cosines, -1, 1))).max() < 110
    axis = hands.frames[:, :, :-1, :, 1]  # the axis that the next joint bends about: positive is to the palm
    bend = np.degrees(np.arcsin((np.cross(directions[:, :, :-1], directions[:, :, 1:]) * axis).sum(axis=-1)))
    assert bend[:, 1:].min() > -12, "fingers hardly bend backward"
    knuckles = np.degrees(np.arcsin(np.clip(-directions[:, 1:, 0, 2], -1, 1)))
    assert knuckles.min() > -26
    assert knuckles.max() <= 90
    assert np.unique(np.round(lengths[:, 0, 0], 6)).size == 500, "every hand has a shape of its own"


def bend_to_the_palm(joints: FloatArray) -> float:
    """Mean sine by which the middle joints of four fingers of a hand (21, 3) bend, positive for a right hand.

    A right hand's fingers bend positively about the direction from the pinky's knuckle to the forefinger's.
    """
    fingers = joints[4:20].reshape(4, 4, 3)[:, ::-1]  # from the knuckle outward
    bones = np.diff(fingers, axis=1)
    bones /= np.linalg.norm(bones, axis=-1, keepdims=True)
    across = joints[7] - joints[19]
    turns = np.cross(bones[:, 0], bones[:, 1]) @ (across / np.linalg.norm(across))
    return float(turns.mean())


@pytest.mark.parametrize("side", ["right", "left"])
def test_right_hands_are_right_and_left_ones_left(dataset: Dataset, side: str) -> None:
    joints = dataset.people.extra["keypoints_3d"][:, HANDS[side]].astype(float)
    joints = joints[np.isfinite(joints).all(axis=(1, 2))]
    bend = np.array([bend_to_the_palm(hand) for hand in joints]) * (1 if side == "right" else -1)
    assert bend.min() > -0.06  # stretched fingers may bend back a little
    assert bend.mean() > 0.3


def test_real_hands_have_the_same_chirality(shared: Path) -> None:
    real = interhand_dataset(shared / "data/format-samples/interhand2.6m").people.extra["keypoints_3d"].astype(float)
    right = [bend_to_the_palm(real[row, HANDS["right"]]) for row in (0, 3)]  # row 1 prays, with straight fingers
    left = [bend_to_the_palm(real[row, HANDS["left"]]) for row in (0, 2)]
    assert min(right) > 0.3, right
    assert max(left) < -0.3, left


def test_two_hands_have_room(dataset: Dataset) -> None:
    points = dataset.people.extra["keypoints_3d"][dataset.people.extra["root_valid"] > 0].astype(float)
    gaps = np.linalg.norm(points[:, :21, None] - points[:, None, 21:], axis=-1).min(axis=(1, 2))
    assert gaps.min() >= ROOM - 1e-3
    assert np.abs(points[:, 20, 2] - points[:, 41, 2]).max() <= DEEPEST + 24, "moved apart within the heatmap's depth"


def test_hidden_joints_by_marching_along_the_ray() -> None:
    """A joint is hidden where the ray to it passes a bone that does not end there, well before it."""
    scenes = hand_scenes(np.arange(12), 2, (144, 144), 0.7)
    there = np.repeat(scenes.present, 21, axis=1)
    joints = scenes.joints
    found = hidden_joints(joints, there)
    links = house_skeleton("interhand").links
    along = np.linspace(0, 1, 400)[:, None]
    unsure = 0
    for row in range(len(scenes)):
        for joint in np.flatnonzero(there[row]):
            target = joints[row, joint]
            margins = []
            for start, end in links:
                if joint in (start, end) or not there[row, start]:
                    continue
                bone = joints[row, start] + along * (joints[row, end] - joints[row, start])
                on_ray = target * (bone[:, 2:] / target[2])
                apart = np.linalg.norm((bone - on_ray)[:, :2], axis=1) * target[2] / bone[:, 2]
                nearest = int(apart.argmin())
                margins.append(min(0.75 * FLESH - apart[nearest], target[2] - bone[nearest, 2] - 1.2 * FLESH))
            if abs(max(margins)) < 2.0:  # where along a bone the ray passes differs a little in perspective
                unsure += 1
                continue
            assert found[row, joint] == (max(margins) > 0), (row, joint)
    assert unsure < 0.15 * there.sum()


def test_the_skin_lies_over_the_joints(dataset: Dataset) -> None:
    """Drawn alone on black, hands cover their joints, and nothing that is far from all of them but the forearms."""
    scenes = hand_scenes(np.arange(40), 5, (144, 144))
    covered = counted = 0
    for index in range(len(scenes)):
        canvas = np.zeros((144, 144, 3), np.uint8)
        palette = np.full((len(MATERIALS), 3), 200.0)
        paint_hands(random.Random(0), np.random.PCG64(0), canvas, scenes.take(index), palette)
        pixels = dataset.people.keypoints[index][dataset.people.labelled[index]]
        x, y = np.rint(pixels).astype(int).T
        covered += int((canvas[y, x] > 0).all(axis=1).sum())
        counted += len(pixels)
    assert covered / counted > 0.97


def test_facets_of_a_hand_face_outward() -> None:
    """Seen from anywhere, the facets that face the eye and those that do not cover the same: the skin is closed."""
    hands = draw_hands(Draws(0, np.arange(3)))
    vertices, table = place_skin(hands), facets()
    assert table.corners.max() == vertices.shape[1] - 1
    corners = vertices[:, table.corners]
    normal = np.cross(corners[:, :, 2] - corners[:, :, 0], corners[:, :, 3] - corners[:, :, 1])
    finger = np.arange(6 * 7)  # the tube of the thumb: normals point away from the bone
    middle = corners[:, finger].mean(axis=2)
    rings = vertices[:, : 6 * 8].reshape(3, 8, 6, 3).mean(axis=2)
    bone = (rings[:, :-1] + rings[:, 1:]) / 2
    away = middle - np.repeat(bone, 6, axis=1)
    assert ((normal[:, finger] * away).sum(axis=-1) > 0).mean() > 0.95  # but where a joint folds


def test_pictures_show_different_hands(dataset: Dataset) -> None:
    pictures = np.stack([dataset.images[index]() for index in range(20)])  # type: ignore[operator]
    assert pictures.shape == (20, 144, 144, 3)
    assert pictures.dtype == np.uint8
    assert pictures.reshape(20, -1).std(axis=1).min() > 8, "no picture is blank"
    small = hand_scenes(np.arange(1), 0, (128, 160))
    assert draw_picture(small).shape == (160, 128, 3)


def test_more_turned_hands_show_their_palms() -> None:
    """With `turned` 0 every hand shows its back; with 180 about half show the palm."""
    for turned, least, most in ((0.0, 0.0, 0.05), (180.0, 0.3, 0.7)):
        scenes = hand_scenes(np.arange(300), 1, (144, 144), 0.0, turned)
        back = scenes.place[:, :, 2, 2]  # how far the back of the hand looks away from the camera
        assert least <= (back[scenes.present] > 0).mean() <= most
