"""Results by film: which lines belong together, numbers and smoother tracks afterwards."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.films import Film, Numbering, Smoothing, films, frame_number, patience, refine, seen_by
from posecli.results import Line, ResultsHeader, results_writer
from posecli.skeleton import Skeleton
from posecli.smoothing import Gaussian, SavitzkyGolay, find_smoother
from posecli.types import People, Prediction

SKELETON = Skeleton("three", ("a", "b", "c"))
BODY = np.array([[0, 0], [40, 0], [20, 90]], np.float32)


def people(*places: tuple[float, float], numbers: list[int] | None = None) -> People:
    points = np.array([BODY + place for place in places], np.float32).reshape(-1, 3, 2)
    extra = {} if numbers is None else {"track_id": np.array(numbers, np.int64)}
    return People(points, np.ones(points.shape[:2], np.float32), None, np.ones(len(points), np.float32), extra)


def film(frames: dict[int, People], rate: float | None = 30.0) -> Film:
    lines = [Line(Prediction(f"v.mp4#{n}", own), "v.mp4", (640, 480), rate) for n, own in frames.items()]
    return Film("v.mp4", tuple(lines))


@pytest.mark.parametrize(
    ("sample_id", "expected"),
    [
        ("a/clip.mp4#12", ("a/clip.mp4", 12)),
        ("photo#3.jpg", ("photo#3.jpg", None)),
        ("clip#1.mp4#0", ("clip#1.mp4", 0)),
        ("#7", ("#7", None)),
        (139, ("139", None)),
    ],
)
def test_frame_numbers(sample_id: int | str, expected: tuple[str, int | None]) -> None:
    assert frame_number(sample_id) == expected


def test_films_of_a_file(tmp_path: Path) -> None:
    ids = ["a.jpg", "v.mp4#0", "v.mp4#1", "v.mp4#3", "w.mp4#0", "b.jpg"]
    path = tmp_path / "r.jsonl"
    with results_writer(path, ResultsHeader(SKELETON)) as write:
        for sample_id in ids:
            write(Line(Prediction(sample_id, people((1, 2))), None, (4, 3), 12.0 if "#" in sample_id else None))
    found = list(films(path))
    assert [(one.name, len(one.lines), one.moving, one.tracked) for one in found] == [
        ("a.jpg", 1, False, False), ("v.mp4", 3, True, False), ("w.mp4", 1, True, False), ("b.jpg", 1, False, False),
    ]  # fmt: skip
    assert found[1].numbers is not None
    assert found[1].numbers.tolist() == [0, 1, 3]
    assert (found[1].rate, found[0].rate) == (12, 25)
    header = ResultsHeader(SKELETON, "other")
    refine(path, path, header, [Numbering("iou", SKELETON)])  # over itself
    after = list(films(path))
    assert [one.tracked for one in after] == [False, True, True, False]
    assert [line.prediction.id for one in after for line in one.lines] == ids
    assert [line.size for one in after for line in one.lines] == [(4, 3)] * 6


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["v.mp4#0", "v.mp4#2", "v.mp4#1"], r"frame 1 of v\.mp4 comes after frame 2"),
        (["v.mp4#0", "v.mp4#0"], r"frame 0 of v\.mp4 comes after frame 0"),
        (["v.mp4#0", "w.mp4#0", "v.mp4#1"], r"v\.mp4 comes a second time"),
        (["a.jpg", "b.jpg", "a.jpg"], r"a\.jpg comes a second time"),
        (["a.jpg", "a.jpg"], r"a\.jpg comes a second time"),
    ],
)
def test_frames_out_of_order_are_refused(ids: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with results_writer(path, ResultsHeader(SKELETON)) as write:
        for sample_id in ids:
            write(Line(Prediction(sample_id, people((1, 2))), None, (4, 3), 12.0))
    with pytest.raises(PosecliError, match=message):
        list(films(path))


def test_numbers_that_are_there_stay() -> None:
    numbered = film({0: people((0, 0), numbers=[7]), 1: people((0, 0), numbers=[7])})
    assert Numbering("iou", SKELETON)(numbered) is numbered
    fresh = Numbering("iou", SKELETON)(film({0: people((0, 0)), 1: people(), 2: people((0, 1), (300, 0))}))
    assert [own.extra["track_id"].tolist() for own in fresh.people] == [[0], [], [0, 1]]
    assert (patience(30.0), patience(0.4)) == (30, 1)


@pytest.mark.parametrize("name", ["one-euro", "savgol", "gaussian"])
def test_tracks_are_smoothed_one_by_one(name: str) -> None:
    """Two people change places in the rows, one is missing for some frames: each is filtered along its own track."""
    random = np.random.default_rng(0)
    frames = {}
    for n in range(40):
        places = [(100.0 + n, 50.0), (500.0, 60.0)]
        order = [0, 1] if n % 3 else [1, 0]
        order = [person for person in order if person == 0 or not 10 <= n < 15]
        own = people(*(places[person] for person in order), numbers=[4 + person for person in order])
        frames[n] = dataclasses.replace(own, keypoints=own.keypoints + random.normal(0, 2, own.keypoints.shape))
    before = film(frames)
    after = Smoothing(find_smoother(name))(before)  # type: ignore[arg-type]
    errors = {"before": 0.0, "after": 0.0}
    for label, one in (("before", before), ("after", after)):
        for n, own in enumerate(one.people):
            for row, number in enumerate(own.extra["track_id"].tolist()):
                true = BODY + ((100.0 + n, 50.0) if number == 4 else (500.0, 60.0))
                errors[label] += float(np.abs(own.keypoints[row] - true).sum())
    assert errors["after"] < 0.8 * errors["before"]
    assert [own.extra["track_id"].tolist() for own in after.people] == [
        own.extra["track_id"].tolist() for own in before.people
    ]


def test_places_in_the_picture_are_smoothed_with_poses_in_3d() -> None:
    """Of 3D people the column of pixels is filtered as 2D people are; frames of nobody lie between."""
    random = np.random.default_rng(0)
    flat = {n: people((n * 5, 0), numbers=[0]) if n != 7 else people(numbers=[]) for n in range(30)}
    flat = {n: dataclasses.replace(own, keypoints=own.keypoints + random.normal(0, 3, own.keypoints.shape))
            for n, own in flat.items()}  # fmt: skip
    deep = {
        n: dataclasses.replace(
            own, keypoints=own.keypoints[..., [0, 1, 1]] * 9, extra={**own.extra, "keypoints_2d": own.keypoints}
        )
        for n, own in flat.items()
    }
    alone, both = Smoothing(Gaussian())(film(flat)), Smoothing(Gaussian())(film(deep))
    for one, other, before in zip(alone.people, both.people, flat.values(), strict=True):
        np.testing.assert_allclose(other.extra["keypoints_2d"], one.keypoints, atol=1e-4)
        np.testing.assert_allclose(other.keypoints, one.keypoints[..., [0, 1, 1]] * 9, atol=1e-2)
        assert not len(before) or np.abs(one.keypoints - before.keypoints).max() > 0.1


@pytest.mark.parametrize("name", ["one-euro", "savgol", "gaussian"])
def test_cameras_that_move_with_the_boxes_are_no_motion(name: str) -> None:
    """Somebody who stands still, seen in boxes that tremble, stays at the same pixels and size."""
    random = np.random.default_rng(0)
    body = random.normal(0, 300, (3, 3)) + np.array([0, 0, 20000])
    cameras = [np.array([[9000 + random.normal(0, 300), *random.normal(300, 8, 2)]]) for _ in range(30)]
    frames = {}
    for n, camera in enumerate(cameras):
        points = seen_by(body[None], np.array([[9000.0, 300, 300]]), camera).astype(np.float32)
        extra = {"track_id": np.zeros(1, int), "camera": camera}
        frames[n] = People(points, np.ones((1, 3), np.float32), extra=extra)
    after = Smoothing(find_smoother(name))(film(frames))  # type: ignore[arg-type]
    expected = body[:, :2] / body[:, 2:] * 9000 + 300
    for own, camera in zip(after.people, cameras, strict=True):
        pixels = own.keypoints[0, :, :2] / own.keypoints[0, :, 2:] * camera[0, 0] + camera[0, 1:]
        assert np.abs(pixels - expected).max() < 0.5


def test_what_is_not_smoothed() -> None:
    """Pictures, people without numbers, films of nobody."""
    picture = Film("a.jpg", (Line(Prediction("a.jpg", people((0, 0), numbers=[1]))),))
    untracked = film({0: people((0, 0))})
    nobody = film({0: people(), 1: people()})
    for one in (picture, untracked, nobody):
        assert Smoothing(Gaussian())(one) is one


def test_missing_frames_count_as_time() -> None:
    """A film of every second frame moves as far between lines as it does in two frames."""
    line = np.arange(0, 60, 2)
    half = film({int(n): people((float(n) ** 2 / 10, 0), numbers=[0]) for n in line})
    after = Smoothing(SavitzkyGolay(5, 2))(half)
    moved = np.array([own.keypoints[0, 0, 0] for own in after.people])
    assert np.abs(moved - line**2 / 10).max() < 1.5
