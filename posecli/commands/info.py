"""`posecli info`: what a checkpoint is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli import console

if TYPE_CHECKING:
    from posecli.checkpoint import Header


def add(app: typer.Typer) -> None:
    """Register `info`."""
    app.command(name="info")(info)


def info(
    model: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="Default runs/latest.")] = "runs/latest",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what a trained model is: network, keypoints, scores, training, versions."""
    from posecli.checkpoint import resolve_model

    facts = describe(resolve_model(model))
    if json:
        console.show_json(facts)
        return
    console.table(("what", "value"), [(name.replace("_", " "), _line(value)) for name, value in facts.items() if value])


def describe(path: Path) -> dict[str, Any]:
    """All that the file tells, in the order it is shown."""
    from posecli.checkpoint import count_parameters, read_header, sha256

    header = read_header(path)
    model = header.experiment.get("model", {})
    return {
        "file": str(path),
        "algorithm": model.get("use"),
        "backbone": model.get("backbone"),
        "input_size": model.get("input_size"),
        "parameters": count_parameters(path),
        "skeleton": header.skeleton.get("name"),
        "keypoints": header.skeleton.get("keypoints", []),
        "scores": header.scores,
        "trained_on": header.experiment.get("data", {}).get("train"),
        "scored_on": header.experiment.get("data", {}).get("val"),
        "epochs": _epochs(header),
        "steps": header.step,
        "command": header.command,
        "versions": header.versions,
        "sha256": sha256(path),
    }


def _epochs(header: Header) -> dict[str, Any]:
    return {"done": header.epoch, "planned": header.experiment.get("train", {}).get("epochs")}


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_line(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, list | tuple):
        parts = ", ".join(map(str, value))
        return f"{len(value)}: {parts}" if len(value) > 2 else parts
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
