"""`posecli train`: train an algorithm, score it, keep the best."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli import console
from posecli.commands.options import experiment_of, tell_once
from posecli.console import STOPPED, PosecliError

if TYPE_CHECKING:
    from posecli.config import Experiment
    from posecli.training import Run


def add(app: typer.Typer) -> None:
    """Register `train`."""
    app.command(name="train")(train)


def train(
    algo: Annotated[
        str | None, typer.Option("--algo", metavar="NAME", help="An algorithm, with its own default config.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME|FILE", help="A config; `posecli list configs` names them.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR|FILE", help="Your data, as `posecli convert` writes it; sizes are chosen."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value; may be given several times."),
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", metavar="RUN|CHECKPOINT", help="Start from these weights, where they fit.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, or else with the latest, where it stopped.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:NUMBER or mps.")] = "auto",
    nproc: Annotated[
        int,
        typer.Option(
            "--nproc",
            min=1,
            help="Processes on this machine, each with its share of the data and, on GPUs, its own GPU. "
            "For several machines start `torchrun --nnodes ... -m posecli train ...` on each, "
            "with --out in a folder that all of them see.",
        ),
    ] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run's folder; else a new one under runs/.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Short for --set train.seed=N.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Short for --set train.epochs=N.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a picture that cannot be read, instead of skipping it.")
    ] = False,
) -> None:
    """Train on data, score on validation data, and keep the best weights in the run's folder.

    Ctrl-C stops after a step with everything saved; `posecli train --resume` goes on as if nothing had happened.
    """
    given = list(settings or ())
    given += [f"train.seed={seed}"] if seed is not None else []
    given += [f"train.epochs={epochs}"] if epochs is not None else []
    folder = _resumed_folder(out) if resume else out
    console.output.quiet = console.output.quiet or nproc > 1  # the first of the processes will tell it
    if resume:
        _tell_unread(folder, {"--algo": algo, "--config": config, "--data": data, "--init": init})
    experiment = _experiment(algo, config, data, given, folder if resume else None)
    from posecli import distributed

    if nproc > 1:
        raise SystemExit(distributed.launch(nproc, _without_nproc(sys.argv[1:])))
    console.output.quiet = console.output.quiet or not distributed.first_process()
    from posecli.stopping import Stopped
    from posecli.training import train as train_run

    try:
        with distributed.parting():
            run = train_run(experiment, folder, device=device, resume=resume, init=init, strict=strict)
            if distributed.first_process():
                _show(run, out)
    except Stopped as stopped:
        if distributed.first_process():
            again = shlex.join(["posecli", "train", "--resume", *(["--out", str(out)] if out else [])])
            console.warn(f"{stopped}; go on with: {again}")
        raise SystemExit(STOPPED) from None


def _tell_unread(folder: Path | None, options: Mapping[str, object]) -> None:
    """Say which options a run that is resumed does not read again: whoever repeats a command line need not know."""
    given = [name for name, value in options.items() if value is not None]
    if folder is not None and (folder / "config.yaml").is_file() and given:
        tell_once(f"{folder} goes on as its config.yaml says; not read again: {', '.join(given)}")


def _resumed_folder(out: Path | None) -> Path | None:
    """The folder of the run to go on with. Raises PosecliError when no --out is given and there is no latest run."""
    from posecli.runs import latest_folder

    folder = out or latest_folder()
    if folder is None:
        raise PosecliError("no run to resume: runs/latest does not exist here; name the run's folder with --out")
    return folder


def _experiment(
    algo: str | None, config: str | None, data: Path | None, settings: list[str], resumed: Path | None
) -> Experiment:
    """The experiment that the options mean; a run that is resumed keeps its own, with the settings on top."""
    from posecli.config import Experiment, layers_of, validate

    if resumed is not None and (resumed / "config.yaml").is_file():
        return validate(Experiment, layers_of(str(resumed / "config.yaml"), settings))
    if resumed is not None and algo is None and config is None:
        raise PosecliError(f"no run to resume in {resumed}: it has no config.yaml; name another folder with --out")
    if resumed is not None:
        tell_once(f"nothing to resume in {resumed}: a new run begins there")
    return experiment_of(algo, config, data, settings)


def _without_nproc(argv: list[str]) -> list[str]:
    """The command line of each process: the same without --nproc."""
    kept = [text for text, before in zip(argv, ["", *argv], strict=False) if "--nproc" not in (text, before)]
    return [text for text in kept if not text.startswith("--nproc=")]


def _show(run: Run, out: Path | None) -> None:
    """The best scores, and what to type next."""
    rows = [(name, "-" if math.isnan(value) else f"{value:.4f}") for name, value in run.best.items()]
    console.table(["score", "value"], rows, f"best of {run.experiment.train.epochs} epochs: epoch {run.best_epoch}")
    model = f" --model {shlex.quote(str(out))}" if out else ""
    console.note(f"\nthe model is {run.folder / 'best.safetensors'}, curves and samples are beside it. Next:")
    if run.algorithm.needs == "keypoints":
        console.note(f"  posecli infer clip.mp4{model} --pose2d RUN    lift what a 2D model finds in your own videos")
        console.note(f"  posecli eval --metric 3dpck{model}    score it with other metrics")
        return
    console.note(f"  posecli infer photo.jpg{model}    find people in your own pictures")
    flat = any(metric.startswith(("ap", "pck")) for metric in run.experiment.eval.metrics)
    asked = ("--metric pck", "score it with other metrics") if flat else ("--guess", "score it beside the mean pose")
    console.note(f"  posecli eval {asked[0]}{model}    {asked[1]}")
