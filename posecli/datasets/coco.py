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
from posecli.datasets.coco_motion import TABLES, read_actions, read_cameras, read_motion
from posecli.datasets.coco_skeleton import choose_categories, read_skeleton
from posecli.datasets.hand_columns import read_hands
from posecli.datasets.pictures import NoPictures, PicturePaths, find_pictures, picture_sizes
from posecli.datasets.regions import Region, Regions
from posecli.geometry import has_area, keypoint_boxes
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, FloatArray, IntArray, People, SampleId

Record = dict[str, Any]
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
    path: Path, images: Path | None = None, category: str | int | None = None, skeleton: str | None = None
) -> Dataset:
    """The keypoint annotations of a COCO JSON file; several categories that share their keypoints are read together.

    `images`: the folder of the pictures, looked for beside the file by default. `category`: name or id. `skeleton`: a
    house skeleton's name or a YAML file that replaces what the file says. Raises PosecliError in one clear line.
    """
    file = find_annotations(path)
    document = read_json(file)
    chosen = choose_categories(file, document["categories"], category)
    described, notes = read_skeleton(file, chosen[0], skeleton)
    table = sort_annotations(file, document, chosen)
    return build(table, described, _plain_keypoints, images, notes)


def _plain_keypoints(annotation: Record) -> Sequence[float]:
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


def sort_annotations(file: Path, document: Mapping[str, list[Record]], chosen: Sequence[Record]) -> CocoFile:
    """The annotations of the chosen categories, put in the order of the pictures."""
    position: dict[SampleId, int] = {image["id"]: index for index, image in enumerate(document["images"])}
    if len(position) < len(document["images"]):
        raise PosecliError(f"{file}: image ids repeat; see posecli data check {file}")
    wanted = {category["id"] for category in chosen}
    annotations = [record for record in document["annotations"] if record.get("category_id", 1) in wanted]
    listed = [record for record in annotations if record.get("image_id") in position]
    if not listed:
        raise PosecliError(f"{file} has no annotations of {chosen[0].get('name', chosen[0]['id'])!r} in its pictures")
    samples = np.fromiter((position[record["image_id"]] for record in listed), np.int64, len(listed))
    order = np.argsort(samples, kind="stable")
    lost = len(annotations) - len(listed)
    notes = (f"{lost} annotations belong to pictures the file does not list and are left out",) if lost else ()
    ordered = [listed[index] for index in order.tolist()]
    more = {name: document[name] for name in TABLES if name in document}
    return CocoFile(file, document["images"], ordered, list(chosen), samples[order], notes, more)


# --- columns ----------------------------------------------------------------------------------------------------------


def build(
    table: CocoFile, skeleton: Skeleton, keypoints: Keypoints, images: Path | None, notes: Iterable[str] = ()
) -> Dataset:
    """The columns of a parsed file; `keypoints` says where an annotation holds them."""
    pictures = _pictures(table, images)
    people = read_people(table, len(skeleton), keypoints)
    notes = (*notes, *_flat_boxes(people))
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
        ignore=Regions(_ignored(table, people)),
        notes=(*table.notes, *notes),
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


def read_people(table: CocoFile, joints: int, keypoints: Keypoints) -> People:
    """All annotations as rows; not one numpy call for a single annotation."""
    points, visibility = _points(table, joints, keypoints)
    boxes = _boxes(table, points)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = _column(table, "area", np.float64, np.nan)
    extra: dict[str, Array] = {
        "area": np.where(np.isfinite(area), area, sides[:, 0] * sides[:, 1]),
        "crowd": _column(table, "iscrowd", np.bool_, False),
        "annotation_id": _identities(table),
        "category": _column(table, "category_id", np.int64, 1),
        **_crowd_index(table),
        **_own_columns(table),
        **read_motion(table.path, table.annotations, joints, table.more),
    }
    extra.update(read_hands(table.path, table.annotations, extra.get("keypoints_3d"), joints))
    return People(points, visibility, boxes, None, extra)


def _points(table: CocoFile, joints: int, keypoints: Keypoints) -> tuple[FloatArray, FloatArray]:
    """Keypoints (A, K, 2), NaN where not labelled, and visibility (A, K) in 0, 1, 2."""
    flat = [keypoints(record) for record in table.annotations]
    blank = [0.0] * (3 * joints)
    lengths = {len(values) for values in flat} - {0, 3 * joints}
    if lengths:
        index = next(index for index, values in enumerate(flat) if len(values) in lengths)
        found = f"{len(flat[index]) // 3} keypoints" if len(flat[index]) % 3 == 0 else f"{len(flat[index])} numbers"
        raise PosecliError(
            f"{table.path}: annotation {table.annotations[index]['id']} has {found}, its category names {joints}; "
            f"see posecli data check {table.path}"
        )
    try:
        values = np.fromiter(chain.from_iterable(row or blank for row in flat), np.float32, len(flat) * len(blank))
    except (TypeError, ValueError) as error:
        raise PosecliError(
            f"{table.path}: keypoints that are not numbers; see posecli data check {table.path}"
        ) from error
    triples = values.reshape(len(flat), joints, 3)
    visibility = np.clip(np.ceil(triples[..., 2]), 0, 2)  # some sets give a confidence between 0 and 1
    visibility = np.where(np.isfinite(triples).all(axis=2), visibility, np.float32(0))
    return np.where(visibility[..., None] > 0, triples[..., :2], np.float32(np.nan)), visibility


def _boxes(table: CocoFile, points: FloatArray) -> FloatArray:
    """Boxes (A, 4) x1 y1 x2 y2; an annotation without one gets the tight box of its keypoints."""
    nothing = (np.nan,) * 4
    try:
        flat = chain.from_iterable(record.get("bbox") or nothing for record in table.annotations)
        boxes = np.fromiter(flat, np.float64, 4 * len(table.annotations)).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise PosecliError(f"{table.path}: a bbox is not four numbers; see posecli data check {table.path}") from error
    boxes[:, 2:] += boxes[:, :2]
    return np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, keypoint_boxes(points))


def _flat_boxes(people: People) -> Iterator[str]:
    """What to say of labelled people whose boxes have no area: nobody can be cut out by them."""
    assert people.boxes is not None
    flat = ~has_area(people.boxes) & people.labelled.any(axis=1)
    count = int((flat & ~people.extra["crowd"]).sum())
    if count:
        yield f"{count} labelled people have a box without area, by which nobody can be cut out; see posecli data check"


def _column(table: CocoFile, key: str, kind: Any, default: Any) -> Array:
    values = (default if (value := record.get(key)) is None else value for record in table.annotations)
    return np.fromiter(values, kind, len(table.annotations))


def _crowd_index(table: CocoFile) -> dict[str, Array]:
    """How crowded each annotation's picture is, where the file says it, as CrowdPose's do; NaN for others in it."""
    if not any("crowdIndex" in record for record in table.images):
        return {}
    values = np.full(len(table.images), np.nan, dtype=np.float32)
    for index, record in enumerate(table.images):
        try:
            values[index] = np.nan if record.get("crowdIndex") is None else float(record["crowdIndex"])
        except (TypeError, ValueError) as error:
            raise PosecliError(
                f"{table.path}: image {record['id']} has the crowdIndex {record['crowdIndex']!r}; a number is expected"
            ) from error
    return {"crowd_index": values[table.samples]}


def _own_columns(table: CocoFile) -> dict[str, Array]:
    """The columns that the first category names; -1 where an annotation has none."""
    names = table.categories[0].get("columns") or ()
    try:
        return {name: _whole_numbers(_column(table, name, np.float64, -1)) for name in map(str, names)}
    except (TypeError, ValueError, OverflowError) as error:
        raise PosecliError(f"{table.path}: `columns` {names} are whole numbers, and one is not") from error


def _whole_numbers(values: FloatArray) -> IntArray:
    """The same as int64. Raises ValueError for others."""
    whole = values.astype(np.int64)
    if (whole != values).any():
        raise ValueError("not whole")
    return np.asarray(whole)


def _identities(table: CocoFile) -> IntArray:
    """The annotations' ids; their running number where an id is not a whole number."""
    try:
        return _column(table, "id", np.int64, 0)
    except (TypeError, ValueError):
        return np.arange(1, len(table.annotations) + 1)


def _sizes(table: CocoFile, pictures: PicturePaths | NoPictures) -> IntArray:
    """Width and height (N, 2) as stated, from the pictures' headers where they are not."""
    flat = chain.from_iterable((record.get("width") or 0, record.get("height") or 0) for record in table.images)
    sizes = np.fromiter(flat, np.int64, 2 * len(table.images)).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if len(unknown) and isinstance(pictures, PicturePaths):
        sizes[unknown], unreadable = picture_sizes([pictures.path(int(index)) for index in unknown])
        if unreadable:
            first = pictures.path(int(unknown[unreadable[0]]))
            raise PosecliError(f"{table.path} gives no width and height for {first}, and its header cannot be read")
    return sizes


def _ignored(table: CocoFile, people: People) -> dict[int, list[Region]]:
    """The regions of crowds and of people without a labelled keypoint, by picture; other outlines are dropped."""
    ignored: dict[int, list[Region]] = {
        index: list(record["ignore"]) for index, record in enumerate(table.images) if record.get("ignore")
    }
    rows = np.flatnonzero(people.extra["crowd"] | ~(people.scores > 0).any(axis=1))
    for row, sample in zip(rows.tolist(), table.samples[rows].tolist(), strict=True):
        if "ignore" not in table.images[sample]:  # where it stands, it already holds them
            ignored.setdefault(sample, []).extend(_outlines(table.annotations[row]))
    return ignored


def _outlines(annotation: Record) -> list[Region]:
    """The annotation's polygons or run lengths, else its box; nothing where it has neither."""
    region = annotation.get("segmentation")
    if isinstance(region, Mapping):
        return [region]
    polygons = [polygon for polygon in region or () if len(polygon) >= 6]
    if polygons or len(annotation.get("bbox") or ()) != 4:
        return polygons
    x, y, width, height = annotation["bbox"]
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
