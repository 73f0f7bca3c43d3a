"""Pictures of a run: curves over the epochs, predictions beside the truth. OpenCV only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.algorithm import Algorithm
from posecli.drawing import contact_sheet, draw_alone, side_by_side
from posecli.drawing3d import draw_views, scene_of
from posecli.files import write_bytes
from posecli.images import UnreadableImage, read_image
from posecli.overlays import encode
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, ImageArray, Prediction, Sample

Point = tuple[float, float]
Color = tuple[int, int, int]

WIDTH, HEIGHT = 1000, 280  # of one panel, pixels
LEFT, RIGHT, TOP, BOTTOM = 80, 220, 34, 40  # margins around its plot; the names of the lines stand on the right
INK: Color = (50, 50, 54)
GRID: Color = (225, 225, 228)
LINES: tuple[Color, ...] = (
    (31, 119, 180),
    (214, 90, 20),
    (44, 140, 60),
    (190, 40, 60),
    (130, 90, 180),
    (110, 80, 70),
    (200, 90, 160),
    (100, 110, 110),
)


@dataclass(frozen=True)
class Panel:
    """One plot: named lines of (epoch, value) points over one axis."""

    title: str
    lines: dict[str, list[Point]]
    logarithmic: bool = False


# --- curves ---------------------------------------------------------------------------------------------------------


def write_curves(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Draw loss, learning rate and scores of a log's records over the epochs, as one PNG."""
    panels = [panel for panel in curve_panels(records) if any(panel.lines.values())]
    if panels:
        last = max(record["epoch"] for record in records if record["kind"] in ("epoch", "scores"))
        write_image(path, np.concatenate([draw_panel(panel, float(last)) for panel in panels]))


def curve_panels(records: Sequence[dict[str, Any]]) -> list[Panel]:
    """The panels for a log: losses, learning rate, scores up to 1, and a panel for each other score."""
    epochs = [record for record in records if record["kind"] == "epoch"]
    parts = list(dict.fromkeys(name for record in epochs for name in record["losses"]))
    losses = {"loss": [(record["epoch"], record["loss"]) for record in epochs]}
    if len(parts) > 1:
        losses |= {name: [(r["epoch"], r["losses"][name]) for r in epochs if name in r["losses"]] for name in parts}
    rates = {"learning rate": [(record["epoch"], record["lr"]) for record in epochs]}
    scores: dict[str, list[Point]] = {}
    for record in records:
        for name, value in record["scores"].items() if record["kind"] == "scores" else ():
            scores.setdefault(name, []).append((record["epoch"], value))
    shares = {name: points for name, points in scores.items() if all(0 <= _number(y) <= 1 for _, y in points)}
    others = [Panel(name, {name: points}) for name, points in scores.items() if name not in shares]
    return [Panel("loss", losses, True), Panel("learning rate", rates), Panel("validation scores", shares), *others]


def _number(value: float | None) -> float:
    return 0.0 if value is None or not math.isfinite(value) else value


def draw_panel(panel: Panel, last: float) -> ImageArray:
    """One plot as RGB; its x axis goes from 0 to the epoch `last`."""
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    lines = {name: [(x, y) for x, y in points if _plottable(y, panel)] for name, points in panel.lines.items()}
    heights = [_height(y, panel) for points in lines.values() for _, y in points]
    low, high = _range(heights)
    for value in _decade_ticks(low, high) if panel.logarithmic else _ticks(low, high):
        y = _row(_height(value, panel), low, high)
        cv2.line(canvas, (LEFT, y), (WIDTH - RIGHT, y), GRID, 1)
        _write(canvas, f"{value:.3g}", (LEFT - 8, y + 4), right=True)
    for tick in _ticks(0, max(last, 1)):
        x = _column(tick, last)
        cv2.line(canvas, (x, TOP), (x, HEIGHT - BOTTOM), GRID, 1)
        _write(canvas, f"{tick:g}", (x - 4, HEIGHT - BOTTOM + 18))
    _write(canvas, "epoch", (WIDTH - RIGHT - 44, HEIGHT - 6))
    _write(canvas, panel.title, (LEFT, 20), size=0.55)
    for index, (name, points) in enumerate(lines.items()):
        color = LINES[index % len(LINES)]
        places = [(_column(x, last), _row(_height(y, panel), low, high)) for x, y in points]
        _draw_line(canvas, places, color)
        _write(canvas, _label(name, points), (WIDTH - RIGHT + 16, TOP + 10 + index * 18), color)
    return canvas


def _label(name: str, points: Sequence[Point]) -> str:
    return f"{name} {points[-1][1]:.4g}" if points else name


def _plottable(value: float | None, panel: Panel) -> bool:
    return value is not None and math.isfinite(value) and (value > 0 or not panel.logarithmic)


def _height(value: float, panel: Panel) -> float:
    return math.log10(value) if panel.logarithmic else value


def _range(heights: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value on the axis, with a little air."""
    if not heights:
        return 0.0, 1.0
    low, high = min(heights), max(heights)
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - air, high + air


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between `low` and `high`."""
    raw = (high - low) / 5
    size = 10 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _decade_ticks(low: float, high: float) -> list[float]:
    """Round numbers between 10**low and 10**high: 1, 2, 5, 10, 20 ..., or evenly spaced ones within one decade."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    within = [tick for tick in ticks if low <= math.log10(tick) <= high]
    if len(within) < 3:
        return [tick for tick in _ticks(10**low, 10**high) if tick > 0]
    return within if len(within) < 8 else [tick for tick in within if math.log10(tick) == round(math.log10(tick))]


def _row(height: float, low: float, high: float) -> int:
    return round(HEIGHT - BOTTOM - (height - low) / (high - low) * (HEIGHT - BOTTOM - TOP))


def _column(epoch: float, last: float) -> int:
    return round(LEFT + epoch / max(last, 1) * (WIDTH - LEFT - RIGHT))


def _draw_line(canvas: ImageArray, places: Sequence[tuple[int, int]], color: Color) -> None:
    if len(places) > 1:
        cv2.polylines(canvas, [np.array(places, np.int32)], False, color, 2, cv2.LINE_AA)
    for place in places if len(places) <= 40 else places[-1:]:
        cv2.circle(canvas, place, 3, color, -1, cv2.LINE_AA)


def _write(
    canvas: ImageArray,
    text: str,
    corner: tuple[int, int],
    color: Color = INK,
    *,
    size: float = 0.42,
    right: bool = False,
) -> None:
    """Text with its lower left, or right, corner at `corner`."""
    if right:
        corner = (corner[0] - cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0], corner[1])
    cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


# --- samples --------------------------------------------------------------------------------------------------------


def write_samples(
    path: Path, algorithm: Algorithm, truth: Dataset, predictions: Iterable[Prediction], count: int = 8
) -> None:
    """Draw `count` samples, spread over the data: the truth beside the prediction, and before them the 3D's input."""
    found = {prediction.id: prediction for prediction in predictions}
    wanted = [index for index in range(len(truth)) if truth.ids[index] in found]
    if not wanted:
        return
    chosen = [wanted[place] for place in np.unique(np.linspace(0, len(wanted) - 1, count).round().astype(int))]
    pairs = [(truth[index], found[truth.ids[index]]) for index in chosen]
    solid = any(prediction.people.keypoints.shape[2] == 3 for _, prediction in pairs)
    if solid and algorithm.needs == "keypoints":
        lifted = [view for pair in pairs for view in _views_in_3d(algorithm.skeleton, *pair)]
        titles = ["2D input", "truth", "prediction"] * len(pairs)
        write_image(path, contact_sheet(lifted, 3, cell=(512, 256), titles=titles))
        return
    pictures: list[ImageArray] = []
    for sample, prediction in pairs:
        try:
            image = read_image(sample.image)
        except UnreadableImage:
            continue
        drawn = [algorithm.draw(image, shown) for shown in (Prediction(sample.id, sample.people), prediction)]
        pictures += [image, *drawn] if solid else drawn
    if not pictures:
        return
    if solid:
        rows = [side_by_side(pictures[start : start + 3], 256) for start in range(0, len(pictures), 3)]
        write_image(path, contact_sheet(rows, 1, titles=["picture, truth, prediction"] * len(rows)))
        return
    titles = ["truth", "prediction"] * (len(pictures) // 2)
    write_image(path, contact_sheet(pictures, 4, cell=(256, 256), titles=titles))


def _views_in_3d(skeleton: Skeleton, sample: Sample, prediction: Prediction) -> list[ImageArray]:
    """The 2D input, the true 3D poses and the predicted ones, those from two sides and relative to their roots."""
    people = sample.people
    rows = prediction.people.extra.get("row", np.arange(len(prediction.people)))
    true = people.extra.get("keypoints_3d", people.keypoints)[rows]
    poses = [_from_root(own, skeleton) for own in (true, prediction.people.keypoints)]
    scene = scene_of(np.concatenate(poses))
    return [draw_alone(people[rows], skeleton), *(draw_views(own, skeleton, 256, scene) for own in poses)]


def _from_root(poses: FloatArray, skeleton: Skeleton) -> FloatArray:
    return poses - poses[:, list(skeleton.roots)].mean(axis=1, keepdims=True) if skeleton.roots else poses


def write_image(path: Path, image: ImageArray) -> None:
    """Write an RGB picture, whole or not at all; the suffix says the format."""
    write_bytes(path, encode(image, path.suffix))
