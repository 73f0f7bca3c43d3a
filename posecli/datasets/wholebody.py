"""COCO-WholeBody (Jin et al., ECCV 2020): COCO's file with foot, face and hand keypoints in fields of their own.

133 keypoints in the order body 17, foot 6, face 68, left hand 21, right hand 21. Visibility of the parts is a
confidence in some versions; anything above 0 is labelled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posecli.datasets.coco import (
    CocoFile,
    Record,
    build,
    collection_paused,
    find_annotations,
    read_json,
    sort_annotations,
)
from posecli.datasets.coco_skeleton import choose_categories
from posecli.geometry import keypoint_boxes
from posecli.skeleton import house_skeleton
from posecli.types import Dataset

WHOLE = 133
_KEPT = ("id", "image_id", "category_id", "area", "iscrowd")


@dataclass(frozen=True)
class Part:
    """Where one part stands in an annotation."""

    field: str  # of its keypoints
    valid: str  # of its flag, "" when there is none
    box: str  # of its box, "" when there is none
    start: int  # its first keypoint of the 133
    count: int


PARTS = {
    "body": Part("keypoints", "", "bbox", 0, 17),
    "foot": Part("foot_kpts", "foot_valid", "", 17, 6),
    "face": Part("face_kpts", "face_valid", "face_box", 23, 68),
    "left_hand": Part("lefthand_kpts", "lefthand_valid", "lefthand_box", 91, 21),
    "right_hand": Part("righthand_kpts", "righthand_valid", "righthand_box", 112, 21),
}


@collection_paused()
def wholebody_dataset(path: Path, images: Path | None = None, part: str = "wholebody", strict: bool = False) -> Dataset:
    """People with 133 keypoints, or one part of them; a part that is not valid is not labelled.

    wholebody and body: every person, with the person's box. face, left_hand, right_hand: every valid one, with its own
    box. foot: people with valid feet, the box tight around the labelled points. hands: every valid hand of either side
    as an instance of 21 keypoints, with annotation ids 2 id (left) and 2 id + 1 (right). `area` is always the
    person's, to which the sigmas belong. Annotations with faults are noted; with `strict` they raise PosecliError.
    """
    file = find_annotations(path)
    document = read_json(file)
    table = sort_annotations(file, document, choose_categories(file, document["categories"], None), strict)
    skeleton = house_skeleton({"wholebody": "coco_wholebody", "body": "coco"}.get(part) or _part_skeleton(part))
    if part == "wholebody":
        return build(table, skeleton, join_parts, images)
    if part == "body":
        return build(table, skeleton, lambda record: _part(record, PARTS["body"]), images)
    if part == "hands":
        cut = _instances(table, [_hand(record, side) for record in table.annotations for side in (0, 1)], 2)
    else:
        cut = _instances(table, [_as_instance(record, PARTS[part]) for record in table.annotations], 1)
    notes = ["annotation ids are 2 id for a left hand, 2 id + 1 for a right one"] if part == "hands" else []
    dataset = build(cut, skeleton, lambda record: record["keypoints"], images, notes)
    if part == "foot":
        people = dataset.people
        tight = keypoint_boxes(people.keypoints).astype(people.boxes.dtype if people.boxes is not None else float)
        dataset = dataclasses.replace(dataset, people=dataclasses.replace(people, boxes=tight))
    return dataset


def _part_skeleton(part: str) -> str:
    return f"coco_wholebody_{part.removesuffix('s')}"


def _part(record: Record, part: Part) -> Sequence[float]:
    """The part's flat triples; all zero where it is not valid or not there."""
    blank = [0.0] * (3 * part.count)
    if part.valid and not record.get(part.valid, True):
        return blank
    keypoints: Sequence[float] = record.get("keypoints") or blank
    if len(keypoints) == 3 * WHOLE:  # all 133 in one field, as some tools write them
        return keypoints[3 * part.start : 3 * (part.start + part.count)]
    return record.get(part.field) or blank


def join_parts(record: Record) -> list[float]:
    """The flat triples of all parts, 399 numbers where each part has its own; zero where one is not valid."""
    return [value for part in PARTS.values() for value in _part(record, part)]


def _as_instance(record: Record, part: Part) -> Record | None:
    """The part as an annotation of its own; None where it is not valid or nothing of it is labelled."""
    keypoints = _part(record, part)
    if not record.get(part.valid, True) or not any(keypoints[2::3]):
        return None
    box = record.get(part.box) if part.box else None
    instance: Record = {key: record[key] for key in _KEPT if key in record}
    return instance | {"keypoints": keypoints, "bbox": box}


def _hand(record: Record, right: int) -> Record | None:
    hand = _as_instance(record, PARTS["right_hand" if right else "left_hand"])
    return None if hand is None else {**hand, "id": 2 * int(record["id"]) + right}


def _instances(table: CocoFile, records: Sequence[Record | None], each: int) -> CocoFile:
    """The table with its annotations replaced, `each` for one; None falls out."""
    kept = [index for index, record in enumerate(records) if record is not None]
    samples = table.samples[[index // each for index in kept]]
    return dataclasses.replace(table, annotations=[r for r in records if r is not None], samples=samples)
