"""Smoother tracks: One-Euro, Savitzky-Golay and Gaussian filters over time, 2D or 3D. numpy and scipy.

A track is (T, K, D), one frame after the other, NaN where a keypoint is unknown. What is unknown stays unknown and
pulls nothing towards it: the filters see a straight line across a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from posecli.types import BoolArray, FloatArray

SmoothingName = Literal["one-euro", "savgol", "gaussian"]
HELD = 0.3
"""For how many seconds One-Euro goes on from the last known place; after a longer gap it starts anew."""


class Smoother(Protocol):
    """A filter over time."""

    def __call__(self, track: FloatArray, rate: float = 1.0) -> FloatArray:
        """The track (T, K, D) at `rate` frames a second, smoothed; NaN stays NaN."""


@dataclass(frozen=True)
class OneEuro:
    """Low pass with a cutoff that rises with the speed: steady at rest, prompt in motion; looks at the past only.

    Casiez et al., 1€ Filter, CHI 2012. Speeds are in units of the track a second, cutoffs in Hertz.
    """

    min_cutoff: float = 1.0
    beta: float = 8.0
    speed_cutoff: float = 1.0

    def __call__(self, track: FloatArray, rate: float = 1.0) -> FloatArray:
        points = np.asarray(track, np.float64)
        known = _known(points)
        smooth = points.copy()
        last, speed = np.zeros_like(points[0]), np.zeros_like(points[0])
        since = np.full_like(points[0], np.inf)  # seconds since the last known place
        for frame, place in enumerate(points):
            since = since + 1 / rate
            started = since <= max(HELD, 1 / rate)
            step = np.where(started, since, 1.0)
            now = np.where(known[frame], place, last)
            portion = _portion(self.speed_cutoff, step)
            faster = np.where(started, portion * (now - last) / step + (1 - portion) * speed, 0.0)
            portion = np.where(started, _portion(self.min_cutoff + self.beta * np.abs(faster), step), 1.0)
            smooth[frame] = np.where(known[frame], portion * now + (1 - portion) * last, np.nan)
            last, speed, since = (
                np.where(known[frame], new, old)
                for new, old in ((smooth[frame], last), (faster, speed), (np.zeros_like(since), since))
            )
        return smooth


def _portion(cutoff: float | FloatArray, step: FloatArray) -> FloatArray:
    """The new value's share in an exponential average with this cutoff in Hertz, `step` seconds after the old one."""
    ratio = 2 * np.pi * cutoff * step
    return np.asarray(ratio / (ratio + 1))


@dataclass(frozen=True)
class SavitzkyGolay:
    """A polynomial fitted to `window` frames around each one; keeps the height of short peaks."""

    window: int = 11
    degree: int = 2

    def __call__(self, track: FloatArray, rate: float = 1.0) -> FloatArray:
        from scipy.signal import savgol_filter

        filled = _lengthened(_filled(track), self.window)
        smooth = savgol_filter(filled, self.window, self.degree, axis=0)
        return _unknown_again(smooth, track)


@dataclass(frozen=True)
class Gaussian:
    """Medians over `window` frames, which take out single wild ones, then a Gaussian average; sigma in frames."""

    sigma: float = 1.5
    window: int = 5

    def __call__(self, track: FloatArray, rate: float = 1.0) -> FloatArray:
        filled = _lengthened(_filled(track), self.window)
        return _unknown_again(blurred(medians(filled, self.window), self.sigma), track)


def medians(track: FloatArray, window: int) -> FloatArray:
    """The median of an odd number of frames around each one; the ends are repeated."""
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(track, (window, 1, 1), mode="nearest"))


def blurred(track: FloatArray, sigma: float) -> FloatArray:
    """The average of the frames around each one, weighted by a Gaussian; the track is mirrored at its ends."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(track, sigma, axis=0))


def find_smoother(name: SmoothingName) -> Smoother:
    """The filter of that name, set for people filmed at 25 to 30 frames a second, in units of their own size."""
    smoothers: dict[SmoothingName, Smoother] = {
        "one-euro": OneEuro(),
        "savgol": SavitzkyGolay(),
        "gaussian": Gaussian(),
    }
    return smoothers[name]


def smooth_person(track: FloatArray, smoother: Smoother, rate: float) -> FloatArray:
    """A person's track (T, K, D) smoothed in units of the person's own size, so that pixels and mm are alike."""
    size = person_size(track)
    return np.asarray(smoother(np.asarray(track, np.float64) / size, rate) * size)


def person_size(track: FloatArray) -> float:
    """The median over frames of the longest side of the box around the known keypoints; 1 where there is none."""
    known = np.isfinite(track).all(axis=-1, keepdims=True)
    low = np.where(known, track, np.inf).min(axis=1)
    high = np.where(known, track, -np.inf).max(axis=1)
    sides = (high - low).max(axis=1)
    sides = sides[np.isfinite(sides) & (sides > 0)]
    return float(np.median(sides)) if len(sides) else 1.0


def _known(points: FloatArray) -> BoolArray:
    """Which coordinates belong to known keypoints, (T, K, D)."""
    return np.asarray(np.isfinite(points).all(axis=-1, keepdims=True) & np.ones(points.shape, bool))


def _filled(track: FloatArray) -> FloatArray:
    """The track with straight lines across its gaps, the ends held; 0 for a keypoint that is never known."""
    points = np.asarray(track, np.float64).copy()
    known = _known(points)[..., 0]  # (T, K)
    frames = np.arange(len(points))
    for joint in np.flatnonzero(~known.all(axis=0)):
        seen = known[:, joint]
        for axis in range(points.shape[2]):
            line = np.interp(frames, frames[seen], points[seen, joint, axis]) if seen.any() else 0.0
            points[:, joint, axis] = line
    return points


def _lengthened(track: FloatArray, frames: int) -> FloatArray:
    """At least so many frames: the first one is repeated."""
    missing = max(0, frames - len(track))
    return np.pad(track, ((missing, 0), (0, 0), (0, 0)), mode="edge")


def _unknown_again(smooth: FloatArray, track: FloatArray) -> FloatArray:
    """The last frames of `smooth`, as many as the track has, with its unknown keypoints."""
    return np.where(_known(track), smooth[len(smooth) - len(track) :], np.nan)
