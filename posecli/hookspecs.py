"""What a plugin may add to posecli. Every hook is optional; importing this module imports no torch and no numpy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from posecli.config import BackboneConfig, DatasetConfig, MetricConfig, ModelConfig, WriterConfig
    from posecli.training import Run

hookspec = pluggy.HookspecMarker("posecli")
hookimpl = pluggy.HookimplMarker("posecli")


@hookspec
def posecli_models() -> list[type[ModelConfig]]:
    """Models (algorithms) this plugin adds."""
    raise NotImplementedError


@hookspec
def posecli_backbones() -> list[type[BackboneConfig]]:
    """Backbones any model may use."""
    raise NotImplementedError


@hookspec
def posecli_datasets() -> list[type[DatasetConfig]]:
    """Datasets this plugin can read."""
    raise NotImplementedError


@hookspec
def posecli_metrics() -> list[type[MetricConfig]]:
    """Metrics this plugin can compute."""
    raise NotImplementedError


@hookspec
def posecli_writers() -> list[type[WriterConfig]]:
    """Formats `convert` can write."""
    raise NotImplementedError


@hookspec
def posecli_config_dirs() -> list[Path]:
    """Folders whose configs can be named without a path: `<family>/default.yaml` serves `--algo <family>`."""
    raise NotImplementedError


@hookspec
def posecli_commands(app: typer.Typer) -> None:
    """Add subcommands to the command line."""


@hookspec
def posecli_benchmarks(app: typer.Typer) -> None:
    """Add subcommands to `posecli benchmark`; `posecli.measures` has what they print."""


@hookspec
def posecli_train_start(run: Run) -> None:
    """Called on the first rank before the first step; `run.folder` is the run's folder."""


@hookspec
def posecli_train_log(run: Run, step: int, values: dict[str, float]) -> None:
    """Called on the first rank whenever losses or scores are logged."""


@hookspec
def posecli_train_end(run: Run, scores: dict[str, float]) -> None:
    """Called on the first rank when training has ended, with the best scores."""
