"""From a person to a network input: one crop, keypoints, and the classes that columns tell."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from posecli.geometry import is_mirrored
from posecli.transforms import CropTransform, Draft, StagedTransform
from posecli.types import Array, Sample


@dataclass(frozen=True)
class ClassColumn:
    """Where a head's classes stand."""

    name: str  # of the head, and of the target
    column: str  # of the dataset
    mirror: tuple[int, ...]  # which class each one is in a mirror


@dataclass(frozen=True)
class MultiTaskTransform(StagedTransform):
    """`crop`'s input and targets, and for each class column a target (), int64: -1 where the class is not known."""

    crop: CropTransform
    columns: tuple[ClassColumn, ...]

    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        crop = self.crop.begin(sample, generator)
        mirrored = is_mirrored(crop.undo)
        classes = {column.name: _class(sample, column, mirrored) for column in self.columns}
        return dataclasses.replace(crop, targets={**crop.targets, **classes})


def _class(sample: Sample, column: ClassColumn, mirrored: bool) -> np.ndarray[tuple[()], np.dtype[np.int64]]:
    values = sample.people.extra.get(column.column)
    number = -1 if values is None else int(values[0])
    if not 0 <= number < len(column.mirror):
        return np.array(-1, np.int64)
    return np.array(column.mirror[number] if mirrored else number, np.int64)


def is_class_column(values: Array) -> bool:
    """Whether a column can say of which class each row is: a whole number a row."""
    return values.ndim == 1 and np.issubdtype(values.dtype, np.integer)
