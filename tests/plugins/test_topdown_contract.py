"""The top-down models keep the contract that every plugin is held to."""

from __future__ import annotations

from posecli.config import ModelConfig
from posecli.nn.config import ResNetConfig
from posecli.testing import PluginContract
from posecli_topdown.config import HeatmapConfig, RegressionConfig, SimCCConfig


class TestHeatmap(PluginContract):
    """Heatmaps, decoded as DARK does, which is exact but near the border."""

    plugin = "topdown"
    resolution = 0.5
    margin = 12

    def model_config(self) -> ModelConfig:
        return HeatmapConfig(
            backbone=ResNetConfig(depth=18), input_size=(64, 64), codec="dark", sigma=1.5, deconv_filters=16
        )


class TestSimCC(PluginContract):
    """A classification for each axis."""

    plugin = "topdown"

    def model_config(self) -> ModelConfig:
        return SimCCConfig(backbone=ResNetConfig(depth=18), input_size=(64, 64), deconv_filters=16)


class TestRegression(PluginContract):
    """Coordinates from pooled features."""

    plugin = "topdown"

    def model_config(self) -> ModelConfig:
        return RegressionConfig(backbone=ResNetConfig(depth=18), input_size=(64, 64))
