"""`posecli benchmark lift`: whole clips at once against one window after the other, by the same network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from posecli.measures import Measure
    from posecli_lifter.temporal import TemporalNetwork

KERNELS = (3, 3, 3, 3, 3)
CHANNELS = 1024
JOINTS = 17
BATCH = 64  # windows at once
GOAL = 10.0


def add(app: typer.Typer) -> None:
    """Register `lift`."""
    app.command(name="lift")(lift)


def lift(
    frames: Annotated[int, typer.Option("--frames", min=1, help="Of the clip.")] = 2000,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="The median of so many counts.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Frames lifted a second by VideoPose3D with 243 frames: the whole clip, against its windows in batches of 64."""
    from posecli.measures import show_measures

    show_measures([measure_clip(frames, repeats)], json)


def measure_clip(frames: int, repeats: int, channels: int = CHANNELS) -> Measure:
    """Windows a second of both ways, on the CPU, with random weights; the results are the same.

    The windows go through the strided network, which makes no feature that their one frame does not need.
    """
    import torch

    from posecli.measures import Measure, interleave
    from posecli_lifter.temporal import TemporalNetwork

    torch.manual_seed(0)
    network = TemporalNetwork(JOINTS * 2, channels, KERNELS).eval()
    clip = torch.randn(1, JOINTS * 2, frames)
    few = min(frames, 2 * BATCH)  # windows cost the same each, so some of them tell
    with torch.inference_mode():
        whole, windows = interleave([lambda: network.full(clip), lambda: by_windows(network, clip, few)], repeats)
    return Measure(
        "whole clip against windows",
        frames / whole,
        few / windows,
        "windows/s",
        GOAL,
        note=f"{network.frames} frames seen, {channels} channels, clip of {frames}, {torch.get_num_threads()} threads",
    )


def by_windows(network: TemporalNetwork, clip: Tensor, count: int) -> Tensor:
    """Features (1, D, count) of a clip's first frames, each from a window of its own; clip (1, C, T)."""
    import torch
    from torch.nn import functional

    padded = functional.pad(clip, (network.before, network.after), mode="replicate")
    windows = padded.unfold(2, network.frames, 1)[0].transpose(0, 1)[:count]  # (count, C, frames)
    batches = [windows[start : start + BATCH] for start in range(0, count, BATCH)]
    return torch.cat([network.strided(batch.contiguous()) for batch in batches]).permute(2, 1, 0)
