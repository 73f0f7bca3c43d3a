"""A long CSV out: one line for each labelled keypoint, for spreadsheets and statistics."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from posecli.datasets.writer import Writer
from posecli.files import atomic_path
from posecli.types import Dataset

COLUMNS = ("image", "file", "instance", "keypoint", "x", "y", "visibility")


class CsvWriter(Writer):
    """Columns image (its id), file, instance (from 0 in each picture), keypoint, x, y in pixels, visibility 1 or 2."""

    suffix = ".csv"

    def write(self, dataset: Dataset, names: Sequence[str], path: Path) -> None:
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(COLUMNS)
            lines.writerows(_rows(dataset, names))


def _rows(dataset: Dataset, names: Sequence[str]) -> Iterator[tuple[object, ...]]:
    rows, joints = np.nonzero(dataset.people.labelled)
    samples = dataset.sample_of_row[rows]
    instances = rows - dataset.offsets[samples]
    points = np.round(dataset.people.keypoints[rows, joints, :2].astype(np.float64), 3)
    visibility = dataset.people.scores[rows, joints].astype(int)
    for sample, instance, joint, (x, y), flag in zip(
        samples.tolist(), instances.tolist(), joints.tolist(), points.tolist(), visibility.tolist(), strict=True
    ):
        yield dataset.ids[sample], names[sample], instance, dataset.skeleton.names[joint], x, y, flag
