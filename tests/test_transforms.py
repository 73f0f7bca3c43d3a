"""The crop: against the reference's picture and keypoints, and the properties it must keep."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli import geometry
from posecli.augmentation import Augmentation
from posecli.images import part_reader, warp
from posecli.skeleton import Skeleton
from posecli.transforms import CropTransform, color_matrix, cut_out, truncated_normal, vary_colors
from posecli.types import People, Sample

SKELETON = Skeleton("pair", ("left_eye", "right_eye", "nose"), flip_pairs=((0, 1),), upper=(0, 1))


def picture(width: int = 160, height: int = 120) -> np.ndarray:
    """A smooth picture in which every place has its own colour."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256], axis=-1).astype(np.uint8)


def sample(keypoints: list[list[float]], image: object = None) -> Sample:
    points = np.array([keypoints], dtype=np.float32)
    scores = np.where(np.isfinite(points).all(axis=-1), 2.0, 0.0).astype(np.float32)
    people = People(points, scores, np.array([[40.0, 30.0, 100.0, 90.0]]), extra={"row": np.zeros(1, int)})
    return Sample("one", picture() if image is None else image, (160, 120), people)  # type: ignore[arg-type]


def coco_person(shared: Path) -> Sample:
    """Annotation 442619 of the COCO sample, the one the reference's numbers were made with."""
    folder = shared / "data" / "format-samples" / "coco"
    annotations = json.loads((folder / "test_coco.json").read_text())["annotations"]
    person = next(annotation for annotation in annotations if annotation["id"] == 442619)
    x, y, width, height = person["bbox"]
    points = np.array(person["keypoints"], float).reshape(1, 17, 3)
    people = People(points[..., :2], points[..., 2], np.array([[x, y, x + width, y + height]]))
    return Sample(785, folder / "000000000785.jpg", (640, 425), people)


@pytest.mark.parametrize("unbiased", [False, True], ids=["plain", "udp"])
def test_crop_equals_the_reference(shared: Path, golden: Path, unbiased: bool) -> None:
    numbers = np.load(golden / "functional.npz")
    entry = f"topdown_affine_udp={unbiased}/out"
    skeleton = Skeleton("seventeen", tuple(f"point{index}" for index in range(17)))
    transform = CropTransform(skeleton, (192, 256), unbiased=unbiased)
    example = transform(coco_person(shared), np.random.default_rng(0))
    expected = numbers[f"{entry}/transformed_keypoints"][0]
    assert np.abs(example.targets["keypoints"] - expected).max() < 1e-3
    difference = np.abs(example.inputs["image"].astype(int) - numbers[f"{entry}/img"][..., ::-1].astype(int))
    assert difference.max() <= 2  # warps may differ by a grey level between builds of OpenCV
    assert difference.mean() < 0.05


@pytest.mark.parametrize(
    ("augmentation", "note"),
    [
        (None, "evaluation"),
        (Augmentation(flip=0, half_body=0), "scale, rotation and shift"),
        (Augmentation(flip=1, half_body=0), "mirrored: partners swap"),
        (Augmentation(flip=1, half_body=1, half_body_points=2), "half body"),
    ],
)
def test_undo_brings_keypoints_back(augmentation: Augmentation | None, note: str) -> None:
    points = [[50.0, 40.0], [70.0, 41.0], [60.0, 80.0]]
    transform = CropTransform(SKELETON, (48, 64), augmentation=augmentation)
    for seed in range(20):
        example = transform(sample(points), np.random.default_rng(seed))
        back = geometry.apply(example.undo, example.targets["keypoints"])
        flipped = augmentation is not None and augmentation.flip == 1
        expected = np.array(points)[SKELETON.flip_index if flipped else slice(None)]
        assert np.allclose(back, expected, atol=1e-3), note


def test_pixels_move_with_keypoints() -> None:
    """A bright dot lies under its keypoint in the crop, however the crop is turned, scaled and mirrored."""
    for seed in range(20):
        image = np.zeros((120, 160, 3), np.uint8)
        cv2.circle(image, (70, 60), 3, (255, 255, 255), -1)
        transform = CropTransform(SKELETON, (96, 96), augmentation=Augmentation(half_body=0, scale=(0.9, 1.4)))
        example = transform(sample([[70, 60], [70, 60], [70, 60]], image), np.random.default_rng(seed))
        weights = example.inputs["image"][..., 0].astype(float)
        rows, columns = np.mgrid[:96, :96]
        center = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
        assert np.abs(center - example.targets["keypoints"][0]).max() < 0.3


def test_reduced_decoding_keeps_places(tmp_path: Path) -> None:
    """A disc lies at the same place of the crop to a twentieth of a pixel, decoded in full or at a quarter."""
    path = tmp_path / "large.jpg"
    image = np.zeros((1200, 1600, 3), np.uint8)
    cv2.circle(image, (733, 611), 90, (255, 255, 255), -1)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 98])
    person = People(np.full((1, 3, 2), 500.0), np.full((1, 3), 2.0), np.array([[200.0, 100.0, 1400.0, 1100.0]]))
    still = Augmentation(flip=0, half_body=0, shift=0, scale=(1.0, 1.0), rotate=0)
    rows, columns = np.mgrid[:80, :96]
    centers = []
    for augmentation in (None, still):  # evaluation decodes in full, training at a quarter
        transform = CropTransform(SKELETON, (96, 80), augmentation=augmentation)
        example = transform(Sample(1, path, (1600, 1200), person), np.random.default_rng(0))
        weights = np.where(example.inputs["image"][..., 0] > 20, example.inputs["image"][..., 0], 0).astype(float)
        centers.append([(columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()])
    assert np.abs(np.subtract(*centers)).max() < 0.05


@pytest.mark.parametrize(
    ("center", "note"),
    [((80, 60), "inside"), ((2, 3), "over the corner"), ((158, 118), "over the other"), ((-500, 60), "outside")],
)
def test_warp_equals_a_plain_warp(center: tuple[float, float], note: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for rotation in (0.0, 33.0, -120.0):
        for side in (20.0, 90.0, 400.0):
            scale = np.array([side, side * 4 / 3])
            matrix = geometry.crop_matrix(np.array(center, float), scale, (48, 64), rotation, flip=rotation > 0)
            plain = cv2.warpAffine(image, matrix, (48, 64), flags=cv2.INTER_LINEAR)
            assert np.abs(warp(image, matrix, (48, 64)).astype(int) - plain).max() <= 1, note


def test_unlabelled_keypoints_stay_finite_and_invisible() -> None:
    example = CropTransform(SKELETON, (48, 64))(
        sample([[50, 40], [np.nan, np.nan], [60, 80]]), np.random.default_rng(0)
    )
    assert example.targets["visible"].tolist() == [1, 0, 1]
    assert np.isfinite(example.targets["keypoints"]).all()


def test_no_mirroring_without_flip_pairs() -> None:
    skeleton = Skeleton("unknown", ("a", "b", "c"))
    transform = CropTransform(skeleton, (48, 64), augmentation=Augmentation(flip=1, half_body=0))
    for seed in range(10):
        example = transform(sample([[50, 40], [70, 41], [60, 80]]), np.random.default_rng(seed))
        assert np.linalg.det(example.undo[:, :2]) > 0


def test_same_generator_same_example() -> None:
    """Wherever it is written: into memory of its own, or into a row of a batch."""
    transform = CropTransform(SKELETON, (48, 64), augmentation=Augmentation(color=1, cutout=1))
    row, wrong = np.full((64, 48, 3), 77, np.uint8), np.full((48, 64, 3), 77, np.uint8)
    examples = [
        transform.begin(sample([[50, 40], [70, 41], [60, 80]]), np.random.default_rng(7)).finish(rows)
        for rows in ({}, {"image": row}, {"image": wrong}, {"other": row})
    ]
    assert examples[1].inputs["image"] is row
    assert (wrong == 77).all()
    for example in examples:
        assert (example.inputs["image"] == row).all()
        assert (example.targets["keypoints"] == examples[0].targets["keypoints"]).all()


def test_a_part_of_nothing_is_black_in_its_row() -> None:
    row = np.full((64, 48, 3), 77, np.uint8)
    matrix = geometry.crop_matrix((-500.0, 60.0), (90.0, 120.0), (48, 64))
    assert part_reader(picture(), matrix, (48, 64))(row) is row
    assert (row == 0).all()


@pytest.mark.parametrize(
    ("matrix", "color", "expected", "note"),
    [
        (color_matrix(0, 1, 1, 0), (10, 100, 200), (10, 100, 200), "nothing changes"),
        (color_matrix(20, 1, 1, 0), (10, 100, 200), (30, 120, 220), "brighter"),
        (color_matrix(0, 0, 1, 0), (10, 100, 200), (127.5, 127.5, 127.5), "no contrast is mid-grey"),
        (color_matrix(0, 1, 0, 0), (255, 0, 0), (76.245, 76.245, 76.245), "no saturation is luma"),
        (color_matrix(0, 1, 1, 120), (255, 0, 0), (0, 255, 0), "a third of a turn: red becomes green"),
        (color_matrix(0, 1, 1, 47), (90, 90, 90), (90, 90, 90), "grey has no hue"),
    ],
)
def test_color_matrix(matrix: np.ndarray, color: tuple[int, ...], expected: tuple[float, ...], note: str) -> None:
    assert np.allclose(matrix[:, :3] @ color + matrix[:, 3], expected, atol=1e-6), note


def test_colors_and_cutout_change_only_what_they_should() -> None:
    image = picture()
    assert vary_colors(image, Augmentation(color=0), np.random.default_rng(0)) is image
    varied = vary_colors(image.copy(), Augmentation(color=1), np.random.default_rng(0))
    assert varied.shape == image.shape
    assert (varied != image).any()
    covered = cut_out(image.copy(), Augmentation(cutout=1, cutout_size=(0.5, 0.5)), np.random.default_rng(0))
    changed = (covered != image).any(axis=-1)
    assert 0.2 < changed.mean() <= 0.25


def test_truncated_normal_has_the_distribution_cut_off_at_one() -> None:
    drawn = np.array([truncated_normal(share) for share in np.linspace(0, 1, 10_001).tolist()])
    assert np.allclose(drawn[[0, 5000, 10_000]], [-1, 0, 1], atol=1e-9)
    assert (np.diff(drawn) > 0).all()
    assert abs(drawn.std() - 0.5396) < 1e-3


def test_a_cutout_may_have_no_size() -> None:
    image = picture()
    covered = cut_out(image.copy(), Augmentation(cutout=1, cutout_size=(0.0, 0.001)), np.random.default_rng(0))
    assert (covered == image).all()
