"""Scenes as network inputs: the matrix and its inverse, mirrored keypoints, who is kept, where the loss counts."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli import geometry
from posecli.datasets.coco import coco_dataset
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, People, Sample
from posecli_associative.augmentation import SceneAugmentation
from posecli_associative.transform import SceneTransform, fill, uncovered
from posecli_associative.units import training_scenes

SKELETON = Skeleton("pair", ("left", "right", "middle"), flip_pairs=((0, 1),))
STILL = SceneAugmentation(flip=0, rotate=0, scale=(1.0, 1.0), shift=0)


def scene(people: int = 3, size: tuple[int, int] = (160, 120), seed: int = 0, **fields: Any) -> Sample:
    """People anywhere in a picture that tells where it is: red says x, green says y."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(5, np.array(size) - 6, (people, 3, 2)).astype(np.float32)
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = np.arange(width), np.arange(height)[:, None], 255
    return Sample(
        "s", image, size, People(points, np.full((people, 3), 2.0), geometry.keypoint_boxes(points)), **fields
    )


@pytest.mark.parametrize(
    ("transform", "note"),
    [
        (SceneTransform(SKELETON, (128, 128), SceneAugmentation(flip=0)), "training"),
        (SceneTransform(SKELETON, (128, 128), SceneAugmentation(flip=1)), "training, mirrored"),
        (SceneTransform(SKELETON, (96, 160), SceneAugmentation(flip=1, side="long"), unbiased=True), "UDP, all shown"),
        (SceneTransform(SKELETON, (128, 128)), "evaluation"),
        (SceneTransform(SKELETON, (128, 128), unbiased=True), "evaluation, UDP"),
    ],
)
def test_keypoints_are_undone_and_stand_on_their_pixels(transform: SceneTransform, note: str) -> None:
    seen = 0
    for seed in range(12):
        sample = scene(seed=seed)
        example = transform(sample, np.random.default_rng(seed))
        visible, points = example.targets["visible"] > 0, example.targets["keypoints"]
        back = geometry.apply(example.undo, points.astype(np.float64))
        for row, joint in np.argwhere(visible):
            distances = np.abs(sample.people.keypoints - back[row, joint]).max(axis=-1)
            assert distances.min() < 1e-3, note
            x, y = np.rint(points[row, joint]).astype(int)
            red, green, blue = example.inputs["image"][y, x].tolist()
            if blue == 255:  # else at the picture's edge
                assert np.abs(back[row, joint] - (red, green)).max() < 2, note
                seen += 1
    assert seen > 30, note


def test_partners_change_places_when_mirrored() -> None:
    still, flipped = STILL, STILL.model_copy(update={"flip": 1.0})
    plain = SceneTransform(SKELETON, (120, 120), still)(scene(), np.random.default_rng(0))
    mirrored = SceneTransform(SKELETON, (120, 120), flipped)(scene(), np.random.default_rng(0))
    assert np.array_equal(plain.targets["visible"][:, [1, 0, 2]], mirrored.targets["visible"])
    shown = mirrored.targets["visible"] > 0
    across = plain.targets["keypoints"][:, [1, 0, 2], 0]
    assert np.allclose(mirrored.targets["keypoints"][..., 0][shown], 119 - across[shown], atol=1e-4)
    assert np.abs(mirrored.inputs["image"][:, ::-1].astype(int) - plain.inputs["image"]).max() <= 1


def test_flipped_twice_is_nothing() -> None:
    always = STILL.model_copy(update={"flip": 1.0})
    transform = SceneTransform(SKELETON, (120, 120), always)
    sample = scene(size=(120, 120))
    once = transform(sample, np.random.default_rng(0))
    turned = People(once.targets["keypoints"][:3], once.targets["visible"][:3] * 2, sample.people.boxes)
    twice = transform(dataclasses.replace(sample, image=once.inputs["image"], people=turned), np.random.default_rng(0))
    assert np.abs(twice.inputs["image"].astype(int) - np.asarray(sample.image)).max() <= 1
    assert np.allclose(twice.targets["keypoints"][:3], sample.people.keypoints, atol=1e-3)


def test_without_flip_pairs_nothing_is_mirrored() -> None:
    skeleton = dataclasses.replace(SKELETON, flip_pairs=None)
    transform = SceneTransform(skeleton, (120, 120), STILL.model_copy(update={"flip": 1.0}))
    assert transform(scene(), np.random.default_rng(0)).undo[0, 0] > 0


def test_randomness_is_the_generator_s_alone() -> None:
    transform = SceneTransform(SKELETON, (128, 128), SceneAugmentation(color=1, cutout=1))
    again = pickle.loads(pickle.dumps(transform))
    first, second = (made(scene(), np.random.default_rng(5)) for made in (transform, again))
    for name in first.targets:
        assert np.array_equal(first.targets[name], second.targets[name])
    assert np.array_equal(first.inputs["image"], second.inputs["image"])
    assert not np.array_equal(first.undo, transform(scene(), np.random.default_rng(6)).undo)


def test_augmentation_stays_within_its_bounds() -> None:
    transform = SceneTransform(SKELETON, (128, 128), SceneAugmentation(flip=0))
    zooms, turns, shifts = [], [], []
    for seed in range(200):
        undo = transform(scene(0), np.random.default_rng(seed)).undo
        zooms.append(np.hypot(undo[0, 0], undo[1, 0]) * 128 / 120)  # the short side is 120
        turns.append(np.degrees(np.arctan2(undo[1, 0], undo[0, 0])))
        middle = geometry.apply(undo, np.array([64.0, 64.0])) - (80, 60)
        shifts.append(np.abs(middle) / zooms[-1] / (160, 120))
    assert 0.75 <= min(zooms) < 0.78
    assert 1.47 < max(zooms) <= 1.5
    assert -30 <= min(turns) < -28
    assert 28 < max(turns) <= 30
    assert 0.19 < np.max(shifts) <= 0.2


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "size", "scales", "sizes", "note"),
    [
        ((640, 392), 128, (1.0,), [(256, 128)], "wide: base_size of the reference's forward_test"),
        ((640, 392), 256, (1.0,), [(448, 256)], "the same at 256"),
        ((640, 392), 128, (1.0, 2.0), [(256, 128), (512, 256)], "two scales: multiples of 64 at the smaller"),
        ((392, 640), 512, (1.0,), [(512, 896)], "high"),
        ((100, 100), 512, (0.5, 1.0), [(256, 256), (512, 512)], "square, half and whole"),
    ],
)
def test_input_sizes(
    picture: tuple[int, int], size: int, scales: tuple[float, ...], sizes: list[tuple[int, int]], note: str
) -> None:
    transform = SceneTransform(SKELETON, (size, size), scales=scales)
    assert [transform.input_size(picture, scale) for scale in scales] == sizes, note


@pytest.mark.parametrize("unbiased", [False, True], ids=["plain", "udp"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (400, 10)], ids=str)
def test_pictures_of_next_to_nothing(size: tuple[int, int], unbiased: bool) -> None:
    transform = SceneTransform(SKELETON, (64, 64), unbiased=unbiased, scales=(1.0, 2.0))
    sample = dataclasses.replace(scene(people=0), image=np.full((size[1], size[0], 3), 200, np.uint8), size=size)
    example = transform(sample, np.random.default_rng(0))
    assert [image.max() > 0 for image in example.inputs.values()] == [True, True]
    height, width = example.inputs["image"].shape[:2]
    assert width / height == pytest.approx(size[0] / size[1], rel=0.2)
    middle = geometry.apply(example.undo, np.array([[width / 2, height / 2]]))[0]
    assert np.abs(middle - np.array(size) / 2).max() <= 1 + 0.05 * max(size)  # udp leaves a margin on one side


def test_sides_that_a_network_can_halve() -> None:
    """At scales that are not powers of two, too; every input still shows the same."""
    transform = SceneTransform(SKELETON, (128, 128), scales=(1.0, 1.25), multiple=64)
    inputs = transform(scene(size=(200, 130)), np.random.default_rng(0)).inputs
    assert [image.shape[:2] for image in inputs.values()] == [(128, 256), (192, 320)]
    large = cv2.resize(inputs["image"], (320, 192), interpolation=cv2.INTER_LINEAR)
    whole = (inputs["image@1.25"][..., 2] == 255) & (large[..., 2] == 255)
    assert whole.any()
    assert np.abs(inputs["image@1.25"][whole].astype(int) - large[whole]).max() <= 4


def test_golden_evaluation_input(golden: Path, shared: Path) -> None:
    """aug_data of ae29_higherhrnet_testtime: what the reference's BottomUpResizeAlign makes of a real picture."""
    with np.load(golden / "ae29_higherhrnet_testtime.npz") as stored:
        expected = stored["s128_flip.aug_data.0"][0].transpose(1, 2, 0)
    expected = (expected * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
    path = shared / "data/format-samples/coco/000000197388.jpg"
    sample = Sample("s", path, (640, 392), People.empty(3))
    example = SceneTransform(SKELETON, (128, 128))(sample, np.random.default_rng(0))
    difference = np.abs(example.inputs["image"] - expected)
    assert difference.max() < 4
    assert difference.mean() < 0.3
    assert np.allclose(example.undo, [[392 / 128, 0, 320 - 392], [0, 392 / 128, 0]])
    assert np.allclose(example.targets["size"], [640 * 128 / 392, 128])


@pytest.mark.parametrize("unbiased", [False, True])
def test_scales_show_the_same(unbiased: bool) -> None:
    transform = SceneTransform(SKELETON, (128, 128), scales=(0.5, 1.0, 2.0), unbiased=unbiased)
    inputs = transform(scene(size=(200, 130)), np.random.default_rng(0)).inputs
    small = cv2.resize(inputs["image"], inputs["image@0.5"].shape[1::-1], interpolation=cv2.INTER_AREA)
    large = cv2.resize(inputs["image"], inputs["image@2"].shape[1::-1], interpolation=cv2.INTER_LINEAR)
    for made, expected in ((inputs["image@0.5"], small), (inputs["image@2"], large)):
        whole = (made[..., 2] == 255) & (expected[..., 2] == 255)  # not at the border
        assert np.abs(made[whole].astype(int) - expected[whole]).max() <= 4


# --- who is kept, and where the loss counts ---------------------------------------------------------------------------


def test_an_empty_scene_is_an_example() -> None:
    example = SceneTransform(SKELETON, (64, 64))(scene(0), np.random.default_rng(0))
    assert not example.targets["visible"].any()
    assert example.targets["mask"].all()


def test_of_too_many_the_fullest_and_largest_are_kept_and_the_others_masked() -> None:
    size = (400, 100)
    triangle = np.array([[10.0, 50], [40, 59], [20, 55]])
    points = triangle + np.array([[[0.0, 0]], [[100, 0]], [[200, 0]], [[300, 0]]])  # (4, 3, 2)
    points[2] = points[2, 0] + (triangle - triangle[0]) / 10  # small
    scores = np.full((4, 3), 2.0)
    scores[1, 2], points[1, 2] = 0, np.nan  # one keypoint less
    people = People(points, scores, geometry.keypoint_boxes(points) + np.array([-5, -5, 5, 5]))
    sample = Sample("s", np.zeros((100, 400, 3), np.uint8), size, people)
    transform = SceneTransform(SKELETON, (64, 64), max_people=2)
    targets = transform(sample, np.random.default_rng(0)).targets
    assert targets["keypoints"].shape == (2, 3, 2)
    assert np.allclose(targets["keypoints"], points[[0, 3]] * 0.64, atol=1e-4)
    assert targets["visible"].all()
    masked = np.flatnonzero((targets["mask"] == 0).any(axis=0))
    left = (points[1, 0, 0] - 5) * 0.64 / 2
    right = (points[2, :, 0].max() + 5) * 0.64 / 2
    assert masked.min() == pytest.approx(left, abs=2)
    assert masked.max() == pytest.approx(right, abs=2)


def test_crowds_are_neither_learnt_nor_counted_against() -> None:
    sample = scene(3)
    crowd = dataclasses.replace(sample, people=sample.people.with_extra(crowd=np.array([False, True, False])))
    targets = SceneTransform(SKELETON, (120, 120), STILL)(crowd, np.random.default_rng(0)).targets
    assert (targets["visible"].any(axis=1)).sum() == 2
    assert not targets["mask"].all()


def brute_force(polygon: FloatArray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies in a polygon, by the even-odd rule."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        inside ^= crosses
    return inside


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_the_moved_polygon(seed: int) -> None:
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 7))
    polygon = np.array([80, 60]) + generator.uniform(15, 70, (7, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    transform = SceneTransform(SKELETON, (128, 96), SceneAugmentation(flip=1))
    example = transform(scene(0, ignore=(polygon,)), np.random.default_rng(seed))
    moved = geometry.apply(geometry.invert(example.undo), polygon)
    expected = brute_force((moved - 0.5) / 2, (48, 64))
    differs = (example.targets["mask"] == 0) != expected
    edge = np.ones((48, 64), np.uint8)
    cv2.polylines(edge, [np.rint((moved - 0.5) * 8).astype(np.int32)], True, 0, thickness=3, shift=4)
    assert expected.any()
    assert not (differs & (edge > 0)).any()  # OpenCV also fills pixels that the outline only touches


def test_overlapping_polygons_do_not_cancel() -> None:
    square = np.array([[20.0, 20], [80, 20], [80, 80], [20, 80]])
    targets = SceneTransform(SKELETON, (120, 120), STILL)(
        scene(0, (120, 120), ignore=(square, square + 10)), np.random.default_rng(0)
    ).targets
    assert not targets["mask"][20:35, 20:35].any()


def test_polygons_far_outside_are_cut_off() -> None:
    mask = np.ones((20, 20), np.uint8)
    fill(mask, np.eye(2, 3), np.array([[-1e9, 5.0], [1e9, 5], [1e9, 1e9], [-1e9, 1e9]]), 0)
    assert mask[:5].all()
    assert not mask[5:].any()


@pytest.mark.parametrize(
    ("ignore", "area", "boxes", "note"),
    [
        ((), 50.0, 1, "no polygon: the box"),
        ((np.array([[12.0, 12], [18, 12], [15, 18]]),), 50.0, 0, "a polygon in the box stands for the person"),
        ((np.array([[82.0, 82], [88, 82], [85, 88]]),), 50.0, 1, "a polygon elsewhere does not"),
        ((), 0.0, 0, "nothing of the person is seen"),
        ((), 4.0, 0, "hardly anything is: the box is that of who stands in front"),
    ],
)
def test_unlabelled_people_without_a_polygon(
    ignore: tuple[FloatArray, ...], area: float, boxes: int, note: str
) -> None:
    people = People(
        np.full((1, 3, 2), np.nan), np.zeros((1, 3)), np.array([[10.0, 10, 20, 20]]), extra={"area": np.array([area])}
    )
    sample = Sample("s", np.zeros((100, 100, 3), np.uint8), (100, 100), people, ignore=ignore)
    assert len(uncovered(sample, np.array([True]))) == boxes, note


@pytest.mark.parametrize(("border", "counted"), [("counts", 1.0), ("ignored", 0.5)])
def test_the_border_counts_or_not(border: Any, counted: float) -> None:
    transform = SceneTransform(SKELETON, (128, 128), STILL.model_copy(update={"side": "long"}), border=border)
    mask = transform(scene(0, (200, 100)), np.random.default_rng(0)).targets["mask"]
    assert mask.mean() == pytest.approx(counted, abs=0.03)


def test_coco_s_unlabelled_people_are_masked_by_their_outlines(shared: Path) -> None:
    samples = coco_dataset(shared / "data/format-samples/coco/test_coco.json")
    sample = samples[2]  # 196141: one person has no keypoints
    assert len(sample.ignore) == 1
    hidden = ~sample.people.labelled.any(axis=1)
    assert hidden.sum() == 1
    assert not len(uncovered(sample, hidden))
    targets = SceneTransform(samples.skeleton, (512, 512))(sample, np.random.default_rng(0)).targets
    outline = geometry.apply(np.array([[512 / 429, 0, 0], [0, 512 / 429, 0]]), sample.ignore[0])
    halved = (outline / 2).astype(np.float32)
    masked, area = (targets["mask"] == 0).sum(), cv2.contourArea(halved)
    assert area < masked < area + cv2.arcLength(halved, True)  # OpenCV also fills what the outline touches


def test_pictures_without_anybody_train_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    sample = scene(3)
    samples = Dataset(
        "d",
        SKELETON,
        [1, 2],
        np.array([[160, 120]] * 2),
        np.array([0, 0, 3]),
        sample.people,
        [np.zeros((1, 1, 3), np.uint8)] * 2,
    )
    scenes = training_scenes(samples, 2)
    assert [unit.id for unit in scenes] == [2]
    assert "1 of 2 pictures hold more than 2 people, at most 3" in capsys.readouterr().err
