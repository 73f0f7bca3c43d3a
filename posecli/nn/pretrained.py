"""Published weights: downloaded only when asked, checked by the hash in their name, read as weights only."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from posecli.console import PosecliError, interactive, note

_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # resnet50-0676ba61.pth: the first digits of the file's SHA-256
CLASSIFIERS = ("fc.", "classifier.", "heads.")


def load_published(network: nn.Module, url: str, leave_out: Sequence[str] = CLASSIFIERS) -> None:
    """Load the weights at `url`, all but the layers whose names begin with one of `leave_out`.

    Raises PosecliError when the file cannot be had or does not fit.
    """
    state = published_weights(url)
    kept = {name: value for name, value in state.items() if not name.startswith(tuple(leave_out))}
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        raise PosecliError(f"the weights of {url} do not fit this network: {error}") from error


def published_weights(url: str) -> dict[str, Tensor]:
    """The state dict at `url`, from the local copy if there is one. Raises PosecliError; never runs code in a file."""
    path = download(url)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a wrong file may raise, the user hears one thing
        raise PosecliError(f"{path} does not hold plain weights ({type(error).__name__}): delete it") from error
    return state


def download(url: str) -> Path:
    """The local copy of `url`, downloaded when it is not there yet; its hash is checked either way.

    Raises PosecliError naming the address, the file and the folder to put it in.
    """
    name = Path(urlsplit(url).path).name
    match = _HASH.search(name)
    if match is None:
        raise PosecliError(f"{url} is published without a hash, so it is not downloaded; start from a file with --init")
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        note(f"downloading {url} to {path}")
        _fetch(url, path)
    if not _digest(path).startswith(match.group(1)):
        raise PosecliError(f"{path} is damaged: its SHA-256 does not begin with {match.group(1)}; delete it, try again")
    return path


def _fetch(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        try:
            torch.hub.download_url_to_file(url, str(partial), progress=interactive())
        except OSError as error:  # no network, no such host, refused, 404: all are OSErrors
            reason = getattr(error, "reason", error)
            raise PosecliError(
                f"cannot download {url} ({reason}): get the file {path.name} elsewhere and put it into {path.parent}"
            ) from error
        partial.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
