"""What options of several subcommands share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from posecli import console
from posecli.console import PosecliError

if TYPE_CHECKING:
    from posecli.config import Experiment, Layers


def share(value: float) -> float:
    """The callback of an option that takes 0 to 1. Raises typer.BadParameter for other numbers and for NaN."""
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} is not a number from 0 to 1.")
    return value


def free_folder(parent: str) -> Path:
    """A name under the folder `parent`, the time, that is free."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{stamp}{f'-{number}' if number > 1 else ''}" for number in range(1, 1000))
    return next(path for path in (Path(parent) / name for name in names) if not path.exists())


def experiment_of(algo: str | None, config: str | None, data: Path | None, settings: list[str]) -> Experiment:
    """The experiment that `--algo`, `--config`, `--data` and `--set` mean; says why it is as it is on the user's data.

    Raises PosecliError where they do not fit together, with the nearest algorithm.
    """
    from posecli.config import Experiment, layers_of, validate

    if algo is not None and config is not None:
        raise PosecliError("--algo and --config both name a config: give one of them")
    layers = layers_of(config if config is not None else _config_name(algo, data is not None), settings)
    return validate(Experiment, layers) if data is None else _on_own_data(layers, data, settings)


def _config_name(algo: str | None, own_data: bool) -> str:
    """The config that `--algo` stands for. Raises PosecliError with the nearest algorithm."""
    from posecli.config import config_names
    from posecli.plugins import catalog, suggest

    names = set(config_names())
    known = sorted(name.removesuffix("/default") for name in names if name.endswith("/default"))
    if algo is None:
        raise PosecliError(f"say what to train: --algo NAME or --config NAME; algorithms are {', '.join(known)}")
    if f"{algo}/default" not in names:
        broken = [plugin.name for plugin in catalog().plugins if plugin.status == "failed"]
        hint = f"; plugins that failed to load: {', '.join(broken)} (see posecli plugins)" if broken else ""
        raise PosecliError(f"no algorithm named {algo!r}; {suggest(algo, known)}{hint}")
    return f"{algo}/custom" if own_data and f"{algo}/custom" in names else f"{algo}/default"


def _on_own_data(layers: Layers, data: Path, settings: list[str]) -> Experiment:
    """The experiment on the user's data; says why it is as it is."""
    from posecli import distributed
    from posecli.autoconfig import experiment_for

    experiment, reasons = experiment_for(layers, data, settings, processes=distributed.expected())
    for reason in reasons:
        tell_once(reason)
    return experiment


def tell_once(message: str) -> None:
    """Say something once, not once a process."""
    from posecli import distributed

    if distributed.first_process():
        console.note(message)
