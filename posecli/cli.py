"""The command line: `posecli COMMAND`. Importing this module imports neither torch nor numpy nor cv2."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated

import typer

from posecli import __version__, console, plugins

app = typer.Typer(
    name="posecli",
    help="Pose estimation: train, evaluate, infer, convert and benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

COMMANDS = (
    "train",
    "eval",
    "infer",
    "convert",
    "benchmark",
    "list",
    "info",
    "config",
    "data",
    "import_",
    "plugins",
    "doctor",
)


def _version(wanted: bool) -> None:
    if wanted:
        console.show(f"posecli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    console.output.quiet = quiet
    console.output.debug = debug


def main() -> None:
    """Run the command line; every error ends in one line and an exit code."""
    try:
        for name in COMMANDS:
            if importlib.util.find_spec(f"posecli.commands.{name}") is None:  # DEVELOPMENT ONLY, to be removed
                continue
            importlib.import_module(f"posecli.commands.{name}").add(app)
        plugins.add_commands(app)
        app()
    except (Exception, KeyboardInterrupt) as error:
        console.fail(error)
