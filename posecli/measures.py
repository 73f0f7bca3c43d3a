"""What a benchmark says: a ratio of ours to its limit, both measured in the same run. The ratio counts, not seconds."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from posecli import console


@dataclass(frozen=True)
class Measure:
    """One ratio of ours to its limit, measured side by side."""

    name: str
    ours: float
    limit: float  # what ours is held against: a bare loop, an import, another reader
    unit: str
    goal: float  # the ratio to reach
    at_least: bool = True  # whether the ratio should be at least the goal, or at most
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the limit."""
        return self.ours / self.limit

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def _take_turns(actions: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """What each action gives; they take turns, so that a slow moment of the machine hits all alike."""
    given: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for index, action in enumerate(actions):
            given[index].append(action())
    return given


def highest(rates: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """The best of the rates that each action gives. For what takes seconds: others on the machine only slow it down,
    now one action and now another, so that medians of a few turns say more of them than of the actions."""
    return [max(values) for values in _take_turns(rates, repeats)]


def interleave(actions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The median seconds of each action, which take turns."""

    def seconds(action: Callable[[], object]) -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    turns = _take_turns([functools.partial(seconds, action) for action in actions], repeats)
    return [statistics.median(values) for values in turns]


def show_measures(measures: Sequence[Measure], json: bool) -> None:
    """Print the measures as a table or as one JSON object."""
    if json:
        console.show_json({"measures": [_fields(measure) for measure in measures]})
        return
    columns = ["what", "ours", "limit", "ratio", "to reach", "", "measured on"]
    console.table(columns, [_cells(measure) for measure in measures])


def _fields(measure: Measure) -> dict[str, object]:
    """The measure in plain values."""
    return {
        "name": measure.name,
        "ours": measure.ours,
        "limit": measure.limit,
        "unit": measure.unit,
        "ratio": measure.ratio,
        "goal": measure.goal,
        "at_least": measure.at_least,
        "reached": measure.reached,
        "note": measure.note,
    }


def _cells(measure: Measure) -> list[str]:
    """The measure as a line of the table."""
    sign = "≥" if measure.at_least else "≤"
    return [
        measure.name,
        f"{measure.ours:.4g} {measure.unit}",
        f"{measure.limit:.4g} {measure.unit}",
        f"{measure.ratio:.2f}",
        f"{sign} {measure.goal:g}",
        "reached" if measure.reached else "missed",
        measure.note,
    ]
