"""How training pictures are varied. Configs, so torch-free and numpy-free; transforms do what they say."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from posecli.config import Config, Fraction, Positive

Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Appearance(Config):
    """How much the look of a training picture is varied; a probability of 0 turns a part off."""

    color: Fraction = Field(0.0, description="probability of varying brightness, contrast, saturation and hue")
    brightness: float = Field(32.0, ge=0, description="largest change in grey levels")
    contrast: Fraction = Field(0.5, description="largest relative change")
    saturation: Fraction = Field(0.5, description="largest relative change")
    hue: float = Field(18.0, ge=0, description="largest turn in degrees")
    cutout: Fraction = Field(0.0, description="probability of covering a rectangle")
    cutout_size: tuple[float, float] = Field((0.1, 0.4), description="sides of the rectangle, fractions of the input")


class Augmentation(Appearance):
    """How much the crop of one person is varied; a probability of 0 turns a part off.

    The defaults are those of the reference's 2D body recipes.
    """

    flip: Fraction = Field(0.5, description="probability of mirroring; never done when flip pairs are unknown")
    half_body: Fraction = Field(0.3, description="probability of showing only the upper or the lower body")
    half_body_points: Positive = Field(9, description="labelled keypoints a person must have for it")
    shift: Fraction = Field(0.16, description="largest shift as a fraction of the padded box")
    shift_probability: Fraction = Field(0.3, description="probability of shifting")
    scale: tuple[Factor, Factor] = Field((0.5, 1.5), description="range of the box's scale")
    rotate: float = Field(80.0, ge=0, le=180, description="largest rotation in degrees")
    rotate_probability: Fraction = Field(0.6, description="probability of rotating")
