"""DeepPoseKit annotation sets (Graving et al., eLife 2019): pictures and keypoints of one animal each, in one .h5 file.

It has `images` (N, H, W, C) uint8, grey or in OpenCV's order BGR; `annotations` (N, K, 2), x and y in pixels whose
centres lie at integers; `annotated` (N, K), whether somebody has confirmed a keypoint; and `skeleton` (K, 2), the
number of each keypoint's parent and of its mirror partner, -1 for none. Names are in a skeleton.csv beside it (columns
name, parent, swap), and in newer files, cut to ten letters, in `skeleton_names`.
"""

from __future__ import annotations

import csv
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.console import PosecliError
from posecli.datasets.coco_skeleton import read_skeleton
from posecli.geometry import box_areas, keypoint_boxes
from posecli.images import UnreadableImage
from posecli.skeleton import Skeleton
from posecli.types import Array, BoolArray, Dataset, FloatArray, ImageArray, ImageSource, IntArray, Made, People


@dataclass(frozen=True)
class _Part:
    """What an array of the file must look like."""

    shape: str
    axes: int
    last: tuple[int, ...]  # lengths that the last axis may have; () for any
    kinds: str  # numpy's letters of what it may hold


PARTS = {
    "images": _Part("(N, H, W, 1 or 3)", 4, (1, 3), "u"),
    "annotations": _Part("(N, K, 2)", 3, (2,), "iuf"),
    "annotated": _Part("(N, K)", 2, (), "biu"),
    "skeleton": _Part("(K, 2)", 2, (2,), "iu"),
}
FILLS = (-1.0, 0.0)  # both coordinates of a keypoint that DeepPoseKit has put nowhere yet
Partner = tuple[int, int]


def deepposekit_dataset(path: Path, box: str = "auto", labels: str = "auto", skeleton: str | None = None) -> Dataset:
    """The pictures of a file in which at least one keypoint is labelled; ids are their places in it, from 0.

    `box`: "keypoints", tight; "frame" and "auto", the whole picture. `labels`: "annotated", the keypoints that are
    marked so; "placed", all that lie somewhere; "auto", these where none of the file is marked. `skeleton`: a shipped
    skeleton's name or a YAML file, over what the file says. Raises PosecliError naming what is missing or wrong.
    """
    path = _file(path)
    stored = _read(path)
    places, labelled, notes = _labelled(path, stored, labels)
    keypoints = np.where(labelled[..., None], places, np.nan).astype(np.float32)
    kept = np.flatnonzero(labelled.any(axis=1))
    if len(kept) < len(keypoints):
        notes.append(f"{len(keypoints) - len(kept)} pictures without a labelled keypoint are left out")
    keypoints, labelled = keypoints[kept], labelled[kept]
    height, width = stored.pictures[1:3]
    sizes = np.tile(np.array([width, height], dtype=np.int64), (len(kept), 1))
    boxes = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.float64)
    if box == "keypoints":
        boxes = keypoint_boxes(keypoints).astype(np.float64)
    described, described_by = _skeleton(path, stored, skeleton)
    notes.append("boxes are tight around the labelled points" if box == "keypoints" else "boxes are the whole frame")
    extra: dict[str, Array] = {"area": box_areas(boxes), "crowd": np.zeros(len(kept), dtype=bool)}
    return Dataset(
        name=path.stem,
        skeleton=described,
        ids=kept.tolist(),
        sizes=sizes,
        offsets=np.arange(len(kept) + 1),
        people=People(keypoints, np.where(labelled, 2, 0).astype(np.float32), boxes, None, extra),
        images=Pictures(PictureFile(path), kept),
        notes=tuple(notes + described_by),
    )


# --- the file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """What a file holds beside its pixels."""

    pictures: tuple[int, int, int, int]  # N, H, W, C
    annotations: FloatArray  # (N, K, 2)
    annotated: BoolArray  # (N, K)
    skeleton: IntArray  # (K, 2): parent and partner, below 0 for none
    names: tuple[str, ...] | None  # (K,), at most ten letters each


def _file(path: Path) -> Path:
    """The file, or the only one of a folder."""
    found = sorted(path.glob("*.h5")) if path.is_dir() else []
    if len(found) > 1:
        raise PosecliError(f"{path} is a folder; name one file in it: {', '.join(file.name for file in found)}")
    return found[0] if found else path


def _read(path: Path) -> _Stored:
    with _opened(path) as file:
        parts = {name: _part(path, file, name) for name in PARTS}
        names = file.get("skeleton_names")
        try:
            annotations, annotated, skeleton = (np.asarray(parts[name][:]) for name in list(PARTS)[1:])
            texts = None if names is None else tuple(_text(name) for name in names[:])
        except (OSError, TypeError, ValueError) as error:
            raise PosecliError(f"{path}: damaged: {error}") from error
        pictures = parts["images"].shape
    _check_shapes(path, pictures, annotations, annotated, skeleton)
    return _Stored(pictures, annotations.astype(np.float64), annotated != 0, skeleton.astype(np.int64), texts)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open file, an `h5py.File`. Raises PosecliError where there is none."""
    if not path.is_file():
        raise PosecliError(f"no file {path}: give the .h5 file of a DeepPoseKit annotation set")
    h5py = _h5py(path)
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise PosecliError(f"{path} is not an HDF5 file that can be read: {error}") from error
    with file:
        yield file


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise PosecliError(f"reading {path.name} needs the package h5py: pip install 'posecli[hdf5]'") from error
    return h5py


def _part(path: Path, file: Any, name: str) -> Any:
    """One of PARTS as an `h5py.Dataset` that holds numbers of a fitting kind."""
    found = file.get(name)
    part = PARTS[name]
    if not hasattr(found, "dtype"):
        raise PosecliError(
            f"{path} holds no `{name}` {part.shape}: a DeepPoseKit annotation set has {', '.join(PARTS)}; "
            f"this file has {', '.join(sorted(file)) or 'nothing'}"
        )
    if found.dtype.kind not in part.kinds or (name == "images" and found.dtype != np.uint8):
        wanted = "uint8" if name == "images" else "numbers"
        raise PosecliError(f"{path}: `{name}` holds {found.dtype} instead of {wanted}")
    return found


def _check_shapes(path: Path, pictures: tuple[int, ...], annotations: Array, annotated: Array, skeleton: Array) -> None:
    shapes = (pictures, annotations.shape, annotated.shape, skeleton.shape)
    for (name, part), shape in zip(PARTS.items(), shapes, strict=True):
        if len(shape) != part.axes or 0 in shape or (part.last and shape[-1] not in part.last):
            raise PosecliError(f"{path}: `{name}` has shape {shape}, which is not {part.shape}")
    count, joints = annotations.shape[:2]
    if not (pictures[0] == count == len(annotated) and joints == annotated.shape[1] == len(skeleton)):
        said = ", ".join(f"`{name}` {shape}" for name, shape in zip(PARTS, shapes, strict=True))
        raise PosecliError(f"{path}: the shapes do not fit each other: {said}")


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _labelled(path: Path, stored: _Stored, labels: str) -> tuple[FloatArray, BoolArray, list[str]]:
    """Keypoints (N, K, 2), which of them count as labelled (N, K), and a sentence about that."""
    places = stored.annotations
    filled = [(places == fill).all(axis=-1) for fill in FILLS]
    placed: BoolArray = np.isfinite(places).all(axis=-1) & ~np.logical_or.reduce(filled)
    if not placed.any():
        raise PosecliError(f"{path}: no keypoint has a place in any picture: annotate some in DeepPoseKit first")
    marked: BoolArray = placed & stored.annotated
    if labels == "placed" or (labels == "auto" and not stored.annotated.any()):
        why = (
            "as asked" if labels == "placed" else "since none is marked as annotated; it may be a guess of DeepPoseKit"
        )
        return places, placed, [f"every keypoint that has a place counts as labelled, {why}"]
    if not marked.any():
        raise PosecliError(
            f"{path}: no keypoint is marked as annotated: annotate some in DeepPoseKit, or take all that have a place "
            "by --set data.train.labels=placed and data.val.labels=placed (convert: --set labels=placed)"
        )
    return places, marked, []


# --- the skeleton -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Keypoints:
    """What a skeleton.csv says; None where it has no such column."""

    names: tuple[str, ...]
    parents: list[int] | None  # of each keypoint, -1 for none
    partners: list[int] | None


def _skeleton(path: Path, stored: _Stored, override: str | None) -> tuple[Skeleton, list[str]]:
    """Names from skeleton.csv or the file; parents and partners from where the names are, else from `skeleton`."""
    count = len(stored.skeleton)
    table = path.parent / "skeleton.csv"
    notes: list[str] = []
    parents, partners = (_numbers(path, column, count) for column in stored.skeleton.T)
    origin = path
    if table.is_file() and override is None:
        told = _read_table(table)
        if len(told.names) != count:
            raise PosecliError(f"{table} names {len(told.names)} keypoints, {path} has {count}")
        names = told.names
        parents = parents if told.parents is None else told.parents
        if told.partners is not None:
            partners, origin = told.partners, table
    elif stored.names is not None and len(set(stored.names)) == count:  # cut short, several may become one
        names = stored.names
    else:
        names = tuple(f"keypoint{number}" for number in range(1, count + 1))
        if override is None:
            notes.append(
                f"the keypoints have no names: put DeepPoseKit's skeleton.csv beside {path.name}, or name a skeleton "
                "by skeleton=NAME, as fly"
            )
    links = [[child + 1, parent + 1] for child, parent in enumerate(parents) if parent >= 0]
    pairs, conflicts = _pairs(partners)
    category: dict[str, Any] = {"name": "deepposekit", "keypoints": names, "skeleton": links}
    if conflicts and override is None:
        listed = ", ".join(f"{names[one]}/{names[other]}" for one, other in conflicts)
        notes.append(f"the swap partners in {origin.name} are not used, for they contradict each other: {listed}")
    elif pairs:
        category["flip_pairs"] = pairs
    skeleton, found = read_skeleton(path, category, override)
    return skeleton, notes + found


def _numbers(path: Path, column: IntArray, count: int) -> list[int]:
    numbers: list[int] = column.tolist()
    for keypoint, number in enumerate(numbers):
        if number >= count:
            raise PosecliError(f"{path}: `skeleton` joins keypoint {keypoint} with {number}; there are {count}, from 0")
    return [-1 if number == keypoint else number for keypoint, number in enumerate(numbers)]


def _read_table(file: Path) -> _Keypoints:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.DictReader(stream) if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PosecliError(f"{file} is not a CSV file that can be read: {error}") from error
    if not rows or "name" not in rows[0]:
        raise PosecliError(f"{file}: no column `name`; DeepPoseKit's skeleton.csv has name, parent and swap")
    names = tuple((row["name"] or "").strip() for row in rows)
    index = {name: place for place, name in enumerate(names)}

    def joined(column: str) -> list[int] | None:
        if column not in rows[0]:
            return None
        texts = [(row[column] or "").strip() for row in rows]
        for name, text in zip(names, texts, strict=True):
            if text and text not in index:
                raise PosecliError(f"{file}: {column} of {name} is {text!r}, which is no keypoint")
        return [index[text] if text and text != name else -1 for name, text in zip(names, texts, strict=True)]

    return _Keypoints(names, joined("parent"), joined("swap"))


def _pairs(partners: Sequence[int]) -> tuple[list[Partner], list[Partner]]:
    """Mirror pairs, each once and in order, and those of keypoints that stand in several.

    One side may say it for both.
    """
    pairs = sorted({(min(one, other), max(one, other)) for one, other in enumerate(partners) if other >= 0})
    stands = [index for pair in pairs for index in pair]
    return pairs, [pair for pair in pairs if any(stands.count(index) > 1 for index in pair)]


# --- pictures ---------------------------------------------------------------------------------------------------------


class PictureFile:
    """The pictures of a file, opened by each process for itself when it first reads one; it pickles as the path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, Any] | None = None  # the process that opened it, and `images` (N, H, W, C)

    def __reduce__(self) -> tuple[type[PictureFile], tuple[Path]]:
        return PictureFile, (self.path,)

    def read(self, index: int) -> ImageArray:
        """The picture at a place in the file, (H, W, 3) RGB. Raises UnreadableImage."""
        try:
            pixels = np.asarray(self._images()[index])
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise UnreadableImage(f"{self.path}, picture {index}: {error}") from error
        code = cv2.COLOR_GRAY2RGB if pixels.shape[2] == 1 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)

    def _images(self) -> Any:
        """`images` as this process has opened it.

        What a fork inherits is left alone, and HDF5, which knows files by their place on the disk, would take it again
        for the same path; it does not so with a stream.
        """
        process = os.getpid()
        if self._open is None or self._open[0] != process:
            h5py = _h5py(self.path)
            stream = self.path.open("rb", buffering=0)
            file = h5py.File(stream, "r")
            weakref.finalize(self, _close, file, stream)
            self._open = process, file["images"]
        return self._open[1]


def _close(file: Any, stream: FileIO) -> None:
    file.close()
    stream.close()


@dataclass(frozen=True)
class Picture:
    """One picture of a file: pixels when it is called."""

    file: PictureFile
    index: int  # in the file

    def __call__(self) -> ImageArray:
        return self.file.read(self.index)


class Pictures(Made[ImageSource]):
    """Some pictures of a file."""

    def __init__(self, file: PictureFile, indices: IntArray) -> None:
        self.file = file
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> Picture:
        return Picture(self.file, int(self.indices[index]))
