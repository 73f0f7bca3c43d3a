"""`posecli plugins`: what is installed, whether it works, and a start for a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posecli import console
from posecli.plugins import Plugin, catalog

plugins_app = typer.Typer(
    help="Show the installed plugins, or start a new one.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


def add(app: typer.Typer) -> None:
    """Register `plugins` and `plugins new`."""
    app.add_typer(plugins_app, name="plugins")


@plugins_app.callback()
def show(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show the installed plugins: ok, failed with the error, or blocked by POSECLI_PLUGINS."""
    if context.invoked_subcommand is not None:
        return
    rows = [describe(plugin) for plugin in catalog().plugins]
    if json:
        console.show_json({"plugins": rows})
        return
    console.table(
        ["plugin", "status", "version", "distribution", "adds"],
        [[row["name"], row["status"], row["version"], row["distribution"], _summary(row)] for row in rows],
    )


def describe(plugin: Plugin) -> dict[str, Any]:
    """What is known of a plugin, with the names of the components it adds by kind."""
    adds: dict[str, list[str]] = {}
    # owners are recorded by plugin name, and a plugin that failed may bear the name of one that works
    for (kind, name), owner in sorted(catalog().owners.items()):
        if owner == plugin.name and plugin.status == "ok":
            adds.setdefault(kind, []).append(name)
    return {
        "name": plugin.name,
        "status": plugin.status,
        "error": plugin.error,
        "version": plugin.version,
        "distribution": plugin.distribution,
        "module": plugin.value,
        "hooks": list(plugin.hooks),
        "adds": adds,
    }


def _summary(row: dict[str, Any]) -> str:
    """One line: the error, else what the plugin adds."""
    if row["error"]:
        return str(row["error"])
    counts = [f"{len(names)} {kind}{'s' if len(names) > 1 else ''}" for kind, names in row["adds"].items()]
    others = [hook for hook in row["hooks"] if hook in ("posecli_commands", "posecli_config_dirs")]
    return ", ".join(counts + [hook.removeprefix("posecli_").replace("_", " ") for hook in others]) or "nothing"


@plugins_app.command()
def new(
    name: Annotated[str, typer.Argument(help="The plugin's name: lower-case letters, digits and underscores.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the package folder into.")] = Path(),
) -> None:
    """Write a package with a small working model, a config and tests that pass as they stand."""
    from posecli.scaffold import write_package

    folder = write_package(name, out)
    console.show(f"wrote {folder}")
    console.show(f"next: pip install -e '{folder}[test]' && pytest {folder} && posecli train --algo {name}")
