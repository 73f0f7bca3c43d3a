"""What `posecli plugins new` fills in: a whole package in `template/`, with NAME standing for the plugin's name."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from posecli.console import PosecliError
from posecli.files import write_text
from posecli.plugins import catalog

SUFFIX = ".txt"  # of templates, so that no tool takes them for code of ours


def write_package(name: str, out: Path) -> Path:
    """Write the package `posecli-NAME` into a new folder of that name in `out`; the folder's path comes back.

    Raises PosecliError for a name that is no identifier, is taken, or whose folder exists.
    """
    _check_name(name)
    folder = out / f"posecli-{name}"
    if folder.exists():
        raise PosecliError(f"{folder} exists already; choose another name, or another place with --out")
    for path, text in _templates(resources.files("posecli.scaffold") / "template"):
        write_text(folder / _filled(path, name), _filled(text, name))
    return folder


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name.endswith("_"):
        raise PosecliError(f"plugin name {name!r}: lower-case letters, digits and underscores, starting with a letter")
    for plugin in catalog().plugins:
        if plugin.name == name:
            raise PosecliError(f"plugin name {name!r} is taken by {plugin.distribution} {plugin.version}")
    if importlib.util.find_spec(f"posecli_{name}") is not None:
        raise PosecliError(f"plugin name {name!r} is taken: there is a package posecli_{name} already")


def _templates(folder: Traversable, path: str = "") -> Iterator[tuple[str, str]]:
    """Paths and texts of all templates below a folder."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield path + entry.name.removesuffix(SUFFIX), entry.read_text(encoding="utf-8")


def _filled(text: str, name: str) -> str:
    """NAME becomes the plugin's name, TITLE its class name: my_pose gives MyPose."""
    return text.replace("TITLE", "".join(part.capitalize() for part in name.split("_"))).replace("NAME", name)
