"""Several heads on one backbone, each with its own targets, loss and decoding."""

from __future__ import annotations

from posecli import hookimpl
from posecli.config import MetricConfig, ModelConfig
from posecli_multitask.config import MultiTaskConfig
from posecli_multitask.metric_config import AccuracyConfig, HeadConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [MultiTaskConfig]


@hookimpl
def posecli_metrics() -> list[type[MetricConfig]]:
    return [AccuracyConfig, HeadConfig]
