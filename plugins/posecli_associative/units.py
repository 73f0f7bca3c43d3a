"""One unit a picture; in training only those in which somebody is annotated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posecli import console
from posecli.types import Chosen, Dataset, Sample


def training_scenes(samples: Dataset, max_people: int) -> Sequence[Sample]:
    """The pictures with an annotated person or crowd; says how many hold more than `max_people` labelled people."""
    labelled = samples.people.labelled.any(axis=1) & ~samples.people.crowd
    people = np.bincount(samples.sample_of_row[labelled], minlength=len(samples))
    full = int((people > max_people).sum())
    if full:
        console.note(
            f"{full} of {len(samples)} pictures hold more than {max_people} people, at most {int(people.max())}: "
            f"the fullest and largest are learnt, the others masked out"
        )
    annotated = np.flatnonzero(np.diff(samples.offsets))
    scenes: Sequence[Sample] = Chosen(samples, annotated)  # type: ignore[arg-type]  # a Dataset is read like a sequence
    return scenes
