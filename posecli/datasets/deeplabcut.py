"""DeepLabCut projects: config.yaml and labeled-data/VIDEO/CollectedData_SCORER.csv.

The CSV has header lines that begin with scorer, individuals (multi-animal projects only), bodyparts and coords. The
picture stands in one column (`labeled-data/video/img0000.png`, with either slash) or in three. An empty or NaN
coordinate is a point nobody labelled. The .h5 beside the CSV holds the same and is not read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posecli.config import read_yaml
from posecli.console import PosecliError
from posecli.datasets.pictures import picture_sizes
from posecli.geometry import box_areas, keypoint_boxes
from posecli.skeleton import Skeleton, flip_pairs_from_names
from posecli.types import Array, Dataset, FloatArray, IntArray, People

_HEADERS = ("scorer", "individuals", "bodyparts", "coords")
_SINGLE = "single"  # DeepLabCut's name for the points of no individual
Point = tuple[float, float]


@dataclass
class _Frames:
    """What the CSV files hold: pictures in order, and for each its labelled animals."""

    pictures: list[Path] = field(default_factory=list)
    animals: list[list[dict[str, Point]]] = field(default_factory=list)  # per picture, per animal: point by body part
    individuals: bool = False


def deeplabcut_dataset(path: Path, box: str = "auto") -> Dataset:
    """All labelled frames of a project, videos in the order of their names; ids are `VIDEO/FILE`.

    `box`: "frame", the whole picture; "keypoints", tight; "auto", the frame unless several animals are labelled.
    Raises PosecliError naming what is missing.
    """
    project = path.parent if path.name == "config.yaml" else path
    fields = _read_project(project)
    files = _label_files(project, str(fields.get("scorer", "")))
    frames = _Frames()
    for file in files:
        _read_labels(file, frames)
    names = _body_parts(fields, files)
    return _dataset(project, fields, names, frames, box)


def _read_project(project: Path) -> dict[str, Any]:
    file = project / "config.yaml"
    if not file.is_file():
        raise PosecliError(f"no config.yaml in {project}: give the folder of a DeepLabCut project")
    return read_yaml(file)


def _label_files(project: Path, scorer: str) -> list[Path]:
    """One CSV for each video folder: the config's scorer's, else the first by name."""
    files = []
    for folder in sorted((project / "labeled-data").glob("*/")):
        found = sorted(folder.glob("CollectedData_*.csv"))
        files += [file for file in found if file.stem == f"CollectedData_{scorer}"][:1] or found[:1]
    if not files:
        raise PosecliError(f"no labeled-data/VIDEO/CollectedData_*.csv in {project}: label frames in DeepLabCut first")
    return files


def _body_parts(fields: dict[str, Any], files: Sequence[Path]) -> tuple[str, ...]:
    """The config's body parts, or those of the first CSV where the config lists none."""
    for key in ("bodyparts", "multianimalbodyparts"):
        if isinstance(fields.get(key), list) and fields[key]:
            return tuple(str(name) for name in fields[key])
    columns, _ = _columns(files[0], _lines(files[0]))
    return tuple(dict.fromkeys(part for _, part, _ in columns))


def _lines(file: Path) -> list[list[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PosecliError(f"{file} is not a CSV file that can be read: {error}") from error


def _columns(file: Path, lines: list[list[str]]) -> tuple[list[tuple[str, str, int]], int]:
    """(individual, body part, column of x) for every point, and how many header lines there are."""
    header = {line[0].strip(): line for line in lines[:4] if line[0].strip() in _HEADERS}
    if "bodyparts" not in header or "coords" not in header:
        raise PosecliError(f"{file}: no header lines `bodyparts` and `coords`; is it DeepLabCut's CollectedData file?")
    starts = [column for column, name in enumerate(header["coords"]) if name.strip() == "x"]
    owners = header.get("individuals")
    return [
        ("" if owners is None else owners[column].strip(), header["bodyparts"][column].strip(), column)
        for column in starts
    ], len(header)


def _read_labels(file: Path, frames: _Frames) -> None:
    lines = _lines(file)
    columns, headers = _columns(file, lines)
    first = min((column for _, _, column in columns), default=0)
    frames.individuals |= any(owner for owner, _, _ in columns)
    for number, line in enumerate(lines[headers:], start=headers + 1):
        animals: dict[str, dict[str, Point]] = {}
        for owner, part, column in columns:
            point = _point(file, number, line, column)
            if point is not None:
                animals.setdefault(owner, {})[part] = point
        frames.pictures.append(file.parent / _file_name(line[:first]))
        frames.animals.append(list(animals.values()))


def _point(file: Path, number: int, line: list[str], column: int) -> Point | None:
    try:
        x, y = (float(cell) if cell.strip() else math.nan for cell in line[column : column + 2])
    except ValueError as error:
        raise PosecliError(f"{file}, line {number}: columns {column + 1} and {column + 2} hold no x and y") from error
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def _file_name(cells: list[str]) -> str:
    """The picture's own name from one column with a path of either kind, or the last of three."""
    return next((cell for cell in reversed(cells) if cell.strip()), "").replace("\\", "/").rpartition("/")[2]


def _dataset(project: Path, fields: dict[str, Any], names: tuple[str, ...], frames: _Frames, box: str) -> Dataset:
    keypoints = [_keypoints(animal, names) for animals in frames.animals for animal in animals]
    counts = [len(animals) for animals in frames.animals]
    sizes, notes = _sizes(frames.pictures)
    stacked = np.stack(keypoints) if keypoints else np.zeros((0, len(names), 2), np.float32)
    labelled = np.isfinite(stacked).all(axis=-1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    whole = box == "frame" or (box == "auto" and not frames.individuals)
    boxes = _frame_boxes(sizes, counts) if whole else keypoint_boxes(stacked).astype(np.float64)
    notes += _notes(names, frames, whole)
    extra: dict[str, Array] = {"area": box_areas(boxes), "crowd": np.zeros(len(boxes), dtype=bool)}
    return Dataset(
        name=project.resolve().name,
        skeleton=_skeleton(fields, names),
        ids=[f"{picture.parent.name}/{picture.name}" for picture in frames.pictures],
        sizes=sizes,
        offsets=offsets,
        people=People(stacked, np.where(labelled, 2, 0).astype(np.float32), boxes, None, extra),
        images=frames.pictures,
        notes=tuple(notes),
    )


def _keypoints(animal: dict[str, Point], names: tuple[str, ...]) -> FloatArray:
    return np.array([animal.get(name, (np.nan, np.nan)) for name in names], dtype=np.float32)  # (K, 2)


def _frame_boxes(sizes: IntArray, counts: Sequence[int]) -> FloatArray:
    frames = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.float64)
    return np.repeat(frames, counts, axis=0)


def _sizes(pictures: Sequence[Path]) -> tuple[IntArray, list[str]]:
    """Sizes from the headers; a missing picture gets that of another of its video, so that it can be reported later."""
    sizes, unreadable = picture_sizes(pictures)
    if len(unreadable) == len(pictures):
        where = pictures[0].parent if pictures else "labeled-data"
        raise PosecliError(f"none of the {len(pictures)} labelled pictures can be read; looked for in {where}")
    known = {pictures[index].parent: size for index, size in enumerate(sizes) if size.any()}
    for index in unreadable:
        sizes[index] = known.get(pictures[index].parent, next(iter(known.values())))
    return sizes, [f"{len(unreadable)} labelled pictures are missing or unreadable"] if unreadable else []


def _notes(names: tuple[str, ...], frames: _Frames, whole: bool) -> list[str]:
    notes = ["boxes are the whole frame" if whole else "boxes are tight around the labelled points"]
    pairs = flip_pairs_from_names(names)
    if pairs is None:
        notes.append("flip pairs are unknown: no left and right in the body parts' names")
    else:
        notes.append("flip pairs from the names: " + ", ".join(f"{names[one]}/{names[two]}" for one, two in pairs))
    unknown = {part for animals in frames.animals for animal in animals for part in animal} - set(names)
    if unknown:
        notes.append(f"body parts that config.yaml does not list are left out: {', '.join(sorted(unknown))}")
    return notes


def _skeleton(fields: dict[str, Any], names: tuple[str, ...]) -> Skeleton:
    index = {name: position for position, name in enumerate(names)}
    links = fields.get("skeleton") or []
    known = [link for link in links if isinstance(link, list) and len(link) == 2 and set(link) <= set(index)]
    return Skeleton(
        name=str(fields.get("Task") or "deeplabcut"),
        names=names,
        links=tuple((index[first], index[second]) for first, second in known),
        flip_pairs=flip_pairs_from_names(names),
    )
