"""Filters over time: the reference's numbers, and what a filter must do with gaps, noise and motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from posecli.smoothing import (
    Gaussian,
    OneEuro,
    SavitzkyGolay,
    Smoother,
    SmoothingName,
    blurred,
    find_smoother,
    medians,
    person_size,
    smooth_person,
)
from posecli.types import FloatArray

NAMES: tuple[SmoothingName, ...] = get_args(SmoothingName)


@pytest.fixture(scope="module")
def stored(golden: Path) -> dict[str, Any]:
    with np.load(golden / "functional29_metrics.npz") as held:
        return {name: held[name] for name in held.files if name.startswith(("filter/", "legacy_OneEuro"))}


@pytest.mark.parametrize(
    ("entry", "smoother", "rate"),
    [
        ("filter/savgol", SavitzkyGolay(11, 2), 1.0),
        ("filter/savgol7_3", SavitzkyGolay(7, 3), 1.0),
        ("filter/oneeuro", OneEuro(0.004, 0.7, 1.0), 1.0),
        ("filter/oneeuro2", OneEuro(1.0, 0.1, 1.0), 1.0),
        # 0.29's older filter measures speeds a frame, ours a second: beta / 30
        ("legacy_OneEuroFilter", OneEuro(1.7, 0.3 / 30, 30.0), 30.0),
    ],
)
def test_reference(stored: dict[str, Any], entry: str, smoother: Smoother, rate: float) -> None:
    """functional29_metrics.npz; the filters also on a track shorter than their window."""
    points = stored[f"{entry}/in/x"].astype(np.float64)
    expected = stored[f"{entry}/out/y"]
    tolerance = 1e-5 if entry.startswith("legacy") else 1e-9  # the older filter's state is float32
    np.testing.assert_allclose(smoother(points, rate)[-len(expected) :], expected, rtol=0, atol=tolerance)
    if f"{entry}/out/y_short_T4" in stored:
        np.testing.assert_allclose(smoother(points[:4], rate), stored[f"{entry}/out/y_short_T4"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("entry", "sigma", "window"), [("gaussian", 4.0, 11), ("gaussian5", 1.0, 5)])
def test_reference_gaussian(stored: dict[str, Any], entry: str, sigma: float, window: int) -> None:
    """The reference's medians count zeros beyond the ends, which draws poses to the corner; ours repeat the ends."""
    points = stored[f"filter/{entry}/in/x"].astype(np.float64)
    beyond = np.pad(points, ((window // 2,) * 2, (0, 0), (0, 0)))
    within = medians(beyond, window)[window // 2 : -(window // 2)]
    np.testing.assert_allclose(blurred(within, sigma), stored[f"filter/{entry}/out/y"], rtol=0, atol=1e-9)
    ends = np.concatenate([np.repeat(points[:1], 60, 0), points, np.repeat(points[-1:], 60, 0)])
    ours = Gaussian(sigma, window)(ends)[60:-60]
    far = slice(20, 21) if entry == "gaussian" else slice(8, -8)
    np.testing.assert_allclose(ours[far], stored[f"filter/{entry}/out/y"][far], rtol=0, atol=0.1)


def walk(frames: int = 90, dimensions: int = 2, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Five keypoints that swing about a moving person, and the same with noise."""
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / 30
    phases, heights = random.uniform(0, 6, (1, 5, dimensions)), np.linspace(0, 200, 5)[None, :, None]
    true = 300 + 60 * time + heights + 30 * np.sin(2 * np.pi * 0.8 * time + phases)
    return true, true + random.normal(0, 4, true.shape)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_noise_goes_and_motion_stays(name: SmoothingName, dimensions: int) -> None:
    true, noisy = walk(dimensions=dimensions)
    smooth = smooth_person(noisy, find_smoother(name), 30.0)

    def error(track: FloatArray) -> float:
        return float(np.linalg.norm(track - true, axis=-1).mean())

    def shake(track: FloatArray) -> float:
        return float(np.linalg.norm(np.diff(track, n=2, axis=0), axis=-1).mean())

    lagging = name == "one-euro"  # it sees the past only
    assert error(smooth) < (1.1 if lagging else 0.65) * error(noisy)
    assert shake(smooth) < 0.45 * shake(noisy)


@pytest.mark.parametrize("name", NAMES)
def test_a_still_person_stays_where_it_is(name: SmoothingName) -> None:
    still = np.repeat(np.random.default_rng(1).uniform(0, 100, (1, 5, 3)), 20, 0)
    np.testing.assert_allclose(find_smoother(name)(still, 25.0), still, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 2, 4, 30])
def test_gaps_stay_gaps_and_pull_nothing(name: SmoothingName, frames: int) -> None:
    """Unknown stays unknown; a keypoint's gaps change nothing about the others, and little beside them."""
    true, noisy = walk(frames)
    holes = noisy.copy()
    holes[frames // 3 : frames // 3 + 3, 2] = np.nan
    holes[:, 4, 0] = np.nan
    smooth = smooth_person(holes, find_smoother(name), 30.0) if frames > 4 else find_smoother(name)(holes, 30.0)
    assert np.isnan(smooth[frames // 3 : frames // 3 + 3, 2]).all()
    assert np.isnan(smooth[:, 4]).all()
    known = np.isfinite(holes).all(axis=-1)
    assert np.isfinite(smooth[known]).all()
    whole = find_smoother(name)(noisy, 30.0)
    np.testing.assert_allclose(find_smoother(name)(holes, 30.0)[:, :2], whole[:, :2], atol=1e-9)
    assert np.linalg.norm(smooth - true, axis=-1)[known].max() < 30


@pytest.mark.parametrize("name", NAMES)
def test_one_wild_frame(name: SmoothingName) -> None:
    """A single jump is damped by every filter, and by the medians taken out."""
    still = np.zeros((31, 1, 2))
    still[15] = 100
    left = np.abs(find_smoother(name)(still, 30.0)).max()
    assert left < (1e-9 if name == "gaussian" else 100)


def test_one_euro_starts_anew_after_a_long_gap() -> None:
    track = np.zeros((60, 1, 2))
    track[40:] = 500
    track[10:40] = np.nan
    smooth = OneEuro()(track, 30.0)
    np.testing.assert_array_equal(smooth[40:], 500)
    track[10:40] = 0
    assert OneEuro()(track, 30.0)[40].max() < 500


def test_one_euro_is_unmoved_by_the_frame_rate() -> None:
    """Cutoffs are in Hertz: twice the frames of the same motion give nearly the same track."""
    time = np.arange(120)[:, None, None] / 60
    track = np.sin(2 * np.pi * time) * np.ones((1, 1, 2))
    twice, once = OneEuro()(track, 60.0)[::2], OneEuro()(track[::2], 30.0)
    assert np.abs(twice - once).max() < 0.06


def test_size() -> None:
    track = np.zeros((3, 2, 2))
    track[:, 1] = np.array([[30, 10], [50, 10], [np.nan, 10]])
    assert person_size(track) == 40
    assert person_size(np.full((3, 2, 2), np.nan)) == 1
