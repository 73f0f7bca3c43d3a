"""`posecli benchmark`: speed and memory against limits measured in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posecli import plugins

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:NUMBER or mps.")]


def add(app: typer.Typer) -> None:
    """Add the command group, with the plugins' benchmarks in it."""
    group = typer.Typer(no_args_is_help=True, help="Measure speed and memory, each against its own limit.")
    for command in (startup, data, model, infer):
        group.command()(command)
    plugins.add_commands(group, "posecli_benchmarks")
    app.add_typer(group, name="benchmark")


def startup(json: Json = False) -> None:
    """How long `posecli --help` takes, against `import torch`."""
    from posecli.benchmark import measure_startup
    from posecli.measures import show_measures

    show_measures(measure_startup(), json)


def data(
    pictures: Annotated[
        Path | None, typer.Option(help="A COCO annotation file with its pictures; made pictures by default.")
    ] = None,
    units: Annotated[int, typer.Option(help="Training samples that are measured.", min=100)] = 600,
    json: Json = False,
) -> None:
    """Training samples a second of one worker, against cv2.imread; and reading a large annotation file."""
    from posecli.benchmark import measure_data
    from posecli.measures import show_measures

    show_measures(measure_data(pictures, units), json)


def model(
    config: Annotated[str, typer.Option(help="The config whose network is measured.")] = "topdown/coco/resnet-50",
    batch_size: Annotated[int, typer.Option(help="Pictures at once.", min=1)] = 8,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Training steps and batched inference, against bare loops of the same network."""
    from posecli.benchmark import measure_model
    from posecli.measures import show_measures

    show_measures(measure_model(config, batch_size, device), json)


def infer(
    frames: Annotated[int, typer.Option(help="Frames of the longer video.", min=80)] = 240,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Memory of video inference, against the length of the video."""
    from posecli.benchmark import measure_infer
    from posecli.measures import show_measures

    show_measures(measure_infer(frames, device), json)
