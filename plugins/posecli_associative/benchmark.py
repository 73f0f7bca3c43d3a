"""`posecli benchmark group`: how long it takes to make people of maps, against one forward pass of a ResNet-50."""

from __future__ import annotations

from typing import Annotated

import typer


def group(
    repeats: Annotated[int, typer.Option(help="Times that each is measured; the median counts.", min=1)] = 11,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """How long it takes to make people of maps, against a ResNet-50 and against the network that makes the maps."""
    from posecli.measures import show_measures
    from posecli_associative.crowded_maps import measure_grouping

    show_measures(measure_grouping(repeats), json)
