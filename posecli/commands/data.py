"""`posecli data check`: is this data fit to train on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli import console

if TYPE_CHECKING:
    from posecli.datacheck import Checked

data_app = typer.Typer(help="Look at labelled data.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Register `data` with its subcommands."""
    app.add_typer(data_app, name="data")


@data_app.callback()
def _group() -> None:
    """Keeps `check` a subcommand while it is the only one."""


@data_app.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A dataset folder or an annotation file.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, where they are not near by.")] = None,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Read every picture whole.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Report faults by rule; exit code 1 when there are any."""
    from posecli import datacheck

    checked = datacheck.check(path, images, decode)
    faults = sum(report.faults for report in checked)
    if json:
        console.show_json({"ok": not faults, "faults": faults, "checked": [report.to_dict() for report in checked]})
    else:
        for report in checked:
            _show(report)
    if faults:
        raise typer.Exit(console.FAULTS_FOUND)


def _show(report: Checked) -> None:
    counts = (
        console.counted(report.pictures, "picture"),
        console.counted(report.people, "person", "people"),
        console.counted(report.labelled, "labelled keypoint"),
    )
    console.show(f"{report.file}: {', '.join(counts)}")
    for _, finding in sorted(report.findings.items()):
        console.show(f"  {finding.line()}")
    console.show(f"  {console.counted(report.faults, 'fault') if report.faults else 'no faults'}")
