"""`posecli convert`: a dataset of any known format becomes a folder that `train --data` takes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli import console

if TYPE_CHECKING:
    from posecli.conversion import Conversion


def add(app: typer.Typer) -> None:
    """Register `convert` and its other name."""
    app.command("convert")(convert)
    app.command("convert-dataset", hidden=True, help="The same as convert.")(convert)


def convert(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="As listed by posecli list datasets.")],
    source: Annotated[str, typer.Argument(metavar="IN", help="The annotation file or folder; - where there is none.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for train.json, val.json and images/.")],
    val: Annotated[
        float, typer.Option(min=0, help="Share of the pictures held out, or from 1 on their number; 0 for none.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of the random split.")] = 0,
    split: Annotated[str, typer.Option(help="random, or order: the last pictures are held out.")] = "random",
    copy: Annotated[bool, typer.Option("--copy", help="Copy the pictures instead of linking them.")] = False,
    to: Annotated[str, typer.Option(help="What is written: coco or csv.")] = "coco",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop where a picture is missing or an annotation has a fault.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the format, as part=face.")
    ] = None,
) -> None:
    """Read a dataset and write it as COCO keypoint JSON, pictures linked or copied."""
    from posecli import conversion
    from posecli.config import WriterConfig
    from posecli.plugins import catalog

    if split not in ("random", "order"):
        raise console.PosecliError(f"--split {split}: it is random or order")
    writer = catalog().find("writer", to)
    assert issubclass(writer, WriterConfig)
    config = conversion.source_config(format, source, settings or ())
    done = conversion.convert(
        config, out, writer().build(), val=val, seed=seed, order=split, copy=copy, strict=strict, force=force
    )
    _report(done, out, to)


def _report(done: Conversion, out: Path, to: str) -> None:
    for note in done.notes:
        console.note(f"note: {note}")
    console.table(
        ("file", "pictures", "people", "labelled keypoints"),
        [(side.file, side.pictures, side.people, side.labelled) for side in done.sides],
    )
    if done.placed:
        how = {0: "all linked", done.placed: "all written"}.get(
            done.copied, f"{done.copied} written, the others linked"
        )
        console.show(f"{console.counted(done.placed, 'picture')} in {out / 'images'}, {how}")
    else:
        console.show("frames of motion, without pictures")
    if done.missing:
        console.warn(
            f"{console.counted(len(done.missing), 'picture')} missing and left out, the first is {done.missing[0]}"
        )
    if to == "coco":
        family = "lifter" if done.is_motion else "interhand" if done.is_pairs else "topdown"
        console.note(f"next: posecli train --algo {family} --data {shlex.quote(str(out))}")
