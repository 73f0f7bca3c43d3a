"""Body meshes: shape and pose of a parametric body from a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posecli import hookimpl
from posecli.config import DatasetConfig, MetricConfig, ModelConfig
from posecli_mesh.config import HMRConfig
from posecli_mesh.dataset_config import DATASETS
from posecli_mesh.metric_config import METRICS

if TYPE_CHECKING:
    import typer


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [HMRConfig]


@hookimpl
def posecli_datasets() -> list[type[DatasetConfig]]:
    return DATASETS


@hookimpl
def posecli_metrics() -> list[type[MetricConfig]]:
    return METRICS


@hookimpl
def posecli_commands(app: typer.Typer) -> None:
    from posecli_mesh.command import add

    add(app)


@hookimpl
def posecli_benchmarks(app: typer.Typer) -> None:
    from posecli_mesh.benchmark import mesh

    app.command("mesh")(mesh)
