"""COCO keypoint JSON, in columns: https://cocodataset.org/#format-data and a few more fields in the category.

Beyond COCO a category may hold `flip_pairs`, `sigmas`, `weights`, `upper`, `colors` and `columns`, names of fields that
annotations have beside COCO's, a whole number each; a picture's record may hold `ignore`, polygons where nothing is to
be learnt, and be without a file where motion was never filmed. For 3D and motion see `coco_motion`.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.coco_columns import UNFIT, can_read, column, fault_notes, unfit
from posecli.datasets.coco_motion import TABLES, read_actions, read_cameras, read_motion
from posecli.datasets.coco_skeleton import choose_categories, read_skeleton
from posecli.datasets.hand_columns import read_hands
from posecli.datasets.pictures import NoPictures, PicturePaths, find_pictures, picture_sizes
from posecli.datasets.regions import Region, Regions
from posecli.geometry import has_area, keypoint_boxes
from posecli.skeleton import Skeleton
from posecli.types import Array, BoolArray, Dataset, FloatArray, IntArray, People, SampleId

Record = dict[str, Any]
LENGTHS = ("head_size", "box_size")
"""Fields of annotations, in pixels, by which errors are divided: Panoptic HandDB's and MPII's, AFLW's."""
Keypoints = Callable[[Record], Sequence[float]]
"""The flat x1 y1 v1 x2 … of one annotation, 3 K numbers."""


@dataclass(frozen=True)
class CocoFile:
    """The parsed tables of one annotation file; `annotations` are those of pictures it lists, in pictures' order."""

    path: Path
    images: list[Record]
    annotations: list[Record]
    categories: list[Record]
    samples: IntArray  # (A,): the picture each annotation belongs to
    notes: tuple[str, ...] = ()
    more: Mapping[str, list[Record]] = field(default_factory=dict)  # tables that files of motion have, see coco_motion
    strict: bool = False  # whether annotations with faults are refused, which are else noted


@contextmanager
def collection_paused() -> Iterator[None]:
    """No search for garbage inside: it doubles the time of parsing, which makes millions of objects and no cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@collection_paused()  # as a decorator it outlives the parsed file, which is freed on return
def coco_dataset(
    path: Path,
    images: Path | None = None,
    category: str | int | None = None,
    skeleton: str | None = None,
    strict: bool = False,
) -> Dataset:
    """The keypoint annotations of a COCO JSON file; several categories that share their keypoints are read together.

    `images`: the folder of the pictures, looked for beside the file by default. `category`: name or id. `skeleton`: a
    house skeleton's name or a YAML file that replaces what the file says. Annotations with faults are left out or
    mended, and counted in `notes`; with `strict` they are refused. Raises PosecliError in one clear line.
    """
    file = find_annotations(path)
    document = read_json(file)
    chosen = choose_categories(file, document["categories"], category)
    described, notes = read_skeleton(file, chosen[0], skeleton)
    table = sort_annotations(file, document, chosen, strict)
    return build(table, described, keypoints_of, images, notes)


def keypoints_of(annotation: Record) -> Sequence[float]:
    """Where COCO's annotations hold their keypoints."""
    found: Sequence[float] = annotation.get("keypoints") or ()
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def find_annotations(path: Path) -> Path:
    """The annotation file for a path: the file, or the only JSON file of a folder."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise PosecliError(f"no annotation file {path}")
    found = sorted(path.glob("*.json")) or sorted(path.glob("annotations/*.json"))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(file.relative_to(path)) for file in found) or "none"
    raise PosecliError(f"{path} is a folder; name one annotation file in it: {listed}")


def parse_json(path: Path) -> Any:
    """Any JSON value. Raises PosecliError for a missing or empty file and for one that is not JSON."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PosecliError(f"cannot read {path}: {error.strerror or error}") from error
    if not content.strip():
        raise PosecliError(f"{path} is empty: COCO keypoint JSON with images, annotations and categories is expected")
    try:
        return json.loads(content)
    except ValueError as error:
        raise PosecliError(f"{path} is not JSON: {error}") from error


def read_json(path: Path) -> dict[str, list[Record]]:
    """The document of an annotation file, its three tables there and lists. Raises PosecliError."""
    document = parse_json(path)
    if isinstance(document, list):
        raise PosecliError(f"{path} is a list, as detections and results are; annotations are an object with images")
    tables = ("images", "annotations", "categories")
    missing = [name for name in tables if not isinstance(document, dict) or not isinstance(document.get(name), list)]
    if missing:
        raise PosecliError(f"{path} has no list `{missing[0]}`: COCO keypoint JSON has images, annotations, categories")
    for name in tables:
        if not all(isinstance(record, dict) and "id" in record for record in document[name]):
            raise PosecliError(f"{path}: an entry of `{name}` has no id; see posecli data check {path}")
    if not document["images"]:
        raise PosecliError(f"{path} lists no images")
    more = [name for name in TABLES if isinstance(document.get(name), list)]
    return {name: document[name] for name in (*tables, *more)}


def sort_annotations(
    file: Path, document: Mapping[str, list[Record]], chosen: Sequence[Record], strict: bool = False
) -> CocoFile:
    """The annotations of the chosen categories, put in the order of the pictures.

    Those of a picture or a category that is not listed are left out and noted; with `strict` they raise PosecliError.
    """
    position = _places(file, document["images"], "image")
    if len(position) < len(document["images"]):
        raise PosecliError(f"{file}: image ids repeat; see posecli data check {file}")
    categories, wanted = _places(file, document["categories"], "category"), {category["id"] for category in chosen}
    try:
        annotations = [record for record in document["annotations"] if record.get("category_id", 1) in wanted]
        listed = [record for record in annotations if record.get("image_id") in position]
        strange = [record for record in document["annotations"] if record.get("category_id", 1) not in categories]
    except TypeError as error:
        raise unfit(
            file,
            document["annotations"],
            lambda record: {record.get("image_id"), record.get("category_id")},
            "has an image_id or a category_id that is a list or an object",
        ) from error
    if not listed:
        raise PosecliError(f"{file} has no annotations of {chosen[0].get('name', chosen[0]['id'])!r} in its pictures")
    samples = np.fromiter((position[record["image_id"]] for record in listed), np.int64, len(listed))
    order = np.argsort(samples, kind="stable")
    lost = [record for record in annotations if record.get("image_id") not in position]
    notes = (
        *fault_notes(file, strict, "annotations belong to pictures the file does not list and are left out", lost),
        *fault_notes(file, strict, "annotations belong to categories the file does not list and are left out", strange),
    )
    ordered = [listed[index] for index in order.tolist()]
    more = {name: document[name] for name in TABLES if name in document}
    return CocoFile(file, document["images"], ordered, list(chosen), samples[order], notes, more, strict)


def _places(file: Path, records: Sequence[Record], thing: str) -> dict[SampleId, int]:
    """Where each record stands, by its id. Raises PosecliError where an id is none to look up by."""
    try:
        return {record["id"]: index for index, record in enumerate(records)}
    except TypeError as error:
        fault = "has a list or an object as id"
        raise unfit(file, records, lambda record: hash(record["id"]), fault, thing) from error


# --- columns ----------------------------------------------------------------------------------------------------------


def build(
    table: CocoFile, skeleton: Skeleton, keypoints: Keypoints, images: Path | None, notes: Iterable[str] = ()
) -> Dataset:
    """The columns of a parsed file; `keypoints` says where an annotation holds them."""
    pictures = _pictures(table, images)
    people, faults = read_people(table, len(skeleton), keypoints)
    counts = np.bincount(table.samples, minlength=len(table.images))
    return Dataset(
        name=f"{table.path.resolve().parent.name}/{table.path.stem}",
        skeleton=skeleton,
        ids=[record["id"] for record in table.images],
        sizes=_sizes(table, pictures),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        people=people,
        images=pictures,
        cameras=read_cameras(table.path, table.images, table.more),
        ignore=_ignore(table, people),
        notes=(*table.notes, *notes, *faults),
        categories={category["id"]: str(category.get("name", category["id"])) for category in table.categories},
        actions=read_actions(table.path, table.more),
    )


def _pictures(table: CocoFile, images: Path | None) -> PicturePaths | NoPictures:
    names = [str(record.get("file_name") or "") for record in table.images]
    if not any(names) and "cameras" in table.more:
        return NoPictures(len(names))
    nameless = next((place for place, name in enumerate(names) if not name), None)
    if nameless is not None and "cameras" not in table.more:
        raise PosecliError(f"{table.path}: image {table.images[nameless]['id']} has no file_name")
    return PicturePaths(find_pictures(table.path, names, images), names)


def read_people(table: CocoFile, joints: int, keypoints: Keypoints) -> tuple[People, list[str]]:
    """All annotations as rows, and notes on those with faults; not one numpy call for a single annotation.

    With the table's `strict` faults raise PosecliError.
    """
    points, visibility, unplaced = _points(table, joints, keypoints)
    stated = _boxes(table)
    known = np.asarray(np.isfinite(stated).all(axis=1))
    boxes = np.where(known[:, None], stated, keypoint_boxes(points))
    sides = boxes[:, 2:] - boxes[:, :2]
    area = _column(table, "area", np.float64, np.nan)
    extra: dict[str, Array] = {
        "area": np.where(np.isfinite(area), area, sides[:, 0] * sides[:, 1]),
        "crowd": np.asarray(_column(table, "iscrowd", np.float64, 0) != 0),
        "annotation_id": _identities(table),
        "category": _column(table, "category_id", np.int64, 1),
        **_crowd_index(table),
        **_lengths(table),
        **_own_columns(table),
        **read_motion(table.path, table.annotations, joints, table.more),
    }
    extra.update(read_hands(table.path, table.annotations, extra.get("keypoints_3d"), joints))
    people = People(points, visibility, boxes, None, extra)
    return people, [
        *_notes(table, unplaced, "annotations have keypoints without a finite place, which count as not labelled"),
        *_notes(table, ~known, "annotations have a bbox that is not finite and get a tight one", "bbox"),
        *_without_boxes(table, ~known & people.labelled.any(axis=1)),
        *_notes(
            table, ~np.isfinite(area), "annotations have an area that is not finite and get that of the box", "area"
        ),
        *_flat_boxes(table, people),
    ]


def _notes(table: CocoFile, rows: BoolArray, fault: str, key: str | None = None) -> tuple[str, ...]:
    """The note on the annotations in these rows (A,) that have a fault; with `key` on those that state it."""
    faulty = [record for record in _records(table, rows) if key is None or record.get(key)]
    return fault_notes(table.path, table.strict, fault, faulty)


def _records(table: CocoFile, rows: BoolArray) -> list[Record]:
    """The annotations in these rows (A,)."""
    return [table.annotations[row] for row in np.flatnonzero(rows).tolist()]


def _points(table: CocoFile, joints: int, keypoints: Keypoints) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Keypoints (A, K, 2), NaN where not labelled, visibility (A, K) in 0, 1, 2, and who has one that is labelled
    without a finite place (A,)."""
    blank = [0.0] * (3 * joints)
    try:
        flat = [keypoints(record) for record in table.annotations]
        lengths = {len(values) for values in flat} - {0, 3 * joints}
    except UNFIT as error:
        fault = "has keypoints that are no list of numbers"
        raise unfit(table.path, table.annotations, lambda record: len(keypoints(record)), fault) from error
    if lengths:
        index = next(index for index, values in enumerate(flat) if len(values) in lengths)
        found = f"{len(flat[index]) // 3} keypoints" if len(flat[index]) % 3 == 0 else f"{len(flat[index])} numbers"
        raise PosecliError(
            f"{table.path}: annotation {table.annotations[index]['id']} has {found}, {joints} are expected; "
            f"see posecli data check {table.path}"
        )
    try:
        values = np.fromiter(chain.from_iterable(row or blank for row in flat), np.float32, len(flat) * len(blank))
    except UNFIT as error:
        raise unfit(
            table.path,
            table.annotations,
            lambda record: np.fromiter(keypoints(record), np.float32),
            "has keypoints that are not numbers",
        ) from error
    triples = values.reshape(len(flat), joints, 3)
    visibility = np.clip(np.ceil(triples[..., 2]), 0, 2)  # some sets give a confidence between 0 and 1
    finite = np.isfinite(triples).all(axis=2)
    unplaced = np.asarray((~finite & ~(triples[..., 2] <= 0)).any(axis=1))
    visibility = np.where(finite, visibility, np.float32(0))
    return np.where(visibility[..., None] > 0, triples[..., :2], np.float32(np.nan)), visibility, unplaced


def _boxes(table: CocoFile) -> FloatArray:
    """Boxes (A, 4) x1 y1 x2 y2, NaN for an annotation without one."""
    nothing = (np.nan,) * 4
    try:
        flat = chain.from_iterable(_four(record.get("bbox") or nothing) for record in table.annotations)
        boxes = np.fromiter(flat, np.float64, 4 * len(table.annotations)).reshape(-1, 4)
    except UNFIT as error:
        raise unfit(
            table.path,
            table.annotations,
            lambda record: np.fromiter(_four(record.get("bbox") or nothing), np.float64),
            "has the bbox {}, which is not four numbers",
            key="bbox",
        ) from error
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _four(values: Sequence[float]) -> Sequence[float]:
    if len(values) != 4:
        raise ValueError("not four")
    return values


def _without_boxes(table: CocoFile, rows: BoolArray) -> tuple[str, ...]:
    """What to say where some of the labelled annotations have a bbox and others have none."""
    without = [record for record in _records(table, rows) if not record.get("bbox")]
    if not without or len(without) == len(table.annotations):
        return ()
    return fault_notes(table.path, False, "labelled annotations have no bbox and get a tight one", without)


def _flat_boxes(table: CocoFile, people: People) -> tuple[str, ...]:
    """What to say of labelled people whose boxes have no area: nobody can be cut out by them.

    A box that is not stated is no fault of the annotation.
    """
    assert people.boxes is not None
    flat = ~has_area(people.boxes) & people.labelled.any(axis=1) & ~people.extra["crowd"]
    tight = [record for record in _records(table, flat) if not record.get("bbox")]
    return (
        *_notes(table, flat, "labelled people have a box without area, by which nobody can be cut out", "bbox"),
        *fault_notes(table.path, False, "labelled people have no bbox, and a tight one without area", tight),
    )


def _column(table: CocoFile, key: str, kind: Any, default: Any) -> Array:
    return column(table.path, table.annotations, key, kind, default)


def _crowd_index(table: CocoFile) -> dict[str, Array]:
    """How crowded each annotation's picture is, where the file says it, as CrowdPose's do; NaN for others in it."""
    if not any("crowdIndex" in record for record in table.images):
        return {}
    values = column(table.path, table.images, "crowdIndex", np.float32, np.nan, "image")
    return {"crowd_index": values[table.samples]}


def _lengths(table: CocoFile) -> dict[str, Array]:
    """The lengths in pixels that annotations state, NaN where one has none.

    Not COCO's fields, so in other files they may be something else: what is no number is none here.
    """
    values = {key: [record.get(key) for record in table.annotations] for key in LENGTHS}
    return {
        key: np.array([value if isinstance(value, int | float) else np.nan for value in column], np.float64)
        for key, column in values.items()
        if any(isinstance(value, int | float) for value in column)
    }


def _own_columns(table: CocoFile) -> dict[str, Array]:
    """The columns that the first category names; -1 where an annotation has none."""
    names = table.categories[0].get("columns") or []
    if not isinstance(names, list):
        raise PosecliError(f"{table.path}: `columns` of a category is a list of names, it is {names!r}")
    return {name: _whole_numbers(table, name) for name in map(str, names)}


def _whole_numbers(table: CocoFile, key: str) -> IntArray:
    """A column of whole numbers. Raises PosecliError naming the first annotation with another."""
    values = _column(table, key, np.float64, -1)
    wrong = np.flatnonzero((np.floor(values) != values) | ~(np.abs(values) < 2**63))
    if len(wrong):
        record = table.annotations[int(wrong[0])]
        raise PosecliError(
            f"{table.path}: annotation {record['id']} has the {key} {record[key]!r}; a whole number is expected, as in "
            "all `columns`"
        )
    return np.asarray(values.astype(np.int64))


def _identities(table: CocoFile) -> IntArray:
    """The annotations' ids; their running number where an id is text."""
    if any(isinstance(record["id"], str) for record in table.annotations):
        return np.arange(1, len(table.annotations) + 1)
    return _column(table, "id", np.int64, 0)


def _sizes(table: CocoFile, pictures: PicturePaths | NoPictures) -> IntArray:
    """Width and height (N, 2) as stated, from the pictures' headers where they are not."""
    sides = [column(table.path, table.images, key, np.int64, 0, "image") for key in ("width", "height")]
    sizes = np.stack(sides, axis=1)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if len(unknown) and isinstance(pictures, PicturePaths):
        sizes[unknown], unreadable = picture_sizes([pictures.path(int(index)) for index in unknown])
        if unreadable:
            first = pictures.path(int(unknown[unreadable[0]]))
            raise PosecliError(f"{table.path} gives no width and height for {first}, and its header cannot be read")
    return sizes


def _ignore(table: CocoFile, people: People) -> Regions:
    """Where nothing is to be learnt. Raises PosecliError naming the first record with an outline that is none."""
    try:
        return Regions(_ignored(table, people))
    except UNFIT as error:
        pictures = [record for record in table.images if not can_read(_ignore_of, record)]
        if pictures:
            raise unfit(
                table.path, pictures, _ignore_of, "has an `ignore` that is no list of polygons", "image"
            ) from error
        fault = "has a segmentation that is neither polygons nor run lengths"
        raise unfit(table.path, table.annotations, lambda record: Regions({0: outlines(record)}), fault) from error


def _ignore_of(picture: Record) -> Regions:
    return Regions({0: list(picture.get("ignore") or ())})


def _ignored(table: CocoFile, people: People) -> dict[int, list[Region]]:
    """The regions of crowds and of people without a labelled keypoint, by picture; other outlines are dropped."""
    ignored: dict[int, list[Region]] = {
        index: list(record["ignore"]) for index, record in enumerate(table.images) if record.get("ignore")
    }
    rows = np.flatnonzero(people.extra["crowd"] | ~(people.scores > 0).any(axis=1))
    for row, sample in zip(rows.tolist(), table.samples[rows].tolist(), strict=True):
        if "ignore" not in table.images[sample]:  # where it stands, it already holds them
            ignored.setdefault(sample, []).extend(outlines(table.annotations[row]))
    return ignored


def outlines(annotation: Record) -> list[Region]:
    """The annotation's polygons or run lengths, else its box; nothing where it has neither."""
    region = annotation.get("segmentation")
    if isinstance(region, Mapping):
        return [region]
    polygons = [polygon for polygon in region or () if len(polygon) >= 6]
    if polygons or len(annotation.get("bbox") or ()) != 4:
        return polygons
    x, y, width, height = annotation["bbox"]
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
