"""CrowdPose, AI Challenger, OCHuman and Multi-Human Parsing: COCO's file, each with people of its own kind.

CrowdPose (Li et al., CVPR 2019) also says of each picture how crowded it is, `crowdIndex`. AI Challenger (Wu et al.,
2017) is read as published, a list of pictures, and in COCO's form. None of these but OCHuman annotates areas of
bodies: an area is 0.53 of the box, as the reference scores them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posecli.console import PosecliError
from posecli.datasets.coco import (
    CocoFile,
    Record,
    build,
    collection_paused,
    find_annotations,
    parse_json,
    read_json,
    sort_annotations,
)
from posecli.geometry import box_areas
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset

BODY_SHARE = 0.53  # of its box that a person covers
_OTHER_NAMES = {"head": "tophead"}  # CrowdPose's files say head, its papers top of the head
_VISIBILITY = {1: 2, 2: 1, 3: 0}  # AI Challenger's seen, hidden, not labelled in COCO's numbers


@collection_paused()
def crowdpose_dataset(path: Path, images: Path | None = None) -> Dataset:
    """People with 14 keypoints; `extra["crowd_index"]` is that of the person's picture."""
    return _with_body_areas(_read(path, "crowdpose", images))


@collection_paused()
def aic_dataset(path: Path, images: Path | None = None) -> Dataset:
    """People with 14 keypoints, from the published list of pictures or from COCO's form."""
    file = find_annotations(path)
    document = parse_json(file)
    if not isinstance(document, list):
        return _with_body_areas(_read(file, "aic", images))
    skeleton = house_skeleton("aic")
    beside = file.parent / file.stem.replace("annotations", "images")
    places = images or (beside if beside != file.parent / file.stem and beside.is_dir() else None)
    table = _published(file, document, skeleton)
    return _with_body_areas(build(table, skeleton, _keypoints, places, ["read as AI Challenger publishes it"]))


@collection_paused()
def ochuman_dataset(path: Path, images: Path | None = None) -> Dataset:
    """People who hide each other, with COCO's 17 keypoints and annotated areas."""
    return _read(path, "coco", images)


@collection_paused()
def mhp_dataset(path: Path, images: Path | None = None) -> Dataset:
    """People with 16 keypoints, those of MPII."""
    return _with_body_areas(_read(path, "mhp", images))


def _read(path: Path, skeleton: str, images: Path | None) -> Dataset:
    """A file in COCO's form, by a house skeleton: what such files say of links is often another dataset's."""
    file = find_annotations(path)
    document = read_json(file)
    described = house_skeleton(skeleton)
    _check_names(file, document["categories"], described)
    table = sort_annotations(file, document, document["categories"])
    return build(table, described, _keypoints, images)


def _keypoints(annotation: Record) -> Sequence[float]:
    found: Sequence[float] = annotation.get("keypoints") or ()
    return found


def _check_names(file: Path, categories: Sequence[Record], skeleton: Skeleton) -> None:
    """Raise PosecliError where a category lists other keypoints than the skeleton's, or in another order."""
    wanted = [_plain(name) for name in skeleton.names]
    for category in categories:
        names = category.get("keypoints") or skeleton.names
        if [_plain(str(name)) for name in names] != wanted:
            raise PosecliError(
                f"{file}: its keypoints are {', '.join(map(str, names))}; "
                f"the dataset {skeleton.name!r} has {', '.join(skeleton.names)}. Read it as coco instead"
            )


def _plain(name: str) -> str:
    letters = "".join(character for character in name.lower() if character.isalnum())
    return _OTHER_NAMES.get(letters, letters)


def _with_body_areas(dataset: Dataset) -> Dataset:
    people = dataset.people
    assert people.boxes is not None
    people = people.with_extra(area=box_areas(people.boxes) * BODY_SHARE)
    note = f"areas are {BODY_SHARE} × box, none are annotated"
    return dataclasses.replace(dataset, people=people, notes=(*dataset.notes, note))


def _published(file: Path, document: Sequence[Any], skeleton: Skeleton) -> CocoFile:
    """AI Challenger's own list as COCO's tables; annotations are numbered from 1 in the order of the file."""
    try:
        images = [{"id": record["image_id"], "file_name": f"{record['image_id']}.jpg"} for record in document]
        annotations = [person for record in document for person in _people(record)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PosecliError(
            f"{file}: a list, but not of AI Challenger's pictures with image_id, human_annotations and "
            f"keypoint_annotations ({type(error).__name__}: {error})"
        ) from error
    if not images:
        raise PosecliError(f"{file} lists no images")
    numbered = [{**person, "id": number} for number, person in enumerate(annotations, start=1)]
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.names)}
    tables = {"images": images, "annotations": numbered, "categories": [category]}
    return sort_annotations(file, tables, [category])


def _people(record: Record) -> list[Record]:
    """The people of one published picture, in the order of their names human1, human2 …"""
    boxes, points = record["human_annotations"], record["keypoint_annotations"]
    people = []
    for name in sorted(boxes, key=lambda human: (len(human), human)):
        left, top, right, bottom = boxes[name]
        flat = list(points.get(name, ()))
        flat[2::3] = [_VISIBILITY[int(flag)] for flag in flat[2::3]]
        box = [left, top, right - left, bottom - top]
        people.append({"image_id": record["image_id"], "category_id": 1, "bbox": box, "keypoints": flat})
    return people
