"""Several heads on one backbone, each with its own targets, loss and decoding."""

from __future__ import annotations

from posecli import hookimpl
from posecli.config import ModelConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return []
