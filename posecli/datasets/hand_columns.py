"""What is known of a pair of hands beside its keypoints, as columns of People, and in COCO files of posecli.

A row is a pair: keypoints of the skeleton `interhand`, the right hand's first. Columns: `hand_type` (P, 2), 1 where
there is a right and a left hand, `hand_type_valid` (P,) whether that is known; `absolute_depth` (P, 2) of the wrists
from the camera, millimetres, NaN where unknown; `root_depth` (P,) millimetres that the left wrist lies behind the right
one, and `root_valid` (P,) whether that is known. An annotation in a file has `hand_type`: right, left or interacting,
and `hand_type_valid`: 0 or 1; the others follow from `keypoints_3d`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.types import Array, FloatArray, People

Record = dict[str, Any]
JOINTS = 21  # of a hand
WRISTS = (20, 41)
COLUMNS = ("hand_type", "hand_type_valid", "absolute_depth", "root_depth", "root_valid")
TYPES = {"right": (1.0, 0.0), "left": (0.0, 1.0), "interacting": (1.0, 1.0)}


def hand_columns(hand_type: FloatArray, valid: FloatArray, depth: FloatArray) -> dict[str, Array]:
    """The columns of pairs with `hand_type` (P, 2), `valid` (P,) and the wrists' depth (P, 2), NaN where unknown."""
    depth = np.asarray(depth, np.float64)  # so that root_depth is the difference of the others to the last bit
    apart = depth[:, 1] - depth[:, 0]
    return {
        "hand_type": np.asarray(hand_type, np.float32),
        "hand_type_valid": np.asarray(valid, np.float32),
        "absolute_depth": depth,
        "root_depth": apart,
        "root_valid": np.isfinite(apart).astype(np.float32),
    }


def hand_fields(people: People) -> Iterator[Record] | None:
    """What each pair's annotation says of it; None where the rows are no pairs."""
    if "hand_type" not in people.extra or people.extra["hand_type"].ndim != 2:
        return None
    return _records(people.extra["hand_type"].tolist(), people.extra["hand_type_valid"].tolist())


def _records(types: list[list[float]], valid: list[float]) -> Iterator[Record]:
    names = {value: name for name, value in TYPES.items()}
    for (right, left), known in zip(types, valid, strict=True):
        name = names.get((right, left))
        yield {"hand_type": name or "interacting", "hand_type_valid": int(known > 0 and name is not None)}


def read_hands(file: Path, annotations: Sequence[Record], points: FloatArray | None, joints: int) -> dict[str, Array]:
    """The columns of annotations of pairs; none where they are not of pairs. Raises PosecliError.

    `points` (A, 42, 3) are their 3D keypoints, if any.
    """
    if joints != 2 * JOINTS or not any("hand_type" in record for record in annotations):
        return {}
    wrong = next((record for record in annotations if record.get("hand_type", "right") not in TYPES), None)
    if wrong is not None:
        raise PosecliError(
            f"{file}: annotation {wrong['id']} has the hand_type {wrong['hand_type']!r}; it is {', '.join(TYPES)}"
        )
    types = np.array([TYPES[record.get("hand_type", "interacting")] for record in annotations])
    valid = np.array([float(record.get("hand_type_valid", "hand_type" in record)) for record in annotations])
    depth = np.full((len(annotations), 2), np.nan) if points is None else points[:, WRISTS, 2]
    return hand_columns(types, valid, depth)
