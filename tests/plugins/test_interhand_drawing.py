"""Pairs of hands drawn: what is shown of which hand, in 2D, in 3D and in words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.drawing import PAPER
from posecli.images import read_image
from posecli.report import write_samples
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray, People, Prediction
from posecli_interhand.config import InterNetConfig
from posecli_interhand.drawing import describe, draw_pairs, in_millimetres, over, present


@pytest.fixture(scope="module")
def both() -> Dataset:
    return synthetic_hands(2, seed=2, interacting=1.0)


def as_predicted(people: People, hand_type: list[float], camera: bool = True) -> People:
    """The truth as a model tells it: 3D keypoints of both hands, or pixels and depths where there is no camera."""
    points = people.extra["keypoints_3d"].astype(float)
    if not camera:
        relative = points[..., 2] - np.repeat(people.extra["absolute_depth"], 21, axis=1)
        points = np.concatenate([people.keypoints, relative[..., None]], axis=-1)
    extra = {
        "keypoints_2d": people.keypoints,
        "hand_type": np.array([hand_type]),
        "root_depth": people.extra["root_depth"],
    }
    return People(points, np.ones((1, 42), np.float32), people.boxes, np.ones(1, np.float32), extra)


def test_the_picture_stands_beside_two_views_and_a_line(both: Dataset) -> None:
    picture = np.full((240, 180, 3), 40, np.uint8)
    drawn = draw_pairs(picture, both[0].people, both.skeleton)
    assert drawn.shape == (240 + 17, 180 + 2 * 240, 3)
    assert (drawn[:240, :180] != 40).any(), "something is drawn over the picture"
    for left in (180, 420):
        assert (drawn[:240, left : left + 240] != PAPER).any(axis=-1).sum() > 600, "and in either view"
    assert draw_pairs(picture, People.empty(42, 3), both.skeleton).shape == drawn.shape, "frames have one size"


@pytest.mark.parametrize(
    ("hand_type", "words"),
    [
        ([0.97, 0.02], "right hand (right 97%, left 2%)"),
        ([0.2, 0.8], "left hand (right 20%, left 80%)"),
        ([0.1, 0.3], "no hand (right 10%, left 30%)"),
        ([0.9, 0.6], "both hands (right 90%, left 60%), left wrist 42 mm before the right one"),
    ],
)
def test_words(both: Dataset, hand_type: list[float], words: str) -> None:
    people = as_predicted(both[0].people, hand_type).with_extra(root_depth=np.array([-42.0]))
    assert describe(people, present(people), 0) == words


def test_words_of_the_truth_have_no_probabilities(both: Dataset) -> None:
    people = both[0].people.with_extra(root_depth=np.array([7.4]))
    assert describe(people, present(people), 0) == "both hands, left wrist 7 mm behind the right one"
    level = both[0].people.with_extra(root_depth=np.array([-0.4]))
    assert describe(level, present(level), 0) == "both hands, wrists equally far"


def test_hands_that_are_not_there_are_not_drawn(both: Dataset) -> None:
    people = as_predicted(both[0].people, [0.1, 0.9])
    there = present(people)
    assert not over(people, there).labelled[0, :21].any()
    assert over(people, there).labelled[0, 21:].all()
    points = in_millimetres(people, over(people, there).keypoints, there)
    assert np.isnan(points[0, :21]).all()
    np.testing.assert_allclose(points[0, 21:], people.keypoints[0, 21:])


def lengths(points: FloatArray) -> FloatArray:
    links = np.array(house_skeleton("interhand").links)
    return np.asarray(np.linalg.norm(points[:, links[:, 0]] - points[:, links[:, 1]], axis=-1))


def test_without_a_camera_hands_have_about_their_size(both: Dataset) -> None:
    """The bones of hands shown without a camera are on average as long as they truly are, within a third."""
    for row in range(2):
        truth = both[row].people
        people = as_predicted(truth, [1.0, 1.0], camera=False)
        there = present(people)
        points = in_millimetres(people, over(people, there).keypoints, there)
        ratio = lengths(points) / lengths(truth.extra["keypoints_3d"].astype(float))
        assert 0.75 < ratio.mean() < 1.34
        assert points[0, 41, 2] - points[0, 20, 2] == pytest.approx(truth.extra["root_depth"][0], abs=1e-3)


def test_truth_in_2d_alone_has_empty_views(both: Dataset) -> None:
    people = dataclasses.replace(both[0].people, extra={})
    drawn = draw_pairs(np.zeros((240, 240, 3), np.uint8), people, both.skeleton)
    assert drawn.shape == (240 + 17, 3 * 240, 3)


def test_small_pictures_are_enlarged_with_what_is_over_them(both: Dataset) -> None:
    """Twice as large, a joint of pixel x is at 2 x + 0.5."""
    people = both[0].people
    small = draw_pairs(np.zeros((120, 144, 3), np.uint8), people, both.skeleton)
    pixels = 2 * people.keypoints + 0.5
    large = dataclasses.replace(people, keypoints=pixels, extra=people.extra | {"keypoints_2d": pixels})
    np.testing.assert_array_equal(
        small[:, :288], draw_pairs(np.zeros((240, 288, 3), np.uint8), large, both.skeleton)[:, :288]
    )


def test_samples_of_a_training_show_picture_truth_and_prediction(both: Dataset, tmp_path: Path) -> None:
    """A row a sample, each as high as the others; the truth is drawn as the prediction is."""
    model = InterNetConfig.model_validate({"backbone": {"use": "resnet", "depth": 18}}).build(both.skeleton)
    predictions = [Prediction(index, as_predicted(both[index].people, [0.9, 0.9])) for index in range(2)]
    write_samples(tmp_path / "samples.png", model, both, predictions)
    sheet = cv2.imread(str(tmp_path / "samples.png"))
    assert sheet is not None
    wide = 256 + 2 * round((288 + 2 * 288) * 256 / (288 + 20))
    assert sheet.shape[1] == wide + 2 * 6 + 2 * 6, "gaps between pictures, margins around them"
    shown = sheet[6 : 6 + 256, 6 : 6 + 256, ::-1].astype(int)
    picture = cv2.resize(read_image(both[0].image), (256, 256), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(shown, picture)
