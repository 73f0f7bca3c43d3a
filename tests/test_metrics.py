"""Metrics: the reference's numbers, brute force, and what must hold of any metric."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.config import parse_metric
from posecli.console import PosecliError, counted
from posecli.metrics.auc import pck_curves
from posecli.metrics.matching import fraction_below, keypoint_distances, mean_of, pair_people
from posecli.metrics.metric import Score
from posecli.metrics.normalizers import named_keypoint
from posecli.scoring import ScoreMode, instance_scores
from posecli.skeleton import Skeleton
from posecli.suppression import oks_nms, soft_oks_nms
from posecli.types import Dataset, People, SampleId

NAMES = ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip")
SKELETON = Skeleton("five", NAMES, flip_pairs=((1, 2), (3, 4)), sigmas=(0.026, 0.079, 0.079, 0.107, 0.107))
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
TEXTS = ("ap", "ap@0.5", "ap:box", "ap:0.05", "pck", "pck@0.2:torso", "auc", "auc@100:10", "epe", "nme", "nme:0,1")
Predictions = dict[SampleId, People]


def make_dataset(samples: int = 12, seed: int = 0, most: int = 3) -> Dataset:
    """Pictures of 0 to `most` people in random poses, some keypoints not labelled, some people crowd or unlabelled."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, most + 1, samples)
    counts[0] = most
    total = int(counts.sum())
    low = random.uniform(0, 300, (total, 1, 2))
    keypoints = (low + random.uniform(0, 1, (total, 5, 2)) * random.uniform(60, 250, (total, 1, 2))).astype(np.float32)
    scores = random.choice([0.0, 1.0, 2.0], (total, 5), p=[0.2, 0.3, 0.5]).astype(np.float32)
    scores[:, 0] = 2
    boxes = np.concatenate([keypoints.min(1) - 5, keypoints.max(1) + 5], axis=1)
    keypoints[scores == 0] = np.nan
    crowd = np.zeros(total, bool)
    crowd[1] = True
    scores[2], keypoints[2] = 0, np.nan
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * 0.6
    return Dataset(
        "made",
        SKELETON,
        list(range(10, 10 + samples)),
        np.full((samples, 2), 640),
        np.concatenate([[0], np.cumsum(counts)]),
        People(keypoints, scores, boxes, None, {"area": areas, "crowd": crowd}),
        [Path(f"{index}.jpg") for index in range(samples)],
    )


def answer(truth: Dataset, noise: float = 0.0, seed: int = 1, rows: bool = True) -> Predictions:
    """A prediction for each labelled person that is no crowd: the truth with noise, unlabelled keypoints invented."""
    random = np.random.default_rng(seed)
    predictions: Predictions = {}
    for index, sample_id in enumerate(truth.ids):
        people = truth[index].people
        people = people[people.labelled.any(axis=1) & ~people.extra["crowd"]]
        places = np.where(np.isnan(people.keypoints), 50.0, people.keypoints)
        places = (places + random.normal(0, 1, places.shape) * noise).astype(np.float32)
        scores = random.uniform(0.5, 1, people.scores.shape).astype(np.float32)
        extra = {"row": people.extra["row"]} if rows else {}
        predictions[sample_id] = People(places, scores, people.boxes, scores.mean(axis=1), extra)
    return predictions


def compute(text: str, truth: Dataset, predictions: Predictions) -> list[Score]:
    return parse_metric(text).build(truth.skeleton).compute(truth, predictions)


def values(text: str, truth: Dataset, predictions: Predictions) -> list[float]:
    return [score.value for score in compute(text, truth, predictions)]


# --- the reference's numbers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def functional(golden: Path) -> Callable[[str], dict[str, Any]]:
    """Inputs, outputs and parameters of an entry of functional.npz (MMPose 1.3.2)."""
    with np.load(golden / "functional.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if name.split("/")[0] in ("pck", "auc", "epe", "nme")}
    parameters = json.loads((golden / "functional.json").read_text())

    def entry(name: str) -> dict[str, Any]:
        found = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
        return {**found, **parameters[name]["params"]}

    return entry


@pytest.mark.parametrize("name", ["pck/0.05", "pck/0.1", "pck/0.2", "pck/0.5"])
def test_golden_pck(functional: Callable[[str], dict[str, Any]], name: str) -> None:
    entry = functional(name)
    distances = keypoint_distances(entry["in/pred"], entry["in/gt"], entry["in/mask"], entry["in/norm_factor"])
    accuracy = fraction_below(distances, entry["thr"])
    expected = np.where(entry["out/acc"] < 0, np.nan, entry["out/acc"])  # the reference writes -1 for "no data"
    np.testing.assert_allclose(accuracy, expected, atol=1e-6)
    assert mean_of(accuracy) == pytest.approx(float(entry["out/avg_acc"]), abs=1e-6)
    assert (~np.isnan(accuracy)).sum() == entry["out/cnt"]


@pytest.mark.parametrize("name", ["auc", "auc/200"])
def test_golden_auc(functional: Callable[[str], dict[str, Any]], name: str) -> None:
    entry = functional(name)
    normalizers = np.full((len(entry["in/pred"]), 1), entry["norm_factor"])
    distances = keypoint_distances(entry["in/pred"], entry["in/gt"], entry["in/mask"], normalizers)
    curve = pck_curves(distances, 20)
    assert mean_of(curve.mean(axis=0)) == pytest.approx(float(entry["out/auc"]), abs=1e-6)


@pytest.mark.parametrize(("name", "factor"), [("epe", None), ("nme", "in/normalize_factor")])
def test_golden_errors(functional: Callable[[str], dict[str, Any]], name: str, factor: str | None) -> None:
    entry = functional(name)
    normalizers = None if factor is None else entry[factor]
    distances = keypoint_distances(entry["in/pred"], entry["in/gt"], entry["in/mask"], normalizers)
    assert mean_of(distances) == pytest.approx(float(entry[f"out/{name}"]), rel=1e-6)  # the reference: float32


@pytest.fixture(scope="module")
def coco_case(golden: Path) -> tuple[Dataset, dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """coco_metric_gt.json as a Dataset, the predictions and the reference's scores."""
    content = json.loads((golden / "coco_metric_gt.json").read_text())
    annotations = sorted(content["annotations"], key=lambda annotation: annotation["image_id"])
    ids = [image["id"] for image in content["images"]]
    points = np.array([annotation["keypoints"] for annotation in annotations]).reshape(-1, 17, 3)
    boxes = np.array([annotation["bbox"] for annotation in annotations])
    boxes[:, 2:] += boxes[:, :2]
    counts = [sum(annotation["image_id"] == image for annotation in annotations) for image in ids]
    people = People(
        np.where(points[..., 2:] > 0, points[..., :2], np.nan),
        points[..., 2],
        boxes,
        None,
        {"area": np.array([annotation["area"] for annotation in annotations])},
    )
    skeleton = Skeleton("coco", tuple(content["categories"][0]["keypoints"]), sigmas=COCO_SIGMAS)
    sizes = np.tile([640, 480], (len(ids), 1))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    truth = Dataset("coco", skeleton, ids, sizes, offsets, people, [Path("x.jpg")] * len(ids))
    with np.load(golden / "coco_metric_preds.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    return truth, arrays, json.loads((golden / "coco_metric_results.json").read_text())["results"]


REFERENCE_MODES: dict[str, ScoreMode] = {
    "bbox": "box",
    "bbox_keypoint": "box-keypoint",
    "bbox_rle": "box-rle",
    "keypoint": "keypoint",
}
SCORE_NAMES = {
    "AP": "coco/AP",
    "AP@0.5": "coco/AP .5",
    "AP@0.75": "coco/AP .75",
    "AP:medium": "coco/AP (M)",
    "AP:large": "coco/AP (L)",
    "AR": "coco/AR",
    "AR@0.5": "coco/AR .5",
    "AR@0.75": "coco/AR .75",
    "AR:medium": "coco/AR (M)",
    "AR:large": "coco/AR (L)",
}


@pytest.mark.parametrize("mode", REFERENCE_MODES)
@pytest.mark.parametrize("suppression", ["oks_nms", "soft_oks_nms", "none"])
def test_golden_ap(coco_case: Any, mode: str, suppression: str) -> None:
    truth, arrays, results = coco_case
    predictions: Predictions = {}
    for sample_id in np.unique(arrays["img_id"]).tolist():
        chosen = arrays["img_id"] == sample_id
        people = People(
            arrays["keypoints"][chosen],
            arrays["keypoint_scores"][chosen],
            arrays["bboxes_xyxy"][chosen],
            arrays["bbox_scores"][chosen],
        )
        people = dataclasses.replace(people, instance_scores=instance_scores(people, REFERENCE_MODES[mode]))
        areas = arrays["bbox_scales"][chosen].prod(axis=1)
        if suppression == "oks_nms":
            people = people[oks_nms(people, COCO_SIGMAS, 0.9, areas)]
        elif suppression == "soft_oks_nms":
            people = people[soft_oks_nms(people, COCO_SIGMAS, 0.9, areas)[0]]
        predictions[sample_id] = people
    scores = compute("ap", truth, predictions)
    expected = results[f"{mode}/{suppression}"]
    assert {SCORE_NAMES[score.name]: score.value for score in scores} == pytest.approx(expected, abs=1e-6)


# --- brute force ------------------------------------------------------------------------------------------------------


def test_pck_epe_and_nme_equal_plain_loops() -> None:
    truth, predictions = make_dataset(30, seed=3), answer(make_dataset(30, seed=3), noise=12)
    hits: dict[str, list[bool]] = {name: [] for name in NAMES}
    errors, relative = [], []
    for index, sample_id in enumerate(truth.ids):
        people, guessed = truth[index].people, predictions[sample_id]
        assert people.boxes is not None
        for place, row in enumerate(guessed.extra["row"]):
            side = float(max(people.boxes[row, 2:] - people.boxes[row, :2]))
            for joint, name in enumerate(NAMES):
                if people.scores[row, joint] > 0:
                    gap = people.keypoints[row, joint].astype(float) - guessed.keypoints[place, joint]
                    distance = float(np.hypot(*gap))
                    hits[name].append(distance < 0.05 * side)
                    errors.append(distance)
                    relative.append(distance / side)
    per_keypoint = {name: float(np.mean(found)) for name, found in hits.items()}
    (pck,) = compute("pck@0.05", truth, predictions)
    assert 0.1 < pck.value < 0.9  # else the comparison would prove nothing
    assert pck.details == pytest.approx(per_keypoint)
    assert pck.value == pytest.approx(np.mean(list(per_keypoint.values())))
    assert values("epe", truth, predictions) == pytest.approx([np.mean(errors), np.median(errors)])
    assert values("nme", truth, predictions) == pytest.approx([np.mean(relative)])


def test_ap_of_one_person_a_picture_equals_a_plain_count() -> None:
    """With one detection a picture and equal scores AP@t is (hits / all)-shaped; here every OKS is known by hand."""
    count, area = 10, 10_000.0
    keypoints = np.tile(np.arange(10, dtype=np.float32).reshape(5, 2) * 20, (count, 1, 1))
    boxes = np.tile([0.0, 0.0, 200.0, 200.0], (count, 1))
    people = People(keypoints, np.full((count, 5), 2.0), boxes, None, {"area": np.full(count, area)})
    truth = Dataset(
        "one", SKELETON, list(range(count)), np.full((count, 2), 300), np.arange(count + 1), people, [Path("a")] * count
    )
    shift = np.linspace(0, 30, count)
    assert SKELETON.sigmas is not None
    variance = (2 * np.array(SKELETON.sigmas)) ** 2
    oks = np.exp(-(shift[:, None] ** 2) / (2 * variance * area)).mean(axis=1)
    predictions: Predictions = {}
    for index in range(count):
        moved = keypoints[index : index + 1] + np.array([shift[index], 0], np.float32)
        predictions[index] = People(moved, np.ones((1, 5)), boxes[:1], np.array([1 - index / 100]))
    ap, ar = values("ap@0.6", truth, predictions)
    hits = int((oks >= 0.6).sum())
    assert 0 < hits < count
    assert ar == pytest.approx(hits / count)  # the best guesses come first, so precision is 1 up to that recall
    assert ap == pytest.approx(np.mean(np.linspace(0, 1, 101) <= hits / count + 1e-12))


@pytest.mark.parametrize("seed", range(5))
def test_matching_without_rows_finds_the_cheapest_assignment(seed: int) -> None:
    from itertools import permutations

    truth = make_dataset(1, seed=seed, most=4)
    random = np.random.default_rng(seed)
    guesses = People(random.uniform(0, 500, (4, 5, 2)), np.ones((4, 5)))
    pairs = pair_people(truth, {10: guesses})

    def cost(order: tuple[int, ...]) -> float:
        distances = keypoint_distances(guesses.keypoints[list(order)], pairs.truth, pairs.visible)
        return float(np.nanmean(distances, axis=1).sum())

    best = min(permutations(range(4), len(pairs)), key=cost)
    np.testing.assert_array_equal(pairs.predicted, guesses.keypoints[list(best)])


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("rows", [True, False], ids=["by row", "by distance"])
def test_perfect_prediction_gets_the_best_value(text: str, rows: bool) -> None:
    truth = make_dataset()
    for score in compute(text, truth, answer(truth, rows=rows)):
        if not np.isnan(score.value):  # no people of medium or large size
            assert score.value == pytest.approx(score.best, abs=1e-6), score.name


@pytest.mark.parametrize("text", TEXTS)
def test_3d_predictions_are_scored_where_they_are_in_the_picture(text: str) -> None:
    truth = make_dataset()
    flat = answer(truth, noise=6.0)
    solid = {
        key: dataclasses.replace(people, keypoints=np.zeros((*people.scores.shape, 3), np.float32)).with_extra(
            keypoints_2d=people.keypoints
        )
        for key, people in flat.items()
    }
    np.testing.assert_array_equal(values(text, truth, solid), values(text, truth, flat))
    bare = {key: dataclasses.replace(people, extra={"row": people.extra["row"]}) for key, people in solid.items()}
    with pytest.raises(PosecliError, match=r"are in 3D and have no column 'keypoints_2d'.* such as mpjpe"):
        compute(text, truth, bare)


@pytest.mark.parametrize("text", TEXTS)
def test_worse_predictions_score_worse(text: str) -> None:
    truth = make_dataset(20)
    near, far = (compute(text, truth, answer(truth, noise))[0] for noise in (4.0, 25.0))
    assert (near.value > far.value) == near.higher_is_better
    assert near.value != far.value


@pytest.mark.parametrize("text", TEXTS)
def test_order_of_people_and_samples_does_not_matter(text: str) -> None:
    truth = make_dataset(20)
    predictions = answer(truth, noise=10, rows=False)
    turned = {key: predictions[key][::-1] for key in reversed(list(predictions))}
    shuffled = truth.take(np.random.default_rng(0).permutation(len(truth)))
    expected = values(text, truth, predictions)
    np.testing.assert_allclose(values(text, truth, turned), expected, rtol=1e-12)
    np.testing.assert_allclose(values(text, shuffled, predictions), expected, rtol=1e-12)


def test_ids_may_be_texts() -> None:
    truth = make_dataset()
    predictions = answer(truth, noise=8)
    named = dataclasses.replace(truth, ids=[f"picture {key}" for key in truth.ids])
    renamed: Predictions = {f"picture {key}": people for key, people in predictions.items()}
    for text in TEXTS:
        assert values(text, named, renamed) == pytest.approx(values(text, truth, predictions), nan_ok=True)


def test_duplicates_lower_ap_and_nothing_else() -> None:
    truth = make_dataset(20)
    predictions = answer(truth, noise=5, rows=False)
    doubled: Predictions = {}
    for key, people in predictions.items():
        assert people.instance_scores is not None
        again = dataclasses.replace(people, instance_scores=people.instance_scores * 0.99)
        doubled[key] = People.concatenate([people, again])
    assert values("ap", truth, doubled)[0] < values("ap", truth, predictions)[0]
    for text in ("pck", "auc", "epe", "nme"):
        assert values(text, truth, doubled) == pytest.approx(values(text, truth, predictions))


def test_of_several_predictions_for_a_person_the_surest_counts() -> None:
    truth = make_dataset()
    predictions = answer(truth)
    doubled: Predictions = {}
    for key, people in predictions.items():
        assert people.instance_scores is not None
        wrong = dataclasses.replace(
            people, keypoints=people.keypoints + 300, instance_scores=people.instance_scores / 2
        )
        doubled[key] = People.concatenate([wrong, people])
    assert values("epe", truth, doubled)[0] == 0


def test_missing_people_count_as_wrong_in_pck_and_are_left_out_of_errors() -> None:
    truth = make_dataset(20)
    predictions = answer(truth)
    full = pair_people(truth, predictions)
    lost = {key: people for key, people in predictions.items() if key % 2}
    pairs = pair_people(truth, lost)
    missing = int((~pairs.found).sum())
    assert 0 < missing < len(full)
    (pck,) = compute("pck", truth, lost)
    by_keypoint = (pairs.visible & pairs.found[:, None]).sum(0) / pairs.visible.sum(0)
    assert pck.value == pytest.approx(by_keypoint.mean())
    assert f"{missing} of {len(full)} people not predicted, counted as wrong" in pck.note
    epe = compute("epe", truth, lost)[0]
    assert epe.value == 0
    assert f"{missing} of {len(full)} people not predicted, left out" in epe.note


def test_a_keypoint_that_is_not_predicted() -> None:
    truth = make_dataset()
    predictions = answer(truth)
    for people in predictions.values():
        people.keypoints[:, 0] = np.nan
    (pck,) = compute("pck", truth, predictions)
    assert pck.details is not None
    assert pck.details["nose"] == 0
    assert pck.value == pytest.approx(0.8)
    epe = compute("epe", truth, predictions)[0]
    assert epe.value == 0
    assert np.isnan((epe.details or {})["nose"])
    assert "keypoints of others not predicted" in epe.note
    assert values("ap@0.9", truth, predictions)[0] < 1
    assert values("ap@0.5", truth, predictions)[0] == pytest.approx(1)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("empty", ["no predictions", "no people predicted"])
def test_nothing_predicted(text: str, empty: str) -> None:
    truth = make_dataset()
    predictions = {} if empty == "no predictions" else {key: People.empty(5) for key in truth.ids}
    score = compute(text, truth, predictions)[0]
    if score.higher_is_better:
        assert score.value == 0
    else:
        assert np.isnan(score.value)
        assert "not predicted, left out" in score.note


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("predicted", [True, False])
def test_nothing_labelled_is_nan_and_said(text: str, predicted: bool) -> None:
    truth = make_dataset()
    bare = dataclasses.replace(
        truth.people, keypoints=np.full_like(truth.people.keypoints, np.nan), scores=np.zeros_like(truth.people.scores)
    )
    predictions = answer(truth, rows=False) if predicted else {}
    for score in compute(text, dataclasses.replace(truth, people=bare), predictions):
        assert np.isnan(score.value)
    note = compute(text, dataclasses.replace(truth, people=bare), predictions)[0].note
    assert "nobody" in note or "0 people" in note


@pytest.mark.parametrize("text", TEXTS)
def test_data_without_people(text: str) -> None:
    truth = make_dataset()
    bare = dataclasses.replace(truth, people=truth.people[:0], offsets=np.zeros(len(truth) + 1, np.int64))
    assert all(np.isnan(score.value) for score in compute(text, bare, {}))
    assert all(np.isnan(score.value) for score in compute(text, bare, answer(truth, rows=False)))


def test_crowd_and_unlabelled_people_count_for_nothing() -> None:
    truth = make_dataset()
    predictions = answer(truth, noise=5)
    assert truth.people.extra["crowd"].any()
    kept = np.flatnonzero(truth.people.labelled.any(1) & ~truth.people.extra["crowd"])
    counts = np.bincount(truth.sample_of_row[kept], minlength=len(truth))
    clean = dataclasses.replace(truth, people=truth.people[kept], offsets=np.concatenate([[0], np.cumsum(counts)]))
    unnamed = {key: dataclasses.replace(people, extra={}) for key, people in predictions.items()}
    for text in TEXTS:
        expected = values(text, clean, unnamed)
        assert values(text, truth, unnamed) == pytest.approx(expected, nan_ok=True), text


# --- normalisers, sigmas, texts ---------------------------------------------------------------------------------------


def test_torso_leaves_out_people_without_both_ends() -> None:
    truth = make_dataset(20)
    pairs = pair_people(truth, {})
    without = int((~(pairs.visible[:, 1] & pairs.visible[:, 4])).sum())
    assert 0 < without < len(pairs)
    (score,) = compute("pck@0.2:torso", truth, answer(truth))
    assert score.name == "PCK@0.2:torso"
    assert f"{counted(without, 'person', 'people')} without that length left out" in score.note
    assert "left_shoulder to right_hip" in score.note
    assert f"{len(pairs) - without} people" in score.note
    (error,) = compute("nme:torso", truth, answer(truth))
    both = pairs.visible[:, 1] & pairs.visible[:, 4]
    assert f"mean over {pairs.visible[both].sum()} keypoints of {both.sum()} people" in error.note


def test_two_keypoints_by_name_or_number_are_the_same_normaliser() -> None:
    truth = make_dataset()
    predictions = answer(truth, noise=10)
    named = values("pck@0.2:left_shoulder,right_hip", truth, predictions)
    assert named == values("pck@0.2:1,4", truth, predictions) == values("pck@0.2:torso", truth, predictions)


def test_head_size_comes_from_the_data_or_from_two_keypoints() -> None:
    truth = make_dataset()
    predictions = answer(truth, noise=10)
    sizes = np.full(len(truth.people), 40.0)
    sized = dataclasses.replace(truth, people=truth.people.with_extra(head_size=sizes))
    distances = keypoint_distances(*_paired(sized, predictions))
    assert values("pck@0.5:head", sized, predictions) == [pytest.approx(mean_of(fraction_below(distances, 20.0)))]
    with pytest.raises(PosecliError, match="head_size"):
        compute("pck@0.5:head", truth, predictions)
    renamed = dataclasses.replace(SKELETON, names=("head_top", "neck", "c", "d", "e"), flip_pairs=None)
    assert values("pck@0.5:head", dataclasses.replace(truth, skeleton=renamed), predictions) == values(
        "pck@0.5:0,1", truth, predictions
    )


def _paired(truth: Dataset, predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = pair_people(truth, predictions)
    return pairs.predicted, pairs.truth, pairs.visible


@pytest.mark.parametrize(
    "name",
    [
        "left_shoulder",
        "Left Shoulder",
        "leftShoulder",
        "LeftShoulder",
        "l_shoulder",
        "shoulder.L",
        "leftshoulder",
        "shoulder_left",
        "L-Shoulder",
    ],
)
def test_keypoints_are_found_in_any_spelling(name: str) -> None:
    assert named_keypoint(["right_shoulder", "shoulder", name, "left_hip"], ["left shoulder"]) == 2


def test_sigmas_are_never_guessed() -> None:
    bare = dataclasses.replace(SKELETON, sigmas=None)
    with pytest.raises(PosecliError, match=r"`sigmas`.*skeleton\.yaml.*ap:0\.05"):
        parse_metric("ap").build(bare)
    truth = make_dataset()
    predictions = answer(truth, noise=5)
    without = dataclasses.replace(truth, skeleton=bare)
    given = ",".join(str(sigma) for sigma in SKELETON.sigmas or ())
    assert values(f"ap:{given}", without, predictions) == values("ap", truth, predictions)
    score = compute("ap:0.1", without, predictions)[0]
    assert "sigmas as given: .1 .1 .1 .1 .1" in score.note
    assert score.value > values("ap", truth, predictions)[0]


def test_ap_says_whose_sigmas_and_which_area() -> None:
    truth = make_dataset()
    note = compute("ap", truth, answer(truth))[0].note
    assert note == "sigmas of skeleton 'five': .026 .079 .079 .107 .107"
    without = dataclasses.replace(truth, people=dataclasses.replace(truth.people, extra={}))
    assert "area = 0.53 × box, the data has no areas" in compute("ap", without, answer(truth, rows=False))[0].note
    assert values("ap", without, answer(truth, 9.0)) == values("ap:box", without, answer(truth, 9.0))


@pytest.mark.parametrize(
    ("text", "message", "note"),
    [
        ("pkc", "did you mean 'pck'", "a misspelt name"),
        ("pck@five", "threshold must be a number", "not a number"),
        ("pck@-1", "greater than 0", "a threshold that nothing passes"),
        ("ap@1.5", "less than 1", "OKS is at most 1"),
        ("ap:boxes", "must be a number", "a misspelt option"),
        ("epe@3", "takes no parameters", "epe has none"),
        ("nme@3", "no threshold", "nme has none"),
        ("auc@30:many", "whole number", "steps must count"),
    ],
)
def test_wrong_texts(text: str, message: str, note: str) -> None:
    with pytest.raises(PosecliError, match=message):
        parse_metric(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pck:left_sholder,nose", "did you mean 'left_shoulder'"),
        ("pck:knee", "two keypoints"),
        ("nme:7,1", "no keypoint '7'"),
        ("nme:nose,0", "same one"),
        ("ap:0.1,0.2", "2 sigmas"),
        ("ap:0", "above 0"),
    ],
)
def test_what_the_skeleton_does_not_allow(text: str, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        parse_metric(text).build(SKELETON)


def test_torso_needs_named_keypoints() -> None:
    with pytest.raises(PosecliError, match="left shoulder and right hip"):
        parse_metric("pck:torso").build(Skeleton("mouse", ("snout", "left_ear", "right_ear", "tail")))


def test_predictions_of_other_data_are_refused() -> None:
    truth = make_dataset()
    with pytest.raises(PosecliError, match="3 keypoints in 2 dimensions"):
        compute("pck", truth, {10: People(np.zeros((1, 3, 2)), np.ones((1, 3)))})
    stray = People(np.zeros((1, 5, 2)), np.ones((1, 5)), extra={"row": np.array([7])})
    with pytest.raises(PosecliError, match="answers person 7"):
        compute("epe", truth, {10: stray})


def test_epe_of_3d_keypoints_is_in_millimetres() -> None:
    random = np.random.default_rng(0)
    keypoints = random.normal(0, 500, (2, 5, 3))
    people = People(keypoints, np.ones((2, 5)))
    truth = Dataset("deep", SKELETON, [1, 2], np.full((2, 2), 100), np.arange(3), people, [Path("a")] * 2)
    moved = keypoints + np.array([0.0, 3.0, 4.0])
    predictions: Predictions = {1: People(moved[:1], np.ones((1, 5))), 2: People(moved[1:], np.ones((1, 5)))}
    score = compute("epe", truth, predictions)[0]
    assert score.value == pytest.approx(5.0)
    assert score.unit == "mm"
    with pytest.raises(PosecliError, match="3D keypoints"):
        compute("pck", truth, predictions)
