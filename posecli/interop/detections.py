"""Boxes that a detector found, as a COCO results file, in place of a dataset's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError, few
from posecli.types import Dataset, People, SampleId

Detection = tuple[SampleId, int, float, list[float]]
"""Sample, category, score, box x1 y1 x2 y2."""


def detected_dataset(samples: Dataset, path: Path, threshold: float = 0.0) -> tuple[Dataset, list[str]]:
    """The same pictures with the boxes of a detections file to look into, in place of their people; and what to say.

    The file is a list of `{image_id, bbox: [x, y, width, height], score, category_id}`. Scores below `threshold` and
    categories which the dataset does not have are left out. The rows have instance scores and no labelled keypoint.
    Raises PosecliError for a foreign file, and when it names none of the dataset's pictures.
    """
    detections = _read(path)
    known = _places(samples)
    strangers = list(dict.fromkeys(row[0] for row in detections if row[0] not in known))
    ours = [row for row in detections if row[0] in known]
    if not ours:
        raise PosecliError(
            f"{path}: none of its {len(detections)} boxes is of a picture in {samples.name!r}; it names "
            f"{few(strangers, 10)}, the data has {few(list(samples.ids), 10)}"
        )
    categories = set(np.unique(samples.people.extra["category"])) if "category" in samples.people.extra else None
    kept = [row for row in ours if row[2] >= threshold and (categories is None or row[1] in categories)]
    notes = [f"{len(kept)} of the {len(detections)} boxes of {path} are looked into"]
    if strangers:
        notes.append(
            f"{path} has boxes of {len(strangers)} pictures that are not in {samples.name!r}: {few(strangers, 10)}"
        )
    return _query(samples, sorted(kept, key=lambda row: known[row[0]]), known), notes


def _places(samples: Dataset) -> dict[SampleId, int]:
    return {sample_id: place for place, sample_id in enumerate(samples.ids)}


def _query(samples: Dataset, rows: Sequence[Detection], known: dict[SampleId, int]) -> Dataset:
    joints = len(samples.skeleton)
    counts = np.bincount(np.array([known[row[0]] for row in rows], dtype=np.int64), minlength=len(samples))
    people = People(
        np.full((len(rows), joints, 2), np.nan, np.float32),
        np.zeros((len(rows), joints), np.float32),
        np.array([row[3] for row in rows], dtype=np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], dtype=np.float32),
        {"category": np.array([row[1] for row in rows], dtype=np.int64)},
    )
    return dataclasses.replace(samples, people=people, offsets=np.concatenate([[0], np.cumsum(counts)]))


def _read(path: Path) -> list[Detection]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PosecliError(f"cannot read the detections {path}: {error.strerror}") from error
    except ValueError as error:
        raise PosecliError(f"the detections {path} are not valid JSON: {error}") from error
    if not isinstance(content, list):
        raise PosecliError(
            f"{path} is no list of detections: COCO results are [{{image_id, bbox, score, category_id}}, ...]"
        )
    return [_detection(path, number, row) for number, row in enumerate(content)]


def _detection(path: Path, number: int, row: Any) -> Detection:
    try:
        x, y, width, height = (float(value) for value in row["bbox"])
        if not isinstance(row["image_id"], int | str):
            raise ValueError("image_id must be a number or a text")
        return row["image_id"], int(row.get("category_id", 1)), float(row["score"]), [x, y, x + width, y + height]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PosecliError(
            f"{path}: detection {number} is not {{image_id, bbox: [x, y, width, height], score}}: {error!r}"
        ) from error
