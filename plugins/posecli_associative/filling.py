"""Keypoints without a peak, looked for in the heatmap by the person's tag."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from posecli_associative.grouping import STEP
from posecli_associative.peaks import Members, places, quarter_step


def fill_missing(
    heatmaps: Tensor,
    tags: Tensor,
    members: Members,
    points: Tensor,
    how: Literal["penalty", "cost"],
    unbiased: bool,
) -> tuple[Tensor, Tensor]:
    """Points (P, K, 2) in cells and scores (P, K) with the missing keypoints filled in.

    Heatmaps (B, K, H, W), tags (B, K, H, W, L). `penalty` takes the cell where the heatmap less the rounded tag distance
    is highest, moves a quarter cell, and takes nothing that is not above 0; `cost` takes of the cells with the lowest
    rounded tag distance the one where the heatmap is highest. A person's tag is the mean over the keypoints that are there.
    """
    joints, height, width = heatmaps.shape[1:]
    people, missing = torch.nonzero(~members.found, as_tuple=True)  # (Q,) each
    means = mean_tags(tags, members, points)
    maps = members.picture[people] * joints + missing
    cells = best_cells(heatmaps, tags, maps, means[people], 1.0 if how == "penalty" else STEP)
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
    """The mean tags (P, L) of people over their peaks, read at the cells where `points` (P, K, 2) lie."""
    joints, height, width, length = tags.shape[1:]
    x, y = points[..., 0].long().clamp(0, width - 1), points[..., 1].long().clamp(0, height - 1)
    maps = members.picture[:, None] * joints + torch.arange(joints, device=tags.device)
    read = tags.reshape(-1, length)[(maps * height + y) * width + x]  # (P, K, L)
    found = members.found[..., None]
    return torch.where(found, read, 0).sum(dim=1) / found.sum(dim=1)


def best_cells(heatmaps: Tensor, tags: Tensor, maps: Tensor, means: Tensor, weight: float) -> Tensor:
    """The best cell (Q,) of maps (Q,) for people with mean tags (Q, L), the first in reading order of equal ones.

    Best is where heatmap - weight * round(distance of the tags) is highest.
    """
    flat, flat_tags = heatmaps.flatten(0, 1), tags.flatten(0, 1)
    best = maps.new_zeros(len(maps))
    for query, number in enumerate(maps.tolist()):
        distance = (flat_tags[number] - means[query]).square().sum(dim=-1).sqrt().round()
        best[query] = (flat[number] - weight * distance).argmax()
    return best
