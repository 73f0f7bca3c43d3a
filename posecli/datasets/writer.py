"""What a writer is: one side of a dataset into one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from posecli.types import Dataset


class Writer(ABC):
    """Writes annotations; pictures are placed by `conversion.convert`."""

    suffix: str
    """Of the file, with the dot."""

    @abstractmethod
    def write(self, dataset: Dataset, names: Sequence[str], path: Path) -> None:
        """Write the whole dataset to `path`, whole or not at all.

        `names[i]` is the file of picture i, relative to the folder of pictures.
        """

    def dropped(self, dataset: Dataset) -> list[str]:
        """The columns of `people.extra` that are not written and somebody may miss."""
        return []
