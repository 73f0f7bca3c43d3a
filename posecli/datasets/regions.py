"""Polygons where nothing is to be learnt, packed; run lengths become polygons only when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from posecli.types import FloatArray

Region = Sequence[float] | Mapping[str, Any]
"""A flat polygon x1 y1 x2 y2 …, or COCO run lengths `{"counts": …, "size": [height, width]}`."""


class Regions(Mapping[int, tuple[FloatArray, ...]]):
    """Sample index -> polygons (P, 2) in image pixels.

    Points of all polygons stand in one array, so that loader workers share them; crowds stored as run lengths are
    traced on access.
    """

    def __init__(self, regions: Mapping[int, Sequence[Region]]) -> None:
        polygons = [(sample, region) for sample, found in regions.items() for region in found]
        flat = [(sample, region) for sample, region in polygons if not isinstance(region, Mapping)]
        lengths = [len(region) // 2 for _, region in flat]
        values = chain.from_iterable(region[: 2 * (len(region) // 2)] for _, region in flat)
        self._points = np.fromiter(values, np.float32, 2 * sum(lengths)).reshape(-1, 2)
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)  # (polygons + 1,)
        self._polygons: dict[int, list[int]] = {}
        for index, (sample, _) in enumerate(flat):
            self._polygons.setdefault(sample, []).append(index)
        self._runs: dict[int, list[Mapping[str, Any]]] = {}
        for sample, region in polygons:
            if isinstance(region, Mapping):
                self._runs.setdefault(sample, []).append(region)

    def __len__(self) -> int:
        return len(self._polygons.keys() | self._runs.keys())

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._polygons.keys() | self._runs.keys()))

    def __contains__(self, sample: object) -> bool:
        return sample in self._polygons or sample in self._runs

    def __getitem__(self, sample: int) -> tuple[FloatArray, ...]:
        if sample not in self:
            raise KeyError(sample)
        drawn = [
            self._points[self._starts[index] : self._starts[index + 1]] for index in self._polygons.get(sample, [])
        ]
        traced = chain.from_iterable(trace_runs(runs) for runs in self._runs.get(sample, []))
        return (*drawn, *traced)


def trace_runs(runs: Mapping[str, Any]) -> list[FloatArray]:
    """The outlines (P, 2) of a mask in COCO's run lengths, plain or compressed; holes are filled."""
    import cv2

    height, width = runs["size"]
    counts = runs["counts"] if isinstance(runs["counts"], list) else decompress(runs["counts"])
    values = np.arange(len(counts), dtype=np.uint8) % 2  # runs of 0 and 1 by turns, down the columns
    mask = np.repeat(values, counts).reshape(width, height).T
    outlines, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [outline.reshape(-1, 2).astype(np.float32) for outline in outlines if len(outline) >= 3]


def decompress(text: str | bytes) -> list[int]:
    """The run lengths in COCO's compressed string.

    A character holds 5 bits from 48 on, lowest first; 32 says that more follow, 16 in the last one is the sign. From
    the fourth run on, the number is the difference to the run before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for code in text.encode() if isinstance(text, str) else text:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
