"""AI Challenger, OCHuman and Multi-Human Parsing as their authors publish them, turned into COCO's tables.

AI Challenger (Wu et al., 2017) is a JSON list of pictures. OCHuman (Zhang et al., CVPR 2019) is `ochuman.json`, with 19
keypoints by name and four kinds of visibility. Multi-Human Parsing v2 (Zhao et al., ACM MM 2018) is a folder with one
MATLAB file a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.coco import CocoFile, Record, sort_annotations
from posecli.datasets.matlab import read_matlab
from posecli.skeleton import Skeleton
from posecli.types import Array

Part = Literal["all", "val", "test"]

AIC_VISIBILITY = {1: 2, 2: 1, 3: 0}  # seen, hidden, not labelled in COCO's numbers
OCHUMAN_VISIBILITY = {"missing": 0, "vis": 2, "self_occluded": 2, "others_occluded": 1}  # as the authors turn them
OCHUMAN_VAL = 2500  # pictures, in the order of their ids; the others are the test side
MHP_VISIBILITY = {0: 2, 1: 1, 2: 0}  # seen, hidden, outside the picture
MHP_FOLDER = "pose_annos"
MHP_CORNERS = 4  # rows of a person's matrix after the keypoints: corners of the face, corners of the person


def is_published(document: object) -> bool:
    """Whether parsed JSON is a list of pictures, or says what its kinds of visibility are: AI Challenger, OCHuman."""
    return isinstance(document, list) or (isinstance(document, dict) and "keypoint_visible" in document)


# --- AI Challenger ----------------------------------------------------------------------------------------------------


def aic_tables(file: Path, document: Sequence[Any], skeleton: Skeleton, strict: bool) -> CocoFile:
    """AI Challenger's list. Raises PosecliError where it is another list."""
    try:
        images = [{"id": record["image_id"], "file_name": f"{record['image_id']}.jpg"} for record in document]
        annotations = [person for record in document for person in _aic_people(record)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PosecliError(
            f"{file}: a list, but not of AI Challenger's pictures with image_id, human_annotations and "
            f"keypoint_annotations ({type(error).__name__}: {error})"
        ) from error
    return coco_tables(file, images, annotations, skeleton, strict)


def _aic_people(record: Record) -> list[Record]:
    """The people of one picture, in the order of their names human1, human2 …"""
    boxes, points = record["human_annotations"], record["keypoint_annotations"]
    people = []
    for name in sorted(boxes, key=lambda human: (len(human), human)):
        flat = list(points.get(name, ()))
        flat[2::3] = [AIC_VISIBILITY[int(flag)] for flag in flat[2::3]]
        people.append({"image_id": record["image_id"], "bbox": _box(boxes[name]), "keypoints": flat})
    return people


# --- OCHuman ----------------------------------------------------------------------------------------------------------


def ochuman_tables(file: Path, document: Mapping[str, Any], skeleton: Skeleton, part: Part, strict: bool) -> CocoFile:
    """The people of ochuman.json who have keypoints and a mask, as in the authors' own COCO files; other people, and
    pictures with none of these, are left out, and where they are nothing is to be learnt.

    Raises PosecliError where keypoints or fields are missing.
    """
    try:
        columns = [document["keypoint_names"].index(name) for name in skeleton.names]
        kinds = {number: OCHUMAN_VISIBILITY[kind] for kind, number in document["keypoint_visible"].items()}
        told = [record for record in document["images"] if any(_is_whole(person) for person in record["annotations"])]
        told.sort(key=lambda record: record["image_id"])
        told = {"all": told, "val": told[:OCHUMAN_VAL], "test": told[OCHUMAN_VAL:]}[part]
        images = [_ochuman_image(record) for record in told]
        annotations = [
            {
                "image_id": record["image_id"],
                "bbox": _box(person["bbox"]),
                "keypoints": _ochuman_keypoints(person["keypoints"], columns, kinds),
            }
            for record in told
            for person in record["annotations"]
            if _is_whole(person)
        ]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise PosecliError(
            f"{file}: not OCHuman's pictures with image_id, file_name and annotations of bbox, keypoints and segms "
            f"({type(error).__name__}: {error})"
        ) from error
    return coco_tables(file, images, annotations, skeleton, strict)


def _is_whole(person: Record) -> bool:
    return bool(person["keypoints"]) and bool(person["segms"])


def _ochuman_image(record: Record) -> Record:
    """A picture's record, with the regions of the people who are left out."""
    others = [person for person in record["annotations"] if not _is_whole(person)]
    ignored = [outline for person in others for outline in _ochuman_outlines(person)]
    told = {"id": record["image_id"], "file_name": record["file_name"]}
    return {**told, "width": record["width"], "height": record["height"], **({"ignore": ignored} if ignored else {})}


def _ochuman_outlines(person: Record) -> list[list[float]]:
    """The person's mask as flat polygons, else the box."""
    outer = [polygon for polygon in (person["segms"] or {}).get("outer", ()) if len(polygon) >= 6]
    left, top, right, bottom = person["bbox"]
    return outer or [[left, top, right, top, right, bottom, left, bottom]]


def _ochuman_keypoints(flat: Sequence[float], columns: Sequence[int], kinds: Mapping[int, int]) -> list[float]:
    chosen: list[float] = []
    for column in columns:
        x, y, kind = flat[3 * column : 3 * column + 3]
        chosen += [x, y, kinds[int(kind)]]
    return chosen


# --- Multi-Human Parsing ----------------------------------------------------------------------------------------------


def mhp_folder(path: Path) -> Path | None:
    """The folder of MATLAB files at `path`, a side of the dataset as published; None where there is none."""
    if path.name == MHP_FOLDER and path.is_dir():
        return path
    return path / MHP_FOLDER if (path / MHP_FOLDER).is_dir() else None


def mhp_tables(folder: Path, skeleton: Skeleton, strict: bool) -> CocoFile:
    """A folder with NUMBER.mat for each picture NUMBER.jpg. Raises PosecliError naming the file that cannot be read."""
    files = sorted(folder.glob("*.mat"), key=lambda file: (len(file.stem), file.stem))
    images: list[Record] = [{"id": _identity(file), "file_name": f"{file.stem}.jpg"} for file in files]
    annotations = [
        {"image_id": _identity(file), **_mhp_person(file, name, matrix, len(skeleton))}
        for file in files
        for name, matrix in _mhp_matrices(file)
    ]
    return coco_tables(folder, images, annotations, skeleton, strict)


def _identity(file: Path) -> int | str:
    return int(file.stem) if file.stem.isdecimal() else file.stem


def _mhp_matrices(file: Path) -> list[tuple[str, Array]]:
    """The variables person_0, person_1 … of one file, in this order."""
    stored = read_matlab(file)
    names = sorted((name for name in stored if name.startswith("person")), key=lambda name: (len(name), name))
    return [(name, np.asarray(stored[name])) for name in names]


def _mhp_person(file: Path, name: str, matrix: Array, joints: int) -> Record:
    """One person's matrix (K + 4, 3) of x, y and flag; unknown places are -1."""
    if matrix.shape != (joints + MHP_CORNERS, 3) or not np.issubdtype(matrix.dtype, np.number):
        shape = f"{joints + MHP_CORNERS}×3"
        raise PosecliError(
            f"{file}: {name} is {'×'.join(map(str, matrix.shape))}; a person of MHP v2 is {shape} numbers"
        )
    flat: list[float] = []
    for x, y, flag in matrix[:joints].tolist():
        flat += [x, y, MHP_VISIBILITY.get(int(flag), 0) if x >= 0 and y >= 0 else 0]
    return {"bbox": _box(matrix[-2:, :2].ravel().tolist()), "keypoints": flat}


# --- all --------------------------------------------------------------------------------------------------------------


def _box(corners: Sequence[float]) -> list[float]:
    left, top, right, bottom = corners
    return [left, top, right - left, bottom - top]


def coco_tables(
    file: Path, images: list[Record], annotations: list[Record], skeleton: Skeleton, strict: bool
) -> CocoFile:
    """COCO's tables; annotations are numbered from 1 in the order of the file."""
    if not images:
        raise PosecliError(f"{file} lists no images")
    numbered = [{**person, "id": number, "category_id": 1} for number, person in enumerate(annotations, start=1)]
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.names)}
    tables = {"images": images, "annotations": numbered, "categories": [category]}
    return sort_annotations(file, tables, [category], strict)
