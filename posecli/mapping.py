"""From one skeleton to another by the names of the joints; those that are missing are made of others.

What follows from what is data: skeletons/derived/joints.yaml. numpy only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np

from posecli.console import PosecliError
from posecli.skeleton import Skeleton
from posecli.types import FloatArray, People


@dataclass(frozen=True)
class Rules:
    """Which names mean the same joint, and how joints follow from others."""

    names: Mapping[str, tuple[str, ...]]  # any name -> all names of its joint
    ways: Mapping[str, tuple[Mapping[str, float], ...]]  # any name -> weights of other joints, the best first

    def called(self, joint: str) -> tuple[str, ...]:
        """The names of a joint, its own first."""
        return (joint, *(name for name in self.names.get(joint, ()) if name != joint))


@functools.cache
def house_rules() -> Rules:
    """The rules that ship with posecli."""
    import yaml

    text = (resources.files("posecli") / "skeletons" / "derived" / "joints.yaml").read_text(encoding="utf-8")
    fields = yaml.safe_load(text)
    names = {name: tuple(line) for line in fields["names"] for name in line}
    ways = {
        name: tuple({part: float(weight) for part, weight in way.items()} for way in found)
        for joint, found in fields["ways"].items()
        for name in names.get(joint, (joint,))
    }
    return Rules(names, ways)


@dataclass(frozen=True)
class SkeletonMap:
    """How the joints of one skeleton are found from those of another."""

    source: Skeleton
    target: Skeleton
    ways: tuple[tuple[FloatArray, ...], ...]  # for each joint of the target, weights (K,) of the source's, best first

    @property
    def derived(self) -> tuple[str, ...]:
        """The joints that are made of several others."""
        return tuple(
            name for name, ways in zip(self.target.names, self.ways, strict=True) if np.count_nonzero(ways[0]) > 1
        )

    def __call__(self, keypoints: FloatArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Keypoints (N, K, D) and scores (N, K) of the source as those of the target, (N, J, D) and (N, J).

        A derived joint is as sure as the least sure joint that it is made of; NaN and 0 where one is unknown.
        """
        known = (scores > 0) & np.asarray(np.isfinite(keypoints).all(axis=-1))  # (N, K)
        shape = (len(keypoints), len(self.ways))
        placed = np.full((*shape, keypoints.shape[-1]), np.nan, dtype=keypoints.dtype)
        sure = np.zeros(shape, dtype=scores.dtype)
        for joint, ways in enumerate(self.ways):
            open_rows = np.ones(len(keypoints), dtype=bool)
            for weights in ways:
                parts = np.flatnonzero(weights)
                rows = np.flatnonzero(open_rows & known[:, parts].all(axis=1))
                own = keypoints[np.ix_(rows, parts)]  # (R, P, D)
                placed[rows, joint] = own[:, 0] if len(parts) == 1 else np.einsum("rpd,p->rd", own, weights[parts])
                sure[rows, joint] = scores[np.ix_(rows, parts)].min(axis=1)
                open_rows[rows] = False
        return placed, sure

    def people(self, people: People) -> People:
        """The same people with the target's joints; boxes, instance scores and columns stay, `keypoints_3d` too."""
        keypoints, scores = self(people.keypoints, people.scores)
        extra = dict(people.extra)
        if "keypoints_3d" in extra:
            points = extra["keypoints_3d"]
            extra["keypoints_3d"] = self(points, np.ones(points.shape[:2], np.float32))[0]
        return People(keypoints, scores, people.boxes, people.instance_scores, extra)


def map_skeleton(source: Skeleton, target: Skeleton, rules: Rules | None = None) -> SkeletonMap:
    """How the target's joints follow from the source's: by name, by another name, or from other joints.

    Raises PosecliError naming the joints that cannot be had.
    """
    rules = rules or house_rules()
    found = [tuple(_ways(name, source, rules, ())) for name in target.names]
    lost = [name for name, ways in zip(target.names, found, strict=True) if not ways]
    if lost:
        told = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
        raise PosecliError(
            f"skeleton {source.name!r} cannot stand for {target.name!r}: it has no {told}, nor the "
            "joints that would make up for it"
        )
    return SkeletonMap(source, target, tuple(found))


def _ways(joint: str, source: Skeleton, rules: Rules, asked: tuple[str, ...]) -> Iterator[FloatArray]:
    """Weights (K,) of the source's joints that give `joint`, best first; `asked` are those that wait for this one."""
    for name in rules.called(joint):
        if name in source.names:
            yield np.asarray(np.arange(len(source)) == source.names.index(name), dtype=np.float64)
            return
    if any(name in asked for name in rules.called(joint)):
        return
    for way in rules.ways.get(joint, ()):
        parts = [(next(_ways(part, source, rules, (*asked, joint)), None), weight) for part, weight in way.items()]
        if all(weights is not None for weights, _ in parts):
            yield np.sum([weight * weights for weights, weight in parts if weights is not None], axis=0)
