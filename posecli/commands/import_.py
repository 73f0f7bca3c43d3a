"""`posecli import`: checkpoints of other projects become ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli import console
from posecli.console import PosecliError

if TYPE_CHECKING:
    from torch import Tensor

    from posecli.config import Experiment
    from posecli.interop.mmpose import Foreign, Match
    from posecli.skeleton import Skeleton

SHOWN = 12  # names of each list, unless --list

import_app = typer.Typer(help="Bring over checkpoints of other projects.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Register `import` with its subcommands."""
    app.add_typer(import_app, name="import")


@import_app.command(name="mmpose")
def mmpose(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pth", help="Of MMPose 0.x or 1.x.")],
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="A .safetensors file, or a folder for best.safetensors.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="The network it holds, as topdown/coco/resnet-50.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the config.")] = None,
    skeleton: Annotated[
        str | None,
        typer.Option("--skeleton", help="Keypoints: a shipped skeleton or a YAML file; default: the data's."),
    ] = None,
    everything: Annotated[bool, typer.Option("--list", help="List every tensor; without --config, only that.")] = False,
) -> None:
    """Read a checkpoint of MMPose without running anything in it, and write it as ours if every tensor matches."""
    from posecli.interop.mmpose import build_for_import, match, read_mmpose, take

    foreign = read_mmpose(checkpoint)
    _show_foreign(checkpoint, foreign)
    if config is None:
        if not everything:
            raise PosecliError("say which network it is with --config NAME, or look at what it holds with --list")
        console.table(("tensor", "shape"), [(name, _size(value.shape)) for name, value in foreign.state.items()])
        return
    from posecli.config import load_experiment

    experiment = load_experiment(config, settings or ())
    points = _skeleton(experiment, skeleton)
    model = build_for_import(experiment, points)
    found = match(model, experiment.model, foreign.state)
    _show_match(found, everything)
    state = take(model, foreign.state, found)
    if out is None:
        raise PosecliError(
            "every tensor matches; say where to write the checkpoint: a file or a folder, after its name"
        )
    path = _write(out, state, experiment, points, foreign)
    console.show(f"wrote {path}")
    console.note(f"next: posecli info {path}; posecli infer photo.jpg --model {path}")


def _skeleton(experiment: Experiment, wanted: str | None) -> Skeleton:
    """What was asked for, else the skeleton named in the config's data, else the shipped one named like the data."""
    from posecli.config import read_yaml
    from posecli.skeleton import Skeleton, house_skeletons

    data = experiment.data.train
    names = [wanted] if wanted else [getattr(data, "skeleton", None), data.name, data.name.replace("-", "_")]
    for name in filter(None, names):
        if name in house_skeletons():
            return house_skeletons()[name]
        if Path(name).is_file():
            try:
                return Skeleton.from_dict(read_yaml(Path(name)))
            except (ValueError, TypeError) as error:
                raise PosecliError(f"{name}: {error}") from error
    known = ", ".join(house_skeletons())
    asked = f"no skeleton {wanted!r}" if wanted else f"the config's data ({data.name}) does not tell the keypoints"
    raise PosecliError(f"{asked}: give --skeleton with a YAML file or one of {known}")


def _show_foreign(path: Path, foreign: Foreign) -> None:
    facts = ", ".join(f"{key} {value}" for key, value in foreign.facts.items())
    console.show(f"{path}: {len(foreign.state)} tensors" + (f" ({facts})" if facts else ""))
    for name, what in foreign.left_out.items():
        console.show(f"  not used: {name}, {what}")
    for name, count in foreign.inert.items():
        console.show(f"  kept unread: {count} × {name}")


def _show_match(found: Match, everything: bool) -> None:
    console.show(f"matched: {len(found.matched)}")
    if everything:
        console.table(("ours", "theirs"), found.matched.items())
    _show_names("missing in the checkpoint", found.missing, everything)
    _show_names("without a place in the model", found.unexpected, everything)
    other = tuple(
        f"{name} {_size(ours)}, there {theirs} {_size(size)}" for name, (theirs, ours, size) in found.mismatched.items()
    )
    _show_names("of another shape", other, everything)


def _show_names(title: str, names: tuple[str, ...], everything: bool) -> None:
    console.show(f"{title}: {len(names)}")
    shown = names if everything else names[:SHOWN]
    for name in shown:
        console.show(f"  {name}")
    if len(shown) < len(names):
        console.show(f"  and {len(names) - len(shown)} more (--list shows all)")


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _write(out: Path, state: dict[str, Tensor], experiment: Experiment, skeleton: Skeleton, foreign: Foreign) -> Path:
    from posecli.checkpoint import BEST, Header, current_command, current_versions, save_checkpoint
    from posecli.config import dump

    path = out if out.suffix == ".safetensors" else out / BEST
    header = Header(
        experiment=dump(experiment),
        skeleton=skeleton.to_dict(),
        epoch=_number(foreign.facts.get("epoch")),
        step=_number(foreign.facts.get("iter")),
        command=current_command(),
        versions={**current_versions(), **{key: value for key, value in foreign.facts.items() if "version" in key}},
    )
    save_checkpoint(path, state, header)
    return path


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
