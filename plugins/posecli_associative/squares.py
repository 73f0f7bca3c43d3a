"""Squares of cells, and what their cells can be at most, so that most of a map needs no closer look."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 8  # cells along a square, and squares along a field
AREA = SIDE * SIDE


def padded(maps: Tensor, value: float) -> Tensor:
    """Maps (N, h, w) with `value` beyond the last row and column, so that sides are multiples of SIDE."""
    height, width = maps.shape[-2:]
    if height % SIDE == 0 and width % SIDE == 0:
        return maps
    return functional.pad(maps, (0, -width % SIDE, 0, -height % SIDE), value=value)


def highest(maps: Tensor) -> Tensor:
    """The highest cell of each square of maps (N, h, w) whose sides are multiples of SIDE: (N, h / SIDE, w / SIDE)."""
    return _by_columns(_by_rows(maps).amax(dim=2), torch.maximum)


def lowest(maps: Tensor) -> Tensor:
    """The lowest cell of each square, likewise."""
    return _by_columns(_by_rows(maps).amin(dim=2), torch.minimum)


def _by_rows(maps: Tensor) -> Tensor:
    """(N, h / SIDE, SIDE, w): rows are put together first, which are long vectors."""
    return maps.reshape(len(maps), -1, SIDE, maps.shape[-1])


def _by_columns(rows: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return functools.reduce(choose, rows.view(*rows.shape[:-1], -1, SIDE).unbind(-1))


def where(mask: Tensor) -> Tensor:
    """The positions (M,) of what is true in the flattened mask."""
    if mask.device.type == "cpu":  # numpy's is about twenty times as fast
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


@dataclass(frozen=True)
class Level:
    """Areas of N maps: the highest value in each, and the least and greatest tags, of each of L lengths."""

    highest: Tensor  # (N, h, w)
    least: Tensor  # (L, N, h, w)
    greatest: Tensor  # (L, N, h, w)

    def coarser(self) -> Level:
        """Squares of SIDE × SIDE of these areas."""
        least = [lowest(padded(tags, torch.inf)) for tags in self.least]
        greatest = [highest(padded(tags, -torch.inf)) for tags in self.greatest]
        return Level(highest(padded(self.highest, -torch.inf)), torch.stack(least), torch.stack(greatest))

    @property
    def size(self) -> int:
        """How many areas a map has."""
        return self.highest[0].numel()

    def inside(self, coarse: Tensor) -> Tensor:
        """The areas (M, AREA) in the squares `coarse` (M,) of the coarser level, as they are read.

        Where a square reaches over the border, areas at the border are repeated.
        """
        height, width = self.highest.shape[1:]
        across = -(-width // SIDE)
        step = torch.arange(SIDE, device=coarse.device)
        y = torch.div(coarse, across, rounding_mode="floor")[:, None] * SIDE + step
        x = (coarse % across)[:, None] * SIDE + step
        cells: Tensor = y.clamp(max=height - 1)[:, :, None] * width + x.clamp(max=width - 1)[:, None]
        return cells.flatten(1)

    def middle(self, coarse: Tensor) -> Tensor:
        """The area (...) in the middle of each square `coarse` (...) of the coarser level."""
        height, width = self.highest.shape[1:]
        across = -(-width // SIDE)
        y = torch.div(coarse, across, rounding_mode="floor") * SIDE + SIDE // 2
        x = coarse % across * SIDE + SIDE // 2
        cells: Tensor = y.clamp(max=height - 1) * width + x.clamp(max=width - 1)
        return cells

    def middles(self) -> Level:
        """One area for each square of the coarser level: that in its middle."""
        height, width = self.highest.shape[1:]
        y = (torch.arange(0, height, SIDE, device=self.highest.device) + SIDE // 2).clamp(max=height - 1)[:, None]
        x = (torch.arange(0, width, SIDE, device=self.highest.device) + SIDE // 2).clamp(max=width - 1)
        least = self.least[:, :, y, x]
        greatest = least if self.greatest is self.least else self.greatest[:, :, y, x]
        return Level(self.highest[:, y, x], least, greatest)

    def worth(self, maps: Tensor, areas: Tensor, means: Tensor, weight: float) -> Tensor:
        """The most that a cell in `areas` (M, A) of maps (M,) can be worth to people with mean tags (L, M).

        Worth is the heatmap less `weight` times the rounded tag distance. Each step of it keeps order, its rounding
        included, so what holds for bounds holds for the numbers computed from them.
        """
        index = (maps[:, None] * self.size + areas).flatten()
        squares = []
        for least, greatest, mean in zip(self.least, self.greatest, means[..., None], strict=True):
            gap = mean - _take(least, index, areas)
            if self.least is not self.greatest:
                gap = torch.maximum(-gap, mean - _take(greatest, index, areas)).clamp(min=0)
            squares.append(gap.square())
        squared = functools.reduce(torch.add, squares)
        worth: Tensor = _take(self.highest, index, areas) - weight * squared.sqrt().round()
        return worth


def _take(values: Tensor, index: Tensor, shape: Tensor) -> Tensor:
    return values.reshape(-1).index_select(0, index).view(shape.shape)
