"""How training windows are varied. A config, so torch-free and numpy-free; transform.py does what it says."""

from __future__ import annotations

from pydantic import Field

from posecli.config import Config, Fraction


class MotionAugmentation(Config):
    """How much a training window is varied; 0 turns a part off.

    `camera` needs true 3D poses and cameras: it is the way to learn from few views what many would show.
    """

    flip: Fraction = Field(0.5, description="probability of mirroring; never done when flip pairs are unknown")
    camera: Fraction = Field(0.0, description="probability of seeing the window from another camera")
    turn: float = Field(180.0, ge=0, le=180, description="farthest that camera goes around the person, degrees")
    tilt: float = Field(5.0, ge=0, le=45, description="farthest it goes up or down, degrees")
    distance: tuple[float, float] = Field((0.9, 1.2), description="range of its distance, 1 = as it was")
    noise: float = Field(0.0, ge=0, description="normal error added to the 2D keypoints, pixels")
    missing: Fraction = Field(0.0, description="share of the 2D keypoints made unknown")
