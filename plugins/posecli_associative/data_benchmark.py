"""`posecli benchmark scenes`: training scenes a second of one worker, against cv2.imread."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from posecli.measures import Measure


def scenes(
    pictures: Annotated[
        Path | None, typer.Option(help="A COCO annotation file with its pictures; made pictures by default.")
    ] = None,
    size: Annotated[int, typer.Option(help="Width and height of the input.", min=64)] = 512,
    units: Annotated[int, typer.Option(help="Training scenes that are measured in each turn.", min=100)] = 300,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Training scenes a second of one worker, against cv2.imread."""
    from posecli.measures import show_measures

    show_measures(measure_scenes(pictures, size, units), json)


def measure_scenes(pictures: Path | None = None, size: int = 512, units: int = 300) -> list[Measure]:
    """One worker's scenes with the default augmentation against a bare `cv2.imread` loop over the same files."""
    from posecli.measures import Measure, highest
    from posecli.throughput import TURNS, benchmark_pictures, imread_rate, run_loader
    from posecli_associative.augmentation import SceneAugmentation
    from posecli_associative.transform import SceneTransform

    with tempfile.TemporaryDirectory() as folder:
        samples, note = benchmark_pictures(pictures, Path(folder))
        transform = SceneTransform(samples.skeleton, (size, size), SceneAugmentation())
        files = [str(picture) for picture in samples.images]
        ours, bare = highest(
            [
                lambda: run_loader(samples, transform, units).rate,  # type: ignore[arg-type]  # all it needs of Sequence
                lambda: imread_rate(files, units),
            ],
            TURNS,
        )
    note = f"{note}, {size}×{size}"
    return [Measure("training scenes of one worker ÷ cv2.imread", ours, bare, "/s", 0.7, note=note)]
