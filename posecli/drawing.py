"""Skeletons over pictures, and pictures beside each other: RGB uint8 (H, W, 3), in and out."""

from __future__ import annotations

import colorsys
import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from posecli.skeleton import Skeleton
from posecli.types import BoolArray, FloatArray, ImageArray, IntArray, People

Color = tuple[int, int, int]

LEFT: Color = (0, 255, 0)  # as in the skeletons that come with colours
RIGHT: Color = (255, 128, 0)
CENTER: Color = (51, 153, 255)
OUTLINE: Color = (24, 24, 28)
PAPER: Color = (245, 245, 245)
SHADE: Color = (225, 60, 60)
INK: Color = (40, 40, 44)

SHIFT = 4
"""OpenCV takes coordinates in 1/16 pixel."""
_FAR = 1e6  # pixels; beyond it, fixed-point coordinates would overflow, and nothing could be seen anyway
_DIM = 0.4  # opacity of occluded points
_RIGHT_NAME = re.compile(r"(?<![a-z])(right|r)(?![a-z])|^right|right$", re.IGNORECASE)


def draw_people(image: ImageArray, people: People, skeleton: Skeleton, threshold: float = 0.3) -> ImageArray:
    """A copy of the picture with links and joints of all people.

    Points that are unknown or score below `threshold` are left out, with their links. In ground truth (people without
    instance scores) occluded points, visibility 1, are dimmed. Colours are the skeleton's own, else one for left, right
    and centre when its mirror pairs are known, else a hue for each keypoint. Predicted people with a track_id have
    links in a colour of their own, and the number above them. Raises ValueError for 3D keypoints and for another number
    of keypoints than the skeleton has.
    """
    if people.keypoints.shape[1:] != (len(skeleton), 2):
        raise ValueError(
            f"draw_people draws {len(skeleton)} keypoints in image pixels, got keypoints of shape "
            f"{people.keypoints.shape}"
        )
    canvas = np.ascontiguousarray(image).copy()
    styles = _styles(people, skeleton)
    shown = people.labelled & (people.scores >= threshold) & (np.abs(people.keypoints) < _FAR).all(axis=-1)
    dimmed = shown & (people.scores == 1) if people.instance_scores is None else np.zeros_like(shown)
    figures = [
        _Figure.of(points, visible, style, image.shape)
        for points, visible, style in zip(people.keypoints, shown, styles, strict=True)
    ]
    if dimmed.any():
        faint = canvas.copy()
        for figure, visible, dim in zip(figures, shown, dimmed, strict=True):
            figure.draw(faint, visible, dim)
        canvas = np.asarray(cv2.addWeighted(faint, _DIM, canvas, 1 - _DIM, 0), np.uint8)
    for figure, visible, dim in zip(figures, shown, dimmed, strict=True):
        figure.draw(canvas, visible & ~dim, visible & ~dim)
    for figure, visible in zip(figures, shown, strict=True):
        figure.name(canvas, visible)
    return canvas


def _styles(people: People, skeleton: Skeleton) -> list[_Style]:
    """How each person is drawn, (N,)."""
    plain = _Style(skeleton.links, keypoint_colors(skeleton), link_colors(skeleton))
    if "track_id" not in people.extra or people.instance_scores is None:
        return [plain] * len(people)
    return [
        dataclasses.replace(plain, link_colors=(instance_color(track),) * len(skeleton.links), name=str(track))
        for track in people.extra["track_id"].tolist()
    ]


def keypoint_colors(skeleton: Skeleton) -> tuple[Color, ...]:
    """One RGB colour for each keypoint, (K,)."""
    if skeleton.colors is not None:
        return skeleton.colors
    if not skeleton.flip_pairs:
        return tuple(instance_color(index) for index in range(len(skeleton)))
    colors = [CENTER] * len(skeleton)
    for first, second in skeleton.flip_pairs:
        if _RIGHT_NAME.search(skeleton.names[first]):
            first, second = second, first
        colors[first], colors[second] = LEFT, RIGHT
    return tuple(colors)


def link_colors(skeleton: Skeleton) -> tuple[Color, ...]:
    """One RGB colour for each link: that of its side when one end is central, else that of its second end.

    Links across the body, from left to right, are central.
    """
    colors = keypoint_colors(skeleton)
    side = dict.fromkeys(range(len(skeleton)), 0)
    for first, second in skeleton.flip_pairs or ():
        side[first], side[second] = 1, -1
    chosen = []
    for first, second in skeleton.links:
        if side[first] * side[second] < 0:
            chosen.append(CENTER if skeleton.colors is None else _mean(colors[first], colors[second]))
        else:
            chosen.append(colors[second] if side[second] or not side[first] else colors[first])
    return tuple(chosen)


def _mean(first: Color, second: Color) -> Color:
    red, green, blue = ((one + other) // 2 for one, other in zip(first, second, strict=True))
    return red, green, blue


def instance_color(index: int) -> Color:
    """The RGB colour of the index-th thing: hues by the golden ratio, so that neighbours always differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.06 + index * 0.618034) % 1, 0.78, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


@dataclass(frozen=True)
class _Style:
    """What is joined, and in which colours."""

    links: tuple[tuple[int, int], ...]
    colors: tuple[Color, ...]  # (K,)
    link_colors: tuple[Color, ...]  # one a link
    name: str = ""  # written above the person


@dataclass(frozen=True)
class _Figure:
    """How one person is drawn: where its joints lie, and how thick, in pixels."""

    points: FloatArray  # (K, 2)
    radii: FloatArray  # (K,)
    width: float
    style: _Style

    @classmethod
    def of(cls, points: FloatArray, visible: BoolArray, style: _Style, shape: tuple[int, ...]) -> _Figure:
        width = min(_line_width(shape), max(1.0, _extent(points[visible]) / 45))
        return cls(points, _radii(points, visible, width), width, style)

    def draw(self, canvas: ImageArray, ends: BoolArray, joints: BoolArray) -> None:
        """Draw, in place, links whose two ends are in `ends`, and the `joints`. Dark edges first, colours over them."""
        pairs = zip(self.style.links, self.style.link_colors, strict=True)
        links = [(first, second, color) for (first, second), color in pairs if ends[first] and ends[second]]
        edge = max(1.0, self.width / 3)
        for first, second, _ in links:
            thickness = self._thickness(first, second) + edge
            _line(canvas, self.points[first], self.points[second], OUTLINE, thickness)
        for first, second, color in links:
            _line(canvas, self.points[first], self.points[second], color, self._thickness(first, second))
        for index in np.flatnonzero(joints):
            _disc(canvas, self.points[index], self.radii[index] + edge / 2, OUTLINE)
            _disc(canvas, self.points[index], self.radii[index], self.style.colors[index])

    def name(self, canvas: ImageArray, visible: BoolArray) -> None:
        """Write the name, in place, above the person."""
        points = self.points[visible]
        if not self.style.name or not len(points):
            return
        scale = 0.22 * _line_width(canvas.shape) + 0.2
        corner = round(float(points[:, 0].mean() - 10 * scale)), round(float(points[:, 1].min() - 14 * scale))
        color = self.style.link_colors[0] if self.style.link_colors else CENTER
        for thickness, paint in ((3, OUTLINE), (1, color)):
            cv2.putText(canvas, self.style.name, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, paint, thickness, cv2.LINE_AA)

    def _thickness(self, first: int, second: int) -> float:
        return float(min(self.width, max(1.0, self.radii[first], self.radii[second])))


def _line_width(shape: tuple[int, ...]) -> float:
    """The widest line that suits a picture of `shape` (H, W, ...): 2 pixels at 480, 5 at 1080."""
    return max(1.0, math.hypot(shape[0], shape[1]) / 320)


def _extent(points: FloatArray) -> float:
    """The longer side of the box around points (P, 2); 0 without any."""
    return float(np.ptp(points, axis=0).max()) if len(points) else 0.0


def _radii(points: FloatArray, visible: BoolArray, width: float) -> FloatArray:
    """Radii (K,): joints close together, as in a hand or a face, are drawn smaller, so that they stay apart."""
    known = np.where(visible[:, None], points, np.nan).astype(np.float64)
    distances = np.linalg.norm(known[:, None] - known[None], axis=-1)  # (K, K)
    distances[~np.isfinite(distances)] = np.inf
    np.fill_diagonal(distances, np.inf)
    largest = width * 1.3 + 0.5
    return np.asarray(np.clip(distances.min(axis=1) * 0.4, max(0.8, largest * 0.35), largest))


def fixed(point: FloatArray) -> tuple[int, int]:
    """A point (2,) in pixels as OpenCV's whole numbers, for `shift=SHIFT`."""
    return round(float(point[0]) * (1 << SHIFT)), round(float(point[1]) * (1 << SHIFT))


def _line(canvas: ImageArray, start: FloatArray, end: FloatArray, color: Color, thickness: float) -> None:
    cv2.line(canvas, fixed(start), fixed(end), color, max(1, round(thickness)), cv2.LINE_AA, SHIFT)


def _disc(canvas: ImageArray, center: FloatArray, radius: float, color: Color) -> None:
    cv2.circle(canvas, fixed(center), round(radius * (1 << SHIFT)), color, cv2.FILLED, cv2.LINE_AA, SHIFT)


def draw_outline(canvas: ImageArray, polygon: FloatArray, color: Color) -> None:
    """Draw, in place, the outline of a polygon (P, 2) in pixels; one that is unknown or far off is left out."""
    if _can_be_drawn(polygon):
        thickness = max(1, round(_line_width(canvas.shape) * 0.6))
        cv2.polylines(canvas, [_fixed_all(polygon)], True, color, thickness, cv2.LINE_AA, SHIFT)


def shade(canvas: ImageArray, polygons: Sequence[FloatArray]) -> None:
    """Darken, in place, what polygons (P, 2) in pixels cover, and stripe it; those unknown or far off are left out."""
    mask = np.zeros(canvas.shape[:2], np.uint8)
    for polygon in polygons:
        if _can_be_drawn(polygon):
            cv2.fillPoly(mask, [_fixed_all(polygon)], 1, cv2.LINE_8, SHIFT)
    period = max(6, round(6 * _line_width(canvas.shape)))
    across, down = np.arange(canvas.shape[1]), np.arange(canvas.shape[0])
    stripe = (across[None] + down[:, None]) % period < period / 4
    covered = mask > 0
    canvas[covered] = canvas[covered] // 2
    canvas[covered & stripe] = SHADE


def _can_be_drawn(polygon: FloatArray) -> bool:
    return len(polygon) > 0 and bool(np.isfinite(polygon).all() and (np.abs(polygon) < _FAR).all())


def _fixed_all(points: FloatArray) -> IntArray:
    """Points (P, 2) in pixels as OpenCV's whole numbers, for `shift=SHIFT`."""
    return np.rint(points * (1 << SHIFT)).astype(np.int32)


def draw_alone(people: People, skeleton: Skeleton, side: int = 256) -> ImageArray:
    """2D people on paper, (side, side, 3), as large as it allows, all keypoints alike."""
    points = people.keypoints[..., :2]
    known = points[people.labelled]
    low, high = (known.min(axis=0), known.max(axis=0)) if len(known) else (np.zeros(2), np.ones(2))
    scale = 0.82 * side / max(float((high - low).max()), 1e-6)
    places = np.where(people.labelled[..., None], (points - (low + high) / 2) * scale + side / 2, np.nan)
    shown = People(places, people.labelled.astype(np.float32), instance_scores=np.ones(len(places), np.float32))
    return draw_people(np.full((side, side, 3), PAPER, np.uint8), shown, skeleton)


def enlarge(image: ImageArray, least: int) -> tuple[ImageArray, int]:
    """The picture a whole number of times as large, so that its height is `least` pixels or more; and that number.

    Pixel (x, y) becomes the pixels around ((x + 0.5) times - 0.5, (y + 0.5) times - 0.5).
    """
    times = max(1, math.ceil(least / max(1, image.shape[0])))
    if times == 1:
        return image, 1
    size = (image.shape[1] * times, image.shape[0] * times)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8), times


def contact_sheet(
    images: Sequence[ImageArray],
    columns: int,
    cell: tuple[int, int] | None = None,
    titles: Sequence[str] = (),
    gap: int = 6,
    background: Color = PAPER,
) -> ImageArray:
    """Pictures in a grid of equal cells, row by row, each as large as its cell allows, in its own shape, centred.

    `cell` is the cells' (width, height), by default that of the largest picture; `titles` stand below the pictures.
    Raises ValueError without pictures.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    if cell is None:
        cell = (max(image.shape[1] for image in images), max(image.shape[0] for image in images))
    width, height = cell
    caption = max(18, min(30, width // 14)) if any(titles) else 0
    columns = max(1, min(columns, len(images)))
    rows = math.ceil(len(images) / columns)
    shape = (rows * (height + caption + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, background, np.uint8)
    for index, image in enumerate(images):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + caption + gap)
        fitted = fit(image, cell)
        y, x = top + (height - fitted.shape[0]) // 2, left + (width - fitted.shape[1]) // 2
        sheet[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
        if index < len(titles):
            _caption(sheet, titles[index], (left, top + height), (width, caption))
    return sheet


def side_by_side(images: Sequence[ImageArray], height: int, gap: int = 6) -> ImageArray:
    """Pictures in one row, each as wide as it is once all are brought to one height. Raises ValueError without any."""
    if not images:
        raise ValueError("side_by_side needs at least one picture")
    between = np.full((height, gap, 3), PAPER, np.uint8)
    fitted = [fit(image, (image.shape[1] * height, height)) for image in images]
    return np.concatenate([part for image in fitted for part in (image, between)][:-1], axis=1)


def fit(image: ImageArray, cell: tuple[int, int]) -> ImageArray:
    """The picture scaled to fit a cell (width, height); unchanged where it already does."""
    ratio = min(cell[0] / image.shape[1], cell[1] / image.shape[0])
    size = max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio))
    if size == (image.shape[1], image.shape[0]):
        return image
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _caption(sheet: ImageArray, text: str, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Write a line in place, centred in the rectangle at `corner` (x, y) of `size` (width, height)."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size[1] / 42
    (width, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1.0, size[0] / max(width, 1))
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    origin = corner[0] + (size[0] - width) // 2, corner[1] + (size[1] + height) // 2
    cv2.putText(sheet, text, origin, font, scale, INK, 1, cv2.LINE_AA)
