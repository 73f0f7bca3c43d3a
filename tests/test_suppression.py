"""Suppression against the reference's numbers and plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecli.suppression import box_nms, instance_areas, instance_scores, oks_matrix, oks_nms, soft_oks_nms
from posecli.types import FloatArray, People

COCO = tuple(sigma / 1000 for sigma in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89))


@pytest.fixture(scope="module")
def functional(golden: Path) -> dict[str, FloatArray]:
    """The suppression entries of functional.npz, computed by MMPose 1.3.2."""
    with np.load(golden / "functional.npz") as arrays:
        wanted = ("oks_", "soft_oks_nms/", "nms/", "nms_torch/")
        return {name: arrays[name] for name in arrays.files if name.startswith(wanted)}


def people_of(functional: dict[str, FloatArray], entry: str) -> tuple[People, FloatArray]:
    keypoints, scores = functional[f"{entry}/in/keypoints"], functional[f"{entry}/in/score"]
    mean = scores if scores.ndim == 1 else scores.mean(axis=1)
    return People(keypoints[..., :2], keypoints[..., 2], None, mean), functional[f"{entry}/in/area"]


@pytest.mark.parametrize(("entry", "visible"), [("oks_iou", None), ("oks_iou_vis", 0.3)])
def test_similarity_is_the_references(functional: dict[str, FloatArray], entry: str, visible: float | None) -> None:
    people, areas = people_of(functional, entry)
    similarity = oks_matrix(people[:1], people[1:], COCO, (areas[:1], areas[1:]), visible)
    np.testing.assert_allclose(similarity[0], functional[f"{entry}/out/oks"], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("entry", "threshold"), [("0.3", 0.3), ("0.5", 0.5), ("0.9", 0.9), ("per_joint", 0.5)])
def test_hard_suppression_is_the_references(functional: dict[str, FloatArray], entry: str, threshold: float) -> None:
    people, areas = people_of(functional, f"oks_nms/{entry}")
    assert oks_nms(people, COCO, threshold, areas).tolist() == functional[f"oks_nms/{entry}/out/keep"].tolist()


@pytest.mark.parametrize(("threshold", "limit"), [(0.5, 20), (0.9, 20), (0.9, 5)])
def test_soft_suppression_is_the_references(functional: dict[str, FloatArray], threshold: float, limit: int) -> None:
    entry = f"soft_oks_nms/{threshold}_{limit}"
    people, areas = people_of(functional, entry)
    rows, scores = soft_oks_nms(people, COCO, threshold, areas, limit)
    assert rows.tolist() == functional[f"{entry}/out/keep"].tolist()
    assert (np.diff(scores) <= 0).all()


def test_box_suppression_is_the_references(functional: dict[str, FloatArray]) -> None:
    detections = functional["nms/in/dets"]
    rows = box_nms(detections[:, :4], detections[:, 4], 0.6)
    assert rows.tolist() == functional["nms/out/keep"].tolist() == functional["nms_torch/out/keep"].tolist()


def crowd(seed: int, count: int = 30) -> People:
    """Ten persons, each found about three times, some keypoints unknown."""
    random = np.random.default_rng(seed)
    persons = random.uniform(0, 300, (10, 17, 2))
    keypoints = persons[random.integers(0, 10, count)] + random.normal(0, 3, (count, 17, 2))
    scores = random.uniform(0.01, 1, (count, 17))
    keypoints[random.uniform(size=(count, 17)) < 0.1] = np.nan
    return People(keypoints, scores, None, random.uniform(0, 1, count))


def loop_similarity(people: People, i: int, j: int, areas: FloatArray) -> float:
    total, counted = 0.0, 0
    for k, sigma in enumerate(COCO):
        dx, dy = people.keypoints[i, k] - people.keypoints[j, k]
        if np.isfinite(dx) and np.isfinite(dy):
            counted += 1
            total += np.exp(-(dx**2 + dy**2) / (2 * (2 * sigma) ** 2 * (areas[i] + areas[j]) / 2))
    return total / max(counted, 1)


@pytest.mark.parametrize("seed", range(3))
def test_matrix_and_both_suppressions_equal_loops(seed: int) -> None:
    people = crowd(seed)
    areas = instance_areas(people)
    similarity = np.array([[loop_similarity(people, i, j, areas) for j in range(30)] for i in range(30)])
    np.testing.assert_allclose(oks_matrix(people, people, COCO), similarity, atol=1e-12)

    order = sorted(range(30), key=lambda row: -people.instance_scores[row])
    kept: list[int] = []
    for row in order:
        if all(similarity[better, row] <= 0.5 for better in kept):
            kept.append(row)
    assert oks_nms(people, COCO, 0.5).tolist() == kept
    assert 5 <= len(kept) < 30

    scores, left, soft = people.instance_scores.copy(), set(range(30)), []
    for _ in range(12):
        best = max(left, key=lambda row: scores[row])
        left.remove(best)
        soft.append(best)
        for row in left:
            scores[row] *= np.exp(-(similarity[best, row] ** 2) / 0.5)
    rows, rescored = soft_oks_nms(people, COCO, 0.5, limit=12)
    assert rows.tolist() == soft
    np.testing.assert_allclose(rescored, scores[soft])


def test_similarity_is_symmetric_and_one_with_itself() -> None:
    people = crowd(4)
    similarity = oks_matrix(people, people, COCO)
    np.testing.assert_allclose(similarity, similarity.T)
    np.testing.assert_allclose(np.diag(similarity), 1)
    assert ((similarity >= 0) & (similarity <= 1)).all()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_suppressing_twice_changes_nothing(threshold: float) -> None:
    people = crowd(5)
    once = people[oks_nms(people, COCO, threshold)]
    assert oks_nms(once, COCO, threshold).tolist() == list(range(len(once)))
    similarity = oks_matrix(once, once, COCO)
    assert (similarity[~np.eye(len(once), dtype=bool)] <= threshold).all()


def test_soft_suppression_keeps_all_lowers_scores_and_leaves_its_input_alone() -> None:
    people = crowd(6)
    before = instance_scores(people).copy()
    rows, scores = soft_oks_nms(people, COCO, limit=100)
    assert sorted(rows.tolist()) == list(range(30))
    assert (scores <= before[rows]).all()
    assert (scores < before[rows]).any()
    assert np.array_equal(people.instance_scores, before)


def test_equal_scores_keep_the_first() -> None:
    people = People(np.zeros((3, 17, 2)), np.ones((3, 17)), None, np.ones(3))
    assert oks_nms(people, COCO, areas=np.full(3, 100.0)).tolist() == [0]


def test_exactly_the_threshold_is_kept() -> None:
    boxes, scores = np.array([[0.0, 0, 10, 10], [0.0, 0, 10, 5]]), np.array([0.5, 0.6])
    assert box_nms(boxes, scores, 0.5).tolist() == [1, 0]
    assert box_nms(boxes, scores, 0.49).tolist() == [1]


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_and_one_person(count: int) -> None:
    people = People.empty(17) if count == 0 else crowd(7, 1)
    assert oks_nms(people, COCO).tolist() == list(range(count))
    rows, scores = soft_oks_nms(people, COCO)
    assert rows.tolist() == list(range(count))
    assert scores.shape == (count,)
    assert oks_matrix(people, people, COCO).shape == (count, count)
    assert box_nms(np.zeros((count, 4)), np.zeros(count), 0.5).tolist() == list(range(count))


def test_people_without_a_common_keypoint_are_not_alike() -> None:
    keypoints = np.zeros((2, 17, 2))
    keypoints[0, :8], keypoints[1, 8:] = np.nan, np.nan
    people = People(keypoints, np.ones((2, 17)), None, np.ones(2))
    assert oks_nms(people, COCO, areas=np.ones(2)).tolist() == [0, 1]


AREAS = [
    # what the row has, the area that counts
    ({"boxes": np.array([[0.0, 0, 10, 20]])}, 200.0, "its box"),
    ({"boxes": np.array([[0.0, 0, 10, 20]]), "extra": {"area": np.array([50.0])}}, 50.0, "its own area first"),
    ({}, 12.0, "the box around known keypoints"),
]


@pytest.mark.parametrize(("fields", "area", "note"), AREAS)
def test_which_area_counts(fields: dict[str, object], area: float, note: str) -> None:
    keypoints = np.array([[[1.0, 1.0], [4.0, 5.0], [np.nan, np.nan]]])
    people = People(keypoints, np.ones((1, 3)), **fields)  # type: ignore[arg-type]
    assert instance_areas(people).tolist() == [area], note


def test_instances_without_a_score_take_the_mean_of_their_keypoints() -> None:
    people = People(np.zeros((1, 2, 2)), np.array([[0.25, 0.75]]))
    assert instance_scores(people).tolist() == [0.5]


def test_wrong_number_of_sigmas_is_refused() -> None:
    with pytest.raises(ValueError, match="2 sigmas for 17 keypoints"):
        oks_nms(crowd(8), (0.1, 0.1))
