"""`posecli data check` and `posecli data show`: is this data fit to train on, and what does a network see of it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli import console
from posecli.commands.options import experiment_of, free_folder
from posecli.console import PosecliError

if TYPE_CHECKING:
    from posecli.datacheck import Checked
    from posecli.datashow import Shown

data_app = typer.Typer(help="Look at labelled data.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Register `data` with its subcommands."""
    app.add_typer(data_app, name="data")


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


@data_app.command("show")
def show(
    path: Annotated[
        Path | None, typer.Argument(metavar="DIR|FILE", help="A dataset folder or an annotation file.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="What it is, as for convert, where that is not told by itself."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, where they are not near by.")] = None,
    algo: Annotated[
        str | None, typer.Option("--algo", metavar="NAME", help="Draw what this algorithm is given in training.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME|FILE", help="Draw what a training by this config is given.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the config, or without one of the format."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures at most; of inputs, people or scenes.")] = 16,
    names: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID|NAME", help="Only this picture; may be given several times.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Which are shown, and how they are varied; default 0, or the config's.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often each input is drawn, as in so many epochs.")] = 4,
    out: Annotated[Path | None, typer.Option("--out", help="An empty or new folder; default shown/<time>.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Draw labelled data: keypoints, boxes, crowds; with --algo or --config the varied inputs of a training.

    Keypoints labelled as hidden are faint. Striped regions teach nothing, nor do people whose box is grey.
    """
    from posecli import datashow

    folder = out or free_folder("shown")
    given = list(settings or ())
    if algo is None and config is None:
        samples = datashow.labelled_data(path, form, images, given)
        shown = datashow.show_labels(samples, folder, datashow.Choice(count, seed or 0, tuple(names or ())))
    else:
        if form is not None:
            raise PosecliError(
                "--format is for data as it is labelled: with a config write --set data.train.use=FORMAT"
            )
        given += datashow.folder_setting("data.train.images", images)
        given += [f"train.seed={seed}"] if seed is not None else []
        experiment = experiment_of(algo, config, path, given)
        choice = datashow.Choice(count, experiment.train.seed, tuple(names or ()))
        shown = datashow.show_inputs(experiment, folder, choice, epochs)
    _tell(shown, json)


def _tell(shown: Shown, json: bool) -> None:
    for line in shown.skipped:
        console.warn(f"skipped {line}")
    sheets, pictures = ([str(path) for path in paths] for paths in (shown.sheets, shown.pictures))
    if json:
        console.show_json({"shown": shown.what, "sheets": sheets, "pictures": pictures, "skipped": shown.skipped})
        return
    more = " and each by itself beside it" if len(pictures) > 1 else ""
    console.show(f"{shown.what}: {console.listed(sheets)}{more}")
