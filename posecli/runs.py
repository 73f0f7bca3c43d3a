"""A run's folder: its name, its log, and checkpoints to resume from, each whole or not there."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from posecli.checkpoint import LATEST, Header, load_checkpoint, save_checkpoint
from posecli.console import PosecliError, RunFailed, json_text
from posecli.files import disk_errors, make_folder, write_bytes, write_text

RUNS = LATEST.parent
Record = dict[str, Any]


# --- the folder -----------------------------------------------------------------------------------------------------


def new_folder(name: str) -> Path:
    """Make the empty folder `runs/<name>-<time>`; `runs/latest` means the former one until `point_latest`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    with disk_errors(RUNS):
        make_folder(RUNS)
        for suffix in ["", *(f"-{number}" for number in range(2, 1000))]:
            folder = RUNS / f"{name}-{stamp}{suffix}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    raise PosecliError(f"cannot find a free name for {RUNS / name}-{stamp}: choose a folder with --out")


def point_latest(folder: Path) -> None:
    """Let `runs/latest` mean `folder`: a link, or where links fail a text file with its name."""
    temporary = LATEST.with_name(f".latest-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(folder.name, target_is_directory=True)
    except OSError:
        temporary.write_text(folder.name, encoding="utf-8")
    temporary.replace(LATEST)


def latest_folder() -> Path | None:
    """The folder that `runs/latest` means, where there is one."""
    if LATEST.is_file():
        named = RUNS / LATEST.read_text(encoding="utf-8").strip()
        return named if named.is_dir() else None
    return RUNS / os.readlink(LATEST) if LATEST.is_symlink() and LATEST.is_dir() else None


# --- the log --------------------------------------------------------------------------------------------------------


class Log:
    """`log.jsonl`: one record a line, of the kinds step, epoch and scores; `metrics.csv` is made from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"

    def add(self, kind: str, **values: Any) -> None:
        """Append a record; what is not finite is null there."""
        line = json_text({"kind": kind, **values})
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def records(self) -> list[Record]:
        """All records; a line that a crash cut short is left out."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        return [record for line in lines if (record := _parse(line)) is not None]

    def cut(self, step: int, scored: int) -> None:
        """Drop what was logged after the checkpoint at `step`, and scores of later epochs than `scored`."""
        kept = [
            record
            for record in self.records()
            if record.get("step", 0) <= step and not (record["kind"] == "scores" and record["epoch"] > scored)
        ]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def write_table(self) -> None:
        """Write `metrics.csv`: a row an epoch, with its scores where it was scored."""
        rows: dict[int, Record] = {}
        for record in self.records():
            if record["kind"] == "epoch":
                plain = {key: record[key] for key in ("epoch", "step", "loss", "lr", "images_per_second", "seconds")}
                rows[record["epoch"]] = rows.get(record["epoch"], {}) | plain
            elif record["kind"] == "scores":
                rows[record["epoch"]] = rows.get(record["epoch"], {}) | {"epoch": record["epoch"], **record["scores"]}
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[epoch] for epoch in sorted(rows))
        write_text(self.folder / "metrics.csv", text.getvalue())


def _parse(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "kind" in record else None


# --- checkpoints to resume from -------------------------------------------------------------------------------------


class Checkpoints:
    """Pairs of files named by their step: weights, and all else a run needs to go on as if it had never stopped.

    `last.json` names the pair to resume from. It is replaced after both files are on the disk, so that at any moment
    it names a whole pair; older pairs go after that.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / "checkpoints"
        self.pointer = self.folder / "last.json"
        self.keep = keep

    def save(self, step: int, weights: Mapping[str, Tensor], header: Header, state: Mapping[str, Any]) -> None:
        """Write the pair of `step`. Raises RunFailed when the disk is full; the pair before stays valid."""
        names = self._names(step)
        save_weights(self.folder / names["weights"], weights, header)
        stream = io.BytesIO()  # torch writes to a path itself, and says nothing useful when the disk is full
        torch.save(dict(state), stream)
        write_bytes(self.folder / names["state"], stream.getvalue())
        write_text(self.pointer, json.dumps({"step": step, **names}))
        self._drop_older(step)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and state of the last pair. Raises PosecliError when it is missing or damaged."""
        try:
            names = json.loads(self.pointer.read_text(encoding="utf-8"))
            weights, _ = load_checkpoint(self.folder / names["weights"])
            state = torch.load(self.folder / names["state"], map_location="cpu", weights_only=True)
        except PosecliError:
            raise
        except Exception as error:  # torch raises whatever the damage leads to
            raise PosecliError(f"cannot resume from {self.pointer}: {error}; start the run again") from error
        return weights, state

    def _names(self, step: int) -> dict[str, str]:
        return {"weights": f"step-{step:08d}.safetensors", "state": f"step-{step:08d}.state.pt"}

    def _drop_older(self, step: int) -> None:
        """Keep the `keep` last pairs, the pointed-to one among them; one from beyond it is of a discarded future."""
        steps = sorted({int(path.name[5:13]) for path in self.folder.glob("step-????????.*")})
        kept = {other for other in steps if other <= step}
        for old in set(steps) - set(sorted(kept)[-self.keep :]):
            for name in self._names(old).values():
                (self.folder / name).unlink(missing_ok=True)


def save_weights(path: Path, weights: Mapping[str, Tensor], header: Header) -> None:
    """Write a checkpoint to predict with. Raises RunFailed when the disk is full."""
    with _full_disk(path):
        save_checkpoint(path, weights, header)


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:  # safetensors hides the system's error in its text
        if "StorageFull" in str(error) or "code: 28" in str(error) or "os error 28" in str(error):
            raise RunFailed(f"no space left for {path}: free some and run again; nothing is lost") from error
        raise
