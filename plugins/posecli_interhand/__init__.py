"""Two hands in 3D: keypoints, which hands there are, and how far apart their wrists lie in depth."""

from __future__ import annotations

from posecli import hookimpl
from posecli.config import ModelConfig


@hookimpl
def posecli_models() -> list[type[ModelConfig]]:
    return []
