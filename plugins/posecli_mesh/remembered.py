"""Where the user's own body files lie, remembered from one command to the next.

A small JSON file among the user's settings: `$XDG_CONFIG_HOME/posecli/bodies.json`, by default below `~/.config`.
It holds paths only: {"smpl": {"neutral": "/…/SMPL_NEUTRAL.pkl", "regressor": "/…/regressor.npy"}}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from posecli.console import PosecliError
from posecli.files import write_text

Files = dict[str, str]
"""What a file is for (a gender, or `regressor`) -> its path."""


def remembered_at() -> Path:
    """The file that is read and written."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "posecli" / "bodies.json"


def remembered(body: str) -> Files:
    """The files of a body; none where nothing was set. Raises PosecliError when the file cannot be understood."""
    known = _read().get(body, {})
    return {key: str(path) for key, path in known.items()}


def remember(body: str, files: Files) -> None:
    """Add `files` to what is remembered of a body, in place of the former ones of the same use."""
    known = _read()
    known[body] = {**known.get(body, {}), **files}
    write_text(remembered_at(), json.dumps(known, indent=2, sort_keys=True) + "\n")


def _read() -> dict[str, Files]:
    path = remembered_at()
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PosecliError(f"cannot read {path}: {error}; remove it and set the body's files again") from error
    if not isinstance(known, dict) or not all(isinstance(files, dict) for files in known.values()):
        raise PosecliError(f"{path} is no list of body files; remove it and set them again")
    return known
