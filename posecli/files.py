"""Files that are whole or not there: every write goes to a neighbour first and is renamed. numpy-free."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from posecli.console import PosecliError, RunFailed


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` that takes its place when the block ends well, and vanishes when it does not.

    Raises RunFailed when the disk is full, PosecliError when the folder cannot be written.
    """
    with disk_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Make a folder to write into, and those above it. Raises PosecliError where a file is in the way."""
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            file = next(path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir())
            raise PosecliError(f"cannot write into the folder {folder}: {file} is a file; choose a folder") from error


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make the folder that the block writes into; when it is still empty at the end, it is removed again.

    Raises PosecliError where no folder can be made, before the block begins.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        for path in made:
            remove_if_empty(path)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder; one that holds anything stays."""
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(f"no space left for {path}: free some and run again; nothing is lost") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
            raise PosecliError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
        raise
