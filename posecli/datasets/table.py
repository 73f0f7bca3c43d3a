"""A long CSV out: one line for each known keypoint, for spreadsheets and statistics."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from posecli.datasets.writer import Writer
from posecli.files import atomic_path
from posecli.types import Dataset, FloatArray

COLUMNS = ("image", "file", "instance", "keypoint", "x", "y", "visibility")
NUMBERS = {"track_id": "track", "frame": "frame"}


class CsvWriter(Writer):
    """Columns image (its id), file, instance (from 0 in each picture), keypoint, x, y in pixels, visibility 1 or 2.

    Where the dataset has them also x_mm, y_mm, z_mm in camera millimetres, track and frame. A keypoint that is known in
    3D alone has visibility 0; what is not known is empty.
    """

    suffix = ".csv"

    def write(self, dataset: Dataset, names: Sequence[str], path: Path) -> None:
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            solid = ("x_mm", "y_mm", "z_mm") if "keypoints_3d" in dataset.people.extra else ()
            numbers = [column for name, column in NUMBERS.items() if name in dataset.people.extra]
            lines.writerow([*COLUMNS, *solid, *numbers])
            lines.writerows(_rows(dataset, names))

    def dropped(self, dataset: Dataset) -> list[str]:
        return sorted(
            set(dataset.people.extra) - {"annotation_id", "area", "category", "crowd", "keypoints_3d", *NUMBERS}
        )


def _rows(dataset: Dataset, names: Sequence[str]) -> Iterator[list[object]]:
    people = dataset.people
    solid = people.extra.get("keypoints_3d", np.zeros((*people.scores.shape, 0)))
    labelled = people.labelled
    known_in_3d = np.isfinite(solid).all(axis=-1) & (solid.shape[-1] > 0)
    rows, joints = np.nonzero(labelled | known_in_3d)
    samples = dataset.sample_of_row[rows]
    instances = rows - dataset.offsets[samples]
    pixels = np.where(labelled[..., None], people.keypoints[..., :2], np.nan)[rows, joints]
    visibility = np.where(labelled, people.scores, 0)[rows, joints].astype(int)
    numbers = zip(*(people.extra[name][rows].tolist() for name in NUMBERS if name in people.extra), strict=True)
    for sample, instance, joint, point, flag, place in zip(
        samples.tolist(),
        instances.tolist(),
        joints.tolist(),
        _cells(pixels),
        visibility.tolist(),
        _cells(solid[rows, joints]),
        strict=True,
    ):
        own = [dataset.ids[sample], names[sample], instance, dataset.skeleton.names[joint]]
        yield [*own, *point, flag, *place, *next(numbers, ())]


def _cells(points: FloatArray) -> list[list[float | None]]:
    """Coordinates (N, D) to a thousandth, None where unknown."""
    rounded = np.round(points.astype(np.float64), 3).tolist()
    return [[None if value != value else value for value in point] for point in rounded]
