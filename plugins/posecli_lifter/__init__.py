"""Pose lifting: 3D poses from 2D keypoints, of one frame or of a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posecli import hookimpl
from posecli.config import DatasetConfig, ModelConfig
from posecli_lifter.config import DSTFormerConfig, PartlyLabelledConfig, TemporalConfig

if TYPE_CHECKING:
    import typer


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [TemporalConfig, DSTFormerConfig]


@hookimpl
def posecli_datasets() -> list[type[DatasetConfig]]:
    return [PartlyLabelledConfig]


@hookimpl
def posecli_benchmarks(app: typer.Typer) -> None:
    from posecli_lifter.benchmark import add

    add(app)
