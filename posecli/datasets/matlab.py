"""MATLAB files, versions 4 to 7.2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posecli.console import PosecliError


def read_matlab(file: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The variables of a file by name, with `names` only those. Raises PosecliError for another kind of file."""
    from scipy.io import loadmat

    try:
        found: dict[str, Any] = loadmat(file, variable_names=names)
    except Exception as error:  # scipy raises many kinds for files that are no MATLAB files
        raise PosecliError(f"{file} is not a MATLAB file that can be read: {error}") from error
    return found
