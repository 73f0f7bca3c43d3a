"""`posecli benchmark`: speed and memory against limits measured in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli import console

if TYPE_CHECKING:
    from posecli.benchmark import Measure

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:NUMBER or mps.")]

benchmarks = typer.Typer(no_args_is_help=True, help="Measure speed and memory, each against its own limit.")


def add(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(benchmarks, name="benchmark")


@benchmarks.command()
def startup(json: Json = False) -> None:
    """How long `posecli --help` takes, against `import torch`."""
    from posecli.benchmark import measure_startup

    report(measure_startup(), json)


@benchmarks.command()
def data(
    pictures: Annotated[
        Path | None, typer.Option(help="A COCO annotation file with its pictures; made pictures by default.")
    ] = None,
    units: Annotated[int, typer.Option(help="Training samples that are measured.", min=100)] = 600,
    json: Json = False,
) -> None:
    """Training samples a second of one worker, against cv2.imread; and reading a large annotation file."""
    from posecli.benchmark import measure_data

    report(measure_data(pictures, units), json)


@benchmarks.command()
def model(
    config: Annotated[str, typer.Option(help="The config whose network is measured.")] = "topdown/coco/resnet-50",
    batch_size: Annotated[int, typer.Option(help="Pictures at once.", min=1)] = 8,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Training steps and batched inference, against bare loops of the same network."""
    from posecli.benchmark import measure_model

    report(measure_model(config, batch_size, device), json)


@benchmarks.command()
def infer(
    frames: Annotated[int, typer.Option(help="Frames of the longer video.", min=80)] = 240,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Memory of video inference, against the length of the video."""
    from posecli.benchmark import measure_infer

    report(measure_infer(frames, device), json)


def report(measures: Sequence[Measure], json: bool) -> None:
    """Print the measures as a table or as one JSON object."""
    if json:
        console.show_json({"measures": [as_fields(measure) for measure in measures]})
        return
    columns = ["what", "ours", "limit", "ratio", "to reach", "", "measured on"]
    console.table(columns, [as_cells(measure) for measure in measures])


def as_fields(measure: Measure) -> dict[str, object]:
    """The measure in plain values."""
    return {
        "name": measure.name,
        "ours": measure.ours,
        "limit": measure.limit,
        "unit": measure.unit,
        "ratio": measure.ratio,
        "goal": measure.goal,
        "at_least": measure.at_least,
        "reached": measure.reached,
        "note": measure.note,
    }


def as_cells(measure: Measure) -> list[str]:
    """The measure as a line of the table."""
    sign = "≥" if measure.at_least else "≤"
    return [
        measure.name,
        f"{measure.ours:.4g} {measure.unit}",
        f"{measure.limit:.4g} {measure.unit}",
        f"{measure.ratio:.2f}",
        f"{sign} {measure.goal:g}",
        "reached" if measure.reached else "missed",
        measure.note,
    ]
