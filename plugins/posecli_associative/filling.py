"""Keypoints without a peak, looked for in the heatmap by the person's tag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from posecli_associative.grouping import STEP
from posecli_associative.peaks import Members, places, quarter_step
from posecli_associative.squares import AREA, FIELD, MIDDLE, SIDE, Level, padded, unpadded, where

AT_ONCE = 2**17  # cells that are looked at in one go: numbers of them stay in the cache, their memory is used again


def fill_missing(
    heatmaps: Tensor,
    tags: Tensor,
    members: Members,
    points: Tensor,
    how: Literal["penalty", "cost"],
    unbiased: bool,
    tops: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Points (P, K, 2) in cells and scores (P, K) with the missing keypoints filled in.

    Heatmaps (B, K, H, W), tags (B, K, H, W, L). `penalty` takes the cell where the heatmap less the rounded tag
    distance is highest, moves a quarter cell, and takes nothing that is not above 0; `cost` takes of the cells with the
    lowest rounded tag distance the one where the heatmap is highest. A person's tag is the mean over its peaks.
    `tops` is what the search for peaks knows of the heatmaps.
    """
    joints, height, width = heatmaps.shape[1:]
    people, missing = torch.nonzero(~members.found, as_tuple=True)  # (Q,) each
    if not len(people):
        return points, members.values
    means = mean_tags(tags, members, points)
    maps = members.picture[people] * joints + missing
    cells = best_cells(heatmaps, tags, maps, means[people], 1.0 if how == "penalty" else STEP, tops)
    values = heatmaps.reshape(-1)[maps * height * width + cells]
    found = places(cells, width).to(points.dtype)
    if how == "penalty":
        found = found + quarter_step(heatmaps.reshape(-1, height, width), maps, cells) + (0 if unbiased else 0.5)
    taken = values > 0 if how == "penalty" else torch.ones_like(values, dtype=torch.bool)
    at = people[taken], missing[taken]
    points, scores = points.clone(), members.values.clone()
    points[at], scores[at] = found[taken], values[taken]
    return points, scores


def mean_tags(tags: Tensor, members: Members, points: Tensor) -> Tensor:
    """The mean tags (P, L) of people over their peaks, read at the cells in which `points` (P, K, 2) lie."""
    joints, height, width = tags.shape[1:4]
    x, y = points[..., 0].long().clamp(0, width - 1), points[..., 1].long().clamp(0, height - 1)
    maps = members.picture[:, None] * joints + torch.arange(joints, device=tags.device)
    at = torch.div(maps, joints, rounding_mode="floor"), maps % joints, y, x
    read = tags[at]  # (P, K, L)
    found = members.found[..., None]
    return torch.where(found, read, 0).sum(dim=1) / found.sum(dim=1)


def best_cells(
    heatmaps: Tensor, tags: Tensor, maps: Tensor, means: Tensor, weight: float, tops: Tensor | None = None
) -> Tensor:
    """The best cell (Q,) of maps (Q,) for people with mean tags (Q, L), the first in reading order of equal ones.

    Heatmaps (B, K, H, W), tags (B, K, H, W, L), maps from 0 to B K - 1. Best is where heatmap - weight * round(tag
    distance) is highest: exactly, but only squares that can hold such a cell are looked into.
    """
    if not len(maps):
        return maps
    layers = padded(tags.permute(4, 0, 1, 2, 3).flatten(1, 2).contiguous(), 0)  # (L, N, h, w)
    cells = Level(padded(heatmaps.flatten(0, 1), -torch.inf), layers, layers)
    search = Search(cells, weight, tops)
    chunk = max(1, AT_ONCE // search.squares.highest[0].numel())
    parts = zip(torch.split(maps, chunk), torch.split(means.T, chunk, dim=1), strict=True)
    best = torch.cat([search.best(*part) for part in parts])
    return unpadded(best, cells.highest.shape[-1], heatmaps.shape[-1])


class Search:
    """Looks for the best cells of maps in three steps: fields of 64 × 64 cells, squares of 8 × 8, cells.

    An area is looked into only if what is known of it leaves room for a better cell than the best so far.
    """

    def __init__(self, cells: Level, weight: float, tops: Tensor | None = None) -> None:
        self.cells = cells
        self.squares = cells.coarser(tops)
        self.fields = self.squares.coarser()
        self.samples = cells.middles()
        self.weight = weight

    def best(self, maps: Tensor, means: Tensor) -> Tensor:
        """The best cell (Q,) of maps (Q,) for mean tags (L, Q)."""
        bounds = self.fields.worth(maps, means, self.weight)  # (Q, F)
        best = self._guess(maps, means, bounds.argmax(dim=1))
        query, field = self._open(bounds, torch.arange(len(maps), device=maps.device), None, best)
        best = self._improved(best, query, *self._sample(maps[query], means[:, query], field))
        bounds = self.squares.worth_inside(maps[query], field, means[:, query], self.weight)  # (M, AREA)
        query, square = self._open(bounds, query, field, best)
        for some, there in zip(torch.split(query, AT_ONCE // AREA), torch.split(square, AT_ONCE // AREA), strict=True):
            best = self._improved(best, some, *self._look(maps[some], means[:, some], there))
        return best.cell

    def _guess(self, maps: Tensor, means: Tensor, fields: Tensor) -> Best:
        """The best cell in the most promising square of each field (Q,)."""
        bounds = self.squares.worth_inside(maps, fields, means, self.weight)
        return Best(*self._look(maps, means, self.squares.inside(fields, bounds.argmax(dim=1))))

    def _look(self, maps: Tensor, means: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
        """The worth (M,) of the best cell (M,) in each square (M,), the first of equal ones."""
        worth, place = self.cells.worth_inside(maps, squares, means, self.weight).max(dim=1)
        return worth, self.cells.inside(squares, place)

    def _sample(self, maps: Tensor, means: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
        """The worth (M,) of the best middle (M,) of the squares in fields (M,): mostly close to the best cell."""
        worth, place = self.samples.worth_inside(maps, fields, means, self.weight).max(dim=1)
        return worth, self.cells.inside(self.squares.inside(fields, place), MIDDLE)

    def _open(self, bounds: Tensor, query: Tensor, fields: Tensor | None, best: Best) -> tuple[Tensor, Tensor]:
        """Queries (M,) and areas (M,) that can hold a better cell than is known to their queries.

        Row by row, `bounds` (R, A) are of all fields for the queries (R,), or of the squares in `fields` (R,). A cell
        that is as good is better if it is read first.
        """
        found = where(bounds >= best.worth[query][:, None])
        row, place = torch.div(found, bounds.shape[1], rounding_mode="floor"), found % bounds.shape[1]
        query, bound = query[row], bounds.flatten()[found]
        area = place if fields is None else self.squares.inside(fields[row], place)
        level, side = (self.fields, FIELD) if fields is None else (self.squares, SIDE)
        corner = places(area, level.highest.shape[-1]) * side
        first = corner[:, 1] * self.cells.highest.shape[-1] + corner[:, 0]
        kept = where((bound > best.worth[query]) | (first < best.cell[query]))
        return query[kept], area[kept]

    def _improved(self, best: Best, query: Tensor, worth: Tensor, cell: Tensor) -> Best:
        """The best of what is known to Q queries and of cells (M,) worth (M,) to queries (M,)."""
        highest_worth = best.worth.scatter_reduce(0, query, worth, "amax")
        nowhere = self.cells.highest[0].numel()
        known = torch.where(best.worth == highest_worth, best.cell, nowhere)
        candidates = torch.where(worth == highest_worth[query], cell, nowhere)
        return Best(highest_worth, known.scatter_reduce(0, query, candidates, "amin"))


@dataclass(frozen=True)
class Best:
    """The best cells that are known to Q queries."""

    worth: Tensor  # (Q,)
    cell: Tensor  # (Q,)
