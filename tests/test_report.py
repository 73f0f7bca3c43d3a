"""What a training leaves beside its model."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import create_autospec

from posecli.algorithm import Algorithm
from posecli.datasets.synthetic import synthetic_dataset
from posecli.report import write_samples


def test_samples_of_nobody(tmp_path: Path) -> None:
    """Where no picture of the val side has a prediction there is nothing to draw."""
    algorithm = create_autospec(Algorithm)
    write_samples(tmp_path / "samples.png", algorithm, synthetic_dataset(2, 0, (96, 96), (1, 1)), [])
    assert not list(tmp_path.iterdir())
