"""Trained models in one file: safetensors, with all that is needed to use them written in its header."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from posecli.config import Experiment, ModelConfig, dump
from posecli.console import PosecliError, listed
from posecli.files import atomic_path
from posecli.plugins import catalog
from posecli.skeleton import Skeleton

if TYPE_CHECKING:
    from posecli.algorithm import Algorithm

KEY = "posecli"  # of the header among the file's metadata
SCHEMA = 1
LATEST = Path("runs", "latest")
BEST = "best.safetensors"


@dataclass
class Header:
    """What a checkpoint says about itself."""

    experiment: dict[str, Any]  # the whole config, as `config.dump` gives it
    skeleton: dict[str, Any]  # as `Skeleton.to_dict` gives it
    scores: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    command: str = ""  # the command line that made it
    versions: dict[str, str] = field(default_factory=dict)  # posecli, torch, plugins ...; `current_versions()`


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor when a model starts from a checkpoint."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the model only: started fresh
    unexpected: tuple[str, ...]  # in the checkpoint only: left out
    mismatched: tuple[str, ...]  # in both with different shapes: started fresh

    @property
    def fresh(self) -> tuple[str, ...]:
        """Tensors of the model that were not loaded."""
        return (*self.mismatched, *self.missing)

    def summary(self) -> str:
        """One line for the user: how much was loaded, and the first names of what was not."""
        loaded = f"{len(self.matched)} of {len(self.matched) + len(self.fresh)} tensors loaded"
        started = f"; {_counted('started fresh', self.fresh)}" if self.fresh else ""
        unused = f"; {_counted('not used', self.unexpected)}" if self.unexpected else ""
        return loaded + started + unused

    def listing(self) -> str:
        """Every tensor and what became of it, a line each."""
        kinds = {
            "loaded": self.matched,
            "started fresh, other shape": self.mismatched,
            "started fresh, not in the checkpoint": self.missing,
            "not used, not in the model": self.unexpected,
        }
        return "".join(f"{name}  {kind}\n" for kind, names in kinds.items() for name in names)


def _counted(what: str, names: tuple[str, ...]) -> str:
    return f"{len(names)} {what}: {listed(names)}"


# --- writing and reading --------------------------------------------------------------------------------------------


def save_checkpoint(path: Path, state: Mapping[str, Tensor], header: Header) -> None:
    """Write weights and header as one safetensors file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    text = json.dumps({"schema": SCHEMA, **dataclasses.asdict(header)}, sort_keys=True)
    with atomic_path(Path(path)) as temporary:
        save_file(tensors, temporary, metadata={KEY: text})


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Header]:
    """Weights on the CPU and header. Raises PosecliError for a truncated file, a foreign one, or a pickle."""
    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as stream:
            header = _header(path, stream.metadata() or {})
            return {name: stream.get_tensor(name) for name in stream.keys()}, header  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_header(path: Path) -> Header:
    """The header alone, without reading the weights. Raises as `load_checkpoint` does."""
    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as stream:
            return _header(path, stream.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> PosecliError:
    if isinstance(error, PosecliError):
        return error
    return PosecliError(f"cannot read the checkpoint {path}: truncated or not a safetensors file ({error})")


def _header(path: Path, information: Mapping[str, str]) -> Header:
    if KEY not in information:
        raise PosecliError(f"{path} is a safetensors file, but not a checkpoint of posecli: it has no posecli header")
    fields = json.loads(information[KEY])
    if fields.pop("schema", None) != SCHEMA:
        raise PosecliError(f"{path} was written by another version of posecli, with a header this one cannot read")
    known = {item.name for item in dataclasses.fields(Header)}
    if not {"experiment", "skeleton"} <= set(fields) <= known:
        raise PosecliError(f"{path}: the posecli header is damaged; make the checkpoint again")
    return Header(**fields)


def _refuse_pickle(path: Path) -> None:
    """A torch checkpoint is a pickle, and a pickle may hold code: it is never opened where weights are expected."""
    if not path.is_file():
        raise PosecliError(f"no checkpoint {path}: no such file")
    with path.open("rb") as stream:
        start = stream.read(4)
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        raise _pickle_error(path)


def _pickle_error(path: Path) -> PosecliError:
    return PosecliError(
        f"{path} is a pickled torch checkpoint, which may hold code, and was not opened: "
        f"bring its weights over with `posecli import mmpose {path} --config CONFIG OUT`"
    )


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def count_parameters(path: Path) -> int:
    """How many numbers a checkpoint's weights are, statistics of normalisation layers left out; reads shapes only."""
    with safe_open(path, framework="pt") as stream:
        names = [name for name in stream.keys() if not name.endswith(STATISTICS)]  # noqa: SIM118  # not a mapping
        return sum(math.prod(stream.get_slice(name).get_shape()) for name in names)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def current_command() -> str:
    """The command line of this process, as headers of checkpoints and results keep it."""
    return shlex.join(["posecli", *sys.argv[1:]])


def current_versions() -> dict[str, str]:
    """Versions of Python, posecli, what it stands on, and every third-party plugin that is loaded."""
    names = ["posecli", "torch", "torchvision", "numpy", "opencv-python"]
    names += [plugin.distribution for plugin in catalog().plugins if plugin.status == "ok"]
    versions = {"python": platform.python_version()}
    for name in dict.fromkeys(names):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


# --- finding and opening --------------------------------------------------------------------------------------------


def resolve_model(name: str | Path) -> Path:
    """The checkpoint that a run folder, `runs/latest` or a file name stands for.

    Raises PosecliError saying what was looked for and where.
    """
    path = Path(name)
    if path == LATEST and path.is_file():  # a system without links: the file holds the run's name
        path = path.with_name(path.read_text(encoding="utf-8").strip())
    if path.is_dir():
        if (path / BEST).is_file():
            return path / BEST
        raise PosecliError(
            f"no trained model in {path}: it has no {BEST}; train first, or name another run with --model"
        )
    if path.suffix in {".pth", ".pt", ".pkl", ".ckpt"} and path.is_file():
        raise _pickle_error(path)
    if path.is_file():
        return path
    if path == LATEST:
        raise PosecliError(
            f"no model: {path} does not exist here; train first, or name a run or checkpoint with --model"
        )
    raise PosecliError(f"no model {path}: no run folder and no .safetensors file of that name")


def open_model(name: str | Path, device: torch.device | str = "cpu") -> tuple[Algorithm, Experiment, Header]:
    """The trained algorithm in evaluation mode, the experiment it comes from, and the checkpoint's header.

    Raises PosecliError when the file is unreadable, a plugin it needs is missing, or the weights do not fit.
    """
    path = resolve_model(name)
    state, header = load_checkpoint(path)
    experiment = _experiment(path, header)
    algorithm = experiment.model.build(Skeleton.from_dict(header.skeleton))
    try:
        algorithm.load_state_dict(state)
    except RuntimeError as error:
        raise PosecliError(f"the weights in {path} do not fit the model its header describes: {error}") from error
    return algorithm.to(device).eval(), experiment, header


def _experiment(path: Path, header: Header) -> Experiment:
    fields = {**header.experiment, "model": without_downloads(header.experiment.get("model", {}))}
    try:
        return Experiment.model_validate(fields)
    except (ValidationError, PosecliError) as error:
        made = ", ".join(f"{name} {version}" for name, version in header.versions.items())
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = reason.removeprefix("Value error, ")
        raise PosecliError(f"{path} needs something that is not installed here: {reason} (made with {made})") from error


def without_downloads(fields: Any) -> Any:
    """The same config fields with every `pretrained` off: the weights come from a checkpoint anyway."""
    if isinstance(fields, Mapping):
        return {key: False if key == "pretrained" else without_downloads(value) for key, value in fields.items()}
    if isinstance(fields, list | tuple):
        return [without_downloads(value) for value in fields]
    return fields


def model_without_downloads(model: ModelConfig) -> ModelConfig:
    """The same model without published weights."""
    fields = dump(model)
    return model if without_downloads(fields) == fields else ModelConfig.model_validate(without_downloads(fields))


def initialise(model: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Load into `model` whatever fits by name and shape; the rest keeps its fresh values and is reported.

    Raises PosecliError when nothing fits.
    """
    own = model.state_dict()
    shared = [name for name in own if name in state]
    matched = tuple(name for name in shared if own[name].shape == state[name].shape)
    if not matched:
        raise PosecliError("nothing in the checkpoint fits this model by name and shape: is it another algorithm?")
    model.load_state_dict({name: state[name] for name in matched}, strict=False)
    return LoadReport(
        matched,
        tuple(name for name in own if name not in state),
        tuple(name for name in state if name not in own),
        tuple(name for name in shared if own[name].shape != state[name].shape),
    )
