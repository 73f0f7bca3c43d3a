"""Windows and clips against the plain way of cutting them, and what the transform makes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from posecli.camera import project, see
from posecli.datasets.config import SyntheticMotionConfig
from posecli.datasets.motion import FILM, Clip, motion_dataset, sample_camera
from posecli.skeleton import house_skeleton
from posecli.types import Camera, Dataset, People, Sample
from posecli_lifter.augmentation import MotionAugmentation
from posecli_lifter.transform import Window, WindowTransform, flipped, other_view
from posecli_lifter.units import LONGEST_GAP, ClipUnits, WindowUnits

H36M = house_skeleton("h36m")


def film(numbers: list[int], name: str, start: float) -> Clip:
    """A clip whose 2D keypoints all say which frame they are of: start + frame number."""
    pixels = np.repeat(start + np.array(numbers, dtype=np.float64), 34).reshape(-1, 17, 2)
    points = np.concatenate([pixels, pixels[..., :1]], axis=-1)
    eye = Camera(np.eye(3), np.zeros(3), np.ones(2), np.zeros(2))
    return Clip(name, eye, FILM, points, pixels, "none", np.array(numbers))


def dataset(*films: list[int]) -> Dataset:
    clips = [film(numbers, f"clip{index}", 1000 * (index + 1)) for index, numbers in enumerate(films)]
    return motion_dataset("films", H36M, clips)


def shown(sample: Sample) -> list[float]:
    """The frame each row is of, NaN for a missing one."""
    found: list[float] = sample.people.keypoints[:, 0, 0].tolist()
    return found


WINDOWS = [  # frames of the films, options, the film's frames as each window shows them, note
    ([[0, 1, 2, 3]], {"frames": 3}, ["0 0* 1", "0 1* 2", "1 2* 3", "2 3* 3"], "ends repeated"),
    ([[0, 1, 2]], {"frames": 3, "causal": True}, ["0 0 0*", "0 0 1*", "0 1 2*"], "causal: only what was before"),
    ([[0, 1, 2, 3, 4]], {"frames": 3, "stride": 2}, ["0 0* 1", "1 2* 3", "3 4* 4"], "every second frame"),
    ([[0, 1, 2, 3]], {"frames": 3, "interval": 2}, ["0 0* 2", "0 1* 3", "0 2* 3", "1 3* 3"], "frames two apart"),
    ([[7]], {"frames": 5}, ["7 7 7* 7 7"], "a clip of one frame"),
    ([[0, 1], [0]], {"frames": 3}, ["0 0* 1", "0 1* 1", "0 0* 0"], "clips do not see each other"),
    ([[0, 1, 3]], {"frames": 3}, ["0 0* 1", "0 1* _", "_ 3* 3"], "a missing frame is unknown, and no target"),
    ([[0, 1, 20, 21]], {"frames": 3}, ["0 0* 1", "0 1* 1", "20 20* 21", "20 21* 21"], "a long gap ends a clip"),
    ([[0, 5, 10, 20]], {"frames": 3}, ["0 0* 5", "0 5* 10", "5 10* _", "_ 20* 20"], "one in five is a step"),
    ([[3, 2, 1]], {"frames": 3}, ["3 3* 3", "2 2* 2", "1 1* 1"], "frames that go back begin anew"),
    (
        [[0, 1, 2, 3, 4]],
        {"frames": 3, "output": "all", "stride": 3},
        ["0* 1* 2*", "2* 3* 4*"],
        "the last ends the clip",
    ),
    ([[0, 1]], {"frames": 4, "output": "all"}, ["0* 1* 1 1"], "shorter than the window: padded"),
    ([[0, 2, 3]], {"frames": 2, "output": "all", "stride": 2}, ["0* _", "2* 3*"], "missing ones are no targets"),
]


@pytest.mark.parametrize(("films", "options", "expected", "note"), WINDOWS)
def test_windows(films: list[list[int]], options: dict[str, object], expected: list[str], note: str) -> None:
    samples = dataset(*films)
    units = WindowUnits(samples, **options)  # type: ignore[arg-type]
    found = []
    for unit in units:
        frames = [f"{int(value % 1000)}" if value == value else "_" for value in shown(unit)]
        marks = ["*" if wanted else "" for wanted in unit.people.extra["output"]]
        found.append(" ".join(frame + mark for frame, mark in zip(frames, marks, strict=True)))
    assert found == expected, note


def plain_windows(lengths: list[int], frames: int, causal: bool) -> Iterator[list[int]]:
    for clip, length in enumerate(lengths):
        for target in range(length):
            first = target - (frames - 1 if causal else frames // 2)
            yield [1000 * (clip + 1) + min(max(frame, 0), length - 1) for frame in range(first, first + frames)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frames", [1, 9, 27, 81])
def test_windows_are_those_of_the_plain_way(frames: int, causal: bool) -> None:
    lengths = [1, 5, 40, 100]
    units = WindowUnits(dataset(*[list(range(length)) for length in lengths]), frames, causal=causal)
    assert [shown(unit) for unit in units] == list(plain_windows(lengths, frames, causal))


PIECES = [  # lengths of clips, longest, margin, causal
    ([1, 7, 20, 60], 20, 0, False),
    ([1, 7, 20, 61], 20, 13, False),
    ([1, 7, 20, 61], 20, 4, True),
    ([50], 1000, 121, False),
    ([50], 7, 2, False),
]


@pytest.mark.parametrize(("lengths", "longest", "margin", "causal"), PIECES)
def test_pieces_hold_every_frame_once_with_its_neighbours(
    lengths: list[int], longest: int, margin: int, causal: bool
) -> None:
    samples = dataset(*[list(range(length)) for length in lengths])
    expected = dict(zip(samples.ids, plain_windows(lengths, 2 * margin + 1, causal), strict=True))
    before = 2 * margin if causal else margin
    seen = []
    for unit in ClipUnits(samples, longest, margin, causal):
        frames, output = shown(unit), unit.people.extra["output"]
        assert len(frames) - 2 * margin == min(longest, lengths[int(frames[before]) // 1000 - 1])
        for place in np.flatnonzero(output).tolist():
            identity = unit.frames[place]
            assert frames[place - before : place - before + 2 * margin + 1] == expected[identity]
            seen.append(identity)
    assert seen == list(samples.ids)


def test_pieces_skip_what_is_missing() -> None:
    samples = dataset([0, 1, 2, 9, 10])
    seen = [
        unit.frames[place]
        for unit in ClipUnits(samples, 3, 1)
        for place in np.flatnonzero(unit.people.extra["output"]).tolist()
    ]
    assert seen == list(samples.ids)


def test_units_say_whose_frames_they_are() -> None:
    samples = dataset([0, 1, 2], [5, 6])
    units = WindowUnits(samples, 3)
    for index, unit in enumerate(units):
        assert unit.id == samples.ids[units.sample_index[index]]
        assert unit.frames[1] == unit.id
        assert unit.people.extra["row"].tolist() == [0, 0, 0]
        assert len(set(unit.people.extra["track_id"].tolist())) == 1
    assert units[0].frames == (samples.ids[0], samples.ids[0], samples.ids[1])


def test_several_people_in_a_picture_are_clips_of_their_own() -> None:
    """Two people in each of three pictures, the second one missing from the middle one."""
    keypoints = np.repeat(np.array([10.0, 20, 11, 12, 22]), 34).reshape(5, 17, 2)
    extra = {"track_id": np.array([4, 9, 4, 4, 9]), "frame": np.array([0, 0, 1, 2, 2])}
    samples = Dataset(
        name="pair",
        skeleton=H36M,
        ids=["a", "b", "c"],
        sizes=np.full((3, 2), 100),
        offsets=np.array([0, 2, 3, 5]),
        people=People(keypoints, np.ones((5, 17)), None, None, extra),
        images=[np.zeros((0, 0, 3), np.uint8)] * 3,
    )
    units = list(ClipUnits(samples, 10))
    assert [unit.frames for unit in units] == [("a", "b", "c"), ("a", "c")]  # its smallest step is two
    assert [shown(unit) for unit in units] == [[10, 11, 12], [20, 22]]
    assert [unit.people.extra["row"].tolist() for unit in units] == [[0, 0, 0], [1, 1]]


def test_frames_without_truth_are_no_targets_of_training() -> None:
    samples = dataset([0, 1, 2])
    samples.people.extra["keypoints_3d"][1] = np.nan
    assert [unit.id for unit in WindowUnits(samples, 3)] == [samples.ids[0], samples.ids[2]]
    assert len(ClipUnits(samples, 10)[0].frames) == 3  # but are predicted


def test_nobody_makes_no_units() -> None:
    samples = dataset([0, 1, 2]).take([])
    assert len(WindowUnits(samples, 3)) == len(WindowUnits(samples, 3, output="all")) == len(ClipUnits(samples, 3)) == 0


def test_gaps_stay_within_their_limit() -> None:
    for gap, clips in ((LONGEST_GAP, 1), (LONGEST_GAP + 1, 2)):
        assert len(ClipUnits(dataset([0, 1, gap + 2, gap + 3]), 1000)) == clips


def test_a_window_is_made_quickly() -> None:
    """60 µs are asked for on a quiet machine; the best of many tries, so that neighbours do not count."""
    samples = SyntheticMotionConfig(clips=4, frames=400).build()
    units = WindowUnits(samples, 243)
    best = min(_seconds(units, index) for index in range(0, len(units), 8))
    assert best < 120e-6, f"{best * 1e6:.0f} µs"


def _seconds(units: WindowUnits, index: int) -> float:
    start = time.perf_counter()
    units[index]
    return time.perf_counter() - start


# --- the transform ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def motion() -> Dataset:
    return SyntheticMotionConfig(clips=3, frames=40, noise=3, missing=0.1).build()


def test_inputs_and_targets_are_as_given(motion: Dataset) -> None:
    unit = WindowUnits(motion, 9)[20]
    example = WindowTransform(H36M)(unit, np.random.default_rng(0))
    known = unit.people.labelled
    assert {name: array.shape for name, array in example.inputs.items()} == {
        **{"keypoints": (9, 17, 2), "visible": (9, 17), "size": (2,), "focal": (2,), "center": (2,)}
    }
    np.testing.assert_array_equal(example.inputs["keypoints"][known], unit.people.keypoints[known])
    np.testing.assert_array_equal(example.inputs["visible"], known)
    assert (example.inputs["keypoints"][~known] == 0).all()
    assert unit.camera is not None
    np.testing.assert_allclose(example.inputs["focal"], unit.camera.focal, rtol=1e-6)
    np.testing.assert_array_equal(example.targets["keypoints_3d"], unit.people.extra["keypoints_3d"])
    assert example.targets["known"].sum(axis=1).tolist() == [0, 0, 0, 0, 17, 0, 0, 0, 0]  # the frame to be predicted
    assert all(array.dtype == np.float32 for array in {**example.inputs, **example.targets}.values())


def test_missing_frames_are_carried_as_unknown() -> None:
    unit = WindowUnits(dataset([0, 1, 3]), 3)[1]
    example = WindowTransform(H36M)(unit, np.random.default_rng(0))
    assert example.inputs["visible"].sum(axis=1).tolist() == [17, 17, 0]
    assert np.isfinite(example.inputs["keypoints"]).all()
    assert np.isfinite(example.targets["keypoints_3d"]).all()


def window(unit: Sample) -> Window:
    people = unit.people
    return Window(people.keypoints, people.scores, people.extra["keypoints_3d"], unit.size, unit.camera)


def test_flipping_twice_is_nothing_and_once_is_what_the_mirrored_camera_sees(motion: Dataset) -> None:
    unit = ClipUnits(motion, 100)[0]
    index = H36M.flip_index
    assert index is not None
    before = window(unit)
    once = flipped(before, index)
    twice = flipped(once, index)
    np.testing.assert_allclose(twice.pixels, before.pixels, atol=1e-4)
    np.testing.assert_array_equal(twice.points, before.points)
    np.testing.assert_array_equal(twice.scores, before.scores)
    assert unit.camera is not None
    assert once.points is not None
    exact = SyntheticMotionConfig(clips=3, frames=40).build()
    mirrored = flipped(window(ClipUnits(exact, 100)[0]), index)
    assert mirrored.points is not None
    np.testing.assert_allclose(
        project(mirrored.points, unit.camera.focal, unit.camera.center), mirrored.pixels, atol=1e-2
    )


def test_another_camera_sees_the_same_body(motion: Dataset) -> None:
    """Bones stay as long, 2D and 3D fit each other as before, noise included, and no two windows are alike."""
    units = WindowUnits(motion, 9)
    transform = WindowTransform(H36M, MotionAugmentation(flip=0, camera=1, turn=180, tilt=5, distance=(0.9, 1.2)))
    links = np.array(H36M.links)
    turns = set()
    for index in range(0, len(units), 10):
        unit = units[index]
        example = transform(unit, np.random.default_rng(index))
        points, truth = example.targets["keypoints_3d"], unit.people.extra["keypoints_3d"]
        bones = [np.linalg.norm(p[:, links[:, 0]] - p[:, links[:, 1]], axis=-1) for p in (points, truth)]
        np.testing.assert_allclose(bones[0], bones[1], atol=0.1)
        camera = unit.camera
        assert camera is not None
        known = example.inputs["visible"] > 0
        np.testing.assert_array_equal(known, unit.people.labelled)
        error = example.inputs["keypoints"] - project(points, camera.focal, camera.center)
        was = unit.people.keypoints - project(truth, camera.focal, camera.center)
        np.testing.assert_allclose(error[known], was[known], atol=0.02)
        turns.add(round(float(points[4, 4, 0] - points[4, 1, 0])))
    assert len(turns) > len(range(0, len(units), 10)) * 0.7


def test_going_around_turns_about_the_vertical() -> None:
    camera = sample_camera(np.array([[[0.0, 0, 0], [0, 0, 1700]]]), np.random.default_rng(0))
    pole, _ = see(camera, np.array([[0.0, 0, 0], [0, 0, 1700.0]]))
    turned = (pole - pole.mean(axis=0)) @ other_view(camera, pole.mean(axis=0), 1.0, 0.0).T
    np.testing.assert_allclose(turned, pole - pole.mean(axis=0), atol=1e-9)
    tilted = (pole - pole.mean(axis=0)) @ other_view(camera, pole.mean(axis=0), 0.0, np.deg2rad(30)).T
    assert tilted[1, 2] < turned[1, 2] - 400  # from above, the head is nearer


def test_joints_are_made_missing_and_noisy(motion: Dataset) -> None:
    unit = ClipUnits(SyntheticMotionConfig(clips=1, frames=400).build(), 1000)[0]
    transform = WindowTransform(H36M, MotionAugmentation(flip=0, noise=4, missing=0.2))
    example = transform(unit, np.random.default_rng(0))
    known = example.inputs["visible"] > 0
    assert 0.18 < 1 - known.mean() < 0.22
    error = example.inputs["keypoints"][known] - unit.people.keypoints[known]
    assert 3.8 < error.std() < 4.2


def test_nothing_is_mirrored_where_pairs_are_unknown(motion: Dataset) -> None:
    import dataclasses

    lone = dataclasses.replace(H36M, flip_pairs=None)
    unit = WindowUnits(motion, 3)[0]
    for seed in range(8):
        example = WindowTransform(lone, MotionAugmentation(flip=1))(unit, np.random.default_rng(seed))
        np.testing.assert_array_equal(example.targets["keypoints_3d"], unit.people.extra["keypoints_3d"])
