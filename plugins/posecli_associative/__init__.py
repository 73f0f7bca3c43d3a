"""Associative embedding: everybody in a picture at once, keypoints grouped into people by their tags."""

from __future__ import annotations

import typer

from posecli import hookimpl
from posecli.config import ModelConfig
from posecli_associative.config import HigherConfig, HourglassConfig, TagsConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return [TagsConfig, HigherConfig, HourglassConfig]


@hookimpl
def posecli_benchmarks(app: typer.Typer) -> None:
    from posecli_associative.benchmark import group
    from posecli_associative.data_benchmark import scenes

    app.command()(scenes)
    app.command()(group)
