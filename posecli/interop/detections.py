"""Boxes that a detector found, as a COCO results file: read, and put in place of a dataset's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError, few
from posecli.geometry import has_area
from posecli.types import Dataset, People, SampleId

PERSON = 1
"""COCO's category."""


@dataclass(frozen=True)
class Detection:
    """One box of a file; it names its picture by id, by file name, or by both."""

    image_id: SampleId | None
    file_name: str | None
    category: int
    score: float | None
    box: list[float]  # x1 y1 x2 y2


def read_detections(path: Path) -> list[Detection]:
    """The boxes of a COCO results file: `[{image_id or file_name, bbox: [x, y, w, h], score, category_id}, ...]`.

    A COCO annotation file serves as well; its boxes have no score. Without a category a box is a person. Raises
    PosecliError naming the record that is wrong.
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
        score = row.get("score")
        return Detection(
            image_id,
            None if file_name is None else str(file_name),
            int(row.get("category_id", PERSON)),
            None if score is None else float(score),
            [x, y, x + width, y + height],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PosecliError(
            f"{path}: detection {number} is not {{image_id or file_name, bbox: [x, y, width, height], score}}: "
            f"{error!r}"
        ) from error


def detected_dataset(samples: Dataset, path: Path, threshold: float = 0.0) -> tuple[Dataset, list[str]]:
    """The same pictures with the boxes of a detections file to look into, in place of their people; and what to say.

    Scores below `threshold`, categories which the dataset does not have and boxes without area are left out. The rows
    have instance scores and no labelled keypoint. Raises PosecliError for a foreign file, for boxes without scores,
    which no average precision can rank, and when the file names none of the dataset's pictures.
    """
    detections = [(_key(detection), detection) for detection in read_detections(path)]
    unscored = next((number for number, (_, found) in enumerate(detections) if found.score is None), None)
    if unscored is not None:
        raise PosecliError(f"{path}: detection {unscored} has no score: these are no detector's boxes")
    known = _places(samples)
    strangers = list(dict.fromkeys(key for key, _ in detections if key not in known))
    ours = [(key, found) for key, found in detections if key in known]
    if not ours:
        raise PosecliError(
            f"{path}: none of its {len(detections)} boxes is of a picture in {samples.name!r}; it names "
            f"{few(strangers, 10)}, the data has {few(list(samples.ids), 10)}"
        )
    categories = set(np.unique(samples.people.extra["category"])) if "category" in samples.people.extra else None
    kept = [
        (known[key], found)
        for key, found in ours
        if (found.score or 0.0) >= threshold
        and (categories is None or found.category in categories)
        and has_area(np.array(found.box))
    ]
    notes = [f"{len(kept)} of the {len(detections)} boxes of {path} are looked into"]
    if strangers:
        notes.append(
            f"{path} has boxes of {len(strangers)} pictures that are not in {samples.name!r}: {few(strangers, 10)}"
        )
    return _query(samples, sorted(kept, key=lambda row: row[0])), notes


def _key(detection: Detection) -> SampleId:
    key = detection.file_name if detection.image_id is None else detection.image_id
    assert key is not None
    return key


def _places(samples: Dataset) -> dict[SampleId, int]:
    return {sample_id: place for place, sample_id in enumerate(samples.ids)}


def _query(samples: Dataset, rows: Sequence[tuple[int, Detection]]) -> Dataset:
    """The samples with only these boxes, which come with their samples' places and in their order."""
    joints = len(samples.skeleton)
    counts = np.bincount(np.array([place for place, _ in rows], dtype=np.int64), minlength=len(samples))
    people = People(
        np.full((len(rows), joints, 2), np.nan, np.float32),
        np.zeros((len(rows), joints), np.float32),
        np.array([found.box for _, found in rows], dtype=np.float32).reshape(-1, 4),
        np.array([found.score for _, found in rows], dtype=np.float32),
        {"category": np.array([found.category for _, found in rows], dtype=np.int64)},
    )
    return dataclasses.replace(samples, people=people, offsets=np.concatenate([[0], np.cumsum(counts)]))
