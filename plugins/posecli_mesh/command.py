"""`posecli mesh body set` and `show`: which body files of the user are there. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posecli import console
from posecli.console import PosecliError

mesh_app = typer.Typer(help="Body meshes: the bodies' own files.", no_args_is_help=True, rich_markup_mode=None)
body_app = typer.Typer(
    help="Which body files are used, and where they lie.", no_args_is_help=True, rich_markup_mode=None
)
mesh_app.add_typer(body_app, name="body")


def add(app: typer.Typer) -> None:
    """Register `posecli mesh`."""
    app.add_typer(mesh_app, name="mesh")


@body_app.command("set")
def set_body(
    body: Annotated[str, typer.Argument(help="The body: smpl.")],
    path: Annotated[Path, typer.Argument(help="Its file (.pkl or .npz), or a folder with one for each gender.")],
    gender: Annotated[
        str | None, typer.Option("--gender", help="neutral, male or female; by default as the file's name says.")
    ] = None,
    regressor: Annotated[
        Path | None, typer.Option("--regressor", help="A .npy file (24, V): from vertices to the keypoints of body24.")
    ] = None,
) -> None:
    """Remember where a body's file lies. The file is read and checked first, and stays where it is."""
    from posecli_mesh.remembered import remember, remembered_at
    from posecli_mesh.smpl import read_regressor, read_smpl

    if body in ("capsules", "anny"):
        raise PosecliError(f"{body!r} needs no file; smpl does")
    if body != "smpl":
        raise PosecliError(f"no body named {body!r}; known are capsules, smpl and anny, and smpl has files to set")
    files = {}
    vertices = 0
    for found, path_of in _files(path.expanduser().absolute(), gender).items():
        vertices = len(read_smpl(path_of, found)["v_template"])  # type: ignore[arg-type]  # one of the three genders
        files[found] = str(path_of)
    if regressor is not None:
        read_regressor(regressor, vertices)
        files["regressor"] = str(regressor.expanduser().absolute())
    remember(body, files)
    console.note(f"remembered in {remembered_at()}")
    _show(body, files)


@body_app.command("show")
def show_bodies() -> None:
    """Show the body files that are remembered, and whether they are still there."""
    from posecli_mesh.remembered import remembered, remembered_at

    files = remembered("smpl")
    if not files:
        console.note(f"no body file is set ({remembered_at()}); `posecli mesh body set smpl PATH` sets SMPL's")
        return
    _show("smpl", files)


def _show(body: str, files: dict[str, str]) -> None:
    rows = [[body, use, path, "" if Path(path).is_file() else "gone"] for use, path in sorted(files.items())]
    console.table(["body", "file", "path", "state"], rows)


def _files(path: Path, gender: str | None) -> dict[str, Path]:
    """The file for each gender. Raises PosecliError when it cannot be told which is which."""
    from posecli_mesh.smpl import GENDERS, HOW_TO_GET, gender_of, other_family

    if gender is not None and gender not in GENDERS.values():
        raise PosecliError(f"--gender {gender}: there are {', '.join(GENDERS.values())}")
    if path.is_dir():
        candidates = [file for pattern in ("*.pkl", "*.npz") for file in sorted(path.rglob(pattern))]
        told: dict[str, Path] = {}
        for file in candidates:
            found = None if other_family(file.relative_to(path)) else gender_of(file)
            if found is None or gender not in (None, found):
                continue
            if found in told:
                raise PosecliError(
                    f"two files for a {found} body, {told[found]} and {file}: set one with `posecli mesh body set smpl "
                    f"FILE --gender {found}`"
                )
            told[found] = file
        if not told:
            raise PosecliError(f"no .pkl or .npz file of SMPL in {path} whose name tells a gender; {HOW_TO_GET}")
        return told
    if not path.is_file():
        raise PosecliError(f"no SMPL file {path}: no such file; {HOW_TO_GET}")
    whose = gender or gender_of(path)
    if whose is None:
        raise PosecliError(f"the name {path.name} does not tell whose body it is: say it with --gender")
    return {whose: path}
