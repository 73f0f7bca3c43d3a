"""Body meshes: shape and pose of a parametric body from a picture."""

from __future__ import annotations

from posecli import hookimpl
from posecli.config import ModelConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return []
