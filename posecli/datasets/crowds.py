"""CrowdPose, AI Challenger, OCHuman and Multi-Human Parsing: COCO's file, each with people of its own kind.

CrowdPose (Li et al., CVPR 2019) also says of each picture how crowded it is, `crowdIndex`. The others are also read as
their authors publish them, see `published_crowds`. None of these but OCHuman annotates areas of bodies: an area is 0.53
of the box, as the reference scores them. Annotations with faults are noted; with `strict` they raise PosecliError.
"""

from __future__ import annotations

from pathlib import Path

from posecli.console import PosecliError
from posecli.datasets.coco import build, collection_paused, find_annotations, keypoints_of, parse_json
from posecli.datasets.known_sets import known_dataset, with_body_areas
from posecli.datasets.published_crowds import (
    Part,
    aic_tables,
    is_published,
    mhp_folder,
    mhp_tables,
    ochuman_tables,
)
from posecli.skeleton import house_skeleton
from posecli.types import Dataset


@collection_paused()
def crowdpose_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 14 keypoints; `extra["crowd_index"]` is that of the person's picture."""
    return known_dataset(path, "crowdpose", images, "body", strict)


@collection_paused()
def aic_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 14 keypoints, from the published list of pictures or from COCO's form."""
    file = find_annotations(path)
    document = parse_json(file)
    if not isinstance(document, list):
        return known_dataset(file, "aic", images, "body", strict)
    skeleton = house_skeleton("aic")
    beside = file.parent / file.stem.replace("annotations", "images")
    places = images or (beside if beside != file.parent / file.stem and beside.is_dir() else None)
    table = aic_tables(file, document, skeleton, strict)
    return with_body_areas(build(table, skeleton, keypoints_of, places, ["read as AI Challenger publishes it"]))


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
        return build(table, skeleton, keypoints_of, images, ["read as OCHuman's authors publish it"])
    if part != "all":
        raise PosecliError(f"{file} is in COCO's form, part={part} is for the published ochuman.json; leave part out")
    return known_dataset(file, "coco", images, strict=strict)


@collection_paused()
def mhp_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 16 keypoints, those of MPII, from one side as published, images/ and pose_annos/, or COCO's form."""
    folder = mhp_folder(path)
    if folder is not None:
        skeleton = house_skeleton("mhp")
        table = mhp_tables(folder, skeleton, strict)
        return with_body_areas(build(table, skeleton, keypoints_of, images, ["read as MHP v2 is published"]))
    if mhp_folder(path / "train") is not None:
        raise PosecliError(f"{path} holds all of MHP v2; give one side of it, {path / 'train'} or {path / 'val'}")
    if path.suffix == ".mat" or (
        path.is_dir() and not any(path.glob("*.json")) and not any(path.glob("annotations/*.json"))
    ):
        raise PosecliError(f"no MHP v2 at {path}: give the folder with images/ and pose_annos/, or one COCO JSON file")
    return known_dataset(path, "mhp", images, "body", strict)
