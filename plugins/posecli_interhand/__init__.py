"""Two hands in 3D: keypoints, which hands there are, and how far apart their wrists lie in depth."""

from __future__ import annotations

import typer

from posecli import hookimpl
from posecli.config import MetricConfig, ModelConfig
from posecli_interhand.config import InterNetConfig
from posecli_interhand.metric_config import InterHandMetricConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [InterNetConfig]


@hookimpl
def posecli_metrics() -> list[type[MetricConfig]]:
    return [InterHandMetricConfig]


@hookimpl
def posecli_benchmarks(app: typer.Typer) -> None:
    from posecli_interhand.benchmark import interhand

    app.command()(interhand)
