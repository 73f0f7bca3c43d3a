"""Tracking: people who walk, cross, hide, leave and come back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.geometry import keypoint_boxes
from posecli.skeleton import Skeleton
from posecli.tracking import Measure, Tracker, find_measure, make_tracker, shift, track_people
from posecli.types import FloatArray, People

SIGMAS = (0.03, 0.08, 0.08, 0.1, 0.1, 0.09, 0.09)
SKELETON = Skeleton("seven", tuple("abcdefg"), sigmas=SIGMAS)
BODY = np.array([[0, 0], [-20, 40], [20, 40], [-15, 100], [15, 100], [-15, 180], [15, 180]], np.float64)
MEASURES: tuple[Measure, ...] = ("oks", "iou")


def crowd(places: Sequence[tuple[float, float] | None], random: np.random.Generator | None = None) -> People:
    """A person at each place, None where nobody is detected; with noise in keypoints and boxes."""
    points = np.array([BODY + place for place in places if place is not None]).reshape(-1, 7, 2)
    if random is not None:
        points = points + random.normal(0, 2, points.shape)
    return People(
        points.astype(np.float32),
        np.ones(points.shape[:2], np.float32),
        (keypoint_boxes(points) - np.array([10, 10, -10, -10])).astype(np.float32),
        np.ones(len(points), np.float32),
    )


def follow(
    frames: Sequence[Sequence[tuple[float, float] | None]], measure: Measure, patience: int = 25
) -> list[list[int]]:
    """The numbers given to the people of each frame, -1 where nobody is detected; the rows come shuffled."""
    random = np.random.default_rng(0)
    tracker = make_tracker(measure, SKELETON, patience)
    found = []
    for places in frames:
        order = random.permutation(len(places)).tolist()
        numbers = tracker(crowd([places[index] for index in order], random)).tolist()
        seen = [index for index in order if places[index] is not None]
        named = dict(zip(seen, numbers, strict=True))
        found.append([named.get(index, -1) for index in range(len(places))])
    return found


@pytest.mark.parametrize("measure", MEASURES)
def test_everybody_keeps_a_number(measure: Measure) -> None:
    frames = [[(100 + 4 * t, 50.0), (400 - 3 * t, 60.0), (250.0, 300 - t)] for t in range(40)]
    found = follow(frames, measure)
    assert all(numbers == found[0] for numbers in found)
    assert sorted(found[0]) == [0, 1, 2]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("hidden", [0, 6], ids=["both seen", "one hides the other"])
def test_people_who_cross(measure: Measure, hidden: int) -> None:
    """They walk through each other; while they meet, the one behind may not be detected at all.

    In frame 40 both stand in one place, and nobody could tell them apart; after it they can be told by their speed.
    """
    frames: list[list[tuple[float, float] | None]] = []
    for t in range(80):
        behind = (500 - 5 * t, 48.0)
        frames.append([(100 + 5.0 * t, 50.0), None if abs(t - 40) < hidden / 2 else behind])
    found = follow(frames, measure)
    del found[40]
    assert {numbers[0] for numbers in found} == {found[0][0]}
    assert {numbers[1] for numbers in found} - {-1} == {found[0][1]}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("missed", [1, 4, 12])
def test_missed_detections(measure: Measure, missed: int) -> None:
    frames = [[(100 + 3.0 * t, 50.0), None if 20 <= t < 20 + missed else (400.0, 60.0)] for t in range(50)]
    found = follow(frames, measure)
    assert {numbers[1] for numbers in found} == {found[0][1], -1}


@pytest.mark.parametrize("measure", MEASURES)
def test_who_leaves_for_long_is_a_new_person_on_return(measure: Measure) -> None:
    away = range(10, 40)
    frames = [[(100.0, 50.0), None if t in away else (400.0, 60.0)] for t in range(60)]
    short, long = follow(frames, measure, patience=20), follow(frames, measure, patience=30)
    assert short[59] == [short[0][0], 2]
    assert long[59] == long[0]


@pytest.mark.parametrize("measure", MEASURES)
def test_a_stranger_far_away_is_new(measure: Measure) -> None:
    found = follow([[(100.0, 50.0)], [(600.0, 400.0)], [(100.0, 50.0)]], measure)
    assert found == [[0], [1], [0]]


def test_a_fast_runner() -> None:
    """A body's width a frame: the first step is a stretch, then the speed is known."""
    frames = [[(100.0 + 30 * t, 50.0)] for t in range(20)]
    assert follow(frames, "oks") == [[0]] * 20


def test_the_pairs_are_the_best_together() -> None:
    """Brute force: of all ways to give two frames' people to each other, the one with the largest sum."""
    random = np.random.default_rng(4)
    for _ in range(20):
        before, after = (crowd([tuple(random.uniform(0, 90, 2)) for _ in range(4)]) for _ in range(2))
        tracker = Tracker("oks", SIGMAS, least=0.0)
        tracker(before)
        for track in tracker._tracks:
            track.unseen = 1
        alike = tracker._similarities(after)
        best = max(itertools.permutations(range(4)), key=lambda rows: sum(alike[t, r] for t, r in enumerate(rows)))
        for track in tracker._tracks:
            track.unseen = 0
        numbers = tracker(after)
        assert [int(numbers[row]) for row in best] == [0, 1, 2, 3]


def test_the_same_frames_get_the_same_numbers() -> None:
    frames = [[(100 + 4 * t, 50.0), (110 + 4 * t, 60.0), (120.0, 300 - t)] for t in range(30)]
    assert follow(frames, "oks") == follow(frames, "oks")


def test_odd_input() -> None:
    """Nobody, no boxes, keypoints unknown or of other people, 3D: numbers in every case."""
    tracker = Tracker("oks", SIGMAS)
    assert tracker(People.empty(7)).tolist() == []
    one = crowd([(10, 10)])
    bare = People(one.keypoints, one.scores)
    assert tracker(bare).tolist() == [0]
    holes: FloatArray = one.keypoints.copy()
    holes[:, 3:] = np.nan
    assert tracker(People(holes, one.scores, one.boxes)).tolist() == [0]
    unknown = People(np.full_like(holes, np.nan), one.scores, one.boxes)
    assert tracker(unknown).tolist() == [1], "without a keypoint there is nothing alike"
    assert Tracker("iou")(unknown).tolist() == [0]
    np.testing.assert_allclose(shift(unknown, unknown), 0)


def test_numbers_travel_with_the_people() -> None:
    tracked = list(track_people([crowd([(0, 0), (300, 0)]), crowd([(301, 0), (1, 0)])], Tracker("iou")))
    assert [people.extra["track_id"].tolist() for people in tracked] == [[0, 1], [1, 0]]


def test_oks_needs_sigmas() -> None:
    nameless = Skeleton("x", ("a",))
    assert [find_measure("auto", skeleton) for skeleton in (SKELETON, nameless)] == ["oks", "iou"]
    assert [find_measure(name, SKELETON) for name in ("oks", "iou", "none")] == ["oks", "iou", None]
    with pytest.raises(PosecliError, match="use --track iou"):
        find_measure("oks", nameless)
    with pytest.raises(PosecliError, match="use --track iou"):
        make_tracker("oks", nameless, 5)
