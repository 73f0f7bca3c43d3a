"""The datasets and writers that ship with posecli. Imports no torch, no numpy, no cv2."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from posecli.config import DatasetConfig, Positive, Size, WriterConfig

if TYPE_CHECKING:
    from posecli.types import Dataset


class SyntheticConfig(DatasetConfig):
    """Articulated people drawn by code over varied backgrounds; deterministic, nothing to download."""

    name: ClassVar[str] = "synthetic"
    count: Positive = Field(2000, description="pictures")
    seed: int = Field(0, ge=0, description="another seed, other people; train and val must differ")
    size: Size = Field((192, 192), description="width and height of a picture in pixels")
    people: tuple[int, int] = Field((1, 1), description="fewest and most people in a picture")

    def build(self) -> Dataset:
        from posecli.datasets.synthetic import synthetic_dataset

        return synthetic_dataset(self.count, self.seed, self.size, self.people)


DATASETS: list[type[DatasetConfig]] = [SyntheticConfig]
WRITERS: list[type[WriterConfig]] = []
