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
AREA = SIDE * SIDE  # cells of a square, squares of a field
FIELD = SIDE * SIDE  # cells along a field
MIDDLE = AREA // 2 + SIDE // 2  # of the cells of a square, as they are read


def padded(maps: Tensor, value: float) -> Tensor:
    """Maps (..., h, w) with `value` beyond the last row and column, so that sides are multiples of FIELD."""
    height, width = maps.shape[-2:]
    if height % FIELD == 0 and width % FIELD == 0:
        return maps
    return functional.pad(maps, (0, -width % FIELD, 0, -height % FIELD), value=value)


def unpadded(cells: Tensor, wide: int, width: int) -> Tensor:
    """Cells (M,) of maps that `padded` made `wide`, as cells of the maps of `width`."""
    return _row(cells, wide) * width + cells % wide


def inside(squares: Tensor, place: Tensor | int, width: int) -> Tensor:
    """The areas (M,) at a `place`, from 0 to AREA - 1, in squares (M,) of a map, or of flattened maps, of `width`."""
    y, x = _row(squares, width // SIDE) * SIDE, squares % (width // SIDE) * SIDE
    return (y + place // SIDE) * width + x + place % SIDE


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
    """Areas of N maps: the highest value in each, and the least and greatest tags, of each of L lengths.

    Where areas are put together to squares of SIDE × SIDE, the sides are multiples of SIDE.
    """

    highest: Tensor  # (N, h, w)
    least: Tensor  # (L, N, h, w)
    greatest: Tensor  # (L, N, h, w)

    def coarser(self, tops: Tensor | None = None) -> Level:
        """Squares of these areas; `tops` are their highest values where they are known already."""
        least, greatest = (
            torch.stack([choose(tags) for tags in layers])
            for choose, layers in ((lowest, self.least), (highest, self.greatest))
        )
        return Level(highest(self.highest) if tops is None else tops, least, greatest)

    def middles(self) -> Level:
        """One area for each square: that in its middle."""
        half = slice(SIDE // 2, None, SIDE)
        least = self.least[..., half, half].contiguous()
        return Level(self.highest[..., half, half].contiguous(), least, least)

    def inside(self, squares: Tensor, place: Tensor | int) -> Tensor:
        """The numbers (M,) of the areas at a `place`, from 0 to AREA - 1, in squares (M,)."""
        return inside(squares, place, self.highest.shape[-1])

    def worth(self, maps: Tensor, means: Tensor, weight: float) -> Tensor:
        """The most that a cell in each area of maps (M,), (M, h * w), can be worth to people with mean tags (L, M).

        Worth is the heatmap less `weight` times the rounded tag distance. Each step of it keeps order, its rounding
        included, so what holds for bounds holds for the numbers computed from them.
        """
        return self._worth(maps[:, None], self.highest[0].numel(), means, weight)

    def worth_inside(self, maps: Tensor, squares: Tensor, means: Tensor, weight: float) -> Tensor:
        """The same of the areas in squares (M,) of maps (M,), (M, AREA)."""
        height, width = self.highest.shape[-2:]
        across = width // SIDE  # pieces of SIDE areas in a row
        piece = (maps * height + _row(squares, across) * SIDE) * across + squares % across
        pieces = piece[:, None] + torch.arange(SIDE, device=maps.device) * across
        return self._worth(pieces, SIDE, means, weight)

    def _worth(self, pieces: Tensor, length: int, means: Tensor, weight: float) -> Tensor:
        """The worth (M, P * length) of areas that lie one after the other in pieces (M, P) of a `length`."""

        def take(values: Tensor) -> Tensor:
            rows = values.reshape(-1, length).index_select(0, pieces.flatten())
            return rows.view(len(pieces), pieces.shape[1] * length)

        gaps = []
        for least, greatest, mean in zip(self.least, self.greatest, means[..., None], strict=True):
            gap = take(least).sub_(mean)
            if self.least is not self.greatest:
                gap = torch.maximum(gap, mean - take(greatest)).clamp_(min=0)
            gaps.append(gap)
        if len(gaps) == 1:  # the root of a square, to the last bit
            distance = gaps[0].abs_()
        else:
            distance = functools.reduce(torch.add, [gap.square_() for gap in gaps]).sqrt_()
        return take(self.highest).sub_(distance.round_().mul_(weight))


def _row(index: Tensor, across: int) -> Tensor:
    return torch.div(index, across, rounding_mode="floor")
