"""Boxes that a detector found, as a COCO results file: read, chosen, and put in place of a dataset's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError, few
from posecli.datasets.pictures import samples_of_pictures
from posecli.geometry import has_area
from posecli.types import Dataset, People, SampleId

PERSON = 1
"""COCO's category."""


@dataclass(frozen=True)
class Detection:
    """One box of a file; it names its picture by id, by file name, or by both."""

    image_id: SampleId | None
    file_name: str | None
    category: int | None  # None where the file does not say
    score: float  # 1 where the file does not say
    box: tuple[float, float, float, float]  # x1 y1 x2 y2

    @property
    def picture(self) -> SampleId:
        """What the file calls the picture: its file name where there is one, else its id."""
        name = self.image_id if self.file_name is None else self.file_name
        assert name is not None
        return name


def read_detections(path: Path) -> list[Detection]:
    """The boxes of a COCO results file: `[{image_id or file_name, bbox: [x, y, w, h], score, category_id}, ...]`.

    A COCO annotation file serves as well. A box without a score is certain and scores 1. Raises PosecliError naming the
    record that is wrong.
    """
    names, rows = _records(path)
    return [_detection(path, number, row, names) for number, row in enumerate(rows)]


def _records(path: Path) -> tuple[dict[object, str], list[Any]]:
    """File names by image id, which only an annotation file has, and the records."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PosecliError(f"cannot read the detections {path}: {error.strerror}") from error
    except ValueError as error:
        raise PosecliError(f"the detections {path} are not valid JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        names = {image["id"]: str(image["file_name"]) for image in content.get("images", []) if "file_name" in image}
        return names, content["annotations"]
    if isinstance(content, list):
        return {}, content
    raise PosecliError(
        f"{path} is neither a list of COCO detections nor a COCO annotation file; COCO results are [{{image_id, bbox, "
        f"score, category_id}}, ...]"
    )


def _detection(path: Path, number: int, row: Any, names: Mapping[object, str]) -> Detection:
    try:
        x, y, width, height = (float(value) for value in row["bbox"])
        image_id, file_name = row.get("image_id"), row.get("file_name", names.get(row.get("image_id")))
        if not isinstance(image_id if file_name is None else file_name, int | str):
            raise ValueError("image_id must be a number or a text")
        category, score = row.get("category_id"), row.get("score")
        return Detection(
            image_id,
            None if file_name is None else str(file_name),
            None if category is None else int(category),
            1.0 if score is None else float(score),
            (x, y, x + width, y + height),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PosecliError(
            f"{path}: detection {number} is not {{image_id or file_name, bbox: [x, y, width, height], score}}: "
            f"{error!r}"
        ) from error


def choose_detections(
    detections: Sequence[Detection], threshold: float, categories: Collection[int] | None
) -> tuple[list[Detection], dict[str, int]]:
    """The boxes to look into, and how many others there are by the reason why not.

    Left out are those of other categories than `categories` (None: none), boxes without a finite area and those that
    score below `threshold`. A box whose category the file does not say is of any.
    """
    stated = {found.category for found in detections if found.category is not None}
    foreign = set() if categories is None else stated - set(categories)
    boxes = np.array([found.box for found in detections]).reshape(-1, 4)
    usable = has_area(boxes) & np.isfinite(boxes).all(axis=1)
    reasons = (f"of other categories ({few(sorted(foreign))})", "without area", f"scored below {threshold:g}")
    kept, left_out = [], dict.fromkeys(reasons, 0)
    for found, whole in zip(detections, usable.tolist(), strict=True):
        faults = (found.category in foreign, not whole, not found.score >= threshold)
        reason = next((reason for reason, wrong in zip(reasons, faults, strict=True) if wrong), None)
        if reason is None:
            kept.append(found)
        else:
            left_out[reason] += 1
    return kept, left_out


def looked_into(path: Path, kept: int, left_out: Mapping[str, int]) -> str:
    """The sentence that says how many boxes of a file are looked into, and why the others are not."""
    reasons = [f"{count} {reason}" for reason, count in left_out.items() if count]
    told = f"; left out: {', '.join(reasons)}" if reasons else ""
    return f"{kept} of the {kept + sum(left_out.values())} boxes of {path} are looked into{told}"


def detected_dataset(samples: Dataset, path: Path, threshold: float = 0.0) -> tuple[Dataset, list[str]]:
    """The same pictures with the boxes of a detections file to look into, in place of their people; and what to say.

    A box is of the sample whose id it names, else of the one whose picture has its file name. Scores below `threshold`,
    categories which the dataset does not have and boxes without area are left out. The rows have instance scores and no
    labelled keypoint. Raises PosecliError for a foreign file, and when it names none of the dataset's pictures.
    """
    detections = read_detections(path)
    places = _places(samples, detections)
    ours = [found for found in detections if found in places]
    strangers = list(dict.fromkeys(found.picture for found in detections if found not in places))
    if not ours:
        raise PosecliError(
            f"{path}: none of its {len(detections)} boxes is of a picture in {samples.name!r}; it names "
            f"{few(strangers, 10)}, the data has {few(list(samples.ids), 10)}"
        )
    categories = np.unique(samples.people.extra["category"]).tolist() if "category" in samples.people.extra else None
    kept, left_out = choose_detections(ours, threshold, categories)
    notes = [looked_into(path, len(kept), {**left_out, "of other pictures": len(detections) - len(ours)})]
    if strangers:
        notes.append(
            f"{path} has boxes of {len(strangers)} pictures that are not in {samples.name!r}: {few(strangers, 10)}"
        )
    rows = sorted(((places[found], found) for found in kept), key=lambda row: row[0])
    return _query(samples, rows, min(categories or [PERSON])), notes


def _places(samples: Dataset, detections: Sequence[Detection]) -> dict[Detection, int]:
    """The places of the boxes' samples; boxes of other pictures are not there."""
    by_id = {sample_id: place for place, sample_id in enumerate(samples.ids)}
    strange = dict.fromkeys(found.picture for found in detections if found.image_id not in by_id)
    named = samples_of_pictures(list(strange), samples) if strange else {}
    meant = [found.image_id if found.image_id in by_id else named.get(found.picture) for found in detections]
    return {found: by_id[one] for found, one in zip(detections, meant, strict=True) if one is not None}


def _query(samples: Dataset, rows: Sequence[tuple[int, Detection]], category: int) -> Dataset:
    """The samples with only these boxes, which come with their samples' places and in their order.

    `category` is that of boxes whose file does not say it.
    """
    joints = len(samples.skeleton)
    counts = np.bincount(np.array([place for place, _ in rows], dtype=np.int64), minlength=len(samples))
    categories = [category if found.category is None else found.category for _, found in rows]
    people = People(
        np.full((len(rows), joints, 2), np.nan, np.float32),
        np.zeros((len(rows), joints), np.float32),
        np.array([found.box for _, found in rows], dtype=np.float32).reshape(-1, 4),
        np.array([found.score for _, found in rows], dtype=np.float32),
        {"category": np.array(categories, dtype=np.int64)},
    )
    return dataclasses.replace(samples, people=people, offsets=np.concatenate([[0], np.cumsum(counts)]))
