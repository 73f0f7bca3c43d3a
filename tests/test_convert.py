"""convert: what is written reads back identical; pictures, splits, refusals; the command itself."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli import conversion
from posecli.config import DatasetConfig, dump, layers_of, validate
from posecli.console import PosecliError, RunFailed
from posecli.conversion import convert, picture_names, source_config
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import DATASETS, CocoConfig
from posecli.datasets.table import COLUMNS, CsvWriter
from posecli.datasets.writer import Writer
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset, ImageArray, People

SKELETONS = [
    house_skeleton("coco"),
    house_skeleton("coco_wholebody_hand"),
    Skeleton("mouse", ("a", "left b", "right b"), ((0, 1),), ((1, 2),), (0.1, 0.2, 0.3), (1.0, 2.0, 0.5), (0,)),
    Skeleton("bare", ("one", "two")),
    Skeleton("named", ("one", "two"), flip_pairs=(), colors=((1, 2, 3), (4, 5, 6))),
]


def made(folder: Path, skeleton: Skeleton, seed: int = 0, pictures: int = 6) -> Dataset:
    """Random people in real files, some crowds, some unlabelled, some pictures empty."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 4, pictures)
    counts[0] = 2
    people, joints = int(counts.sum()), len(skeleton)
    scores = generator.integers(0, 3, (people, joints)).astype(np.float32)
    scores[0] = 0
    points = generator.uniform(0, 100, (people, joints, 2)).astype(np.float32)
    low = generator.uniform(0, 50, (people, 2)).round(2)
    boxes = np.concatenate([low, low + generator.uniform(1, 50, (people, 2)).round(2)], axis=1)
    extra = {
        "area": generator.uniform(10, 3000, people).round(4),
        "crowd": generator.random(people) < 0.2,
        "annotation_id": generator.permutation(1000)[:people],
        "category": np.full(people, 3),
    }
    paths = [folder / f"video{index % 2}" / f"{index}.png" for index in range(pictures)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((110, 120, 3), 50, np.uint8))
    return Dataset(
        name="made",
        skeleton=skeleton,
        ids=[f"frame {index}" if seed else index * 7 for index in range(pictures)],
        sizes=np.tile([[120, 110]], (pictures, 1)),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        people=People(np.where(scores[..., None] > 0, points, np.nan).astype(np.float32), scores, boxes, None, extra),
        images=paths,
        ignore={0: (np.array([[1, 2], [30, 2], [30, 40.5]], np.float32),)},
        categories={3: skeleton.name if skeleton.name != "named" else "another"},
    )


class Given(DatasetConfig):
    """A dataset that is already there."""

    name = "given"
    folder: Path
    skeleton: int = 0
    seed: int = 0

    def build(self) -> Dataset:
        return made(self.folder, SKELETONS[self.skeleton], self.seed)


def assert_same(first: Dataset, second: Dataset) -> None:
    assert list(first.ids) == list(second.ids)
    assert first.skeleton == second.skeleton
    assert first.categories == second.categories
    assert first.offsets.tolist() == second.offsets.tolist()
    assert first.sizes.tolist() == second.sizes.tolist()
    assert first.people.scores.tolist() == second.people.scores.tolist()
    assert np.allclose(first.people.keypoints, second.people.keypoints, rtol=0, atol=1e-3, equal_nan=True)
    assert first.people.boxes is not None
    assert second.people.boxes is not None
    assert np.allclose(first.people.boxes, second.people.boxes, rtol=0, atol=2e-6)
    for name in ("area", "crowd", "annotation_id", "category"):
        assert np.allclose(first.people.extra[name], second.people.extra[name], rtol=0, atol=1e-6), name
    for one, two in zip(first.images, second.images, strict=True):
        assert isinstance(one, Path)
        assert isinstance(two, Path)
        assert one.samefile(two)
    for index in range(len(first)):
        regions = zip(first[index].ignore, second[index].ignore, strict=True)
        assert all(np.allclose(one, two, atol=1e-3) for one, two in regions)


@pytest.mark.parametrize("skeleton", range(len(SKELETONS)), ids=[skeleton.name for skeleton in SKELETONS])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("copy", [False, True])
def test_written_and_read_back_is_identical(tmp_path: Path, skeleton: int, seed: int, copy: bool) -> None:
    config = Given(folder=tmp_path / "in", skeleton=skeleton, seed=seed)
    done = convert(config, tmp_path / "out", CocoWriter(), val=0, copy=copy)
    written = coco_dataset(done.sides[0].file)
    source = config.build()
    if copy:
        assert all(not path.is_symlink() for path in written.images if isinstance(path, Path))
        assert done.copied == len(source)
        written = coco_dataset(done.sides[0].file, images=tmp_path / "in")
    assert_same(source, written)


def test_links_are_relative_and_survive_a_move(tmp_path: Path) -> None:
    convert(Given(folder=tmp_path / "here" / "in"), tmp_path / "here" / "out", CocoWriter(), val=0)
    (tmp_path / "here").rename(tmp_path / "there")
    dataset = coco_dataset(tmp_path / "there" / "out" / "train.json")
    assert all(path.is_symlink() and path.is_file() for path in dataset.images if isinstance(path, Path))
    first = dataset.images[0]
    assert isinstance(first, Path)
    assert not os.path.isabs(os.readlink(first))


def test_both_sides_hold_everything_once(tmp_path: Path) -> None:
    config = Given(folder=tmp_path / "in")
    done = convert(config, tmp_path / "out", CocoWriter(), val=0.5, seed=4)
    assert [side.file.name for side in done.sides] == ["train.json", "val.json"]
    sides = [coco_dataset(side.file) for side in done.sides]
    assert sorted([*sides[0].ids, *sides[1].ids]) == sorted(config.build().ids)
    identities = [*sides[0].people.extra["annotation_id"], *sides[1].people.extra["annotation_id"]]
    assert sorted(identities) == sorted(config.build().people.extra["annotation_id"])


def test_split_by_order(tmp_path: Path) -> None:
    done = convert(Given(folder=tmp_path / "in"), tmp_path / "out", CocoWriter(), val=2, order="order")
    assert list(coco_dataset(done.sides[1].file).ids) == [28, 35]


def test_missing_pictures_are_left_out_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path / "in", SKELETONS[0])
    (tmp_path / "in/video1/3.png").unlink()
    monkeypatch.setattr(Given, "build", lambda self: source)
    config = Given(folder=tmp_path / "in")
    with pytest.raises(PosecliError, match="1 of 6 pictures are missing"):
        convert(config, tmp_path / "strict", CocoWriter(), strict=True)
    done = convert(config, tmp_path / "out", CocoWriter(), val=0)
    assert done.missing == (str(tmp_path / "in/video1/3.png"),)
    assert list(coco_dataset(done.sides[0].file).ids) == [0, 7, 14, 28, 35]


def test_nothing_is_written_over_unasked(tmp_path: Path) -> None:
    config = Given(folder=tmp_path / "in")
    convert(config, tmp_path / "out", CocoWriter())
    with pytest.raises(PosecliError, match=r"already there.*--force"):
        convert(config, tmp_path / "out", CocoWriter())
    convert(config, tmp_path / "out", CocoWriter(), val=0, force=True)
    assert not (tmp_path / "out/val.json").exists(), "the val side of the first conversion is gone"
    with pytest.raises(PosecliError, match="is what is read"):
        convert(CocoConfig(path=tmp_path / "out/train.json"), tmp_path / "out", CocoWriter(), force=True)


def test_a_split_that_cannot_be_leaves_everything_as_it_was(tmp_path: Path) -> None:
    config = Given(folder=tmp_path / "in")
    done = convert(config, tmp_path / "out", CocoWriter())
    before = [side.file.read_bytes() for side in done.sides]
    with pytest.raises(PosecliError, match="leave none to train on"):
        convert(config, tmp_path / "out", CocoWriter(), val=10, force=True)
    assert [side.file.read_bytes() for side in done.sides] == before
    with pytest.raises(PosecliError, match="leave none to train on"):
        convert(config, tmp_path / "new", CocoWriter(), val=10)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("writer", [CocoWriter(), CsvWriter()], ids=["coco", "csv"])
def test_a_side_without_people_is_written_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Writer
) -> None:
    source = made(tmp_path / "in", SKELETONS[0], pictures=1)
    empty = replace(
        source,
        ids=[0, 1],
        sizes=np.tile(source.sizes, (2, 1)),
        offsets=np.append(source.offsets, source.offsets[-1]),
        images=[*source.images] * 2,
    )
    monkeypatch.setattr(Given, "build", lambda self: empty)
    done = convert(Given(folder=tmp_path), tmp_path / "out", writer, val=1, order="order")
    assert [side.people for side in done.sides] == [2, 0]
    assert [note for note in done.notes if "nobody is labelled in" in note and f"val{writer.suffix};" in note]


def test_whole_numbers_are_carried_and_other_columns_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path / "in", SKELETONS[0])
    count = len(source.people)
    facing = np.arange(count) % 4
    people = source.people.with_extra(facing=facing, shape=np.zeros((count, 10)))
    monkeypatch.setattr(Given, "build", lambda self: replace(source, people=people))
    done = convert(Given(folder=tmp_path), tmp_path / "out", CocoWriter(), val=0)
    assert done.notes == ("columns that are not written: shape",)
    assert coco_dataset(done.sides[0].file).people.extra["facing"].tolist() == facing.tolist()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFailed, match="no space left"):
        convert(source_config("synthetic", "-", ["count=2"]), tmp_path / "out", CocoWriter(), val=0)
    assert not list((tmp_path / "out/images").iterdir())


def test_an_interrupted_conversion_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> object:
        yield {"id": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr("posecli.datasets.coco_writer.annotation_records", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(Given(folder=tmp_path / "in"), tmp_path / "out", CocoWriter())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images"]


def test_without_links_pictures_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    done = convert(Given(folder=tmp_path / "in"), tmp_path / "out", CocoWriter(), val=0)
    assert done.copied == 6
    first = coco_dataset(done.sides[0].file).images[0]
    assert isinstance(first, Path)
    assert first.is_file()
    assert not first.is_symlink()


def test_pictures_already_in_place_stay(tmp_path: Path) -> None:
    config = Given(folder=tmp_path / "out" / "images")
    done = convert(config, tmp_path / "out", CocoWriter(), val=0)
    assert_same(config.build(), coco_dataset(done.sides[0].file))


def test_picture_names() -> None:
    paths = [Path("/data/p/v/0.png"), Path("/data/p/w/0.png")]
    assert picture_names(paths) == ["v/0.png", "w/0.png"]
    assert picture_names(paths[:1]) == ["0.png"]
    assert picture_names([np.zeros((2, 2, 3), np.uint8)] * 2) == ["000000.png", "000001.png"]


def test_pictures_made_by_code_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels: ImageArray = np.zeros((110, 120, 3), np.uint8)
    pixels[..., 0] = 200
    source = made(tmp_path / "in", SKELETONS[0], pictures=2)
    shown = Dataset(source.name, source.skeleton, source.ids, source.sizes, source.offsets, source.people, [pixels] * 2)
    monkeypatch.setattr(Given, "build", lambda self: shown)
    convert(Given(folder=tmp_path), tmp_path / "out", CocoWriter(), val=0)
    stored = cv2.imread(str(tmp_path / "out/images/000001.png"))
    assert stored[0, 0].tolist() == [0, 0, 200], "red, in OpenCV's order"


def test_long_csv(tmp_path: Path) -> None:
    config = Given(folder=tmp_path / "in", skeleton=2)
    done = convert(config, tmp_path / "out", CsvWriter(), val=0)
    with done.sides[0].file.open(newline="") as stream:
        lines = list(csv.reader(stream))
    people = config.build().people
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) - 1 == int(people.labelled.sum()) == done.sides[0].labelled
    row, joint = np.argwhere(people.labelled)[0]
    assert lines[1][:4] == ["0", "video0/0.png", str(row), config.build().skeleton.names[joint]]
    assert float(lines[1][4]) == pytest.approx(people.keypoints[row, joint, 0], abs=1e-3)


def test_written_files_are_what_pycocotools_reads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    done = convert(Given(folder=tmp_path / "in"), tmp_path / "out", CocoWriter(), val=0)
    known = COCO(str(done.sides[0].file))
    assert len(known.getImgIds()) == 6
    assert known.loadCats(3)[0]["keypoints"][0] == "nose"


@pytest.mark.parametrize("kind", DATASETS, ids=[kind.name for kind in DATASETS])
def test_dataset_configs_survive_yaml(kind: type[DatasetConfig]) -> None:
    fields: dict[str, object] = {"path": "some/where"} if "path" in kind.model_fields else {}
    if "photos" in kind.model_fields:
        fields["photos"] = {"use": "lspet", "path": "some/where"}
    if "parts" in kind.model_fields:
        fields["parts"] = [{"data": {"use": "lspet", "path": "some/where"}, "share": 1}]
    config = kind.model_validate(fields)
    layers = layers_of(None)
    layers.add(dump(config), "test")
    assert validate(DatasetConfig, layers) == config


def test_sources_are_named(tmp_path: Path) -> None:
    config = source_config("coco", str(tmp_path), ["category=mouse", "first=3"])
    assert config == CocoConfig(path=tmp_path, category="mouse", first=3)
    with pytest.raises(PosecliError, match="did you mean 'coco'"):
        source_config("cooco", str(tmp_path))
    with pytest.raises(PosecliError, match="did you mean 'category'"):
        source_config("coco", str(tmp_path), ["categry=mouse"])
    with pytest.raises(PosecliError, match="there is no"):
        source_config("coco", str(tmp_path / "nothing"))
    with pytest.raises(PosecliError, match="write - instead"):
        source_config("synthetic", str(tmp_path))


# --- the command ------------------------------------------------------------------------------------------------------


def posecli(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posecli", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_convert_wholebody_command(shared: Path, tmp_path: Path) -> None:
    file = shared / "data/format-samples/coco/test_coco_wholebody.json"
    done = posecli("convert", "coco-wholebody", file, "out", "--val", 0.25, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out/train.json" in done.stdout
    assert "next: posecli train --algo topdown --data out" in done.stderr
    sides = [json.loads((tmp_path / "out" / f"{side}.json").read_text()) for side in ("train", "val")]
    assert [len(side["images"]) for side in sides] == [3, 1]
    assert sum(len(side["annotations"]) for side in sides) == 14
    read = coco_dataset(tmp_path / "out/train.json")
    assert read.skeleton == house_skeleton("coco_wholebody")
    assert sum(note in done.stdout for note in ("all linked", "4 pictures")) == 2


def test_convert_dataset_is_the_same_and_takes_options(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/deeplabcut-openfield"
    words = ("convert-dataset", "deeplabcut", source, "out", "--val", 24, "--split", "order", "--set", "box=keypoints")
    done = posecli(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    train, val = (coco_dataset(tmp_path / "out" / f"{side}.json") for side in ("train", "val"))
    assert (len(train), len(val)) == (92, 24)
    assert val.ids[0] == "m4s1/img0092.png"
    assert train.people.boxes is not None
    assert train.people.boxes[0].tolist() == pytest.approx([19.984, 152.698, 87.11, 265.941], abs=1e-3)


def test_convert_lspet_reads_back(shared: Path, tmp_path: Path) -> None:
    source = source_config("lspet", str(shared / "data/lspet"), ["first=40"])
    done = conversion.convert(source, tmp_path / "out", CocoWriter(), val=0)
    written = coco_dataset(done.sides[0].file)
    original = source.build()
    assert np.allclose(written.people.keypoints, original.people.keypoints, atol=1e-3, equal_nan=True)
    assert written.skeleton == original.skeleton
    assert list(written.ids) == list(original.ids)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("convert", "coco", "nothing.json", "out"), "there is no nothing.json"),
        (("convert", "cooc", ".", "out"), "did you mean 'coco'"),
        (("convert", "coco", ".", "out"), "name one annotation file in it: none"),
        (("convert", "coco", ".", "out", "--split", "odd"), "--split odd"),
        (("convert", "coco", ".", "out", "--to", "xml"), "no writer named 'xml'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = posecli(*words, folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
