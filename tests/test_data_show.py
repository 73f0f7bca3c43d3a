"""data show: labels lie where they belong, inputs are those of training, files are whole, refusals are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli import geometry
from posecli.commands.data import show
from posecli.config import Experiment, load_experiment
from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.data import unit_generator
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import SyntheticConfig
from posecli.datashow import (
    LEAST_INPUT,
    PAGE,
    SAME,
    Choice,
    Shown,
    draw_labels,
    label_panel,
    labelled_data,
    moved,
    show_inputs,
    show_labels,
)
from posecli.drawing import CENTER, LEFT, RIGHT, SHADE, instance_color
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, ImageArray, People

SKELETON = Skeleton("three", ("nose", "left_hand", "right_hand"), flip_pairs=((1, 2),))
POINTS = np.array([[[100, 60], [140, 120], [60, 120]]], np.float32)
BLACK = np.zeros((300, 200, 3), np.uint8)
SMALL = np.zeros((30, 20, 3), np.uint8)
MIRROR = np.array([[-1.0, 0, 199], [0, 1, 0]])
TURN = np.array([[0.0, -1, 199], [1, 0, 20]])
TENTH = geometry.reduction_matrix(10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five synthetic pictures as COCO, the third of them broken."""
    folder = tmp_path_factory.mktemp("data") / "people"
    convert(SyntheticConfig(count=5, seed=3, size=(96, 96)), folder, CocoWriter(), val=0)
    broken = sorted((folder / "images").iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:200])
    return folder


def one(points: Any = POINTS, scores: Any = (2, 2, 2), **columns: Any) -> People:
    """People with these keypoints, all in one box."""
    points = np.asarray(points, np.float32)
    boxes = np.tile(np.float32([40, 40, 160, 160]), (len(points), 1))
    extra = {name: np.asarray(values) for name, values in columns.items()}
    return People(points, np.broadcast_to(np.float32(scores), points.shape[:2]), boxes, extra=extra)


def color(image: ImageArray, point: Any) -> tuple[int, ...]:
    """The colour of the pixel nearest to a point (x, y)."""
    x, y = np.rint(np.asarray(point)).astype(int)
    return tuple(image[y, x].tolist())


# --- where labels are drawn -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "image", "matrix", "colors"),
    [
        ("as it is", BLACK, SAME, (CENTER, LEFT, RIGHT)),
        ("shifted", BLACK, np.array([[1.0, 0, 20], [0, 1, 50]]), (CENTER, LEFT, RIGHT)),
        ("turned", BLACK, TURN, (CENTER, LEFT, RIGHT)),
        ("mirrored: the right hand is a left one now", BLACK, MIRROR, (CENTER, RIGHT, LEFT)),
        ("a small picture is enlarged", SMALL, TENTH, (CENTER, LEFT, RIGHT)),
    ],
)
def test_keypoints_are_drawn_where_they_are(note: str, image: ImageArray, matrix: FloatArray, colors: Any) -> None:
    drawn = draw_labels(image, one(), (), matrix, SKELETON, LEAST_INPUT)
    times = drawn.shape[0] / image.shape[0]
    places = (geometry.apply(matrix, POINTS[0]) + 0.5) * times - 0.5
    assert [color(drawn, place) for place in places] == list(colors), note
    corner = (geometry.apply(matrix, np.array([40.0, 100])) + 0.5) * times - 0.5  # on the box's left edge
    assert np.abs(np.subtract(color(drawn, corner), instance_color(0))).max() < 90, note
    assert not image.any(), "the picture that was given stays"


def test_what_is_hidden_is_faint_and_what_is_unknown_is_not_there() -> None:
    drawn = draw_labels(BLACK, one(scores=(2, 1, 0)), (), SAME, SKELETON, 1)
    sure, hidden, unknown = (sum(color(drawn, point)) for point in POINTS[0])
    assert 0 == unknown < hidden < 0.6 * sum(LEFT) < sure


def test_crowds_and_ignored_polygons_are_striped() -> None:
    square = np.float32([[60, 60], [140, 60], [140, 140], [60, 140]])
    bright = np.full_like(BLACK, 200)

    def striped(people: People, ignore: tuple[FloatArray, ...], matrix: FloatArray = SAME) -> int:
        drawn = draw_labels(bright, people, ignore, matrix, SKELETON, 1)
        return int((drawn == SHADE).all(axis=-1).sum())

    crowd = one(np.full((1, 3, 2), np.nan), crowd=[True])
    assert striped(one(), ()) == 0
    assert striped(one(), (square,)) > 1000
    assert 0 < striped(one(), (square,), np.array([[0.5, 0, 0], [0, 0.5, 0]])) < striped(one(), (square,)) / 2
    assert striped(crowd, ()) > 1.5 * striped(crowd, (square,)), "its box is striped where there is no polygon"
    labelled = draw_labels(BLACK, one(crowd=[True]), (square,), SAME, SKELETON, 1)
    assert color(labelled, POINTS[0, 1]) not in (LEFT, RIGHT, CENTER), "keypoints of crowds teach nothing"


# --- what a network is given ------------------------------------------------------------------------------------------


FAMILIES = [
    ("topdown/default", "one crop a person"),
    ("associative/default", "whole scenes, rows in the order of the data"),
    ("mesh/default", "the crop turns the body with it"),
    ("interhand/default", "hands change places in a mirror"),
    ("multitask/default", "classes beside keypoints"),
]


@pytest.mark.parametrize(("name", "note"), FAMILIES)
def test_labels_and_targets_of_inputs_agree(name: str, note: str) -> None:
    """What is drawn follows from `undo` alone; the targets, which are made elsewhere, must lie there too."""
    experiment = small(name)
    samples = experiment.data.train.build()
    algorithm = experiment.model.build(samples.skeleton)
    units, transform = algorithm.units(samples, train=True), algorithm.transform(train=True)
    mirrored, compared = set(), 0
    for unit, epoch in [(unit, epoch) for unit in range(3) for epoch in range(4)]:
        example = transform(units[unit], unit_generator(0, epoch, unit))
        matrix = geometry.invert(example.undo)
        drawn = moved(example.sample.people, matrix, samples.skeleton)
        mirrored.add(geometry.is_mirrored(matrix))
        targets = example.targets["keypoints"].reshape(-1, len(samples.skeleton), 2)
        visible = example.targets["visible"].reshape(targets.shape[:2]) > 0
        apart = np.linalg.norm(targets[:, None] - drawn.keypoints[None], axis=-1)  # (P, N, K)
        nearest = np.where(drawn.scores > 0, apart, np.inf).min(axis=1)  # (P, K)
        assert nearest[visible].max(initial=0) < 0.01, note
        compared += int(visible.sum())
    assert mirrored == {True, False}
    assert compared > 60


def small(name: str) -> Experiment:
    """A config with only a few of its samples."""
    return load_experiment(name, ["data.train.count=4"])


def test_inputs(tmp_path: Path) -> None:
    """A sheet and a row for each unit; alike for a seed, and no network is trained or fetched."""
    runs = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        shown = show_inputs(small("topdown/default"), tmp_path / out, Choice(2, seed), epochs=3)
        assert shown.what == "2 of 4 units of synthetic"
        assert [path.name for path in shown.sheets] == ["inputs.jpg"]
        runs.append([path.read_bytes() for path in (*shown.sheets, *shown.pictures)])
    assert runs[0] == runs[1] != runs[2]
    rows = [cv2.imread(str(path)) for path in shown.pictures]
    height, width = 288, 192  # the input of 64×96, three times as large
    assert [row.shape for row in rows] == [(height, height + 3 * (6 + width), 3)] * 2


def test_a_lifter_s_data_is_shown_as_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = load_experiment("lifter/default", ["data.train.clips=2", "data.train.frames=20"])
    shown = show_inputs(experiment, tmp_path, Choice(3))
    assert "is given keypoints, not pictures" in capsys.readouterr().err
    assert [path.name for path in shown.sheets] == ["labels.jpg"]
    picture = cv2.imread(str(shown.pictures[0]))
    assert picture.shape == (480, 480 + 6 + 960, 3), "2D, then 3D from the front and the side"


# --- which, where and how ---------------------------------------------------------------------------------------------


def test_pages_and_choice(tmp_path: Path) -> None:
    samples = SyntheticConfig(count=PAGE + 4, size=(32, 32)).build()
    shown = show_labels(samples, tmp_path / "all", Choice(100))
    assert [path.name for path in shown.sheets] == ["labels-1.jpg", "labels-2.jpg"]
    assert len(shown.pictures) == PAGE + 4
    some = show_labels(samples, tmp_path / "some", Choice(5, seed=7))
    assert names(some) == names(show_labels(samples, tmp_path / "again", Choice(5, seed=7)))
    assert names(some) != names(show_labels(samples, tmp_path / "other", Choice(5, seed=8)))
    assert names(show_labels(samples, tmp_path / "named", Choice(names=("11", "3")))) == ["3", "11"]


def test_frames_of_one_number_are_called_after_their_films(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "train.json").read_text())
    document["images"] = document["images"][:3]
    for number, record in enumerate(document["images"]):
        film = tmp_path / ("first", "second", "second")[number] / "frames"
        film.mkdir(parents=True, exist_ok=True)
        picture = film / ("0.png", "0.png", "1.png")[number]
        picture.write_bytes((folder / "images" / "000000.png").read_bytes())
        record["file_name"] = str(picture.relative_to(tmp_path))
    (tmp_path / "films.json").write_text(json.dumps(document))
    shown = show_labels(labelled_data(tmp_path / "films.json"), tmp_path / "out", Choice())
    assert names(shown) == ["first-frames-0", "second-frames-0", "1"]


def test_long_names_are_cut(folder: Path, tmp_path: Path) -> None:
    """A name that its folder allows may be too long with what is put before and after it."""
    document = json.loads((folder / "train.json").read_text())
    document["images"] = document["images"][:1]
    picture = folder / "images" / Path(document["images"][0]["file_name"]).name
    document["images"][0]["file_name"] = "猫" * 80 + picture.suffix
    (tmp_path / document["images"][0]["file_name"]).write_bytes(picture.read_bytes())
    (tmp_path / "long.json").write_text(json.dumps(document))
    shown = show_labels(labelled_data(tmp_path / "long.json"), tmp_path / "out", Choice())
    assert names(shown) == ["猫" * 40]


def names(shown: Shown) -> list[str]:
    """What the pictures are named after, in the order of their numbers."""
    return [path.stem.partition("-")[2] for path in shown.pictures]


def test_3d_poses_are_beside_the_picture() -> None:
    samples = SyntheticConfig(count=1, size=(96, 96)).build()
    flat = Dataset(
        samples.name,
        samples.skeleton,
        samples.ids,
        samples.sizes,
        samples.offsets,
        People(samples.people.keypoints, samples.people.scores, samples.people.boxes),
        samples.images,
    )
    assert label_panel(flat[0], samples.skeleton).shape == (480, 480, 3)
    assert label_panel(samples[0], samples.skeleton).shape == (480, 480 + 6 + 960, 3)


COMMAND = """
import sys
from posecli.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def test_the_command(folder: Path, tmp_path: Path) -> None:
    """Labels need no torch; what cannot be read is named and skipped; nothing is written twice."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", COMMAND, "data", "show", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)

    done = run("--json")
    warning, torch = done.stderr.splitlines()
    assert (done.returncode, torch) == (0, "False")
    assert warning.startswith("warning: skipped")
    assert "000002.png: truncated" in warning
    told = json.loads(done.stdout)
    assert (len(told["pictures"]), len(told["skipped"])) == (4, 1)
    assert told["shown"].startswith("4 of 5 pictures")
    (sheet,) = told["sheets"]
    assert Path(sheet).parts[0] == "shown"
    assert sorted(path.name for path in (tmp_path / sheet).parent.iterdir()) == [
        *(f"{number:03d}-{name}.jpg" for number, name in enumerate(("000000", "000001", "000003", "000004"), 1)),
        "labels.jpg",
    ]
    before = (tmp_path / sheet).read_bytes()
    done = run("--out", str(Path(sheet).parent))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].endswith("is not empty: choose another with --out")
    assert (tmp_path / sheet).read_bytes() == before


Spoil = Callable[[Path], dict[str, Any]]


@pytest.mark.parametrize(
    ("given", "message", "note"),
    [
        (lambda _: {}, "say what to show", "nothing at all"),
        (lambda folder: {"path": folder / "none"}, "no such file or folder$", "a path that is not there"),
        (lambda folder: {"path": folder / "images"}, "no train.json .*--format", "a folder without labels"),
        (lambda _: {"form": "coc"}, "did you mean 'coco'", "a format that is not there"),
        (lambda folder: {"path": folder, "names": ["9", "0"]}, "no picture '9'", "a picture that is not there"),
        (lambda folder: {"path": folder, "names": ["000002.png"]}, "none of 1 picture could be read", "broken"),
        (lambda folder: {"path": folder, "settings": ["strict=7"]}, "strict", "a setting of the wrong kind"),
        (lambda folder: {"path": folder, "images": folder / "none"}, "none", "pictures that are not there"),
        (lambda folder: {"path": folder, "algo": "topdwon"}, "did you mean", "an algorithm that is not there"),
        (lambda folder: {"path": folder, "algo": "topdown", "config": "x"}, "give one of them", "two configs"),
        (lambda folder: {"path": folder, "algo": "topdown", "form": "coco"}, "data.train.use", "a format for a config"),
        (
            lambda _: {"config": "topdown/default", "settings": ["data.train={use: synthetic-motion, clips: 1}"]},
            "have no picture",
            "motion for a model that looks at pictures",
        ),
    ],
)
def test_bad_input(folder: Path, tmp_path: Path, given: Spoil, message: str, note: str) -> None:
    nothing = dict.fromkeys(("path", "form", "images", "algo", "config", "settings", "names", "seed"))
    with pytest.raises(PosecliError, match=message) as raised:
        show(**{**nothing, "count": 4, "epochs": 1, "json": False, "out": tmp_path / "out", **given(folder)})
    assert raised.value.exit_code == 2, note
    assert "\n" not in str(raised.value), note
    assert not (tmp_path / "out").exists(), note


def test_nobody_to_show(tmp_path: Path) -> None:
    samples = SyntheticConfig(count=2, size=(32, 32)).build()
    nobody = samples.take([0])
    object.__setattr__(nobody, "offsets", np.zeros(2, np.int64))
    with pytest.raises(PosecliError, match="nobody in it"):
        show_labels(nobody, tmp_path, Choice())


SETS = [
    ("data/deeplabcut-openfield", {}, 116, False),
    ("data/format-samples/coco/test_coco.json", {}, 4, False),
    ("data/format-samples/coco/test_coco_wholebody.json", {"settings": ["part=face"]}, 4, False),
    ("data/format-samples/interhand2.6m", {}, 4, True),
    ("data/cmu-mocap", {"form": "cmu-mocap", "settings": ["fps=5", "takes=01_02"]}, 728, True),
]


@pytest.mark.parametrize(("place", "given", "count", "solid"), SETS)
def test_shared_data(shared: Path, tmp_path: Path, place: str, given: dict[str, Any], count: int, solid: bool) -> None:
    samples = labelled_data(shared / place, **given)
    assert len(samples) == count
    shown = show_labels(samples, tmp_path, Choice(2))
    assert not shown.skipped
    assert len(shown.pictures) == 2
    picture = cv2.imread(str(shown.pictures[0]))
    assert (picture.shape[1] > 2 * picture.shape[0]) == solid
