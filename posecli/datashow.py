"""Labelled data as pictures: what the labels say, and what a network is given of it in training."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posecli import console, geometry
from posecli.config import DatasetConfig, Layers, dump, inline_yaml, parse_setting, validate
from posecli.console import PosecliError, counted, few
from posecli.conversion import source_config
from posecli.datasets.detect import coco_like, detect_dataset
from posecli.drawing import (
    Color,
    contact_sheet,
    draw_alone,
    draw_outline,
    draw_people,
    enlarge,
    fit,
    instance_color,
    shade,
    side_by_side,
)
from posecli.drawing3d import draw_views, scene_of
from posecli.files import write_bytes
from posecli.images import UnreadableImage, read_image
from posecli.overlays import encode
from posecli.skeleton import Skeleton
from posecli.types import Dataset, Example, FloatArray, ImageArray, People, Sample

if TYPE_CHECKING:
    from posecli.config import Experiment

PAGE = 16  # samples of a contact sheet
WIDTH = 1400  # pixels of a contact sheet of labelled pictures, about
CELL_AREA = 360 * 360  # pixels of one of its cells, about
LEAST = 480  # pixels of the height of a labelled picture: smaller ones are enlarged before they are drawn on
LEAST_INPUT = 256  # the same of a network's input
SEEN_FROM = 100.0  # millimetres from the middle of a 3D view to its edge, at least: a hand fills it
SAME = np.eye(2, 3)
LEFT_OUT: Color = (150, 150, 150)  # boxes of crowds, and of people without a labelled keypoint
LARGEST = 2400, 720  # width and height of what is kept of a picture for the sheet
DEEPEST = 4  # parts of a path that are tried to tell pictures apart
LONGEST_NAME = 40  # characters of a file's name that a title keeps


@dataclass(frozen=True)
class Choice:
    """Which samples are shown: some drawn by seed, or those that are named."""

    count: int = PAGE
    seed: int = 0
    names: tuple[str, ...] = ()  # ids or file names


@dataclass(frozen=True)
class Shown:
    """What was drawn."""

    what: str  # "5 of 116 pictures of ..."
    sheets: tuple[Path, ...]  # of PAGE samples each
    pictures: tuple[Path, ...]  # one a sample
    skipped: tuple[str, ...]  # "path: reason" of pictures that cannot be read


@dataclass(frozen=True)
class Panel:
    """One sample, drawn."""

    name: str
    title: str
    image: ImageArray


# --- what the labels say ----------------------------------------------------------------------------------------------


def labelled_data(
    path: Path | None, form: str | None = None, images: Path | None = None, settings: Sequence[str] = ()
) -> Dataset:
    """The labelled data at `path`, an annotation file or the training side of a folder; of the format `form` if given.

    `images` is the folder of the pictures, `settings` are KEY=VALUE of the format. Raises PosecliError.
    """
    given = [*settings, *folder_setting("images", images)]
    if form is not None:
        return source_config(form, "-" if path is None else str(path), given).build()
    if path is None:
        raise PosecliError(
            "say what to show: a dataset folder or an annotation file, --format NAME for data that lies in no file, "
            "or what a network is given: --algo NAME or --config NAME"
        )
    layers = Layers()
    found = _found(path)
    layers.add(dump(found), str(path))
    for setting in given:
        layers.add(parse_setting(setting), f"--set {setting}")
    return validate(type(found), layers).build()


def _found(path: Path) -> DatasetConfig:
    """The config of the data at `path`, whole where it is split by drawing."""
    if path.is_file() and path.suffix.lower() == ".json":
        return coco_like(path.absolute())
    try:
        train, val, reason = detect_dataset(path)
    except PosecliError as error:
        hint = "; or say what it is with --format" if path.exists() else ""
        raise PosecliError(f"{error}{hint}") from error
    whole, other = (side.model_copy(update={"split": None}) for side in (train, val))
    if whole != other:
        console.note(f"shown: the training side ({reason})")
    return whole


def folder_setting(key: str, folder: Path | None) -> list[str]:
    """The setting that names a folder; none where there is none."""
    return [] if folder is None else [f"{key}={inline_yaml(str(folder.absolute()))}"]


def show_labels(samples: Dataset, out: Path, choice: Choice) -> Shown:
    """Draw labelled pictures into the folder `out`: `labels.jpg`, a contact sheet, and each of them by itself.

    Raises PosecliError when nothing can be drawn.
    """
    _note(samples)
    somebody = np.flatnonzero(np.diff(samples.offsets)).tolist()
    chosen = _chosen(_named(samples, choice.names) if choice.names else somebody, choice)
    if not chosen:
        raise PosecliError(f"{samples.name}: there is nobody in it, nothing to show")

    names = dict(zip(chosen, _names(samples[index] for index in chosen), strict=True))

    def draw(index: int) -> Panel:
        sample, name = samples[index], names[index]
        many = f", {len(sample.people)} instances" if len(sample.people) > 1 else ""
        return Panel(name, name[-LONGEST_NAME:] + many, label_panel(sample, samples.skeleton))

    pool = f"{counted(len(samples), 'picture')} of {samples.name}"
    return _write(pool, chosen, draw, out, "labels", CELL_AREA)


def label_panel(sample: Sample, skeleton: Skeleton) -> ImageArray:
    """A sample with its labels, (H, W, 3); where it has 3D poses, they are beside it from two sides.

    Small pictures are enlarged. Frames without a picture show the 2D keypoints alone.
    """
    image = read_image(sample.image)
    if image.size:
        drawn = draw_labels(image, sample.people, sample.ignore, SAME, skeleton, LEAST)
    else:
        drawn = draw_alone(sample.people, skeleton, LEAST)
    people = sample.people
    poses = people.keypoints if people.keypoints.shape[2] == 3 else people.extra.get("keypoints_3d")
    if poses is None or not np.isfinite(poses).any():
        return drawn
    height = drawn.shape[0]
    return side_by_side([drawn, draw_views(poses, skeleton, height, scene_of(poses, SEEN_FROM))], height)


def draw_labels(
    image: ImageArray,
    people: People,
    ignore: Sequence[FloatArray],
    matrix: FloatArray,
    skeleton: Skeleton,
    least: int,
) -> ImageArray:
    """The picture, at least so many pixels high, with the people and ignored polygons of a sample.

    `matrix` (2, 3) maps the sample's pixels to the picture's. Where it mirrors, left and right change names, as they
    do for a network. Boxes turn with it; those of crowds and of people without a labelled keypoint, who teach nothing,
    are grey. Crowds are shaded by their boxes where there are no polygons.
    """
    image, times = enlarge(image, least)
    canvas = np.ascontiguousarray(image).copy()
    matrix = geometry.compose(geometry.invert(geometry.reduction_matrix(times)), matrix)
    taught = people.labelled.any(axis=1) & ~people.crowd
    boxes = np.full((len(people), 4), np.nan) if people.boxes is None else people.boxes.astype(np.float64)
    outlines = geometry.apply(matrix, geometry.box_corners(boxes))
    shade(canvas, [geometry.apply(matrix, polygon) for polygon in ignore] or list(outlines[people.crowd]))
    for row, outline in enumerate(outlines):
        draw_outline(canvas, outline, instance_color(row) if taught[row] else LEFT_OUT)
    return draw_people(canvas, moved(people[taught], matrix, skeleton), skeleton)


def moved(people: People, matrix: FloatArray, skeleton: Skeleton) -> People:
    """The keypoints (N, K, 2) where `matrix` (2, 3) maps them; where it mirrors, left and right change names."""
    points, scores = geometry.apply(matrix, people.keypoints[..., :2]), people.scores
    if geometry.is_mirrored(matrix) and skeleton.flip_index is not None:
        points, scores = points[:, skeleton.flip_index], scores[:, skeleton.flip_index]
    return People(points, scores)


# --- what a network is given ------------------------------------------------------------------------------------------


def show_inputs(experiment: Experiment, out: Path, choice: Choice, epochs: int = 4) -> Shown:
    """Draw what a network is given in its first epochs into the folder `out`: `inputs.jpg`, and each row by itself.

    A row is one unit of the algorithm: the picture with its labels, then the augmented inputs, which are those of a
    training with the same seed. A model that is given no pictures has its data drawn as labelled. Nothing is
    downloaded. Raises PosecliError when nothing can be drawn.
    """
    from posecli.checkpoint import model_without_downloads
    from posecli.data import unit_generator
    from posecli.evaluation import check_pictures

    samples = experiment.data.train.build()
    algorithm = model_without_downloads(experiment.model).build(samples.skeleton)
    if algorithm.needs == "keypoints":
        console.note(f"{experiment.model.name} is given keypoints, not pictures: its data is shown as labelled")
        return show_labels(samples, out, choice)
    check_pictures(algorithm, samples)
    _note(samples)
    units, transform = algorithm.units(samples, train=True), algorithm.transform(train=True)
    chosen = _chosen(_units_of(units, samples, choice.names), choice)
    if not chosen:
        raise PosecliError(f"{samples.name}: nothing to train on, nobody that was asked for has a labelled keypoint")

    names = dict(zip(chosen, _names(units[unit] for unit in chosen), strict=True))

    def draw(unit: int) -> Panel:
        sample, name = units[unit], names[unit]
        made = (transform(sample, unit_generator(choice.seed, epoch, unit)) for epoch in range(epochs))
        image = input_row(sample, list(made), samples.skeleton)
        return Panel(name, f"{name[-LONGEST_NAME:]}: labels, then what is given in epochs 1 to {epochs}", image)

    pool = f"{counted(len(units), 'unit')} of {samples.name}"
    return _write(pool, chosen, draw, out, "inputs", math.inf)


def input_row(sample: Sample, examples: Sequence[Example], skeleton: Skeleton) -> ImageArray:
    """The sample with its labels, then inputs made of it, with the labels where the examples' `undo` puts them."""
    people, ignore = sample.people, sample.ignore
    inputs = [
        draw_labels(_picture(example), people, ignore, geometry.invert(example.undo), skeleton, LEAST_INPUT)
        for example in examples
    ]
    height, width = np.max([image.shape[:2] for image in inputs], axis=0).tolist()
    picture = draw_labels(read_image(sample.image), people, ignore, SAME, skeleton, LEAST)
    return side_by_side([contact_sheet([picture], 1, (max(width, height), height), gap=0), *inputs], height)


def _picture(example: Example) -> ImageArray:
    image = example.inputs.get("image")
    if image is None:
        raise PosecliError(
            f"the network is given {', '.join(example.inputs)}, and no picture: leave out --algo and --config"
        )
    return np.asarray(image, np.uint8)


def _units_of(units: Sequence[Sample], samples: Dataset, names: Sequence[str]) -> Sequence[int]:
    """The units to choose from: all, or those of the pictures that are named."""
    if not names:
        return range(len(units))
    ids = {samples.ids[index] for index in _named(samples, names)}
    return [index for index in range(len(units)) if units[index].id in ids]


# --- choosing and writing ---------------------------------------------------------------------------------------------


def _note(samples: Dataset) -> None:
    """Say what the reader of the data decided."""
    for note in samples.notes:
        console.note(note)


def _chosen(candidates: Sequence[int], choice: Choice) -> list[int]:
    """At most `count` of the candidates, drawn by seed, in their order."""
    drawn = np.random.default_rng(choice.seed).permutation(len(candidates))[: choice.count]
    return [candidates[place] for place in np.sort(drawn)]


def _named(samples: Dataset, names: Sequence[str]) -> list[int]:
    """The samples whose id or whose picture's file name is given. Raises PosecliError for a name that none has."""
    found: list[int] = []
    missing = set(names)
    for index, (identity, image) in enumerate(zip(samples.ids, samples.images, strict=True)):
        own = {str(identity), image.name, image.stem} if isinstance(image, Path) else {str(identity)}
        if not own.isdisjoint(names):
            found.append(index)
            missing -= own
    if missing:
        raise PosecliError(f"{samples.name} has no picture {few(sorted(missing))}: name its id or its file")
    return found


def _names(samples: Iterable[Sample]) -> list[str]:
    """What samples are called: by their pictures' file names, and folders where these are alike, else by their ids."""
    samples = list(samples)
    paths = dict.fromkeys(sample.image for sample in samples if isinstance(sample.image, Path))
    names = {path: path.stem for path in paths}
    for depth in range(1, DEEPEST):
        counts = Counter(names.values())
        again = [path for path, name in names.items() if counts[name] > 1]
        names.update({path: "-".join([*path.parts[-1 - depth : -1], path.stem]) for path in again})
    return [names[sample.image] if isinstance(sample.image, Path) else str(sample.id) for sample in samples]


def _write(pool: str, chosen: Sequence[int], draw: Callable[[int], Panel], out: Path, name: str, area: float) -> Shown:
    """Draw what was chosen of `pool`, each into a file of its own, and put them on contact sheets called `name`.

    The cells of the sheets have at most `area` pixels.

    Raises PosecliError where `out` holds anything already, and when nothing could be read.
    """
    if out.is_dir() and any(out.iterdir()):
        raise PosecliError(f"the folder {out} is not empty: choose another with --out")
    pictures: list[Path] = []
    kept: list[Panel] = []
    skipped: list[str] = []
    with console.progress(len(chosen), "drawing", "img") as bar:
        for index in chosen:
            bar.update(1)
            try:
                panel = draw(index)
            except UnreadableImage as error:
                skipped.append(str(error))
                continue
            plain = re.sub(r"[^\w.-]", "_", panel.name)[-LONGEST_NAME:]  # at most 4 bytes a character
            pictures.append(out / f"{len(pictures) + 1:03d}-{plain}.jpg")
            write_bytes(pictures[-1], encode(panel.image, ".jpg"))
            kept.append(dataclasses.replace(panel, image=_shrunk(panel.image)))
    if not kept:
        raise PosecliError(f"none of {counted(len(skipped), 'picture')} could be read: {few(skipped, 1)}")
    pages = [kept[start : start + PAGE] for start in range(0, len(kept), PAGE)]
    sheets = [
        out / (f"{name}-{number}.jpg" if len(pages) > 1 else f"{name}.jpg") for number in range(1, len(pages) + 1)
    ]
    for sheet, page in zip(sheets, pages, strict=True):
        write_bytes(sheet, encode(_sheet(page, area), ".jpg"))
    return Shown(f"{len(kept)} of {pool}", tuple(sheets), tuple(pictures), tuple(skipped))


def _shrunk(image: ImageArray) -> ImageArray:
    """The picture no larger than a sheet needs it."""
    width, height = LARGEST
    return fit(image, LARGEST) if image.shape[1] > width or image.shape[0] > height else image


def _sheet(panels: Sequence[Panel], area: float) -> ImageArray:
    """A contact sheet with cells of at most `area` pixels."""
    aspect = float(np.median([panel.image.shape[1] / panel.image.shape[0] for panel in panels]))
    height = round(min(max(panel.image.shape[0] for panel in panels), math.sqrt(area / aspect)))
    cell = round(height * aspect), height
    columns = max(1, round(WIDTH / cell[0]))
    return contact_sheet([panel.image for panel in panels], columns, cell, [panel.title for panel in panels])
