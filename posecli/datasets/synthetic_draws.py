"""Random columns that depend on nothing but a seed, a few counters and a name."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posecli.types import FloatArray, IntArray

Words = NDArray[np.uint64]


def _mix(words: Words) -> Words:
    """The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every input bit moves every output bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _chain(words: Words, counter: Words) -> Words:
    return _mix(words + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


class Draws:
    """One random value a row for every name asked for.

    A row is known by the seed and its counters, for example picture and person. Since the value is a hash of those and
    of the name, it is the same in any process, for any other rows asked beside it, and in any order of asking; a new
    name leaves the values of all others as they were. Integer arithmetic only, so the same on every platform.
    """

    def __init__(self, seed: int, *counters: IntArray) -> None:
        words = np.full(np.shape(counters[0]), seed % 2**64, dtype=np.uint64)
        for counter in (np.zeros(1, np.uint64), *counters):
            words = _chain(words, np.asarray(counter).astype(np.uint64))
        self.words = words  # (M,)

    def key(self, name: str) -> Words:
        """64 random bits a row, (M,)."""
        return _chain(self.words, np.full(1, zlib.crc32(name.encode()), dtype=np.uint64))

    def uniform(self, name: str, low: float | FloatArray = 0.0, high: float | FloatArray = 1.0) -> FloatArray:
        """Even between `low` and `high`, (M,)."""
        unit = (self.key(name) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.asarray(low + (high - np.asarray(low)) * unit)

    def around(self, name: str, middle: float | FloatArray, spread: float) -> FloatArray:
        """`middle` times a factor near 1: the mean of three even draws, at most `spread` away from 1; (M,)."""
        parts = [self.uniform(f"{name}/{part}", -1.0, 1.0) for part in range(3)]
        return np.asarray(middle * (1 + spread * (parts[0] + parts[1] + parts[2]) / 3))

    def choice(self, name: str, weights: Sequence[float]) -> IntArray:
        """Which of the weighted cases, (M,)."""
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.asarray(np.minimum(np.searchsorted(edges, self.uniform(name) * edges[-1], "right"), len(edges) - 1))
