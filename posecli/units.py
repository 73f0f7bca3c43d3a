"""One unit a person: what networks that look at one person see at once."""

from __future__ import annotations

import numpy as np

from posecli.geometry import has_area
from posecli.types import BoolArray, Dataset, Made, Sample


class PersonUnits(Made[Sample]):
    """Every person of a dataset that can be cut out, as a Sample with that person alone; made when asked for."""

    def __init__(self, samples: Dataset) -> None:
        self.samples = samples
        self.rows = np.flatnonzero(is_unit(samples))
        self.sample_index = samples.sample_of_row[self.rows]  # (U,): units of one picture share the number

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int) -> Sample:
        row = int(self.rows[index])
        return self.samples.sample(int(self.sample_index[index]), row, row + 1)


def is_unit(samples: Dataset) -> BoolArray:
    """Which rows are cut out, (P,): of detections all; of truth those with a labelled keypoint that are no crowd."""
    people = samples.people
    if people.boxes is None:
        return np.zeros(len(people), dtype=bool)
    large = has_area(people.boxes)
    if people.instance_scores is not None:
        return large
    return np.asarray(large & people.labelled.any(axis=1) & ~people.crowd)
