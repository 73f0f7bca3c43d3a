"""Pose lifting: 3D poses from 2D keypoints, of one frame or of a video."""

from __future__ import annotations

from posecli import hookimpl
from posecli.config import DatasetConfig, ModelConfig
from posecli_lifter.config import DSTFormerConfig, PartlyLabelledConfig, TemporalConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [TemporalConfig, DSTFormerConfig]


@hookimpl
def posecli_datasets() -> list[type[DatasetConfig]]:
    return [PartlyLabelledConfig]
