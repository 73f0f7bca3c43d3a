"""Peaks of heatmaps, and where between cells they lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from posecli.console import PosecliError

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


def find_peaks(heatmaps: Tensor, tags: Tensor, count: int, reach: int, threshold: float) -> Peaks:
    """The `count` highest cells above `threshold` that nothing within `reach` rows and columns exceeds.

    Heatmaps (B, K, H, W) and tags (B, K, H, W, L). Of equal peaks the first in reading order comes first. Raises
    PosecliError where a value is not finite.
    """
    highest = functional.max_pool2d(heatmaps, 2 * reach + 1, stride=1, padding=reach)
    peaks = torch.where((highest == heatmaps) & (heatmaps > threshold), heatmaps, 0).flatten(2)
    values, cells = (part[..., :count] for part in peaks.sort(dim=-1, descending=True, stable=True))
    found = tags.flatten(2, 3).gather(2, cells[..., None].expand(-1, -1, -1, tags.shape[-1]))
    check_finite(heatmaps.amax(), found)
    return Peaks(values, cells, found)


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
