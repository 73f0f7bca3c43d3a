"""Top-down pose estimation: one crop a person, keypoints by heatmaps, SimCC or regression."""

from __future__ import annotations

from posecli import hookimpl
from posecli.config import ModelConfig
from posecli_topdown.config import HeatmapConfig, RegressionConfig, SimCCConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [HeatmapConfig, SimCCConfig, RegressionConfig]
