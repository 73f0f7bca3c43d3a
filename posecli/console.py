"""The only module that prints: results on standard output, everything else on standard error, errors in one line."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

WRONG_INPUT = 2
FAULTS_FOUND = 1
STOPPED = 130


class PosecliError(ValueError):
    """Something the user can put right: one line saying what was looked for, where, and what to do. Exit code 2."""

    exit_code = WRONG_INPUT


class RunFailed(PosecliError):
    """The input was right and the run failed all the same: a non-finite loss, a full disk. Exit code 1."""

    exit_code = FAULTS_FOUND


@dataclass
class Output:
    """How this process talks: set once by the command line, never by libraries."""

    quiet: bool = False  # no notes and no progress
    debug: bool = False  # tracebacks


output = Output()


def interactive() -> bool:
    """Whether a person is watching standard error: progress is drawn only then."""
    return sys.stderr.isatty() and not output.quiet


def note(message: str) -> None:
    """Tell the user something on standard error, one line."""
    if not output.quiet:
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Tell the user of something that may be wrong, on standard error, also when quiet."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result on standard output. Leaves with code 0 when the reader has gone, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # the interpreter flushes once more at the end; that must not meet the broken pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output, and nothing else there."""
    show(json_text(value, indent=2))


def json_text(value: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON that every parser reads: NaN and infinities become null, arrays lists, and all else text."""
    return json.dumps(_finite(value), indent=indent, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def few(values: Sequence[object], limit: int = 5) -> str:
    """The first of some values, for a message: `'a', 'b' ...`; `none` when there are none."""
    return listed([repr(value) for value in values], limit) or "none"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """The first of some names, for a message: `a, b, c ...`."""
    return ", ".join(names[:limit]) + (" ..." if len(names) > limit else "")


def counted(number: int, thing: str, things: str = "") -> str:
    """`1 picture`, `2 pictures`; `things` where the plural is not made with an s."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table on standard output; plain columns when it is not a terminal."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        drawn = Table(*columns, title=title, title_justify="left")
        for row in cells:
            drawn.add_row(*row)
        Console().print(drawn)
        return
    if title:
        show(title)
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        show("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress(total: int | None, label: str, unit: str = "it") -> Iterator[Any]:
    """A progress bar on standard error (tqdm: `update(n)`, `set_postfix_str(text)`); silent when nobody watches."""
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, file=sys.stderr, disable=not interactive(), leave=False) as bar:
        yield bar


def fail(error: BaseException) -> NoReturn:
    """Print one line for `error`, with --debug its traceback before, and leave with its exit code."""
    if output.debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        stop()
    code, message = _explain(error)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


def stop() -> NoReturn:
    """Say that the user stopped the command, and leave."""
    print("stopped", file=sys.stderr)
    raise SystemExit(STOPPED)


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for an error."""
    message = " ".join(str(error).split())
    if isinstance(error, PosecliError):
        return error.exit_code, message
    if (
        isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)
        and error.filename
    ):
        return WRONG_INPUT, f"{error.filename}: {error.strerror}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        wanted = re.search(r"Tried to allocate ([\d.]+ \w+)", message)
        return FAULTS_FOUND, (
            f"the GPU has too little memory left{f' for another {wanted[1]}' if wanted else ''}: train in smaller "
            "batches by --set train.batch_size=N, predict by --batch-size N, or choose another --device"
        )
    hint = "" if output.debug else " (run with --debug before the command for the traceback)"
    return FAULTS_FOUND, f"{type(error).__name__}: {message}{hint}"
