"""Pose estimation from the command line and from Python: train, evaluate, infer, convert, benchmark."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from posecli.hookspecs import hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from posecli.predictor import Predictor

try:
    __version__ = version("posecli")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0"

__all__ = ["__version__", "hookimpl", "load"]


def load(model: str | Path, device: str = "auto") -> Predictor:
    """A function from pictures to People: `posecli.load("runs/latest")(image)`, RGB uint8 (H, W, 3) or a path."""
    from posecli.predictor import load as load_predictor

    return load_predictor(model, device)
