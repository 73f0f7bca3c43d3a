"""posecli's own plugin: the datasets, backbones, metrics, writers and configs every family shares."""

from __future__ import annotations

from pathlib import Path

from posecli.config import BackboneConfig, DatasetConfig, MetricConfig, WriterConfig, house_configs
from posecli.datasets import config as datasets
from posecli.datasets import known_config as known_sets
from posecli.hookspecs import hookimpl
from posecli.metrics import config as metrics
from posecli.nn import config as backbones


@hookimpl
def posecli_backbones() -> list[type[BackboneConfig]]:
    return backbones.BACKBONES


@hookimpl
def posecli_datasets() -> list[type[DatasetConfig]]:
    return [*datasets.DATASETS, *known_sets.DATASETS]


@hookimpl
def posecli_metrics() -> list[type[MetricConfig]]:
    return metrics.METRICS


@hookimpl
def posecli_writers() -> list[type[WriterConfig]]:
    return datasets.WRITERS


@hookimpl
def posecli_config_dirs() -> list[Path]:
    return [house_configs()]
