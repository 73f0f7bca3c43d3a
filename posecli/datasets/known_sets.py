"""Bodies, faces, animals and clothes in COCO's form, each by its own kind of keypoints, whatever its file says of them.

The files are the reference's; what they hold beside COCO is read here. Annotations with faults are noted; with `strict`
they raise PosecliError.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.coco import (
    CocoFile,
    Record,
    build,
    collection_paused,
    find_annotations,
    keypoints_of,
    outlines,
    read_json,
    sort_annotations,
)
from posecli.datasets.coco_columns import UNFIT, unfit
from posecli.geometry import box_areas
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset

BODY_SHARE = 0.53  # of its box that a person covers
SCALE = 200.0  # pixels of a box's side, for each unit of a `scale`
HEAD_SHARE = 0.6  # of a head box's diagonal: the size of the head
BODY_JOINTS = 26  # the first of Halpe's 136
TRACKS = 1_000_000  # a film has fewer
Area = Literal["annotated", "body"]
_OTHER_NAMES = {"head": "tophead"}  # CrowdPose's files say head, its papers top of the head


@collection_paused()
def known_dataset(
    path: Path,
    skeleton: str,
    images: Path | None = None,
    area: Area = "annotated",
    strict: bool = False,
    any_category: bool = False,
    films: bool = False,
) -> Dataset:
    """Annotations by a house skeleton; what such files say of links is often another dataset's.

    `area`: "body" is 0.53 of the box, as the reference scores sets that annotate no areas of bodies. `any_category`:
    annotations of categories that the file does not list are of the same kind. `films`: each folder holds one film.
    """
    table = known_table(path, skeleton, strict, any_category)
    dataset = _built(_filmed(table, _folder) if films else table, skeleton, images)
    return with_body_areas(dataset) if area == "body" else dataset


@collection_paused()
def square_dataset(
    path: Path, skeleton: str, images: Path | None = None, strict: bool = False, films: bool = False
) -> Dataset:
    """Annotations with a `center` and a `scale`: their boxes are squares around it, 200 × scale pixels wide.

    `films`: each folder holds one film.
    """
    table = known_table(path, skeleton, strict)
    table = _edited(table, _with_square, "has a center that is not two numbers or a scale that is none")
    return _built(_filmed(table, _folder) if films else table, skeleton, images)


@collection_paused()
def jhmdb_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """JHMDB: people whose pixels count from 1 in the file and from 0 here; boxes end with the picture."""
    table = known_table(path, "jhmdb", strict)
    pictures = {record["id"]: record for record in table.images}
    edit = functools.partial(_from_zero, pictures)
    table = _edited(table, edit, "has keypoints or a bbox that are not numbers, or a picture of unknown size")
    return with_body_areas(_built(_filmed(table, _video), "jhmdb", images))


@collection_paused()
def posetrack18_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """PoseTrack18: people in films, with the regions to ignore.

    `head_size` in pixels is 0.6 of the head box's diagonal.
    """
    table = known_table(path, "posetrack18", strict)
    pictures = [_with_regions(table, index, record) for index, record in enumerate(table.images)]
    table = _edited(table, _with_head_size, "has a bbox_head that is not four numbers")
    return _built(_filmed(dataclasses.replace(table, images=pictures), _video), "posetrack18", images)


@collection_paused()
def halpe_dataset(
    path: Path, images: Path | None = None, part: Literal["wholebody", "body"] = "wholebody", strict: bool = False
) -> Dataset:
    """Halpe: 136 keypoints of the whole body, or the first 26 of them, body and feet."""
    table = known_table(path, "halpe", strict)
    if part == "wholebody":
        return _built(table, "halpe", images)
    fault = "has keypoints that are no list"
    return _built(_edited(table, _with_body_alone, fault), "halpe26", images)


@collection_paused()
def humanart_dataset(
    path: Path, images: Path | None = None, joints: Literal[17, 21] = 17, strict: bool = False
) -> Dataset:
    """Human-Art: COCO's 17 keypoints, or 21 with fingers and toes, `keypoints_21`."""
    table = known_table(path, "coco", strict)
    if joints == 17:
        return _built(table, "coco", images)
    without = next((record for record in table.annotations if not record.get("keypoints_21")), None)
    if without is not None:
        raise PosecliError(
            f"{table.path}: annotation {without['id']} has no keypoints_21; read its 17 keypoints by joints=17"
        )
    annotations = [{**record, "keypoints": record["keypoints_21"]} for record in table.annotations]
    return _built(dataclasses.replace(table, annotations=annotations), "humanart21", images)


# --- files ------------------------------------------------------------------------------------------------------------


def known_table(path: Path, skeleton: str, strict: bool, any_category: bool = False) -> CocoFile:
    """The tables of a file. Raises PosecliError where its categories name other keypoints than the skeleton's."""
    file = find_annotations(path)
    document = read_json(file)
    _check_names(file, document["categories"], house_skeleton(skeleton))
    if any_category:
        document["categories"] = all_categories(document["categories"], document["annotations"])
    return sort_annotations(file, document, document["categories"], strict)


def all_categories(categories: list[Record], annotations: Sequence[Record]) -> list[Record]:
    """The categories, and one of its number alone for each that only annotations name."""
    stated = [record.get("id") for record in categories if isinstance(record, dict)]
    numbers = {number for record in annotations if isinstance(number := record.get("category_id", 1), int)}
    return [*categories, *({"id": number} for number in sorted(numbers) if number not in stated)]


def _check_names(file: Path, categories: Sequence[Record], skeleton: Skeleton) -> None:
    """Raise PosecliError where a category names other keypoints than the skeleton's, or in another order."""
    for category in categories:
        stated = category.get("keypoints")
        names = [str(name) for name in stated] if stated and isinstance(stated, list) else list(skeleton.names)
        numbered = len(names) == len(skeleton) and all(name.isdigit() for name in names)
        if not numbered and not names_alike(names, skeleton.names):
            raise PosecliError(
                f"{file}: its keypoints are {', '.join(names)}; the dataset {skeleton.name!r} has "
                f"{', '.join(skeleton.names)}. Read it as coco instead"
            )


def names_alike(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether both name the same keypoints in the same order, however they are spelled."""
    return [_plain(str(name)) for name in some] == [_plain(str(name)) for name in others]


def _plain(name: str) -> str:
    letters = "".join(character for character in name.lower() if character.isalnum())
    return _OTHER_NAMES.get(letters, letters)


def _built(table: CocoFile, skeleton: str, images: Path | None) -> Dataset:
    return build(table, house_skeleton(skeleton), keypoints_of, images)


def with_body_areas(dataset: Dataset) -> Dataset:
    """The dataset with 0.53 of each box as its area."""
    people = dataset.people
    assert people.boxes is not None
    people = people.with_extra(area=box_areas(people.boxes) * BODY_SHARE)
    note = f"areas are {BODY_SHARE} × box, none are annotated"
    return dataclasses.replace(dataset, people=people, notes=(*dataset.notes, note))


# --- annotations ------------------------------------------------------------------------------------------------------


def _edited(table: CocoFile, edit: Callable[[Record], Record], fault: str) -> CocoFile:
    """The table with other annotations; `fault` is said of the first that `edit` cannot read."""
    try:
        annotations = [edit(record) for record in table.annotations]
    except UNFIT as error:
        raise unfit(table.path, table.annotations, edit, fault) from error
    return dataclasses.replace(table, annotations=annotations)


def _filmed(table: CocoFile, film: Callable[[Record], Any]) -> CocoFile:
    """The table whose annotations know their film, `group`, which no split tears apart; tracks of two are two."""
    films = [str(film(record)) for record in table.images]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(films))}
    edited = []
    for record, sample in zip(table.annotations, table.samples.tolist(), strict=True):
        number, track = numbers[films[sample]], record.get("track_id")
        tracked = {"track_id": number * TRACKS + track} if isinstance(track, int) else {}
        edited.append({**record, "group": number, **tracked})
    return dataclasses.replace(table, annotations=edited)


def _video(picture: Record) -> Any:
    return picture.get("vid_id") or _folder(picture)


def _folder(picture: Record) -> str:
    return str(Path(str(picture.get("file_name"))).parent)


def _with_square(record: Record) -> Record:
    """The box as centre and scale give it; the file's own where they do not."""
    if record.get("center") is None or record.get("scale") is None:
        return record
    x, y = record["center"]
    return {**record, "bbox": square(x, y, SCALE * record["scale"])}


def square(x: float, y: float, side: float) -> list[float]:
    """Left, top, width and height of the square with this centre."""
    return [x - side / 2, y - side / 2, side, side]


def _from_zero(pictures: Mapping[Any, Record], record: Record) -> Record:
    """Pixels that count from 0 instead of 1, and the box cut off at the picture's last pixels."""
    edited = dict(record)
    edited["keypoints"] = [value - (place % 3 < 2) for place, value in enumerate(keypoints_of(record))]
    if record.get("bbox"):
        x, y, width, height = record["bbox"]
        picture = pictures[record["image_id"]]
        right, bottom = picture["width"] - 1, picture["height"] - 1
        left, top = min(max(x - 1, 0), right), min(max(y - 1, 0), bottom)
        edited["bbox"] = [left, top, min(x - 1 + width, right) - left, min(y - 1 + height, bottom) - top]
    return edited


def _with_body_alone(record: Record) -> Record:
    return {**record, "keypoints": list(keypoints_of(record))[: 3 * BODY_JOINTS]}


def _with_regions(table: CocoFile, index: int, picture: Record) -> Record:
    """The picture with `ignore_regions_x` and `_y` as COCO files of posecli have them, beside unlabelled people."""
    across, down = picture.get("ignore_regions_x"), picture.get("ignore_regions_y")
    if not across or not down:
        return picture
    try:
        regions = [list(chain.from_iterable(zip(x, y, strict=True))) for x, y in zip(across, down, strict=True)]
    except UNFIT as error:
        raise PosecliError(
            f"{table.path}: image {picture['id']} has ignore_regions_x and _y that are not lists of one length"
        ) from error
    first, last = np.searchsorted(table.samples, [index, index + 1])
    own = table.annotations[first:last]
    try:
        hidden = [outlines(record) for record in own if not any(keypoints_of(record)[2::3])]
    except UNFIT as error:
        fault = "has keypoints, a segmentation or a bbox that are no lists"
        raise unfit(table.path, own, lambda record: (keypoints_of(record)[2::3], outlines(record)), fault) from error
    return {**picture, "ignore": [*(region for region in regions if len(region) >= 6), *chain(*hidden)]}


def _with_head_size(record: Record) -> Record:
    if not record.get("bbox_head"):
        return record
    _, _, width, height = record["bbox_head"]
    return {**record, "head_size": head_size(width, height)}


def head_size(width: float, height: float) -> float:
    """Of a head box's sides, in pixels."""
    return HEAD_SHARE * math.hypot(width, height)
