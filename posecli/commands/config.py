"""`posecli config`: show, check, copy and list configs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli import console

if TYPE_CHECKING:
    from posecli.config import Experiment, Layers

config_app = typer.Typer(help="Show, check, copy and list configs.", no_args_is_help=True, rich_markup_mode=None)

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value; may be given several times.")
]


def add(app: typer.Typer) -> None:
    """Register `config` with its subcommands."""
    app.add_typer(config_app, name="config")


@config_app.command(name="show")
def show(
    name: Annotated[str, typer.Argument(help="A config's name or file, a run folder, or a checkpoint.")],
    settings: Settings = None,
    origins: Annotated[bool, typer.Option("--origins", help="Say behind each value where it comes from.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Print a config with everything it extends and every default filled in."""
    from posecli.config import Experiment, dump, to_yaml, validate

    layers = open_layers(name, settings or ())
    experiment = validate(Experiment, layers)
    if json:
        console.show_json(dump(experiment))
    elif origins:
        console.show(_annotated(experiment, layers))
    else:
        console.show(to_yaml(experiment).rstrip())


def open_layers(name: str, settings: list[str] | tuple[str, ...] = ()) -> Layers:
    """The merged layers of a config name, a file, a run folder or a checkpoint, with settings on top."""
    from posecli.config import layers_of, parse_setting

    if not name.endswith(".safetensors"):
        return layers_of(name, settings)
    from posecli.checkpoint import load_checkpoint

    layers = layers_of(None)
    layers.add(load_checkpoint(Path(name))[1].experiment, name)
    for setting in settings:
        layers.add(parse_setting(setting), f"--set {setting}")
    return layers


def _annotated(experiment: Experiment, layers: Layers) -> str:
    """The config as YAML, each value followed by its origin."""
    from posecli.config import dump

    lines: list[tuple[str, str]] = []
    _lines(dump(experiment), (), layers, lines)
    width = max(len(text) for text, origin in lines if origin)
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)


def _lines(fields: dict[str, Any], path: tuple[str, ...], layers: Layers, lines: list[tuple[str, str]]) -> None:
    from posecli.config import inline_yaml

    for key, value in fields.items():
        indent, here = "  " * len(path), (*path, key)
        if isinstance(value, dict) and value:
            lines.append((f"{indent}{key}:", ""))
            _lines(value, here, layers, lines)
        else:
            origin = layers.origins.get(here, "default")
            lines.append((f"{indent}{key}: {inline_yaml(value)}", origin))


@config_app.command(name="check")
def check(
    names: Annotated[list[str], typer.Argument(metavar="CONFIG...", help="Config names, files or folders of files.")],
) -> None:
    """Check configs: every key known, every value right, every component there. Exit code 1 when one is faulty."""
    paths = [path for name in names for path in _expand(name)]
    faulty = 0
    for path in paths:
        try:
            verdict = _verdict(path)
        except console.PosecliError as error:
            faulty += 1
            verdict = str(error).removeprefix(f"{Path(path).resolve()}: ")
        console.show(f"{path}: {verdict}")
    if faulty:
        console.note(f"{faulty} of {len(paths)} configs are faulty")
        raise typer.Exit(console.FAULTS_FOUND)


def _verdict(name: str) -> str:
    """How a config is right. Raises ConfigError for a fault."""
    from posecli.config import Experiment, parse_metric, validate

    layers = open_layers(name)
    with_data = layers.has("data")
    if not with_data:
        layers.add({"data": {"train": "synthetic", "val": "synthetic"}}, "--data")
    for metric in validate(Experiment, layers).eval.metrics:
        parse_metric(metric)
    return "ok" if with_data else "ok, names no data: give it with --data"


def _expand(name: str) -> list[str]:
    """The experiments in a folder, or the name itself; files under base/ are parts, not experiments."""
    folder = Path(name)
    if not folder.is_dir() or (folder / "config.yaml").is_file():
        return [name]
    files = sorted(path for path in folder.rglob("*.yaml") if "base" not in path.relative_to(folder).parts)
    if not files:
        raise console.PosecliError(f"no *.yaml in the folder {name}")
    return [str(path) for path in files]


@config_app.command(name="copy")
def copy(
    name: Annotated[str, typer.Argument(help="A config's name or file, a run folder, or a checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    full: Annotated[
        bool, typer.Option("--full", help="Write every value out instead of extending what the config extends.")
    ] = False,
) -> None:
    """Write a config into a file of your own, to change as you like."""
    from posecli.config import Experiment, copied_yaml, find_config, to_yaml, validate
    from posecli.files import write_text

    out = out if out.suffix else out.with_suffix(".yaml")
    if out.exists():
        raise console.PosecliError(f"{out} exists already; choose another name")
    experiment = validate(Experiment, open_layers(name))
    whole = full or name.endswith(".safetensors")
    write_text(out, to_yaml(experiment) if whole else copied_yaml(find_config(name)))
    console.show(f"wrote {out}")
    console.show(f"next: posecli train --config {out}")


@config_app.command(name="list")
def list_(json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False) -> None:
    """List the configs that can be named without a path."""
    from posecli.commands.list import Listing
    from posecli.commands.list import list_ as show_list

    show_list(Listing.configs, json=json)
