"""From heatmaps and tags to people: peaks, groups, places between cells, and what was missed at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posecli.console import PosecliError
from posecli.types import FloatArray, IntArray
from posecli_associative.config import DecodeConfig
from posecli_associative.filling import fill_missing
from posecli_associative.grouping import group
from posecli_associative.peaks import Members, Peaks, check_finite, find_peaks, places, quarter_step, udp_step


@dataclass(frozen=True)
class Found:
    """The people in one picture."""

    keypoints: FloatArray  # (N, K, 2) in input pixels; the place says nothing where the score is not above 0
    scores: FloatArray  # (N, K)
    instance_scores: FloatArray  # (N,)
    dropped: int  # how many more there were than the limit allows


def decode(
    heatmaps: Tensor,
    tags: Tensor,
    settings: DecodeConfig,
    input_size: tuple[int, int],
    max_people: int | None = None,
    unbiased: bool = False,
) -> list[Found]:
    """The people in each of B pictures, from heatmaps (B, K, H, W) and tags (B, K, H, W, L) on the same device.

    Keypoints are pixels of an input of `input_size` (width, height) that the maps cover. `unbiased` is UDP's way: cells
    and pixels count between the centres of the corners. A person's score is the mean value of its peaks over all K
    keypoints. At most `max_people` are kept; which ones is `settings.limit`. A picture of nobody gives no rows.
    Raises PosecliError where a value is not a finite number, or `settings.order` does not fit.
    """
    order = check_order(settings.order, heatmaps.shape[1])
    peaks = find_peaks(heatmaps, tags, settings.candidates, settings.reach, settings.detection_threshold)
    members, dropped = choose_members(peaks, settings, order, max_people)
    points = place_peaks(heatmaps, members, settings, unbiased)
    sure = members.values.mean(dim=1)
    scores = members.values
    if settings.fill != "none":
        points, scores = fill_missing(heatmaps, tags, members, points, settings.fill, unbiased, peaks.tops)
    check_finite(points, scores)
    points = to_input(points, (heatmaps.shape[3], heatmaps.shape[2]), input_size, unbiased)
    return _split(members.picture, points, scores, sure, dropped)


def check_order(order: Sequence[int] | None, joints: int) -> Sequence[int]:
    """The order in which keypoints are grouped. Raises PosecliError unless it names each of the keypoints once."""
    if order is None:
        return range(joints)
    if sorted(order) != list(range(joints)):
        raise PosecliError(
            f"model.decode.order must name each of the {joints} keypoints once, by numbers from 0 to {joints - 1}; "
            f"it says {list(order)}"
        )
    return order


def choose_members(
    peaks: Peaks, settings: DecodeConfig, order: Sequence[int], max_people: int | None
) -> tuple[Members, list[int]]:
    """Who has which peaks, people picture by picture, and how many each picture (B,) has beyond the limit."""
    values, tags = peaks.values.cpu().numpy(), peaks.tags.cpu().numpy()
    limit = max_people if settings.limit == "grouping" else None
    chosen, pictures, dropped = [], [], []
    for number, (row, tag) in enumerate(zip(values, tags, strict=True)):
        people = group(row, tag, settings, order, limit)
        kept = _kept(people, row, settings, max_people)
        chosen.append(people[kept])
        pictures += [number] * len(kept)
        dropped.append(len(people) - len(kept))
    device = peaks.values.device
    picture = torch.tensor(pictures, dtype=torch.long, device=device)
    choice = torch.from_numpy(np.concatenate(chosen)).to(device)  # (P, K)
    joint = torch.arange(choice.shape[1], device=device)
    at = picture[:, None], joint, choice.clamp(min=0)
    there = choice >= 0
    return Members(picture, torch.where(there, peaks.cells[at], 0), torch.where(there, peaks.values[at], 0)), dropped


def _kept(people: IntArray, values: FloatArray, settings: DecodeConfig, max_people: int | None) -> IntArray:
    """Which rows of people's candidates (N, K) stay, in their order."""
    rows = np.arange(len(people))
    if max_people is None or len(people) <= max_people:
        return rows
    if settings.limit != "best":
        return rows[:max_people]
    joints = np.arange(people.shape[1])
    sums = np.where(people >= 0, values[joints, people], 0).sum(axis=1)
    return np.sort(np.argsort(-sums, kind="stable")[:max_people])


def place_peaks(heatmaps: Tensor, members: Members, settings: DecodeConfig, unbiased: bool) -> Tensor:
    """Where the members' peaks lie, (P, K, 2), in cells; adjusted plain ones from the first cell's corner."""
    joints, height, width = heatmaps.shape[1:]
    cells = members.cells.flatten()
    maps = (members.picture[:, None] * joints + torch.arange(joints, device=heatmaps.device)).flatten()
    points = places(cells, width).to(heatmaps.dtype)
    flat = heatmaps.reshape(-1, height, width)
    how = ("udp" if unbiased else "quarter") if settings.adjust == "auto" else settings.adjust
    if how == "udp":
        points = points + udp_step(flat, maps, cells)
    elif how != "none":
        points = points + quarter_step(flat, maps, cells, inside=how == "inside") + (0 if unbiased else 0.5)
    return points.view(*members.cells.shape, 2)


def to_input(points: Tensor, map_size: tuple[int, int], input_size: tuple[int, int], unbiased: bool) -> Tensor:
    """Points (..., 2) in cells of a map as pixels of the input it covers; sizes are (width, height)."""
    less = 1 if unbiased else 0
    ratio = [(pixels - less) / (cells - less) for pixels, cells in zip(input_size, map_size, strict=True)]
    return points * points.new_tensor(ratio)


def _split(picture: Tensor, points: Tensor, scores: Tensor, sure: Tensor, dropped: Sequence[int]) -> list[Found]:
    """People (P, ...) put back to their pictures."""
    rows = picture.cpu().numpy()
    places, values, means = (part.cpu().numpy() for part in (points, scores, sure))
    of = [rows == number for number in range(len(dropped))]
    return [Found(places[mine], values[mine], means[mine], count) for mine, count in zip(of, dropped, strict=True)]
