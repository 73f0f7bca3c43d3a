"""COCO keypoint JSON out; `coco_dataset` reads it back identical, keypoints to 0.0005 pixels or millimetres."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from posecli.datasets.coco import LENGTHS
from posecli.datasets.coco_motion import NUMBERS, action_records, camera_numbers, camera_records, motion_fields
from posecli.datasets.coco_skeleton import known_skeleton, to_fields
from posecli.datasets.hand_columns import COLUMNS as HAND_COLUMNS
from posecli.datasets.hand_columns import hand_fields
from posecli.datasets.writer import Writer
from posecli.files import atomic_path
from posecli.geometry import box_areas, keypoint_boxes
from posecli.types import Array, Dataset, FloatArray, IntArray

Record = dict[str, Any]
WRITTEN = ("annotation_id", "area", "category", "crowd", "crowd_index", "keypoints_3d", *LENGTHS)
FIELDS = ("id", "image_id", "category_id", "bbox", "iscrowd", "num_keypoints", "keypoints", "segmentation")


class CocoWriter(Writer):
    """One JSON object, one record a line."""

    suffix = ".json"

    def write(self, dataset: Dataset, names: Sequence[str], path: Path) -> None:
        tables = {
            "categories": category_records(dataset),
            **({"cameras": camera_records(dataset)} if dataset.cameras is not None else {}),
            **({"actions": action_records(dataset)} if dataset.actions else {}),
            "images": image_records(dataset, names),
            "annotations": annotation_records(dataset),
        }
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.write('{"info": {"description": ' + json.dumps(f"{dataset.name}, written by posecli") + "}")
            for name, records in tables.items():
                stream.write(f',\n"{name}": [')
                _write_lines(stream, records)
                stream.write("]")
            stream.write("}\n")

    def dropped(self, dataset: Dataset) -> list[str]:
        derived = set(HAND_COLUMNS) if "hand_type" in dataset.people.extra else set()
        return sorted(set(dataset.people.extra) - {*WRITTEN, *NUMBERS, *derived, *own_columns(dataset)})


def _write_lines(stream: IO[str], records: Iterator[Record]) -> None:
    separator = "\n"
    for record in records:
        stream.write(separator + json.dumps(record, ensure_ascii=False))
        separator = ",\n"


def category_records(dataset: Dataset) -> Iterator[Record]:
    """One record for each category in use, with everything that is known of the skeleton."""
    used = np.unique(dataset.people.extra.get("category", np.ones(1, dtype=np.int64))).tolist()
    skeleton = dataset.skeleton
    known = known_skeleton(skeleton.names)
    for identity in sorted({*used, *dataset.categories}) or [1]:
        name = dataset.categories.get(identity, skeleton.name)
        record = {"id": identity, "name": name, **to_fields(skeleton)}
        if name != skeleton.name and (known is None or known.name != skeleton.name):
            record["skeleton_name"] = skeleton.name
        if own_columns(dataset):
            record["columns"] = own_columns(dataset)
        yield record


def image_records(dataset: Dataset, names: Sequence[str]) -> Iterator[Record]:
    """One record a picture. `ignore` holds polygons, and stands empty where rows would else be taken for regions."""
    blank = ~dataset.people.labelled.any(axis=1) | dataset.people.crowd  # rows that a reader takes for regions
    blanks = np.bincount(dataset.sample_of_row[blank], minlength=len(dataset)).tolist()
    cameras = camera_numbers(dataset)
    crowded = dataset.people.extra.get("crowd_index")
    for index, (width, height) in enumerate(dataset.sizes.tolist()):
        record: Record = {"id": dataset.ids[index], "file_name": names[index], "width": width, "height": height}
        if cameras is not None:
            record["camera_id"] = cameras[index]
        polygons = dataset.ignore.get(index, ())
        if polygons or blanks[index]:
            record["ignore"] = [_rounded(polygon, 3).reshape(-1).tolist() for polygon in polygons]
        first, last = dataset.offsets[index], dataset.offsets[index + 1]
        if crowded is not None and first < last and np.isfinite(crowded[first]):
            record["crowdIndex"] = round(float(crowded[first]), 6)
        yield record


def annotation_records(dataset: Dataset) -> Iterator[Record]:
    """One record a person; keypoints that are not labelled are 0, 0, 0."""
    people = dataset.people
    labelled = people.labelled
    triples = np.concatenate([people.keypoints[..., :2], people.scores[..., None]], axis=-1)  # (P, K, 3)
    flat = _rounded(np.where(labelled[..., None], triples, 0), 3).reshape(len(people), 3 * people.keypoints.shape[1])
    boxes = keypoint_boxes(people.keypoints[..., :2]) if people.boxes is None else people.boxes
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    columns = zip(
        annotation_ids(dataset).tolist(),
        dataset.sample_of_row.tolist(),
        people.extra.get("category", np.ones(len(people), dtype=np.int64)).tolist(),
        _rounded(sides, 6).tolist(),
        _rounded(people.extra.get("area", box_areas(boxes)), 6).tolist(),
        dataset.people.crowd.tolist(),
        labelled.sum(axis=1).tolist(),
        strict=True,
    )
    more, hands = motion_fields(people), hand_fields(people)
    lengths = {name: people.extra[name].tolist() for name in LENGTHS if name in people.extra}
    own = {name: people.extra[name].tolist() for name in own_columns(dataset)}
    for row, (identity, sample, category, box, area, crowd, count) in enumerate(columns):
        yield {
            "id": identity,
            "image_id": dataset.ids[sample],
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            "num_keypoints": count,
            "keypoints": _plain(flat[row]),
            **{name: round(values[row], 6) for name, values in lengths.items() if np.isfinite(values[row])},
            **(next(more) if more else {}),
            **(next(hands) if hands else {}),
            **{name: values[row] for name, values in own.items()},
        }


def own_columns(dataset: Dataset) -> list[str]:
    """The columns of one whole number a person that are the dataset's own, as classes are."""
    own = set(dataset.people.extra) - {*WRITTEN, *NUMBERS, *HAND_COLUMNS, *FIELDS}
    return sorted(name for name in own if _is_whole(dataset.people.extra[name]))


def _is_whole(values: Array) -> bool:
    return values.ndim == 1 and np.issubdtype(values.dtype, np.integer)


def annotation_ids(dataset: Dataset) -> IntArray:
    """The rows' ids, (P,); running numbers from 1 where the dataset has none."""
    known = dataset.people.extra.get("annotation_id")
    return np.arange(1, len(dataset.people) + 1) if known is None else known


def _rounded(values: Array, digits: int) -> FloatArray:
    return np.asarray(np.round(np.asarray(values, dtype=np.float64), digits))


def _plain(values: FloatArray) -> list[float]:
    """Whole numbers without their `.0`: a third less to write."""
    return [int(value) if value.is_integer() else value for value in values.tolist()]
