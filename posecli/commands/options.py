"""What options of several subcommands share."""

from __future__ import annotations

import typer


def share(value: float) -> float:
    """The callback of an option that takes 0 to 1. Raises typer.BadParameter for other numbers and for NaN."""
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} is not a number from 0 to 1.")
    return value
