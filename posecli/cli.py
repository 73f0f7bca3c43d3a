"""The command line: `posecli COMMAND`. Importing this module imports neither torch nor numpy nor cv2."""

from __future__ import annotations

import gc
import importlib
import os
from typing import Annotated, Any, NoReturn

import typer

from posecli import __version__, console, plugins
from posecli.memory import keep_freed_memory

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

app = typer.Typer(
    name="posecli",
    help="Pose estimation: train, evaluate, infer, convert and benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would take a third of the start
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        console.show(f"posecli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    console.output.quiet = quiet
    console.output.debug = debug
    # plugins and doctor say it themselves; of several ranks one is enough
    if context.invoked_subcommand not in ("plugins", "doctor") and os.environ.get("RANK", "0") == "0":
        for plugin in plugins.catalog().failed:
            console.warn(f"plugin {plugin.name!r} could not be loaded: {plugin.error} (see posecli plugins)")


def main() -> None:
    """Run the command line; every error ends in one line and an exit code."""
    keep_freed_memory()
    try:
        add_commands(app)
        code = app(standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        _leave(error)
    if code == console.STOPPED:
        console.stop()
    raise SystemExit(code if isinstance(code, int) else 0)


def add_commands(to: typer.Typer) -> None:
    """Register the house's commands, then the plugins'.

    Without a search for garbage, which takes a twelfth of the time: what is imported stays.
    """
    gc.disable()
    try:
        for name in COMMANDS:
            importlib.import_module(f"posecli.commands.{name}").add(to)
        plugins.add_commands(to)
    finally:
        gc.enable()


def _leave(error: BaseException) -> NoReturn:
    if isinstance(error, typer.Abort):  # Ctrl-C or end of input at a question
        console.stop()
    usage = _usage(error)
    console.fail(error if usage is None else console.PosecliError(usage))


def _usage(error: Any) -> str | None:
    """One line for a wrong command line; None for any other error."""
    if not hasattr(error, "format_message"):
        return None
    context = getattr(error, "ctx", None)
    if context is None:
        return str(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        console.show(context.get_help())
        raise SystemExit(console.WRONG_INPUT)
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message} (see {context.command_path} --help)"
