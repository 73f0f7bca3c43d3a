"""`posecli benchmark interhand`: training steps, targets and all, against a bare loop with targets made before."""

from __future__ import annotations

from typing import Annotated

import typer


def interhand(
    config: Annotated[
        str, typer.Option(help="The config whose network is measured.")
    ] = "interhand/interhand3d/resnet-50",
    batch_size: Annotated[int, typer.Option(help="Pictures at once.", min=1)] = 4,
    repeats: Annotated[int, typer.Option(help="Times that each is measured; the median counts.", min=1)] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:NUMBER or mps.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Training steps of pairs of hands, against a bare loop of the network with targets made before."""
    from posecli.measures import show_measures
    from posecli_interhand.steps import measure_steps

    show_measures(measure_steps(config, batch_size, repeats, device), json)
