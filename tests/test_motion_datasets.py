"""Datasets of 3D motion: readers on real samples, what faulty files lead to, files that keep it all."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.camera import camera_to_world, project
from posecli.config import DatasetConfig
from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import (
    CmuMocapConfig,
    H3wbConfig,
    H36mConfig,
    MpiInf3dhpConfig,
    SplitConfig,
    SyntheticConfig,
    SyntheticMotionConfig,
)
from posecli.datasets.detect import detect_dataset
from posecli.datasets.lengths import check_millimetres, millimetres
from posecli.datasets.motion import like_a_detector, sample_camera
from posecli.datasets.split import bundles_of, cut, split_dataset
from posecli.skeleton import house_skeleton
from posecli.types import Dataset


@pytest.fixture(scope="module")
def samples(shared: Path) -> Path:
    return shared / "data" / "format-samples"


@pytest.fixture(scope="module")
def cmu(shared: Path) -> Path:
    return shared / "data" / "cmu-mocap"


def reprojection(dataset: Dataset) -> float:
    """The largest distance in pixels between a sample's 2D keypoints and its projected 3D ones, on the median joint."""
    worst = 0.0
    for index in range(len(dataset)):
        sample = dataset[index]
        camera = sample.camera
        assert camera is not None
        seen = project(sample.people.extra["keypoints_3d"], camera.focal, camera.center, camera.distortion)
        worst = max(worst, float(np.nanmedian(np.linalg.norm(seen - sample.people.keypoints, axis=-1))))
    return worst


# --- the readers on real samples --------------------------------------------------------------------------------------

READ: list[tuple[Callable[[Path], DatasetConfig], int, float, str]] = [  # config, frames, pixels off, note
    (lambda at: H36mConfig(path=at / "h36m"), 4, 0.2, "lens and camera frame are right"),
    (lambda at: MpiInf3dhpConfig(path=at / "mpi_inf_3dhp/test_3dhp_train.npz"), 2, 0.2, "training cameras"),
    (lambda at: MpiInf3dhpConfig(path=at / "mpi_inf_3dhp/test_3dhp_test.npz"), 2, 0.2, "test cameras"),
]


@pytest.mark.parametrize(("config", "frames", "off", "note"), READ)
def test_truth_fits_its_cameras(
    samples: Path, config: Callable[[Path], DatasetConfig], frames: int, off: float, note: str
) -> None:
    dataset = config(samples).build()
    assert len(dataset) == frames, note
    assert reprojection(dataset) < off, note
    assert any("3D lengths are in metres" in told for told in dataset.notes)
    assert not any("beside the 2D" in told for told in dataset.notes)
    assert all(isinstance(image, Path) and image.is_file() for image in dataset.images)
    for camera in dataset.cameras or ():  # a camera on a stand: up is up but for its pitch
        assert abs(camera.rotation[0, 2]) < 0.1
        assert camera.rotation[1, 2] < -0.9


def test_human36m_says_what_the_file_says(samples: Path) -> None:
    dataset = H36mConfig(path=samples / "h36m").build()
    stored = np.load(samples / "h36m" / "test_h36m_body3d.npz")
    np.testing.assert_allclose(dataset.people.keypoints, stored["part"][..., :2], rtol=1e-6)
    np.testing.assert_allclose(dataset.people.extra["keypoints_3d"], 1000 * stored["S"][..., :3], rtol=1e-5)
    assert [dataset.actions[int(action)] for action in dataset.people.extra["action"]] == [
        *("Directions", "SittingDown", "Greeting", "WalkDog")
    ]
    assert dataset.people.extra["frame"].tolist() == [1, 2061, 396, 26]
    assert dataset.sizes.tolist() == [[1000, 1002], [1000, 1002], [1000, 1000], [1000, 1000]]
    first = (dataset.cameras or ())[0]
    np.testing.assert_allclose(first.position, [1841.10703, 4955.28462, 1563.4454], rtol=1e-6)
    assert dataset.skeleton == house_skeleton("h36m")


def test_human36m_chooses_and_takes_detections(samples: Path) -> None:
    folder = samples / "h36m"
    chosen = H36mConfig(path=folder, subjects=("S5", "S8"), actions=("WalkDog",)).build()
    assert [str(identity)[:2] for identity in chosen.ids] == ["S8"]
    detected = H36mConfig(path=folder, detections=folder / "test_h36m_2d_detection.npy").build()
    stored = np.load(folder / "test_h36m_2d_detection.npy")
    np.testing.assert_allclose(detected.people.keypoints, stored[..., :2], rtol=1e-6)
    np.testing.assert_allclose(detected.people.scores, stored[..., 2], rtol=1e-6)
    with pytest.raises(PosecliError, match="no film of those subjects and actions; there are S1, S5, S7, S8"):
        H36mConfig(path=folder, subjects=("S2",)).build()


@pytest.mark.parametrize("there", [(), (0,), (2, 3), (0, 1, 2, 3)], ids=["none", "first", "last", "all"])
@pytest.mark.parametrize("stated", [False, True], ids=["found", "stated"])
def test_human36m_keeps_frames_without_pictures(
    samples: Path, tmp_path: Path, there: tuple[int, ...], stated: bool
) -> None:
    for name in ("test_h36m_body3d.npz", "cameras.pkl"):
        shutil.copy(samples / "h36m" / name, tmp_path)
    names = np.load(tmp_path / "test_h36m_body3d.npz")["imgname"].tolist()
    for index in there:
        (tmp_path / names[index]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(samples / "h36m" / names[index], tmp_path / names[index])
    config = H36mConfig(path=tmp_path, images=tmp_path if stated else None)
    if stated and not there:
        with pytest.raises(PosecliError, match=r"_000001.jpg is not in .*, nor are 3 others"):
            config.build()
        return
    done = convert(config, tmp_path / "out", CocoWriter(), val=0)
    assert (done.sides[0].people, done.placed, done.missing) == (4, len(there), ())
    dataset = config.build()
    assert np.isfinite(dataset.people.extra["keypoints_3d"]).all()
    assert [index for index, image in enumerate(dataset.images) if isinstance(image, Path)] == list(there)
    told = f"{4 - len(there)} of 4 pictures are not in {tmp_path}: their frames are kept in 3D, without a picture"
    assert [note for note in dataset.notes if "pictures" in note] == ([told] if len(there) in (1, 2) else [])


def test_h3wb_has_whole_bodies(samples: Path) -> None:
    dataset = H3wbConfig(path=samples / "h3wb").build()
    assert dataset.people.extra["keypoints_3d"].shape == (1, 133, 3)
    assert dataset.skeleton == house_skeleton("coco_wholebody")
    assert dataset.people.extra["frame"].tolist() == [2190]
    assert dataset.ids == ["S5/Directions 1/60457274/002190"]
    camera = (dataset.cameras or ())[0]  # the same camera as Human3.6M's own file has it
    known = H36mConfig(path=samples / "h36m").build()
    assert known.cameras is not None
    np.testing.assert_allclose(camera.position, [-1637.17375, -3867.31735, 1547.03326], atol=0.1)
    np.testing.assert_allclose(camera.focal, [1145.5114, 1144.774], atol=0.01)


def test_cmu_is_seen_as_it_was_captured(cmu: Path) -> None:
    """World joints come back from the cameras' views, and the subject walks upright."""
    dataset = CmuMocapConfig(path=cmu, subjects=("02",), takes=("02_01",), cameras=2).build()
    stored = np.load(cmu / "subject02.npz")
    take, names = stored["02_01"], stored["names"].tolist()
    assert len(dataset) == 2 * len(take)
    assert reprojection(dataset) < 0.01
    for view in range(2):
        camera = dataset[view * len(take)].camera
        assert camera is not None
        rows = slice(view * len(take), (view + 1) * len(take))
        world = camera_to_world(dataset.people.extra["keypoints_3d"][rows], camera.rotation, camera.position)
        for joint, bone in (("root", "root"), ("left_wrist", "lwrist"), ("right_foot", "rtibia"), ("head", "head")):
            x, y, z = take[:, names.index(bone)].T
            own = world[:, dataset.skeleton.names.index(joint)]
            np.testing.assert_allclose(own, np.stack([x, -z, y], axis=1), atol=0.05, err_msg=joint)
    assert set(dataset.actions.values()) == {"02_01"}
    assert np.unique(dataset.people.extra["group"]).tolist() == [0]


def test_cmu_cameras_depend_on_seed_and_take_alone(cmu: Path) -> None:
    some = CmuMocapConfig(path=cmu, subjects=("02",), takes=("02_03",), cameras=2, noise=5, missing=0.1).build()
    more = CmuMocapConfig(path=cmu, subjects=("02",), cameras=3, noise=5, missing=0.1, fps=15).build()
    place = {identity: index for index, identity in enumerate(more.ids)}
    shared = [(index, place[identity]) for index, identity in enumerate(some.ids) if identity in place]
    assert len(shared) == len(some) // 2  # half the frames a second
    for index, other in shared:
        np.testing.assert_array_equal(some[index].people.keypoints, more[other].people.keypoints)
    elsewhere = CmuMocapConfig(path=cmu, subjects=("02",), takes=("02_03",), cameras=2, seed=1).build()
    assert not np.allclose(elsewhere[0].camera.rotation, some[0].camera.rotation)  # type: ignore[union-attr]


def test_sampled_cameras_see_everything() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        world = generator.uniform(-1, 1, (30, 17, 3)) * generator.uniform(300, 4000, 3) + [500, -900, 1000]
        camera = sample_camera(world, generator)
        points = (world - camera.position) @ camera.rotation.T
        assert (points[..., 2] > 0).all()
        pixels = project(points, camera.focal, camera.center)
        assert ((pixels >= 0) & (pixels <= 999)).all()


def test_noise_and_loss_are_as_asked() -> None:
    pixels = np.zeros((4000, 17, 2))
    found = like_a_detector(pixels, 5.0, 0.1, np.random.default_rng(0))
    lost = np.isnan(found[..., 0])
    assert 0.09 < lost.mean() < 0.11
    assert 4.9 < np.nanstd(found) < 5.1
    assert (lost[1:] & lost[:-1]).mean() > 0.07  # for several frames in a row
    np.testing.assert_array_equal(like_a_detector(pixels, 0, 0, np.random.default_rng(0)), pixels)


# --- synthetic motion -------------------------------------------------------------------------------------------------


def test_synthetic_motion_is_smooth_and_of_rigid_bones() -> None:
    dataset = SyntheticMotionConfig(clips=30, frames=50).build()
    points = dataset.people.extra["keypoints_3d"].reshape(30, 50, 17, 3)
    rigid = [(1, 2), (2, 3), (4, 5), (5, 6), (11, 12), (12, 13), (14, 15), (15, 16), (0, 1), (0, 4)]
    for first, second in rigid:
        length = np.linalg.norm(points[:, :, first] - points[:, :, second], axis=-1)
        assert (np.ptp(length, axis=1) < 0.1).all()
        assert (length > 60).all()
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1)  # millimetres a frame
    assert steps.max() < 25000 / 25  # nobody's hand is faster than 25 m/s
    jerks = np.linalg.norm(np.diff(points, n=2, axis=1), axis=-1)
    assert np.median(jerks) < 0.3 * np.median(steps)
    assert reprojection(dataset) < 0.05
    assert set(dataset.actions.values()) <= {"posture", "walk", "run"}


def test_synthetic_motion_is_the_same_again() -> None:
    first, again, more = (SyntheticMotionConfig(clips=clips, frames=20, noise=2).build() for clips in (3, 3, 5))
    np.testing.assert_array_equal(first.people.keypoints, again.people.keypoints)
    np.testing.assert_array_equal(first.people.keypoints, more.people.keypoints[:60])
    other = SyntheticMotionConfig(clips=3, frames=20, noise=2, seed=1).build()
    assert not np.allclose(first.people.keypoints, other.people.keypoints)


# --- units, code, and faulty files ------------------------------------------------------------------------------------

UNITS = [  # factor from millimetres, what is told, note
    (1.0, None, "millimetres need no word"),
    (0.1, "centimetres", "a tenth"),
    (0.001, "metres", "a thousandth"),
]


@pytest.mark.parametrize(("scale", "told", "note"), UNITS)
def test_units_are_told_by_the_body(scale: float, told: str | None, note: str) -> None:
    bodies = SyntheticMotionConfig(clips=5, frames=20).build().people.extra["keypoints_3d"] * scale
    factor, notes = millimetres(bodies, "a file")
    assert np.isclose(factor * scale, 1), note
    assert [told in text for text in notes] == ([True] if told else [])  # type: ignore[operator]


@pytest.mark.parametrize("scale", [1e-6, 100.0])
def test_other_units_are_refused_unless_stated(scale: float) -> None:
    bodies = SyntheticMotionConfig(clips=5, frames=20).build().people.extra["keypoints_3d"] * scale
    with pytest.raises(PosecliError, match=r"neither millimetres .* say which with unit=mm, cm or m"):
        millimetres(bodies, "a file")
    assert millimetres(bodies, "a file", "cm") == (10.0, ())


class Danger:
    """Pickles as a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never be printed",))


class Harm:
    """Pickles as a call that no data file makes."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.system, ("echo this must never run",))


CAMERA_FAULTS = [  # what becomes of the cameras, the message, note
    (lambda cameras: {**cameras, "x": Harm()}, "system", "code of the system"),
    (lambda cameras: {**cameras, "x": Danger()}, r"print.*refused", "any function"),
    (lambda cameras: [1, 2], "no dictionary of cameras", "another kind of file"),
    (lambda cameras: {}, "no camera 54138969 of S1", "a camera is missing"),
    (lambda cameras: _with(cameras, f=np.zeros(3)), "`f` is not 2 numbers", "a field of another shape"),
    (lambda cameras: _with(cameras, R=np.ones((3, 3))), "R is no rotation", "a matrix that is no rotation"),
    (lambda cameras: _with(cameras, c=None), "`c` is not 2 numbers", "a field is missing"),
]


def _with(cameras: dict[Any, dict[str, Any]], **fields: Any) -> dict[Any, dict[str, Any]]:
    return {key: {**camera, **fields} for key, camera in cameras.items()}


@pytest.mark.parametrize(("change", "message", "note"), CAMERA_FAULTS)
def test_faulty_cameras_are_refused(
    samples: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[Any], Any],
    message: str,
    note: str,
) -> None:
    from posecli.interop.unpickle import load_pickle

    cameras = load_pickle(samples / "h36m" / "cameras.pkl")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(change(cameras)))
    with pytest.raises(PosecliError, match=message):
        H36mConfig(path=samples / "h36m", cameras=tmp_path / "bad.pkl").build()
    assert "this must never" not in "".join(capfd.readouterr()), note


def test_cameras_that_fit_no_keypoints_are_told(samples: Path, tmp_path: Path) -> None:
    from posecli.interop.unpickle import load_pickle

    cameras = load_pickle(samples / "h36m" / "cameras.pkl")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(_with(cameras, f=np.array([2000.0, 2000.0]))))
    dataset = H36mConfig(path=samples / "h36m", cameras=tmp_path / "other.pkl").build()
    assert any("px beside the 2D ones" in note for note in dataset.notes)


FILE_FAULTS = [  # arrays of an annotation file, the message
    ({"imgname": None}, "holds no `imgname`"),
    ({"S": np.zeros((4, 16, 4))}, r"`S` has shape \(4, 16, 4\)"),
    ({"part": np.ones((3, 17, 3))}, "not of one length"),
    ({"imgname": np.array(["a.jpg"] * 4)}, "is not named like S1_Directions_1.54138969_000001.jpg"),
    ({"S": np.ones((4, 17, 4))}, "fits neither millimetres"),
]


@pytest.mark.parametrize(("arrays", "message"), FILE_FAULTS)
def test_faulty_annotations_are_named(
    samples: Path, tmp_path: Path, arrays: dict[str, np.ndarray | None], message: str
) -> None:
    stored = dict(np.load(samples / "h36m" / "test_h36m_body3d.npz")) | arrays
    np.savez(tmp_path / "bad.npz", **{name: array for name, array in stored.items() if array is not None})
    with pytest.raises(PosecliError, match=message):
        H36mConfig(path=tmp_path / "bad.npz", cameras=samples / "h36m" / "cameras.pkl").build()


def test_truncated_files_are_named(samples: Path, cmu: Path, tmp_path: Path) -> None:
    for file, config in (
        (samples / "h36m" / "test_h36m_body3d.npz", H36mConfig),
        (samples / "mpi_inf_3dhp" / "test_3dhp_train.npz", MpiInf3dhpConfig),
        (samples / "h3wb" / "h3wb_train_bbox_subset.npz", H3wbConfig),
        (cmu / "subject03.npz", CmuMocapConfig),
    ):
        half = tmp_path / file.name
        half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(PosecliError, match=file.stem):
            config(path=half).build()


def test_a_truncated_file_in_a_folder_is_named(samples: Path, tmp_path: Path) -> None:
    whole = samples / "h36m" / "test_h36m_body3d.npz"
    shutil.copy(samples / "h36m" / "cameras.pkl", tmp_path)
    (tmp_path / "half.npz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(PosecliError, match=r"'half.npz' in it is damaged, not a whole .npz file"):
        H36mConfig(path=tmp_path).build()
    shutil.copy(whole, tmp_path)
    assert len(H36mConfig(path=tmp_path).build()) == 4, "the whole one is read"


def test_cmu_names_what_is_missing(cmu: Path, tmp_path: Path) -> None:
    for fields, message in (
        ({"subjects": ("09",)}, "no subject '09'; there are 01, 02, 03"),
        ({"subjects": ("03",), "takes": ("02_01",)}, "no take '02_01'; there are 03_01, 03_02, 03_03, 03_04"),
        ({"path": tmp_path}, r"no subject\*.npz in"),
    ):
        with pytest.raises(PosecliError, match=message):
            CmuMocapConfig(**{"path": cmu, **fields}).build()
    np.savez(tmp_path / "subject09.npz", names=np.array(["root"]), fps=30.0, take=np.zeros((3, 1, 3)))
    with pytest.raises(PosecliError, match="no joint 'head' among its names"):
        CmuMocapConfig(path=tmp_path).build()


# --- files that keep it all -------------------------------------------------------------------------------------------


def same(first: Dataset, second: Dataset) -> None:
    """Both hold the same frames, poses, cameras and actions."""
    assert list(first.ids) == list(second.ids)
    assert first.skeleton == second.skeleton
    assert dict(first.actions) == dict(second.actions)
    np.testing.assert_array_equal(first.sizes, second.sizes)
    np.testing.assert_allclose(first.people.keypoints, second.people.keypoints, atol=6e-4)
    np.testing.assert_array_equal(first.people.labelled, second.people.labelled)
    for name in ("track_id", "frame", "group", "action"):
        np.testing.assert_array_equal(first.people.extra[name], second.people.extra[name], err_msg=name)
    np.testing.assert_allclose(
        first.people.extra["keypoints_3d"], second.people.extra["keypoints_3d"], atol=2e-3, equal_nan=True
    )
    for one, other in zip(first.cameras or (), second.cameras or (), strict=True):
        for field in dataclasses.fields(one):
            values = getattr(one, field.name), getattr(other, field.name)
            assert (values[0] is None) == (values[1] is None), field.name
            if values[0] is not None:
                np.testing.assert_array_equal(*values, err_msg=field.name)


def test_files_keep_motion(tmp_path: Path) -> None:
    dataset = SyntheticMotionConfig(clips=4, frames=15, noise=3, missing=0.2).build()
    dataset.people.extra["keypoints_3d"][5, 3] = np.nan
    CocoWriter().write(dataset, [""] * len(dataset), tmp_path / "train.json")
    same(coco_dataset(tmp_path / "train.json"), dataset)
    stored = json.loads((tmp_path / "train.json").read_text())
    assert len(stored["cameras"]) == 4  # each once


def test_files_keep_lenses_and_pictures(samples: Path, tmp_path: Path) -> None:
    config = H36mConfig(path=samples / "h36m")
    done = convert(config, tmp_path, CocoWriter(), val=0)
    assert (done.placed, done.copied, done.is_motion) == (4, 0, True)
    again = coco_dataset(tmp_path / "train.json")
    same(again, config.build())
    assert all(isinstance(image, Path) and image.is_file() for image in again.images)


def test_converted_motion_is_data_to_train_on(cmu: Path, tmp_path: Path) -> None:
    """No motion on both sides, not even from another camera."""
    config = CmuMocapConfig(path=cmu, subjects=("03",), cameras=2, fps=3)
    done = convert(config, tmp_path, CocoWriter(), val=0.25)
    assert done.placed == 0
    train, val, _ = detect_dataset(tmp_path)
    sides = train.build(), val.build()
    assert sum(map(len, sides)) == len(config.build())
    takes = [{side.actions[int(action)] for action in side.people.extra["action"]} for side in sides]
    assert all(takes)
    assert not takes[0] & takes[1]
    assert not (tmp_path / "images").exists() or not any((tmp_path / "images").iterdir())


def test_one_motion_alone_is_not_split_and_that_is_said(tmp_path: Path) -> None:
    done = convert(SyntheticMotionConfig(clips=1, frames=12), tmp_path, CocoWriter(), val=0.2)
    assert [side.file.name for side in done.sides] == ["train.json"]
    assert "nothing is held out, so there is no val.json: all samples belong together and stay so" in done.notes


def test_splits_keep_films_whole() -> None:
    dataset = SyntheticMotionConfig(clips=10, frames=12).build()
    for side, clips in (("train", 8), ("val", 2)):
        cut = SyntheticMotionConfig(clips=10, frames=12).build()
        train, val = split_dataset(cut, np.arange(len(cut)), 0.2, 0)
        chosen = dataset.take(train if side == "train" else val)
        assert np.unique(chosen.people.extra["track_id"], return_counts=True)[1].tolist() == [12] * clips
        assert dict(chosen.actions) == dict(dataset.actions)
    assert bundles_of(SyntheticConfig(count=3).build()) is None
    last = split_dataset(dataset, np.arange(len(dataset)), 3, order="order")[1]
    assert np.unique(dataset.people.extra["track_id"][last]).tolist() == [7, 8, 9]
    assert SplitConfig(side="val").val == 0.2


def _scaled(document: dict[str, Any], factor: float) -> None:
    for annotation in document["annotations"]:
        annotation["keypoints_3d"] = [factor * value for value in annotation["keypoints_3d"]]


UNDIVIDED = [  # clips, val, skip, the message
    (1, 0.2, 0, "all 12 frames belong to one motion, which is never split: give a val.json of another motion"),
    (2, 0.5, 12, "all 12 frames belong to one motion"),
    (10, 500, 0, "500 of 10 motions held out leave none to train on"),
    (2, 0.5, 99, "no picture of 24 is left after skip, first and split"),
]


@pytest.mark.parametrize(
    ("clips", "val", "skip", "message"), UNDIVIDED, ids=["one", "one after skip", "too many", "all skipped"]
)
def test_splits_say_what_they_count(clips: int, val: float, skip: int, message: str) -> None:
    dataset = SyntheticMotionConfig(clips=clips, frames=12).build()
    with pytest.raises(PosecliError, match=message):
        cut(dataset, skip, split=SplitConfig(side="val", val=val))


def test_splits_of_tracks_count_groups() -> None:
    dataset = SyntheticMotionConfig(clips=3, frames=4).build()
    tracks = {"track_id": dataset.people.extra["track_id"]}
    tracked = dataclasses.replace(dataset, people=dataclasses.replace(dataset.people, extra=tracks))
    with pytest.raises(PosecliError, match="3 of 3 groups held out leave none"):
        split_dataset(tracked, np.arange(12), 3)


BROKEN = [  # what is done to the document, the message, note
    (lambda d: d["images"][0].pop("camera_id"), "has no camera_id that its table `cameras` lists", "no camera"),
    (lambda d: d["cameras"][0].update(focal=[1]), "needs `focal`, 2 numbers", "a short field"),
    (lambda d: d["annotations"][0].update(keypoints_3d=[1, 2]), "has 2 numbers in keypoints_3d, 51", "too short"),
    (lambda d: d["annotations"][0].update(keypoints_3d=["a"] * 51), "something that is no number", "text"),
    (lambda d: d["actions"][0].pop("name"), "`actions` needs a numeric id and a name", "no name"),
    (lambda d: d["cameras"][1].update(focal=[0, 0]), r"camera 1 has the focal lengths \[0, 0\]", "no focal length"),
    (lambda d: d["cameras"][0].update(focal=[9, -9]), r"the focal lengths \[9, -9\]", "a negative one"),
    (lambda d: _scaled(d, 0.001), r"bad.json: keypoints_3d are in metres, .* multiply them by 1000", "metres"),
    (lambda d: _scaled(d, 0.1), "are in centimetres, the median pose reaches 1", "centimetres"),
    (lambda d: _scaled(d, 100), "are in an unknown unit, the median pose", "no unit"),
    (lambda d: _scaled(d, np.nan), "labelled joints are NaN or infinite in the annotations 1, 2, 3, 4, 5 ...", "NaN"),
    (lambda d: d["annotations"][2]["keypoints_3d"].__setitem__(4, np.inf), "in the annotations 3;", "one infinity"),
    (lambda d: [a.update(frame=7) for a in d["annotations"][:3]], "1, 2, 3 are all frame 7 of track 0", "one frame"),
]


def _changed(file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Six frames of two films as posecli writes them, with something changed."""
    dataset = SyntheticMotionConfig(clips=2, frames=3).build()
    CocoWriter().write(dataset, [""] * len(dataset), file)
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return file


@pytest.mark.parametrize(("change", "message", "note"), BROKEN)
def test_broken_motion_files_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str, note: str
) -> None:
    file = _changed(tmp_path / "bad.json", change)
    with pytest.raises(PosecliError, match=message):
        coco_dataset(file)


FINE = [  # what is done to the document, known 3D joints of all 102, note
    (lambda d: d["annotations"][0]["keypoints_3d"].__setitem__(3, None), 101, "null is unknown"),
    (lambda d: _unlabelled(d["annotations"][0]), 101, "NaN of a joint that is not labelled"),
    (lambda d: d["annotations"][1].update(frame=0, keypoints_3d=d["annotations"][0]["keypoints_3d"]), 102, "a mix's"),
    (lambda d: d["annotations"][0].update(keypoints_3d=[7.0] * 3 + [None] * 48), 86, "hardly a pose"),
]


def _unlabelled(annotation: dict[str, Any]) -> None:
    annotation["keypoints_3d"][3:6] = [np.nan] * 3
    annotation["keypoints"][3:6] = [0] * 3


@pytest.mark.parametrize(("change", "known", "note"), FINE, ids=[note for *_, note in FINE])
def test_motion_files_may_lack_joints(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], known: int, note: str
) -> None:
    file = _changed(tmp_path / "other.json", change)
    points = coco_dataset(file).people.extra["keypoints_3d"]
    assert int(np.isfinite(points).all(axis=-1).sum()) == known, note


MEASURED = [  # keypoints, how far a pose reaches, the message or None
    (17, 1700, None),
    (17, 170, "in centimetres"),
    (17, 1.7, "in metres"),
    (21, 170, None),
    (21, 0.17, "in metres"),
    (42, 400, None),
    (68, 150, None),
    (133, 170, "in centimetres"),
    (17, np.nan, None),
]


@pytest.mark.parametrize(("joints", "reach", "message"), MEASURED, ids=[f"{row[0]}-{row[1]}" for row in MEASURED])
def test_hands_are_small_in_millimetres(joints: int, reach: float, message: str | None) -> None:
    points = np.zeros((3, joints, 3))
    points[:, ::2, 1] = reach
    if np.isnan(reach):
        points[:] = np.nan
    if message is None:
        check_millimetres(points, "a file")
    else:
        with pytest.raises(PosecliError, match=f"a file: keypoints_3d are {message}"):
            check_millimetres(points, "a file")


def test_plain_coco_files_have_no_motion(samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "coco", tmp_path / "coco")
    dataset = coco_dataset(tmp_path / "coco" / "test_coco.json")
    assert dataset.cameras is None
    assert not dataset.actions
    assert not {"keypoints_3d", "track_id", "frame", "group", "action"} & set(dataset.people.extra)
