"""`posecli list`: what can be named in a config or on the command line."""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import Annotated, Any

import typer

from posecli import console

SINGULAR = {"models": "model", "datasets": "dataset", "metrics": "metric", "backbones": "backbone", "writers": "writer"}


class Listing(StrEnum):
    """What can be listed."""

    models = "models"
    datasets = "datasets"
    metrics = "metrics"
    backbones = "backbones"
    writers = "writers"
    configs = "configs"
    skeletons = "skeletons"


def add(app: typer.Typer) -> None:
    """Register `list`."""
    app.command(name="list")(list_)


def list_(
    what: Annotated[Listing, typer.Argument(help="What to list.")],
    fields: Annotated[bool, typer.Option("--fields", help="Also list the fields each takes, with defaults.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """List what configs and commands can name."""
    rows = entries(what.value)
    if json:
        console.show_json({what.value: rows})
        return
    shown = [key for key in rows[0] if key != "fields"] if rows else ["name"]
    console.table(shown, [[row[key] for key in shown] for row in rows])
    for row in rows if fields else ():
        _show_fields(row)


def entries(what: str) -> list[dict[str, Any]]:
    """One mapping for each thing of that plural name, sorted by name."""
    if what == "configs":
        return _configs()
    if what == "skeletons":
        return _skeletons()
    return _components(SINGULAR[what])


def _components(kind: str) -> list[dict[str, Any]]:
    from posecli.plugins import catalog

    known = catalog()
    return [
        {
            "name": name,
            "plugin": known.owners[kind, name],
            "description": first_line(component),
            "fields": _fields(component),
        }
        for name, component in sorted(known.components[kind].items())
    ]


def _fields(component: Any) -> list[dict[str, Any]]:
    from posecli.config import plain

    return [
        {
            "name": name,
            "type": inspect.formatannotation(field.annotation).replace("posecli.config.", ""),
            "required": field.is_required(),
            "default": None if field.is_required() else plain(field.get_default(call_default_factory=True)),
            "description": field.description or "",
        }
        for name, field in component.model_fields.items()
    ]


def _show_fields(row: dict[str, Any]) -> None:
    if row.get("fields"):
        console.show("")
        columns = ["name", "default", "description"]
        values = [
            [field["name"], "required" if field["required"] else field["default"], field["description"]]
            for field in row["fields"]
        ]
        console.table(columns, values, title=row["name"])


def _configs() -> list[dict[str, Any]]:
    from posecli.config import config_names, find_config

    return [{"name": name, "file": str(find_config(name))} for name in config_names()]


def _skeletons() -> list[dict[str, Any]]:
    from posecli.skeleton import house_skeletons

    return [
        {
            "name": skeleton.name,
            "keypoints": len(skeleton),
            "flip pairs": "unknown" if skeleton.flip_pairs is None else len(skeleton.flip_pairs),
            "sigmas": "unknown" if skeleton.sigmas is None else "known",
        }
        for _, skeleton in sorted(house_skeletons().items())
    ]


def first_line(documented: Any) -> str:
    """The first line of a docstring of its own, not an inherited one."""
    return (inspect.cleandoc(documented.__doc__ or "").splitlines() or [""])[0]
