"""CrowdPose, AI Challenger, OCHuman and Multi-Human Parsing: COCO's file, each with people of its own kind.

CrowdPose (Li et al., CVPR 2019) also says of each picture how crowded it is, `crowdIndex`. The others are also read as
their authors publish them, see `published_crowds`. None of these but OCHuman annotates areas of bodies: an area is 0.53
of the box, as the reference scores them. Annotations with faults are noted; with `strict` they raise PosecliError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from posecli.console import PosecliError
from posecli.datasets.coco import (
    Record,
    build,
    collection_paused,
    find_annotations,
    parse_json,
    read_json,
    sort_annotations,
)
from posecli.datasets.published_crowds import (
    Part,
    aic_tables,
    is_published,
    mhp_folder,
    mhp_tables,
    ochuman_tables,
)
from posecli.geometry import box_areas
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset

BODY_SHARE = 0.53  # of its box that a person covers
_OTHER_NAMES = {"head": "tophead"}  # CrowdPose's files say head, its papers top of the head


@collection_paused()
def crowdpose_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 14 keypoints; `extra["crowd_index"]` is that of the person's picture."""
    return _with_body_areas(_read(path, "crowdpose", images, strict))


@collection_paused()
def aic_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 14 keypoints, from the published list of pictures or from COCO's form."""
    file = find_annotations(path)
    document = parse_json(file)
    if not isinstance(document, list):
        return _with_body_areas(_read(file, "aic", images, strict))
    skeleton = house_skeleton("aic")
    beside = file.parent / file.stem.replace("annotations", "images")
    places = images or (beside if beside != file.parent / file.stem and beside.is_dir() else None)
    table = aic_tables(file, document, skeleton, strict)
    return _with_body_areas(build(table, skeleton, _keypoints, places, ["read as AI Challenger publishes it"]))


@collection_paused()
def ochuman_dataset(path: Path, images: Path | None = None, part: Part = "all", strict: bool = False) -> Dataset:
    """People who hide each other, with COCO's 17 keypoints; areas are those of the boxes, as the authors have them.

    `part` is for the published ochuman.json; each of the authors' files in COCO's form is one of its parts.
    """
    file = find_annotations(path)
    document = parse_json(file)
    if isinstance(document, dict) and is_published(document):
        skeleton = house_skeleton("coco")
        table = ochuman_tables(file, document, skeleton, part, strict)
        return build(table, skeleton, _keypoints, images, ["read as OCHuman's authors publish it"])
    if part != "all":
        raise PosecliError(f"{file} is in COCO's form, part={part} is for the published ochuman.json; leave part out")
    return _read(file, "coco", images, strict)


@collection_paused()
def mhp_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 16 keypoints, those of MPII, from one side as published, images/ and pose_annos/, or COCO's form."""
    folder = mhp_folder(path)
    if folder is not None:
        skeleton = house_skeleton("mhp")
        table = mhp_tables(folder, skeleton, strict)
        return _with_body_areas(build(table, skeleton, _keypoints, images, ["read as MHP v2 is published"]))
    if mhp_folder(path / "train") is not None:
        raise PosecliError(f"{path} holds all of MHP v2; give one side of it, {path / 'train'} or {path / 'val'}")
    if path.suffix == ".mat" or (
        path.is_dir() and not any(path.glob("*.json")) and not any(path.glob("annotations/*.json"))
    ):
        raise PosecliError(f"no MHP v2 at {path}: give the folder with images/ and pose_annos/, or one COCO JSON file")
    return _with_body_areas(_read(path, "mhp", images, strict))


def _read(path: Path, skeleton: str, images: Path | None, strict: bool) -> Dataset:
    """A file in COCO's form, by a house skeleton: what such files say of links is often another dataset's."""
    file = find_annotations(path)
    document = read_json(file)
    described = house_skeleton(skeleton)
    _check_names(file, document["categories"], described)
    table = sort_annotations(file, document, document["categories"], strict)
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
