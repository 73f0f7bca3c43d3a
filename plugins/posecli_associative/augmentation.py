"""How scenes are varied in training. A config, so torch-free and numpy-free; transform.py does what it says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from posecli.augmentation import Appearance, Factor
from posecli.config import Fraction


class SceneAugmentation(Appearance):
    """How much a training scene is varied; the defaults are those of the reference's bottom-up recipes."""

    flip: Fraction = Field(0.5, description="probability of mirroring; never done when flip pairs are unknown")
    rotate: float = Field(30.0, ge=0, le=180, description="largest rotation in degrees")
    scale: tuple[Factor, Factor] = Field(
        (0.75, 1.5), description="range of the part's size; above 1 people are smaller"
    )
    shift: Fraction = Field(0.2, description="largest shift along each axis, a fraction of the part's size")
    side: Literal["short", "long"] = Field(
        "short", description="which side of the part fills the input: short cuts the longer off, long leaves a border"
    )
