"""Errors of 3D poses: the reference's numbers, brute force, and what must hold of any pose."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.commands.eval import _show_details
from posecli.config import parse_metric
from posecli.console import PosecliError
from posecli.evaluation import Evaluation
from posecli.metrics.alignment import align, similarity
from posecli.metrics.config import Alignment
from posecli.metrics.metric import Score
from posecli.metrics.mpjpe import Comparison, curve_areas
from posecli.results import ResultsHeader
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, FloatArray, People, SampleId

NAMES = ("pelvis", "left_hip", "left_knee", "right_hip", "right_knee", "head")
SKELETON = Skeleton("six", NAMES, flip_pairs=((1, 3), (2, 4)))
TEXTS = ("mpjpe", "mpjpe:none", "n-mpjpe", "p-mpjpe", "pa-mpjpe", "3dpck", "3dpck@50:procrustes", "3dauc@100:scale")


def clip(frames: int = 20, seed: int = 0, people: int = 1, flat: bool = True) -> Dataset:
    """Frames of 3D poses; `flat`: beside 2D keypoints, as lifters are trained, else as the keypoints themselves."""
    random = np.random.default_rng(seed)
    rows = frames * people
    poses = (random.normal(0, 300, (rows, 6, 3)) + random.normal(0, 500, (rows, 1, 3)) + [0, 0, 4000]).astype(
        np.float32
    )
    pixels = 1000 * poses[..., :2] / poses[..., 2:] + 500
    extra: dict[str, Array] = {"track_id": np.tile(np.arange(people), frames)}
    shown = People(pixels, np.ones((rows, 6), np.float32), None, None, {**extra, "keypoints_3d": poses})
    deep = People(poses, np.ones((rows, 6), np.float32), None, None, extra)
    return Dataset(
        "clip",
        SKELETON,
        list(range(frames)),
        np.full((frames, 2), 1000),
        np.arange(frames + 1) * people,
        shown if flat else deep,
        [np.zeros((0, 0, 3), np.uint8)] * frames,
    )


def truth_of(data: Dataset) -> FloatArray:
    people = data.people
    return np.asarray(people.extra.get("keypoints_3d", people.keypoints), np.float64)


def answers(data: Dataset, poses: FloatArray, named: bool = True) -> dict[SampleId, People]:
    """Predictions for every row; `named`: they say which row they answer."""
    found: dict[SampleId, People] = {}
    for index, sample_id in enumerate(data.ids):
        rows = np.arange(data.offsets[index], data.offsets[index + 1])
        extra = {"row": rows - rows[0]} if named else {}
        found[sample_id] = People(poses[rows], np.ones((len(rows), 6)), None, np.ones(len(rows)), extra)
    return found


def compute(text: str, data: Dataset, found: dict[SampleId, People]) -> list[Score]:
    return parse_metric(text).build(data.skeleton).compute(data, found)


def value(text: str, data: Dataset, poses: FloatArray) -> float:
    return compute(text, data, answers(data, poses))[0].value


def turn(seed: int) -> FloatArray:
    """A random rotation."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(basis * np.sign(np.linalg.det(basis)))


# --- the reference's numbers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(golden: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for file in ("functional", "functional29_metrics"):
        with np.load(golden / f"{file}.npz") as held:
            wanted = ("mpjpe/", "3d/", "compute_similarity", "MeshH36M")
            arrays |= {name: held[name] for name in held.files if name.startswith(wanted)}
    return arrays


@pytest.mark.parametrize("alignment", ["none", "scale", "procrustes"])
@pytest.mark.parametrize(
    ("entry", "source"),
    [("mpjpe", "functional.npz, MMPose 1.3.2 keypoint_mpjpe"), ("3d", "functional29_metrics.npz, MMPose 0.29.0")],
)
def test_reference_mpjpe(stored: dict[str, Any], entry: str, source: str, alignment: Alignment) -> None:
    """The reference aligns by all keypoints and averages the chosen ones."""
    predicted, truth, mask = (stored[f"{entry}/{alignment}/in/{name}"] for name in ("pred", "gt", "mask"))
    aligned = align(predicted, truth, np.ones(mask.shape, bool), alignment)
    distances = np.linalg.norm(aligned - truth, axis=-1)
    assert distances[mask].mean() == pytest.approx(stored[f"{entry}/{alignment}/out/mpjpe"], rel=1e-6), source


@pytest.mark.parametrize("alignment", ["none", "scale", "procrustes"])
def test_reference_3dpck_and_3dauc(stored: dict[str, Any], alignment: Alignment) -> None:
    """functional29_metrics.npz: thresholds .15 and .05 m, shares in percent."""
    entry = f"3d/{alignment}"
    predicted, truth, mask = (stored[f"{entry}/in/{name}"] for name in ("pred", "gt", "mask"))
    aligned = align(predicted, truth, np.ones(mask.shape, bool), alignment)
    distances = 1000 * np.linalg.norm(aligned - truth, axis=-1)[mask]
    assert 100 * (distances < 150).mean() == pytest.approx(stored[f"{entry}/out/pck"], rel=1e-6)
    assert 100 * (distances < 50).mean() == pytest.approx(stored[f"{entry}/out/pck05"], rel=1e-6)
    assert 100 * curve_areas(distances, 150).mean() == pytest.approx(stored[f"{entry}/out/auc"], rel=1e-6)


@pytest.mark.parametrize("alignment", ["none", "scale", "procrustes"])
def test_reference_through_the_metrics(stored: dict[str, Any], alignment: Alignment) -> None:
    """The metrics themselves on the reference's poses, where every keypoint counts."""
    predicted, truth = (1000 * stored[f"3d/{alignment}/in/{name}"] for name in ("pred", "gt"))
    skeleton = Skeleton("17", tuple(f"k{index}" for index in range(17)))
    ones = np.ones(truth.shape[:2])
    data = Dataset(
        "poses",
        skeleton,
        [*range(6)],
        np.ones((6, 2), int),
        np.arange(7),
        People(truth, ones),
        [np.zeros((0, 0, 3), np.uint8)] * 6,
    )
    found: dict[SampleId, People] = {index: People(predicted[index, None], ones[:1]) for index in range(6)}
    distances = np.linalg.norm(align(predicted, truth, ones > 0, alignment) - truth, axis=-1)
    text = {"none": "mpjpe:none", "scale": "n-mpjpe:none", "procrustes": "pa-mpjpe"}[alignment]
    assert compute(text, data, found)[0].value == pytest.approx(distances.mean(), rel=1e-6)
    option = {"none": ":none", "scale": ":scale", "procrustes": ":procrustes"}[alignment]
    if alignment != "scale":  # 3dpck:scale measures from the root, which these poses do not name
        assert compute(f"3dpck{option}", data, found)[0].value == pytest.approx((distances < 150).mean())
        assert compute(f"3dauc{option}", data, found)[0].value == pytest.approx(curve_areas(distances, 150).mean())


@pytest.mark.parametrize("entry", ["compute_similarity_transform", "compute_similarity_transform_reflection"])
def test_reference_similarity(stored: dict[str, Any], entry: str) -> None:
    """functional29_metrics.npz; the second source is a mirror image, which may be turned but not mirrored."""
    predicted, truth = (stored[f"{entry}/in/{name}"].reshape(-1, 17, 3) for name in ("pred", "gt"))
    aligned = similarity(predicted, truth, np.ones(truth.shape[:2], bool))
    assert np.abs(aligned - stored[f"{entry}/out/aligned"].reshape(-1, 17, 3)).max() < 1e-6


# --- what must hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("flat", [True, False])
def test_a_perfect_prediction_gets_the_best_value(text: str, flat: bool) -> None:
    data = clip(flat=flat)
    for score in compute(text, data, answers(data, truth_of(data))):
        assert score.value == pytest.approx(score.best, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "change", "note"),
    [
        ("mpjpe", lambda poses: poses - [100, 200, -900], "moved: relative to the root nothing is wrong"),
        ("n-mpjpe", lambda poses: 0.3 * (poses - poses[:, :1]), "scaled about the root"),
        ("p-mpjpe", lambda poses: 2 * poses @ turn(1) + [100, 200, -900], "moved, scaled and turned"),
        ("3dpck@0.1:procrustes", lambda poses: 2 * poses @ turn(1) - [0, 0, 5], "likewise"),
    ],
)
def test_what_an_alignment_forgives(text: str, change: Any, note: str) -> None:
    data = clip()
    score = compute(text, data, answers(data, change(truth_of(data))))[0]
    assert score.value == pytest.approx(score.best, abs=2e-3), note


def test_what_an_alignment_does_not_forgive() -> None:
    data = clip()
    truth = truth_of(data)
    assert value("mpjpe:none", data, truth - [30, 0, 40]) == pytest.approx(50, abs=1e-3)
    assert value("mpjpe", data, truth @ turn(1)) > 100
    assert value("n-mpjpe", data, truth @ turn(1)) > 100
    assert value("p-mpjpe", data, truth * [-1, 1, 1]) > 100, "a mirror image is another pose"
    moved = truth.copy()
    moved[:, 5] += [0, 120, 0]
    assert value("mpjpe", data, moved) == pytest.approx(120 / 6, abs=1e-3)
    assert value("mpjpe:head", data, moved) == pytest.approx(5 * 120 / 6, abs=1e-3)
    assert value("mpjpe:left_hip,3", data, moved) == pytest.approx(120 / 6, abs=1e-3)
    assert value("3dpck", data, moved) == 1
    assert value("3dpck@100", data, moved) == pytest.approx(5 / 6)


def test_alignments_order_the_errors() -> None:
    """Whatever is forgiven makes the error of squares smaller, pose by pose."""
    data = clip(60)
    truth = truth_of(data)
    predicted = truth + np.random.default_rng(3).normal(0, 80, truth.shape)
    predicted, truth = (points - points[:, :1] for points in (predicted, truth))
    known = np.ones(truth.shape[:2], bool)
    squares = [
        ((align(predicted, truth, known, name) - truth) ** 2).sum(axis=(1, 2))
        for name in ("none", "scale", "procrustes")
    ]
    assert (squares[0] >= squares[1]).all()
    assert (squares[1] >= squares[2]).all()


def test_the_batched_similarity_is_the_best_of_each_pose() -> None:
    """Brute force: one pose at a time over its known keypoints only, by a general optimizer."""
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(5)
    truth = random.normal(0, 1, (4, 6, 3))
    predicted = truth @ turn(2) * 1.4 + 3 + random.normal(0, 0.2, truth.shape)
    known = random.random((4, 6)) < 0.8
    known[:, :4] = True
    predicted[~known] = np.nan
    aligned = similarity(predicted, truth, known)
    for pose, goal, seen, ours in zip(predicted, truth, known, aligned, strict=True):

        def error(numbers: FloatArray, pose: FloatArray = pose[seen], goal: FloatArray = goal[seen]) -> float:
            turned = pose @ Rotation.from_rotvec(numbers[:3]).as_matrix().T
            return float((((numbers[3] * turned + numbers[4:]) - goal) ** 2).sum())

        starts = [np.r_[random.normal(0, 2, 3), 1, 0, 0, 0] for _ in range(8)]
        best = min(minimize(error, start).fun for start in starts)
        assert ((ours[seen] - goal[seen]) ** 2).sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_unknown_keypoints_are_left_out(text: str) -> None:
    """What is unknown in the truth counts for nothing, whatever is predicted there."""
    data = clip(30)
    truth = truth_of(data)
    random = np.random.default_rng(7)
    hidden = random.random(truth.shape[:2]) < 0.2
    hidden[:, 0] = False
    predicted = truth + random.normal(0, 50, truth.shape)
    holes = truth.astype(np.float32)
    holes[hidden] = np.nan
    people = dataclasses.replace(data.people, extra={**data.people.extra, "keypoints_3d": holes})
    data = dataclasses.replace(data, people=people)
    wild = np.where(hidden[..., None], 1e6, predicted)
    assert value(text, data, predicted) == pytest.approx(value(text, data, wild))


def test_keypoints_not_predicted() -> None:
    """An error leaves them out and says so; a share counts them as wrong."""
    data = clip(10)
    predicted = truth_of(data)
    predicted[:, 5] = np.nan
    score = compute("p-mpjpe", data, answers(data, predicted))[0]
    assert score.value == pytest.approx(0, abs=1e-3)
    assert "10 keypoints of others not predicted, left out" in score.note
    assert compute("3dpck", data, answers(data, predicted))[0].value == pytest.approx(5 / 6)
    nobody = compute("3dauc", data, {})[0]
    assert nobody.value == 0
    assert "10 of 10 people not predicted, counted as wrong" in nobody.note
    assert np.isnan(compute("mpjpe", data, {})[0].value)


def test_people_are_told_apart_by_row_or_by_nearness() -> None:
    data = clip(8, people=2)
    truth = truth_of(data)
    relative = truth - truth[:, :1]
    assert value("mpjpe", data, relative) == pytest.approx(0, abs=1e-3)
    swapped = truth.reshape(8, 2, 6, 3)[:, ::-1].reshape(truth.shape)
    assert compute("mpjpe", data, answers(data, swapped, named=False))[0].value == pytest.approx(0, abs=1e-3)
    assert value("mpjpe", data, swapped) > 100


@pytest.mark.parametrize("text", ["mpjpe", "p-mpjpe", "3dpck", "3dauc"])
def test_actions(text: str) -> None:
    """The mean of the actions' means: actions with few frames weigh as much as those with many."""
    data = clip(20)
    actions = np.array([1] * 15 + [2] * 5)
    people = data.people.with_extra(action=actions)
    names = {1: "walking", 2: "eating", 3: "never seen"}
    data = dataclasses.replace(data, people=people, actions=names)
    truth = truth_of(data)
    predicted = (
        truth + np.random.default_rng(2).normal(0, 1, truth.shape) * np.where(actions == 1, 20, 200)[:, None, None]
    )
    overall, by_action = compute(text, data, answers(data, predicted))
    assert by_action.name == f"{overall.name} by action"
    assert by_action.details is not None
    assert list(by_action.details) == ["walking", "eating"]
    parts = [compute(text, data.take(np.flatnonzero(actions == one)), answers(data, predicted)) for one in (1, 2)]
    means = [part[0].value for part in parts]
    assert list(by_action.details.values()) == pytest.approx(means)
    assert by_action.value == pytest.approx(np.mean(means))
    assert overall.value == pytest.approx(0.75 * means[0] + 0.25 * means[1])


def test_details_are_tables_of_keypoints_and_of_actions(capsys: pytest.CaptureFixture[str]) -> None:
    data = clip(20)
    people = data.people.with_extra(action=np.arange(20) % 2)
    data = dataclasses.replace(data, people=people, actions={0: "walking", 1: "eating"})
    scores = compute("mpjpe", data, answers(data, truth_of(data)))
    _show_details(Evaluation(data, [], scores, ResultsHeader(SKELETON)))
    printed = capsys.readouterr().out
    assert all(word in printed for word in (*NAMES, "walking", "eating", "MPJPE by action"))


@pytest.mark.parametrize(
    ("text", "skeleton", "message"),
    [
        ("mpjpe:nose", SKELETON, "no keypoint 'nose'"),
        ("mpjpe@5", SKELETON, "mpjpe has no threshold"),
        ("p-mpjpe:root", SKELETON, "takes no parameters"),
        ("3dpck@far", SKELETON, "must be a number"),
        ("mpjpe", Skeleton("faces", ("a", "b")), "neither a root"),
    ],
)
def test_refused(text: str, skeleton: Skeleton, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        parse_metric(text).build(skeleton)


def test_data_without_3d_poses() -> None:
    data = clip(flat=False)
    flat = dataclasses.replace(data, people=dataclasses.replace(data.people, keypoints=data.people.keypoints[..., :2]))
    with pytest.raises(PosecliError, match="has 2D keypoints only"):
        compute("mpjpe", flat, answers(data, truth_of(data)))
    with pytest.raises(PosecliError, match="2 dimensions"):
        compute("mpjpe", data, answers(data, truth_of(data)[..., :2]))


def test_hips_stand_for_a_root() -> None:
    hips = Skeleton("hips", ("left_hip", "nose", "right_hip"))
    metric = parse_metric("mpjpe").build(hips)
    assert metric.comparison == Comparison("none", (0, 2))  # type: ignore[attr-defined]
    assert metric.comparison.named("MPJPE", hips) == "MPJPE"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mpjpe", "MPJPE"),
        ("mpjpe:pelvis", "MPJPE"),
        ("mpjpe:none", "MPJPE:none"),
        ("mpjpe:left_hip,3", "MPJPE:left_hip,right_hip"),
        ("n-mpjpe:head", "N-MPJPE:head"),
        ("p-mpjpe", "P-MPJPE"),
        ("3dpck", "3DPCK@150"),
        ("3dpck@50:none", "3DPCK@50:none"),
        ("3dpck:procrustes", "3DPCK@150:procrustes"),
        ("3dauc:scale", "3DAUC@150:scale"),
        ("3dauc:head", "3DAUC@150:head"),
    ],
)
def test_scores_of_different_comparisons_have_different_names(text: str, name: str) -> None:
    data = clip(3)
    assert compute(text, data, answers(data, truth_of(data)))[0].name == name


def test_without_a_root_every_origin_is_named() -> None:
    plain = Skeleton("faces", ("a", "b"))
    metrics = [parse_metric(text).build(plain) for text in ("mpjpe:none", "mpjpe:a", "mpjpe:a,b")]
    names = [metric.comparison.named("MPJPE", plain) for metric in metrics]  # type: ignore[attr-defined]
    assert names == ["MPJPE:none", "MPJPE:a", "MPJPE:a,b"]
