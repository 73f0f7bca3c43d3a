"""Peaks of heatmaps, and where between cells they lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from posecli.console import PosecliError
from posecli_associative.squares import AREA, SIDE, highest, inside, padded, unpadded, where

BLUR = ((0, 0, 4), (-1, 0, 2), (1, 0, 2), (0, -1, 2), (0, 1, 2), (-1, -1, 1), (1, -1, 1), (-1, 1, 1), (1, 1, 1))
"""OpenCV's Gaussian of 3×3 cells: right, down, sixteenths."""
STENCIL = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1))
"""The cells a Newton step looks at: right, down."""


@dataclass(frozen=True)
class Peaks:
    """The C highest peaks of each map, in descending order; where there are fewer, values are 0."""

    values: Tensor  # (B, K, C)
    cells: Tensor  # (B, K, C) row * width + column
    tags: Tensor  # (B, K, C, L)
    tops: Tensor  # (B K, h, w) the highest value in each square of the maps, see `squares`


def find_peaks(heatmaps: Tensor, tags: Tensor, count: int, reach: int, threshold: float) -> Peaks:
    """The `count` highest cells above `threshold` that nothing within `reach` rows and columns exceeds.

    Heatmaps (B, K, H, W) and tags (B, K, H, W, L). Of equal peaks the first in reading order comes first. `reach` is
    at most SIDE. Raises PosecliError where a value is not finite.
    """
    batch, joints, height, width = heatmaps.shape
    maps = padded(heatmaps.reshape(-1, height, width), -torch.inf)
    tops = highest(maps)
    check_finite(tops[:, : -(-height // SIDE), : -(-width // SIDE)])  # beyond, there is nothing
    index = _peak_cells(maps, tops, count, reach, threshold)
    value = maps.reshape(-1).index_select(0, index)
    number = torch.div(index, maps[0].numel(), rounding_mode="floor")
    cell = unpadded(index % maps[0].numel(), maps.shape[-1], width)
    order = _ranked(number, cell, value)
    number, cell, value = number[order], cell[order], value[order]
    first = torch.searchsorted(number, torch.arange(len(maps), device=maps.device))
    rank = torch.arange(len(number), device=maps.device) - first[number]
    kept = rank < count
    at = number[kept], rank[kept]
    values, cells = maps.new_zeros(len(maps), count), number.new_zeros(len(maps), count)
    values[at], cells[at] = value[kept], cell[kept]
    found = tags.flatten(0, 1).flatten(1, 2).gather(1, cells[..., None].expand(-1, -1, tags.shape[-1]))
    check_finite(found)
    shape = batch, joints, count
    return Peaks(values.view(shape), cells.view(shape), found.view(*shape, -1), tops)


def _ranked(number: Tensor, cell: Tensor, value: Tensor) -> Tensor:
    """The order of peaks (M,): map by map, the highest first, equal ones as they are read."""
    order = cell.argsort(stable=True)
    order = order[value[order].argsort(descending=True, stable=True)]
    return order[number[order].argsort(stable=True)]


def _peak_cells(maps: Tensor, tops: Tensor, count: int, reach: int, threshold: float) -> Tensor:
    """The cells (M,) of maps (N, h, w), flattened, that are peaks and may be among the `count` highest of their map.

    Only squares are looked into whose highest cell, of `tops`, reaches what `count` peaks are known to reach.
    """
    height, width = maps.shape[-2:]
    least = torch.nextafter(maps.new_tensor(threshold), maps.new_tensor(torch.inf))
    floor = _known_peak(tops, count).maximum(least)  # (N,): what is as high is above the threshold
    square = where(tops >= floor[:, None, None])
    across = width // SIDE
    strip = torch.div(square, across, rounding_mode="floor")  # (S,) rows of squares, of all maps
    down = torch.arange(-1, SIDE + 1, device=maps.device)
    y = strip[:, None] * SIDE + down  # (S, SIDE + 2) rows of all maps: the square's, one above and one below
    first = torch.div(strip * SIDE, height, rounding_mode="floor")[:, None] * height
    y = y.clamp(first, first + height - 1)
    piece = y * across + (square % across)[:, None]  # of SIDE cells in a row
    rows = maps.reshape(-1, SIDE).index_select(0, piece.flatten()).view(*piece.shape, SIDE)
    values = rows[:, 1:-1]
    high = floor[torch.div(square, tops[0].numel(), rounding_mode="floor")][:, None, None]
    found = where((values >= high) & (values >= rows[:, :-2]) & (values >= rows[:, 2:]))
    cells = inside(square[torch.div(found, AREA, rounding_mode="floor")], found % AREA, width)
    for step in _around(reach):
        cells = cells[where(_not_exceeded(maps, cells, *step))]
    return cells


def _known_peak(highest: Tensor, count: int) -> Tensor:
    """What at least `count` peaks of each map reach, (N,), -inf where nothing is known; highest of squares (N, h, w).

    A square that no neighbour exceeds holds a peak for every reach up to SIDE.
    """
    around = functional.pad(highest, (1, 1, 1, 1), value=-torch.inf)
    rows = torch.maximum(torch.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    best = torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])
    known = torch.where(highest == best, highest, -torch.inf).flatten(1)
    if known.shape[1] < count:
        return known.new_full((len(known),), -torch.inf)
    return known.topk(count, dim=1, sorted=True).values[:, -1]


def _around(reach: int) -> list[tuple[int, int]]:
    """The cells around a cell as (down, right), the nearest first, which tell most; without those above and below."""
    steps = range(-reach, reach + 1)
    around = [(down, right) for down in steps for right in steps if right or abs(down) > 1]
    return sorted(around, key=lambda step: abs(step[0]) + abs(step[1]))


def _not_exceeded(maps: Tensor, cells: Tensor, down: int, right: int) -> Tensor:
    """Which cells (M,) of maps (N, h, w), flattened, are not exceeded by the one beside them.

    Cells outside are replaced by the nearest ones inside, which lie within the same reach.
    """
    height, width = maps.shape[-2:]
    x, y = cells % width, torch.div(cells, width, rounding_mode="floor") % height
    beside = cells + ((y + down).clamp(0, height - 1) - y) * width + ((x + right).clamp(0, width - 1) - x)
    flat = maps.reshape(-1)
    return flat.index_select(0, beside) <= flat.index_select(0, cells)


def check_finite(*values: Tensor) -> None:
    """Raises PosecliError where a value is not a finite number."""
    if not all(bool(torch.isfinite(part).all()) for part in values):
        raise PosecliError(
            "heatmaps or tags are not finite numbers: the model's weights are broken, or its precision is too low; "
            "try another checkpoint or --precision fp32"
        )


@dataclass(frozen=True)
class Members:
    """The cells of P people's keypoints in maps (B, K, H, W)."""

    picture: Tensor  # (P,) whose maps
    cells: Tensor  # (P, K) row * width + column, 0 where missing
    values: Tensor  # (P, K) of the heatmap, 0 where missing

    @property
    def found(self) -> Tensor:
        """Which keypoints are there, (P, K)."""
        return self.values > 0


def places(cells: Tensor, width: int) -> Tensor:
    """Cells (...) as x, y (..., 2), integers."""
    return torch.stack([cells % width, torch.div(cells, width, rounding_mode="floor")], dim=-1)


def quarter_step(heatmaps: Tensor, maps: Tensor, cells: Tensor, inside: bool = False) -> Tensor:
    """A quarter cell along each axis towards the higher neighbour, (M, 2), for cells (M,) of maps (M,) of (N, H, W).

    Where the neighbours are equal, away from the second one; neighbours outside are the cell itself. With `inside`
    equal neighbours, and cells at the border, do not move.
    """
    height, width = heatmaps.shape[-2:]
    x, y = places(cells, width).unbind(-1)

    def value(right: int, down: int) -> Tensor:
        row, column = (y + down).clamp(0, height - 1), (x + right).clamp(0, width - 1)
        return heatmaps.reshape(-1)[(maps * height + row) * width + column]

    rise = torch.stack([value(1, 0) - value(-1, 0), value(0, 1) - value(0, -1)], dim=-1)
    if not inside:
        return torch.where(rise > 0, 0.25, -0.25)
    free = torch.stack([(x > 1) & (x < width - 1) & (y > 0), (y > 1) & (y < height - 1) & (x > 0)], dim=-1)
    return 0.25 * rise.sign() * free


def udp_step(heatmaps: Tensor, maps: Tensor, cells: Tensor) -> Tensor:
    """One Newton step on the logarithm of the blurred heatmaps, (M, 2), for cells (M,) of maps (M,) of (N, H, W).

    Huang et al., "The Devil is in the Details", CVPR 2020. Only the cells around are blurred.
    """
    height, width = heatmaps.shape[-2:]
    x, y = places(cells, width).unbind(-1)
    flat = heatmaps.reshape(-1)
    logs = []
    for right, down in STENCIL:
        column, row = (x + right).clamp(0, width - 1), (y + down).clamp(0, height - 1)
        total = torch.zeros_like(column, dtype=torch.float64)
        for across, along, weight in BLUR:
            beside = _reflect(column + across, width), _reflect(row + along, height)
            total += flat[(maps * height + beside[1]) * width + beside[0]].double() * (weight / 16)
        logs.append(total.clamp(1e-3, 50).log())
    here, left, right_, up, down_, corner, opposite = logs
    slope_x, slope_y = (right_ - left) / 2, (down_ - up) / 2
    damping = torch.finfo(torch.float32).eps  # keeps the step finite where the map is flat
    curve_xx, curve_yy = right_ - 2 * here + left + damping, down_ - 2 * here + up + damping
    curve_xy = (opposite - right_ - down_ + 2 * here - left - up + corner) / 2
    determinant = curve_xx * curve_yy - curve_xy**2
    step_x = (curve_xy * slope_y - curve_yy * slope_x) / determinant
    step_y = (curve_xy * slope_x - curve_xx * slope_y) / determinant
    step = torch.stack([step_x, step_y], dim=-1)
    return torch.where(torch.isfinite(step).all(dim=-1, keepdim=True), step, 0).to(heatmaps.dtype)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices just outside 0 … size - 1 mirrored at the first and last cell."""
    return (size - 1 - (size - 1 - index.abs()).abs()).clamp(0, size - 1)
