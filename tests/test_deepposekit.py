"""DeepPoseKit annotation sets: what is read, where the pixels come from, what is refused."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from golden_rule import assert_same_skeleton
from readers import Readers

from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.data import unit_loader
from posecli.datacheck import check
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import DeepPoseKitConfig
from posecli.datasets.deepposekit import PictureFile, deepposekit_dataset
from posecli.datasets.detect import detect_dataset
from posecli.images import UnreadableImage, read_image
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, Example, Sample

h5py = pytest.importorskip("h5py", reason="needs the extra posecli[hdf5]")

Posecli = Callable[..., subprocess.CompletedProcess[str]]
SAMPLE = "data/deepposekit-fly/example_annotation_set.h5"
HEIGHT, WIDTH, COUNT = 20, 30, 6
TABLE = "name,parent,swap\nnose,,\nearA,nose,earB\nearB,nose,earA\n"
NO_PARTNERS = [[-1, -1], [0, -1], [0, -1]]


def parts(channels: int = 1) -> dict[str, Any]:
    """A good file of six pictures with three keypoints, all annotated."""
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (COUNT, HEIGHT, WIDTH, channels), np.uint8),
        "annotations": random.uniform(1, [WIDTH - 2, HEIGHT - 2], (COUNT, 3, 2)),
        "annotated": np.ones((COUNT, 3), bool),
        "skeleton": np.array([[-1, -1], [0, 2], [0, 1]], np.int32),
    }


def store(folder: Path, table: str | None = None, channels: int = 1, **changes: Any) -> Path:
    """A file with some parts changed, or left out where they are None."""
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / "set.h5", "w") as file:
        for name, values in {**parts(channels), **changes}.items():
            if values is not None:
                file.create_dataset(name, data=values)
    if table is not None:
        (folder / "skeleton.csv").write_text(table, encoding="utf-8")
    return folder / "set.h5"


def names_and_pairs(dataset: Dataset) -> tuple[tuple[str, ...], set[tuple[str, str]] | None]:
    skeleton = dataset.skeleton
    if skeleton.flip_pairs is None:
        return skeleton.names, None
    return skeleton.names, {(skeleton.names[one], skeleton.names[other]) for one, other in skeleton.flip_pairs}


# --- keypoints --------------------------------------------------------------------------------------------------------


def test_all_of_a_file(tmp_path: Path) -> None:
    dataset = deepposekit_dataset(store(tmp_path, TABLE))
    stored = parts()
    assert list(dataset.ids) == list(range(COUNT))
    assert np.array_equal(dataset.sizes, [[WIDTH, HEIGHT]] * COUNT)
    assert np.array_equal(dataset.people.keypoints, stored["annotations"].astype(np.float32))
    assert (dataset.people.scores == 2).all()
    assert dataset.people.boxes is not None
    assert np.array_equal(dataset.people.boxes, [[0, 0, WIDTH, HEIGHT]] * COUNT)
    assert names_and_pairs(dataset) == (("nose", "earA", "earB"), {("earA", "earB")})
    assert dataset.skeleton.links == ((1, 0), (2, 0))
    assert dataset.skeleton.sigmas is None


def test_tight_boxes(tmp_path: Path) -> None:
    boxes = deepposekit_dataset(store(tmp_path), "keypoints").people.boxes
    assert boxes is not None
    points = parts()["annotations"]
    assert np.allclose(boxes, np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1), atol=1e-5)


MARKS = [
    # labels, annotated, the first picture's keypoints, which are labelled there, pictures, note
    ("auto", [1, 0, 1], None, [1, 0, 1], COUNT, "a keypoint that nobody has confirmed is unknown"),
    ("placed", [1, 0, 1], None, [1, 1, 1], COUNT, "unless all that have a place are asked for"),
    ("annotated", [1, 1, 1], [[5, 6], [np.nan, np.nan], [7, 8]], [1, 0, 1], COUNT, "confirmed as not to be seen"),
    ("auto", [1, 1, 1], [[5, 6], [-1, -1], [0, 0]], [1, 0, 0], COUNT, "DeepPoseKit's fills are nowhere"),
    ("auto", [1, 1, 1], [[5, 6], [0, 3], [4, -1]], [1, 1, 1], COUNT, "at an edge, or beyond it, is somewhere"),
    ("auto", [0, 0, 0], None, [1, 1, 1], COUNT - 1, "a picture that nobody has looked at is left out"),
    ("placed", [1, 1, 1], [[-1, -1]] * 3, [1, 1, 1], COUNT - 1, "and one in which nothing has a place"),
]


@pytest.mark.parametrize(("labels", "marks", "points", "labelled", "count", "note"), MARKS, ids=[m[5] for m in MARKS])
def test_what_is_labelled(
    tmp_path: Path, labels: str, marks: list[int], points: Any, labelled: list[int], count: int, note: str
) -> None:
    stored = parts()
    stored["annotated"][0] = marks
    if points is not None:
        stored["annotations"][0] = points
    dataset = deepposekit_dataset(store(tmp_path, **stored), labels=labels)
    assert len(dataset) == count
    assert dataset.people.labelled[0].tolist() == labelled
    unknown = ~dataset.people.labelled
    assert np.isnan(dataset.people.keypoints[unknown]).all()
    assert (dataset.people.scores[unknown] == 0).all()
    left_out = COUNT - count
    assert list(dataset.ids) == list(range(left_out, COUNT)), "ids stay the places in the file"
    assert np.array_equal(read_image(dataset.images[0])[..., 0], stored["images"][left_out, ..., 0])


def test_nothing_marked_is_told(tmp_path: Path) -> None:
    file = store(tmp_path, annotated=np.zeros((COUNT, 3), bool))
    dataset = deepposekit_dataset(file)
    assert dataset.people.labelled.all()
    assert any("none is marked as annotated" in note for note in dataset.notes)
    with pytest.raises(PosecliError, match=r"no keypoint is marked as annotated.*labels=placed"):
        deepposekit_dataset(file, labels="annotated")


# --- the skeleton -----------------------------------------------------------------------------------------------------

EARS = ("nose", "earA", "earB")
BOTH = {("earA", "earB")}
SKELETONS = [
    # skeleton.csv, `skeleton`, `skeleton_names`, names, pairs, links, note
    (TABLE, NO_PARTNERS, None, EARS, BOTH, 2, "the table goes before the file"),
    ("name\nnose\nearA\nearB\n", None, None, EARS, BOTH, 2, "a table of names alone"),
    ("\ufeffname,parent,swap\nnose,,\nearA,,earB\nearB,,\n", None, None, EARS, BOTH, 0, "one side speaks for both"),
    (TABLE.replace("earA,nose,earB", "earA,nose,nose"), None, None, EARS, None, 2, "a slip of the pen"),
    (TABLE.replace("nose,,\n", "nose,,nose\n"), None, None, EARS, BOTH, 2, "in the middle"),
    (None, None, [b"nose", b"earA", b"earB"], EARS, BOTH, 2, "names in the file"),
    (None, NO_PARTNERS, [b"nose", b"ear.l", b"ear.r"], ("nose", "ear.l", "ear.r"), {("ear.l", "ear.r")}, 2, "l and r"),
    (None, None, None, ("keypoint1", "keypoint2", "keypoint3"), {("keypoint2", "keypoint3")}, 2, "no names at all"),
    (None, NO_PARTNERS, [b"a", b"b", b"c"], ("a", "b", "c"), None, 2, "partners that nobody tells are unknown"),
]


@pytest.mark.parametrize(
    ("table", "skeleton", "stored", "names", "pairs", "links", "note"), SKELETONS, ids=[row[6] for row in SKELETONS]
)
def test_skeletons(
    tmp_path: Path, table: str | None, skeleton: Any, stored: Any, names: Any, pairs: Any, links: int, note: str
) -> None:
    changes = {} if skeleton is None else {"skeleton": np.array(skeleton)}
    file = store(tmp_path, table, skeleton_names=None if stored is None else np.array(stored), **changes)
    dataset = deepposekit_dataset(file)
    assert names_and_pairs(dataset) == (names, pairs)
    assert len(dataset.skeleton.links) == links
    assert any("no names" in told for told in dataset.notes) == (names[0] == "keypoint1")
    assert any("contradict" in told for told in dataset.notes) == (note == "a slip of the pen")


def test_a_skeleton_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("keypoints: [x, y, z]\nflip_pairs: [[x, z]]\n", encoding="utf-8")
    dataset = DeepPoseKitConfig(path=store(tmp_path, TABLE), skeleton=str(tmp_path / "mine.yaml")).build()
    assert names_and_pairs(dataset) == (("x", "y", "z"), {("x", "z")})
    with pytest.raises(PosecliError, match="'zebra' has 9 keypoints"):
        DeepPoseKitConfig(path=store(tmp_path), skeleton="zebra").build()


@pytest.mark.parametrize("name", ["fly", "locust", "zebra"])
def test_skeletons_are_the_reference_s(golden: Path, name: str) -> None:
    assert_same_skeleton(house_skeleton(name), golden, name)
    assert house_skeleton(name).sigmas is None


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_colours(tmp_path: Path) -> None:
    """Grey becomes RGB; three channels are in OpenCV's order, as DeepPoseKit shows them."""
    grey = deepposekit_dataset(store(tmp_path / "grey"))
    assert np.array_equal(read_image(grey.images[2]), parts()["images"][2].repeat(3, axis=2))
    coloured = deepposekit_dataset(store(tmp_path / "coloured", channels=3))
    assert np.array_equal(read_image(coloured.images[2]), parts(3)["images"][2][..., ::-1])


@pytest.mark.parametrize(
    "layout",
    [{}, {"chunks": (2, 7, 9, 1)}, {"chunks": (2, 7, 9, 1), "compression": "gzip"}, {"maxshape": (None, 20, 30, 1)}],
    ids=["whole", "chunks", "compressed", "growing"],
)
def test_every_way_of_storing(tmp_path: Path, layout: dict[str, Any]) -> None:
    file = store(tmp_path, images=None)
    with h5py.File(file, "a") as content:
        content.create_dataset("images", data=parts()["images"], **layout)
    dataset = deepposekit_dataset(file)
    read = np.stack([read_image(image) for image in dataset.images])
    assert np.array_equal(read[..., :1], parts()["images"])


@pytest.mark.parametrize(
    ("way", "opened"),
    [("fork", True), ("fork", False), ("spawn", True)],
    ids=["fork, opened before", "fork, never opened", "spawn"],
)
def test_other_processes_see_the_same(tmp_path: Path, way: str, opened: bool) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {way}")
    dataset = deepposekit_dataset(store(tmp_path, channels=3))
    pictures = parts(3)["images"][..., ::-1]
    if opened:
        read_image(dataset.images[0])
    readers = Readers(way, [list(dataset.images) * 5] * (2 if way == "fork" else 1))
    for told in readers.told():
        assert np.array_equal(np.stack(told), np.concatenate([pictures] * 5))


def test_parent_and_children_read_at_once(tmp_path: Path) -> None:
    """A place in the file that they shared would be moved under each other's reading."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    dataset = deepposekit_dataset(store(tmp_path))
    pictures = parts()["images"]
    read_image(dataset.images[0])
    readers = Readers("fork", [[dataset.images[1]] * 200] * 2)
    own = [read_image(dataset.images[index % COUNT]) for index in range(400)]
    told = readers.told()
    assert all(np.array_equal(read[..., :1], pictures[index % COUNT]) for index, read in enumerate(own))
    assert all(np.array_equal(read[..., :1], pictures[1]) for answer in told for read in answer)


class Whole:
    """A transform that takes the whole picture as it is."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        return Example({"image": read_image(sample.image)}, {}, sample, np.eye(2, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_the_pictures(tmp_path: Path, workers: int) -> None:
    dataset = deepposekit_dataset(store(tmp_path))
    units = [dataset[index] for index in range(COUNT)]
    loader = unit_loader(units, Whole(), batch_size=4, workers=workers)
    for _ in range(2):  # epochs
        read = np.concatenate([batch.inputs["image"].numpy().copy() for batch in loader])
        assert np.array_equal(read, parts()["images"].repeat(3, axis=3))


def test_pixels_wait_until_they_are_asked_for(tmp_path: Path) -> None:
    """Twelve gigabytes of black, of which the disk holds nothing; the memory could not hold them either."""
    file = store(tmp_path, images=None, annotations=np.ones((4000, 3, 2)), annotated=np.ones((4000, 3), bool))
    with h5py.File(file, "a") as content:
        content.create_dataset("images", (4000, 1000, 1000, 3), np.uint8, chunks=(1, 1000, 1000, 3))
    dataset = deepposekit_dataset(file)
    assert len(dataset) == 4000
    assert not read_image(dataset.images[3999]).any()


def test_pictures_travel_as_paths(tmp_path: Path) -> None:
    dataset = deepposekit_dataset(store(tmp_path))
    pixels = read_image(dataset.images[3])
    packed = pickle.dumps(dataset.images[3])
    assert len(packed) < 500, "no pixels, no handle"
    assert np.array_equal(read_image(pickle.loads(packed)), pixels)
    assert len(pickle.dumps(dataset.images)) < 1000


@pytest.mark.filterwarnings("error")
def test_files_are_closed(tmp_path: Path) -> None:
    pictures = PictureFile(store(tmp_path))
    pictures.read(0)
    del pictures  # an open stream would warn


def test_a_picture_that_has_gone(tmp_path: Path) -> None:
    file = store(tmp_path)
    dataset = deepposekit_dataset(file)
    file.unlink()
    with pytest.raises(UnreadableImage, match=r"set\.h5, picture 4"):
        read_image(dataset.images[4])


# --- what is refused --------------------------------------------------------------------------------------------------

BAD = [
    # what is changed, what is said, note
    ({"images": None}, r"holds no `images` \(N, H, W, 1 or 3\).*has annotated, annotations, skeleton$", "no pictures"),
    ({"annotated": None}, "holds no `annotated`", "no marks"),
    ({"skeleton": None}, "holds no `skeleton`", "no skeleton"),
    ({"images": np.zeros((COUNT, 9, 9), np.uint8)}, r"`images` has shape \(6, 9, 9\)", "no channels"),
    ({"images": np.zeros((COUNT, 9, 9, 4), np.uint8)}, r"not \(N, H, W, 1 or 3\)", "four channels"),
    ({"images": np.zeros((COUNT, 9, 9, 1))}, "`images` holds float64 instead of uint8", "other pixels"),
    ({"images": np.zeros((COUNT + 1, 9, 9, 1), np.uint8)}, r"do not fit each other: `images` \(7, 9", "more pictures"),
    ({"annotations": np.zeros((COUNT, 3, 3))}, r"`annotations` has shape \(6, 3, 3\)", "three coordinates"),
    ({"annotations": np.zeros((0, 3, 2))}, r"`annotations` has shape \(0, 3, 2\)", "nothing"),
    ({"annotations": [b"a"] * COUNT}, "`annotations` holds .* instead of numbers", "words"),
    ({"annotated": np.ones((COUNT, 4), bool)}, "do not fit each other", "marks of other keypoints"),
    ({"skeleton": np.zeros((4, 2), int)}, "do not fit each other", "a skeleton of other keypoints"),
    ({"skeleton": np.array([[-1, -1], [0, 3], [0, 1]])}, "joins keypoint 1 with 3; there are 3", "no such partner"),
    ({"annotations": np.full((COUNT, 3, 2), -1.0)}, "no keypoint has a place", "as DeepPoseKit makes it"),
    ({"table": "name,parent\na,\nb,a\n"}, r"skeleton.csv names 2 keypoints, .*set.h5 has 3", "a table of others"),
    ({"table": "part,parent\na,\nb,a\nc,a\n"}, "no column `name`", "a table without names"),
    ({"table": TABLE.replace("earA,nose", "earA,nase")}, "parent of earA is 'nase'", "a parent that is nobody"),
    ({"table": "name\na\na\nb\n"}, "names repeat", "a name twice"),
]


@pytest.mark.parametrize(("changes", "message", "note"), BAD, ids=[row[2] for row in BAD])
def test_bad_files(tmp_path: Path, changes: dict[str, Any], message: str, note: str) -> None:
    with pytest.raises(PosecliError, match=message) as told:
        deepposekit_dataset(store(tmp_path, **changes))
    assert "\n" not in str(told.value)
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize("content", [b"", b"no HDF5", "cut"], ids=["empty", "text", "truncated"])
def test_files_that_are_no_hdf5(tmp_path: Path, posecli: Posecli, content: bytes | str) -> None:
    file = store(tmp_path)
    file.write_bytes(content if isinstance(content, bytes) else file.read_bytes()[:4000])
    for words in (("data", "check", str(file)), ("convert", "deepposekit", str(file), str(tmp_path / "out"))):
        done = posecli(*words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "not an HDF5 file that can be read" in done.stderr


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match=r"give the \.h5 file of a DeepPoseKit annotation set"):
        deepposekit_dataset(tmp_path)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    config, _, _ = detect_dataset(file)
    with pytest.raises(PosecliError, match=r"needs the package h5py: pip install 'posecli\[hdf5\]'$"):
        config.build()


def test_without_h5py_from_the_command_line(tmp_path: Path, posecli: Posecli) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "h5py.py").write_text("raise ImportError('hidden by a test')", encoding="utf-8")
    done = posecli("data", "check", str(store(tmp_path)), path=site)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install 'posecli[hdf5]'" in done.stderr


# --- from end to end --------------------------------------------------------------------------------------------------


def test_detection(tmp_path: Path) -> None:
    train, val, reason = detect_dataset(store(tmp_path), seed=3)
    assert (train.name, val.name) == ("deepposekit", "deepposekit")
    assert "80% of its pictures to train" in reason
    assert sorted([*train.build().ids, *val.build().ids]) == list(range(COUNT))


@pytest.mark.parametrize("box", ["frame", "keypoints"])
def test_convert_and_read_back(tmp_path: Path, box: Any) -> None:
    stored = parts(3)
    stored["annotated"][1, 2] = False
    source = DeepPoseKitConfig(path=store(tmp_path / "in", TABLE, **stored), box=box)
    done = convert(source, tmp_path / "out", CocoWriter(), val=2, order="order")
    assert (done.placed, done.copied) == (COUNT, COUNT)
    original = source.build()
    for side, indices in (("train", range(4)), ("val", range(4, 6))):
        written, expected = coco_dataset(tmp_path / "out" / f"{side}.json"), original.take(list(indices))
        assert list(written.ids) == list(expected.ids)
        assert written.skeleton == expected.skeleton
        assert np.allclose(written.people.keypoints, expected.people.keypoints, atol=6e-4, equal_nan=True)
        assert np.array_equal(written.people.scores, expected.people.scores)
        assert written.people.boxes is not None
        assert np.allclose(written.people.boxes, expected.people.boxes, atol=6e-4)
        for one, other in zip(written.images, expected.images, strict=True):
            assert np.array_equal(read_image(one), read_image(other))


def test_data_check(tmp_path: Path) -> None:
    stored = parts()
    stored["annotations"][2, 1] = [WIDTH + 5, 3]
    (report,) = check(store(tmp_path, TABLE, **stored))
    assert (report.pictures, report.people, report.labelled) == (COUNT, COUNT, 3 * COUNT)
    assert {rule: finding.count for rule, finding in report.findings.items()} == {"D209": 1, "D304": 1}


def test_data_check_reads_the_pictures(tmp_path: Path) -> None:
    """Of compressed pictures that are damaged, which nothing but decoding tells."""
    file = store(tmp_path, images=None)
    pictures = parts()["images"]
    with h5py.File(file, "a") as content:
        content.create_dataset("images", data=pictures, chunks=(1, HEIGHT, WIDTH, 1), compression="gzip")
        place = content["images"].id.get_chunk_info(3)
    with file.open("r+b") as stream:
        stream.seek(place.byte_offset)
        stream.write(b"\xff" * place.size)
    (report,) = check(file)
    assert report.findings["D102"].count == 1
    assert "picture 3" in report.findings["D102"].examples[0]
    assert "D102" not in check(file, decode=False)[0].findings


# --- the real sample --------------------------------------------------------------------------------------------------


def test_sample(shared: Path) -> None:
    dataset = deepposekit_dataset(shared / SAMPLE)
    assert (len(dataset), len(dataset.people), dataset.people.labelled.sum()) == (100, 100, 3200)
    assert dataset.skeleton == house_skeleton("fly"), "though its table pairs midlegR3 with midlegL2"
    assert any("contradict each other" in note and "midlegR3/midlegL2" in note for note in dataset.notes)
    assert any("none is marked" in note for note in dataset.notes)
    assert np.allclose(dataset.people.keypoints[0, :2], [[145.44, 91.28], [134.8, 77.44]])
    assert dataset[7].size == (192, 192)


def test_keypoints_of_the_sample_lie_on_the_flies(shared: Path) -> None:
    """Flies are bright on black: x and y in their places, bodies are under their keypoints; else they are not."""
    dataset = deepposekit_dataset(shared / SAMPLE)
    body = [dataset.skeleton.names.index(name) for name in ("neck", "thorax", "abdomen", "eyeL", "eyeR")]
    places = dataset.people.keypoints[:, body].round().astype(int)
    grey = np.stack([read_image(image)[..., 0] for image in dataset.images])
    frames = np.arange(len(grey))[:, None]
    right, swapped = grey[frames, places[..., 1], places[..., 0]], grey[frames, places[..., 0], places[..., 1]]
    assert (right > 128).mean() > 0.95
    assert (swapped > 128).mean() < 0.7


def test_check_and_convert_the_sample(shared: Path, tmp_path: Path, posecli: Posecli) -> None:
    done = posecli("data", "check", str(shared / SAMPLE))
    assert (done.returncode, "100 pictures, 100 people, 3200 labelled keypoints" in done.stdout) == (0, True)
    done = posecli("convert", "deepposekit", str(shared / SAMPLE), str(tmp_path / "fly"), "--val", "20")
    assert done.returncode == 0, done.stderr
    assert len(coco_dataset(tmp_path / "fly/train.json")) == 80
    assert len(coco_dataset(tmp_path / "fly/val.json")) == 20
    assert cv2.imread(str(next((tmp_path / "fly/images").iterdir()))).shape == (192, 192, 3)
