"""The loader: which unit goes where, unreadable pictures, decoding shared by the units of a picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posecli import data, sharing
from posecli.console import PosecliError
from posecli.data import Loader, Order, unit_loader
from posecli.images import UnreadableImage, part_reader, read_image
from posecli.transforms import Draft, Rows, StagedTransform
from posecli.types import Array, Example, People, Sample

PICTURES = 10
PEOPLE = 3  # in each picture


class Units:
    """Three units in each of ten pictures; the unit's number is its id."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / f"{number}.jpg" for number in range(PICTURES)]
        self.sample_index = np.repeat(np.arange(PICTURES), PEOPLE)
        generator = np.random.default_rng(0)
        for path in self.paths:
            cv2.imwrite(str(path), generator.integers(0, 255, (24, 32, 3), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.sample_index)

    def __getitem__(self, index: int) -> Sample:
        return Sample(index, self.paths[self.sample_index[index]], (32, 24), People.empty(2))


@dataclass(frozen=True)
class Draw:
    """The picture's first pixel, and a number by chance."""

    wrong: int | None = None  # a unit that breaks a rule

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        if sample.id == self.wrong:
            raise PosecliError("unit 4 has no box")
        image = read_image(sample.image)
        return Example({"pixel": image[0, 0], "chance": generator.random(1)}, {}, sample, np.eye(2, 3))


@pytest.fixture
def units(tmp_path: Path) -> Units:
    return Units(tmp_path)


def epochs(loader: Loader, count: int = 2) -> list[list[tuple[list[str], list[float], list[int]]]]:
    """Ids, random numbers and pixels of every batch of the first epochs."""
    seen = []
    for epoch in range(count):
        loader.set_epoch(epoch)
        seen.append(
            [(batch.ids, batch.inputs["chance"].flatten().tolist(), batch.inputs["pixel"].tolist()) for batch in loader]
        )
    return seen


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("truncated", [False, True])
def test_batches_do_not_depend_on_the_number_of_workers(units: Units, share: bool, truncated: bool) -> None:
    if truncated:
        units.paths[3].write_bytes(units.paths[3].read_bytes()[:300])
    runs = [
        epochs(unit_loader(units, Draw(), batch_size=4, workers=workers, seed=5, shuffle=True, share_decoding=share))
        for workers in (0, 1, 2)
    ]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0] != runs[0][1]  # another order and other numbers in the next epoch


def test_seed_and_epoch_decide_everything(units: Units) -> None:
    first, again, other = (
        epochs(unit_loader(units, Draw(), batch_size=30, workers=0, seed=seed, shuffle=True), 1) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_shared_decoding_gives_the_same_units_and_decodes_once(units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr(data, "read_image", lambda image: decoded.append(image) or read_image(image))
    apart, together = (
        epochs(unit_loader(units, Draw(), batch_size=4, workers=0, shuffle=True, share_decoding=share), 1)[0]
        for share in (False, True)
    )
    rows = [
        Counter((name, chance, tuple(pixel)) for batch in run for name, chance, pixel in zip(*batch, strict=True))
        for run in (apart, together)
    ]
    assert rows[0] == rows[1]
    assert len(decoded) == PICTURES
    names = [int(name) // PEOPLE for ids, _, _ in together for name in ids]
    assert all(len(set(names[start : start + PEOPLE])) == 1 for start in range(0, len(names), PEOPLE))
    assert names != sorted(names)  # the pictures are shuffled


@pytest.mark.parametrize(
    ("room", "again"),
    [
        pytest.param(PICTURES, 0, id="room for all: nothing is decoded in the second epoch"),
        pytest.param(PICTURES - 3, 3, id="room for all but three"),
        pytest.param(0, PICTURES, id="no room"),
    ],
)
def test_kept_pictures_are_decoded_once(units: Units, monkeypatch: pytest.MonkeyPatch, room: int, again: int) -> None:
    """What is kept changes nothing but the time, whatever the number of workers."""
    size = read_image(units.paths[0]).nbytes
    plain = epochs(unit_loader(units, Draw(), batch_size=4, workers=0, shuffle=True))
    decoded: list[object] = []
    monkeypatch.setattr(data, "read_image", lambda image: decoded.append(image) or read_image(image))
    loader = unit_loader(units, Draw(), batch_size=4, workers=0, shuffle=True, share_decoding=True, keep=room * size)
    epochs(loader, 1)
    assert len(decoded) == PICTURES
    epochs(loader, 1)
    assert len(decoded) == PICTURES + again
    kept = [
        epochs(unit_loader(units, Draw(), batch_size=4, workers=workers, shuffle=True, keep=room * size))
        for workers in (0, 2)
    ]
    assert kept[0] == kept[1] == plain


def test_shared_pixels_do_not_travel_with_the_batch(units: Units) -> None:
    batch = next(iter(unit_loader(units, Draw(), batch_size=2, workers=0, share_decoding=True)))
    assert [sample.image for sample in batch.samples] == [units.paths[0]] * 2


def test_unreadable_pictures_are_skipped_and_listed(units: Units) -> None:
    units.paths[3].write_bytes(units.paths[3].read_bytes()[:300])
    units.paths[7].unlink()
    loader = unit_loader(units, Draw(), batch_size=4, workers=2)
    seen = [int(name) for batch in loader for name in batch.ids]
    assert seen == [unit for unit in range(30) if unit // PEOPLE not in (3, 7)]
    assert [line.split(": ", 1)[0] for line in sorted(loader.skipped)] == [str(units.paths[3]), str(units.paths[7])]
    list(loader)
    assert len(loader.skipped) == 2  # each once


def test_training_batches_keep_their_size_beside_unreadable_pictures(units: Units) -> None:
    units.paths[3].unlink()
    loader = unit_loader(units, Draw(), batch_size=5, workers=0, shuffle=True)
    assert [len(batch) for batch in loader] == [5] * 6
    assert len(loader.skipped) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_strict_refuses_an_unreadable_picture(units: Units, workers: int) -> None:
    units.paths[3].write_bytes(units.paths[3].read_bytes()[:300])
    with pytest.raises(UnreadableImage, match=r"^\S*3\.jpg: truncated JPEG$"):
        list(unit_loader(units, Draw(), batch_size=4, workers=workers, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_data_reaches_the_user_as_one_line(units: Units, workers: int) -> None:
    with pytest.raises(PosecliError, match=r"^unit 4 has no box$"):
        list(unit_loader(units, Draw(wrong=4), batch_size=4, workers=workers))


@pytest.mark.parametrize(
    ("count", "size", "options", "batches"),
    [
        (10, 4, {}, 3),  # the last is incomplete
        (10, 4, {"drop_last": True}, 2),
        (3, 4, {"drop_last": True}, 1),  # the only one stays
        (30, 4, {"drop_last": True, "accumulate": 2}, 6),  # seven, less one
        (30, 4, {"accumulate": 3}, 6),
        (6, 4, {"accumulate": 4}, 2),  # too few for one full step: they make one
        (10, 4, {"world": 2}, 2),
        (10, 4, {"world": 2, "drop_last": True}, 1),
    ],
)
def test_number_of_training_batches(count: int, size: int, options: dict[str, int], batches: int) -> None:
    order = Order(count, size, shuffle=True, **options)  # type: ignore[arg-type]
    assert len(order) == len(list(order)) == batches


@pytest.mark.parametrize("count", [1, 7, 16, 17])
def test_ranks_together_train_on_the_batches_of_one_process(count: int) -> None:
    alone = list(Order(count, 8, seed=3, shuffle=True))
    halves = zip(*(Order(count, 4, seed=3, shuffle=True, rank=rank, world=2) for rank in (0, 1)), strict=True)
    for batch, (first, second) in zip(alone, halves, strict=True):
        assert len(first) == len(second)
        joined = first + second
        assert joined[: len(batch)] == batch
        assert set(joined) == set(batch)  # an incomplete batch repeats its own units


@pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 3), (2, 3), (0, 2)])
def test_evaluation_shards_have_every_unit_once(count: int, world: int) -> None:
    seen = [key for rank in range(world) for batch in Order(count, 3, rank=rank, world=world) for key in batch]
    assert sorted(seen) == [(0, unit) for unit in range(count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_begin_in_the_middle(units: Units, workers: int) -> None:
    loader = unit_loader(units, Draw(), batch_size=4, workers=workers, shuffle=True)
    loader.set_epoch(1)
    whole = [batch.ids for batch in loader]
    loader.set_epoch(1, skip=3)
    assert [batch.ids for batch in loader] == whole[3:]


@dataclass(frozen=True)
class Sized:
    """Pictures of three sizes in turn."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        height = 8 * (1 + int(sample.id) % 3)
        return Example({"image": np.full((height, 8, 3), sample.id, np.uint8)}, {}, sample, np.eye(2, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_unequal_sizes_come_in_batches_of_their_own(units: Units, workers: int) -> None:
    batches = list(unit_loader(units, Sized(), batch_size=7, workers=workers))
    assert {tuple(batch.inputs["image"].shape[1:]) for batch in batches} == {(8, 8, 3), (16, 8, 3), (24, 8, 3)}
    for batch in batches:
        assert batch.inputs["image"][:, 0, 0, 0].tolist() == [int(name) for name in batch.ids]
    assert sorted(int(name) for batch in batches for name in batch.ids) == list(range(30))


@dataclass(frozen=True)
class Staged(StagedTransform):
    """The picture in one of three sizes, with a number of the sample written over it; into rows that fit, if any."""

    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        size = 8, 8 * (1 + int(sample.id) // 4 % 3)
        chance = generator.random(1)
        read = part_reader(sample.image, np.eye(2, 3), size)

        def inputs(rows: Rows) -> dict[str, Array]:
            image = read(rows.get("image"))
            image[0, 0, 0] = sample.id
            return {"image": image, "chance": chance}

        return Draft({}, sample, np.eye(2, 3), inputs)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_examples_written_into_the_batch_are_those_made_alone(units: Units, workers: int, share: bool) -> None:
    """Also where sizes change within a batch, and where a picture cannot be read."""
    units.paths[3].write_bytes(units.paths[3].read_bytes()[:300])
    seen = 0
    for batch in unit_loader(units, Staged(), batch_size=8, workers=workers, seed=2, share_decoding=share):
        assert [str(sample.image) for sample in batch.samples] == [str(units[int(name)].image) for name in batch.ids]
        for row, name in enumerate(batch.ids):
            alone = Staged()(units[int(name)], np.random.default_rng((2, 0, int(name))))
            assert np.array_equal(batch.inputs["image"][row], alone.inputs["image"])
            assert np.array_equal(batch.inputs["chance"][row], alone.inputs["chance"])
            seen += 1
    assert seen == 27


def test_batches_that_are_kept_are_not_overwritten(units: Units) -> None:
    """The workers' memory is used again; what was handed out is not."""
    kept = list(unit_loader(units, Draw(), batch_size=1, workers=1))
    assert [batch.inputs["chance"].item() for batch in kept] == [
        batch.inputs["chance"].item() for batch in unit_loader(units, Draw(), batch_size=1, workers=0)
    ]


def test_what_is_larger_than_a_slot_travels_all_the_same(units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SLOT_BYTES", 2 * sharing.PAGE)
    assert epochs(unit_loader(units, Draw(), batch_size=4, workers=1), 1) == epochs(
        unit_loader(units, Draw(), batch_size=4, workers=0), 1
    )
    large, small = (list(unit_loader(units, Sized(), batch_size=30, workers=workers)) for workers in (1, 0))
    for one, other in zip(large, small, strict=True):
        assert torch.equal(one.inputs["image"], other.inputs["image"])
