"""Datasets from one format to another: annotations through a writer, pictures by relative link or copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posecli import console
from posecli.config import DatasetConfig, Layers, parse_setting, validate
from posecli.console import PosecliError
from posecli.datasets.coco_writer import annotation_ids
from posecli.datasets.split import split_dataset
from posecli.datasets.writer import Writer
from posecli.files import disk_errors
from posecli.plugins import catalog
from posecli.types import Dataset, ImageSource

__all__ = ["Conversion", "Side", "Writer", "convert", "source_config"]

PICTURES = "images"


@dataclass(frozen=True)
class Side:
    """One file written."""

    file: Path
    pictures: int
    people: int
    labelled: int  # keypoints


@dataclass(frozen=True)
class Conversion:
    """What a conversion read, wrote and left out."""

    source: str
    sides: tuple[Side, ...]  # train, then val where it was asked for
    missing: tuple[str, ...]  # pictures that are not there, left out
    placed: int  # pictures in the folder of pictures; motion without pictures has none
    copied: int  # of these written, the others are links
    is_motion: bool  # whether people are followed in 3D
    notes: tuple[str, ...]
    is_pairs: bool = False  # whether it is about pairs of hands


def source_config(name: str, path: str, settings: Sequence[str] = ()) -> DatasetConfig:
    """The config of the dataset format `name` at `path`, with `KEY=VALUE` settings.

    `path` is "-" for a dataset that lies in no file. Raises PosecliError with the nearest name.
    """
    kind = catalog().find("dataset", name)
    assert issubclass(kind, DatasetConfig)
    layers = Layers()
    if "path" in kind.model_fields:
        if not Path(path).expanduser().exists():
            raise PosecliError(f"there is no {path}; give the file or folder of the {name} dataset")
        layers.add({"path": str(Path(path).expanduser())}, "IN")
    elif path != "-":
        raise PosecliError(f"the dataset {name!r} is read from no file: write - instead of {path}")
    for setting in settings:
        layers.add(parse_setting(setting), f"--set {setting}")
    return validate(kind, layers)


def convert(
    config: DatasetConfig,
    out: Path,
    writer: Writer,
    *,
    val: float = 0.2,
    seed: int = 0,
    order: str = "random",
    copy: bool = False,
    strict: bool = False,
    force: bool = False,
) -> Conversion:
    """Read a dataset and write `out/train`, `out/val` and `out/images`.

    The annotation files come last, train's at the very end, each whole or not there: an interrupted conversion never
    looks finished. `val`: share of the pictures held out, or their number; `order`: "random" by `seed`, or "order", the
    last pictures are val. Missing pictures and faulty annotations are left out, with `strict` they raise PosecliError;
    so do files that are already there, unless `force`.
    """
    files = {side: out / f"{side}{writer.suffix}" for side in ("train", "val")}
    _check_place(config, files, force)
    dataset = _numbered(config.refusing(strict).build())
    dataset, missing = _without_missing(dataset, strict)
    indices = dict(
        zip(("train", "val"), split_dataset(dataset, np.arange(len(dataset)), val, seed, order), strict=True)
    )
    for file in files.values():
        file.unlink(missing_ok=True)
    names, copied = place_pictures(dataset, out / PICTURES, copy)
    sides = []
    for side in ("val", "train"):
        if side == "train" or len(indices["val"]):
            taken = dataset.take(indices[side])
            writer.write(taken, [names[index] for index in indices[side]], files[side])
            sides.append(Side(files[side], len(taken), len(taken.people), int(taken.people.labelled.sum())))
    placed = sum(1 for name in names if name)
    moves = {"keypoints_3d", "track_id"} <= set(dataset.people.extra)
    pairs = "hand_type" in dataset.people.extra
    notes = [*dataset.notes, *_left_out(dataset, writer, sides)]
    if val and not len(indices["val"]):
        why = "there is one sample" if len(dataset) == 1 else "all samples belong together and stay so"
        notes.append(f"nothing is held out, so there is no {files['val'].name}: {why}")
    return Conversion(dataset.name, tuple(reversed(sides)), missing, placed, copied, moves, tuple(notes), pairs)


def _left_out(dataset: Dataset, writer: Writer, sides: Sequence[Side]) -> Iterator[str]:
    """What the files do not hold and somebody may look for."""
    dropped = writer.dropped(dataset)
    if dropped:
        yield f"columns that are not written: {', '.join(dropped)}"
    for side in sides:
        if not side.labelled:
            yield f"nobody is labelled in {side.file}; for another split choose another --seed or --val"


def _check_place(config: DatasetConfig, files: dict[str, Path], force: bool) -> None:
    source = getattr(config, "path", None)
    for file in files.values():
        if file.exists() and source is not None and source.exists() and file.samefile(source):
            raise PosecliError(f"{file} is what is read; choose another folder to write to")
        if file.exists() and not force:
            raise PosecliError(f"{file} is already there; choose another folder, or write over it with --force")


def _numbered(dataset: Dataset) -> Dataset:
    """The dataset with ids for its people, so that they stay unique over both sides."""
    return replace(dataset, people=dataset.people.with_extra(annotation_id=annotation_ids(dataset)))


def _without_missing(dataset: Dataset, strict: bool) -> tuple[Dataset, tuple[str, ...]]:
    there = [not isinstance(image, Path) or image.is_file() for image in dataset.images]
    missing = tuple(str(dataset.images[index]) for index, found in enumerate(there) if not found)
    if not missing:
        return dataset, ()
    if strict:
        raise PosecliError(f"{len(missing)} of {len(dataset)} pictures are missing, the first is {missing[0]}")
    if len(missing) == len(dataset):
        raise PosecliError(f"none of the {len(dataset)} pictures is there; the first looked for is {missing[0]}")
    return dataset.take(np.flatnonzero(there)), missing


# --- pictures ---------------------------------------------------------------------------------------------------------


def place_pictures(dataset: Dataset, folder: Path, copy: bool) -> tuple[list[str], int]:
    """Put every picture under `folder`, and say their names relative to it and how many were written, not linked."""
    names = picture_names(dataset.images)
    copied = 0
    with console.progress(len(names), "pictures") as bar, disk_errors(folder):
        parents: dict[Path, Path] = {}
        for image, name in zip(dataset.images, names, strict=True):
            if not name:
                continue
            target = folder / name
            if target.parent not in parents:
                target.parent.mkdir(parents=True, exist_ok=True)
                parents[target.parent] = target.parent.resolve()
            copied += _place(image, target, parents, copy)
            bar.update(1)
    return names, copied


def picture_names(images: Sequence[ImageSource]) -> list[str]:
    """Unique names: paths relative to the deepest folder that holds them all, numbers for pictures made by code, none
    ("") for motion that has no pictures."""
    paths = [os.path.abspath(image) if isinstance(image, Path) else None for image in images]
    folders = {os.path.dirname(path) for path in paths if path is not None}
    root = os.path.commonpath(folders) if folders else ""
    return [
        _made(image, index) if path is None else Path(os.path.relpath(path, root)).as_posix()
        for index, (image, path) in enumerate(zip(images, paths, strict=True))
    ]


def _made(image: ImageSource, index: int) -> str:
    return "" if isinstance(image, np.ndarray) and not image.size else f"{index:06d}.png"


def _place(image: ImageSource, target: Path, parents: dict[Path, Path], copy: bool) -> bool:
    """Link or write one picture; True when it was written."""
    if not isinstance(image, Path):
        _write_pixels(image, target)
        return True
    if target.exists() and not target.is_symlink() and target.samefile(image):
        return False  # the pictures already lie where they are to go
    if not copy and _link(image, target, parents):
        return False
    with _whole(target) as temporary:
        shutil.copyfile(image, temporary)
    return True


def _link(image: Path, target: Path, parents: dict[Path, Path]) -> bool:
    """A relative symlink, replacing what is there; False where the file system has none."""
    if image.parent not in parents:
        parents[image.parent] = image.parent.resolve()
    source = os.path.relpath(parents[image.parent] / image.name, parents[target.parent])
    temporary = target.with_name(f".{target.name}.link")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        temporary.replace(target)
    except (OSError, NotImplementedError):
        return False
    return True


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A neighbour that becomes `target` at the end; unlike `atomic_path` it does not wait for the disk each time."""
    temporary = target.with_name(f".part-{target.name}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_pixels(image: ImageSource, target: Path) -> None:
    import cv2

    from posecli.images import read_image

    _, encoded = cv2.imencode(target.suffix, cv2.cvtColor(read_image(image), cv2.COLOR_RGB2BGR))
    with _whole(target) as temporary:
        temporary.write_bytes(encoded.tobytes())  # unlike cv2.imwrite it raises when the disk is full
