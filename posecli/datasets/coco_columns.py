"""Columns of the records of COCO JSON, which may hold anything: what cannot be read is named in one line.

Faults that still leave something to read become notes, or are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError, listed
from posecli.types import Array

Record = dict[str, Any]
UNFIT = (TypeError, ValueError, LookupError, OverflowError)
"""What reading a value of another kind than expected raises."""


def column(
    file: Path, records: Sequence[Record], key: str, kind: Any, default: Any, thing: str = "annotation"
) -> Array:
    """One number of every record, (N,) of the numpy type `kind`; `default` where it is null or not there.

    Raises PosecliError naming the first `thing`, by its id, whose value is none.
    """

    def read(record: Record) -> Any:
        return default if (value := record.get(key)) is None else value

    try:
        return np.fromiter(map(read, records), kind, len(records))
    except UNFIT as error:
        wanted = f"{'whole ' if np.issubdtype(kind, np.integer) else ''}number"
        fault = f"has the {key} {{}}; a {wanted} is expected"
        raise unfit(file, records, lambda record: np.fromiter([read(record)], kind, 1), fault, thing, key) from error


def unfit(
    file: Path,
    records: Sequence[Record],
    read: Callable[[Record], object],
    fault: str,
    thing: str = "annotation",
    key: str = "id",
) -> PosecliError:
    """The error that names the first record that `read` fails on; `{}` in `fault` becomes its value of `key`."""
    first = next(record for record in records if not can_read(read, record))
    told = fault.format(_short(first.get(key)))
    return PosecliError(f"{file}: {thing} {_short(first['id'])} {told}; see posecli data check {file}")


def can_read(read: Callable[[Record], object], record: Record) -> bool:
    """Whether reading a record does not fail on a value of another kind."""
    try:
        read(record)
    except UNFIT:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]} …"


def fault_notes(file: Path, strict: bool, fault: str, records: Sequence[Record]) -> tuple[str, ...]:
    """A note of how many annotations have a fault and which ones; none where there are none.

    With `strict` it is raised as PosecliError.
    """
    if not records:
        return ()
    note = f"{len(records)} {fault}: annotation {listed([str(record['id']) for record in records])}"
    if strict:
        raise PosecliError(f"{file}: {note}; see posecli data check {file}")
    return (note,)
