"""MPII Human Pose (Andriluka et al., CVPR 2014), and MPII-TRB, its people with their contours (Duan et al., ICCV 2019).

MPII is read as most who train on it have it: a JSON list of people with `image`, `center`, `scale`, `joints` and
`joints_vis`, whose pixels count from 1 in the file and from 0 here. The authors' own MATLAB file is not read. MPII-TRB
is COCO's form with `center`, `scale` and, where people are scored, `headbox`; its pixels are taken as they stand, as
the reference takes them. Boxes are squares without padding: padded by 1.25 they are the reference's crops.

`head_size`, by which PCKh divides, is 0.6 of the head box's diagonal in pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.coco import (
    CocoFile,
    Record,
    build,
    collection_paused,
    find_annotations,
    keypoints_of,
    parse_json,
)
from posecli.datasets.coco_columns import UNFIT
from posecli.datasets.known_sets import HEAD_SHARE, SCALE, head_size, known_table, square, with_body_areas
from posecli.datasets.matlab import read_matlab
from posecli.datasets.published_crowds import coco_tables
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import Dataset, FloatArray

HEADBOXES = "mpii_gt_val.mat"
LOWERED = 15.0  # pixels for each unit of `scale` by which a box is lower than the person's centre, so that feet are in
NO_HEADS = "no head sizes, which pckh needs"
TRB_CROP = 256.0  # pixels of MPII-TRB's padded boxes after they are magnified by `scale`
TRB_PADDING = 1.25


@collection_paused()
def mpii_dataset(
    path: Path, images: Path | None = None, headboxes: Path | None = None, strict: bool = False
) -> Dataset:
    """The people of a JSON list, all of a picture in one sample; joints that are not visible are not labelled.

    `headboxes`: mpii_gt_val.mat, whose head boxes are in the order of the list; one beside the list is found, and
    taken where their numbers agree. Raises PosecliError naming the entry that is no person.
    """
    file = find_annotations(path)
    document = parse_json(file)
    if not isinstance(document, list):
        raise PosecliError(
            f"{file} is no list of MPII's people, as mpii_train.json and mpii_val.json are; "
            "what posecli converted is coco: --set data.train.use=coco, and alike for data.val"
        )
    sizes, notes = _head_sizes(file, headboxes, len(document))
    skeleton = house_skeleton("mpii")
    table = _mpii_table(file, document, sizes, skeleton, strict)
    return with_body_areas(build(table, skeleton, keypoints_of, images, notes))


@collection_paused()
def mpii_trb_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """People with 14 joints and 26 points of the contour. Raises PosecliError naming who has no centre and scale."""
    table = known_table(path, "mpii_trb", strict)
    wanted = "center, scale above 0 and perhaps a headbox of 4 numbers"
    annotations = _each(table.path, "annotation", table.annotations, _trb_person, wanted)
    without = all(record["head_size"] is None for record in annotations)
    table = dataclasses.replace(table, annotations=annotations)
    notes = [f"{NO_HEADS}: the annotations have no headbox"] if without else []
    return build(table, house_skeleton("mpii_trb"), keypoints_of, images, notes)


# --- MPII -------------------------------------------------------------------------------------------------------------


def _mpii_table(
    file: Path, document: Sequence[Any], sizes: Sequence[float | None], skeleton: Skeleton, strict: bool
) -> CocoFile:
    wanted = "image, center, scale, joints and joints_vis, as MPII's people have them"
    people = _each(file, "entry", document, _mpii_person, wanted)
    names = dict.fromkeys(person["file_name"] for person in people)
    identities = {name: _identity(name) for name in names}
    images = [{"id": identity, "file_name": name} for name, identity in identities.items()]
    annotations = [
        {**person, "image_id": identities[person["file_name"]], "head_size": size}
        for person, size in zip(people, sizes, strict=True)
    ]
    return coco_tables(file, images, annotations, skeleton, strict)


def _identity(name: str) -> int | str:
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() else stem


def _mpii_person(record: Record) -> Record:
    """An annotation with pixels that count from 0."""
    (x, y), scale = record["center"], record["scale"]
    flat: list[float] = []
    for (across, down), seen in zip(record["joints"], record["joints_vis"], strict=True):
        beyond = across < 0 or down < 0
        flat += (across - 1, down - 1, 2) if seen > 0 and not beyond else (0, 0, 0)
    known = x != -1 and 0 < scale < math.inf  # else the box is a tight one
    box = square(x - 1, y - 1 + LOWERED * scale, SCALE * scale) if known else None
    return {"file_name": str(Path(record["image"])), "keypoints": flat, "bbox": box}


def _head_sizes(file: Path, given: Path | None, count: int) -> tuple[list[float | None], list[str]]:
    """One length in pixels a person, and what is to be said where there is none."""
    beside = file.with_name(HEADBOXES)
    found = given or (beside if beside.is_file() else None)
    if found is None:
        return [None] * count, [f"{NO_HEADS}: there is no {HEADBOXES} beside {file.name}, name it with headboxes"]
    sizes = _read_headboxes(found)
    if len(sizes) == count:
        return sizes.tolist(), []
    told = f"{found} has head boxes of {len(sizes)} people, {file.name} lists {count}"
    if given is not None:
        raise PosecliError(f"{told}: give the {HEADBOXES} that belongs to it, or the list that belongs to those")
    return [None] * count, [f"{NO_HEADS}: {told}"]


def _read_headboxes(file: Path) -> FloatArray:
    """The sizes (N,) of the heads in mpii_gt_val.mat, whose `headboxes_src` is (2 corners, x y, N)."""
    if not file.is_file():
        raise PosecliError(f"there is no {file}; give {HEADBOXES} by headboxes")
    corners = np.asarray(read_matlab(file, ["headboxes_src"]).get("headboxes_src"))
    if corners.ndim != 3 or corners.shape[:2] != (2, 2) or not np.issubdtype(corners.dtype, np.number):
        raise PosecliError(f"{file} has no headboxes_src of 2×2×N numbers, as {HEADBOXES} has")
    return np.asarray(HEAD_SHARE * np.linalg.norm(corners[1].astype(np.float64) - corners[0], axis=0))


# --- MPII-TRB ---------------------------------------------------------------------------------------------------------


def _trb_person(record: Record) -> Record:
    """The annotation with its box and head size. `scale` magnifies the padded box to 256 pixels."""
    (x, y), scale, corners = record["center"], record["scale"], record.get("headbox")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale {scale}")
    size = None
    if corners is not None:
        left, top, right, bottom = corners
        size = head_size(right - left, bottom - top)
    return {**record, "bbox": square(x, y, TRB_CROP / TRB_PADDING / scale), "head_size": size}


# --- both -------------------------------------------------------------------------------------------------------------


def _each(file: Path, thing: str, records: Sequence[Any], read: Callable[[Any], Record], wanted: str) -> list[Record]:
    """`read` of every record. Raises PosecliError that names the first which has not what is `wanted`."""
    found = []
    for place, record in enumerate(records):
        try:
            found.append(read(record))
        except UNFIT as error:
            name = record.get("id", place) if isinstance(record, dict) else place
            raise PosecliError(f"{file}: {thing} {name} has not {wanted} ({type(error).__name__}: {error})") from error
    return found
