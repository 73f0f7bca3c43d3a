"""What the keypoints of a dataset are: names, links, mirror pairs, sigmas. Data, never classes. numpy only."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT_NAMES = ("root", "pelvis", "hips", "hip", "mid_hip")
HIP_NAMES = ("left_hip", "right_hip")


@dataclass(frozen=True)
class Skeleton:
    """K named keypoints and what is known about them; None = unknown, and then nothing is guessed."""

    name: str
    names: tuple[str, ...]  # (K,)
    links: tuple[tuple[int, int], ...] = ()  # pairs of keypoint indices to draw
    flip_pairs: tuple[tuple[int, int], ...] | None = None  # left/right partners; () = every point is its own mirror
    sigmas: tuple[float, ...] | None = None  # (K,) OKS constants, as in COCO (.026 for the nose)
    weights: tuple[float, ...] | None = None  # (K,) loss weights; None = all 1
    upper: tuple[int, ...] | None = None  # the upper body, for half-body crops
    colors: tuple[tuple[int, int, int], ...] | None = None  # (K,) RGB

    def __post_init__(self) -> None:
        count = len(self.names)
        for field in ("sigmas", "weights", "colors"):
            values = getattr(self, field)
            if values is not None and len(values) != count:
                raise ValueError(f"skeleton {self.name!r}: {len(values)} {field} for {count} keypoints")
        pairs = [("links", pair) for pair in self.links] + [("flip_pairs", pair) for pair in self.flip_pairs or ()]
        for field, pair in pairs:
            if not all(0 <= index < count for index in pair):
                raise ValueError(f"skeleton {self.name!r}: {field} names keypoint {pair}, there are {count}")
        if len(set(self.names)) != count:
            raise ValueError(f"skeleton {self.name!r}: keypoint names repeat")

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def flip_index(self) -> NDArray[np.int64] | None:
        """(K,): where each keypoint's mirror partner stands; None when the pairs are unknown."""
        if self.flip_pairs is None:
            return None
        index = np.arange(len(self.names))
        for left, right in self.flip_pairs:
            index[left], index[right] = right, left
        return index

    @property
    def root(self) -> int | None:
        """The keypoint that a 3D pose is measured from, known by its name; None where there is none such."""
        lower = [name.lower() for name in self.names]
        return next((lower.index(name) for name in ROOT_NAMES if name in lower), None)

    @property
    def roots(self) -> tuple[int, ...]:
        """The keypoints whose mean a 3D pose is measured from: the root, else both hips; () where neither is known."""
        if self.root is not None:
            return (self.root,)
        lower = [name.lower() for name in self.names]
        return tuple(lower.index(name) for name in HIP_NAMES) if set(HIP_NAMES) <= set(lower) else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, as in skeletons/*.yaml; unknown fields are left out."""
        fields: dict[str, Any] = {"name": self.name, "keypoints": list(self.names)}
        fields["links"] = [list(link) for link in self.links]
        for key in ("flip_pairs", "sigmas", "weights", "upper", "colors"):
            values = getattr(self, key)
            if values is not None:
                fields[key] = [list(value) if isinstance(value, tuple) else value for value in values]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Skeleton:
        """The inverse of `to_dict`. Raises ValueError for a missing or wrong field."""
        known = {"name", "keypoints", "links", "flip_pairs", "sigmas", "weights", "upper", "colors"}
        unknown = set(fields) - known
        if unknown:
            raise ValueError(f"skeleton: unknown field {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")
        if "keypoints" not in fields:
            raise ValueError("skeleton: the list `keypoints` with the names is missing")
        return cls(
            name=str(fields.get("name", "custom")),
            names=tuple(str(name) for name in fields["keypoints"]),
            links=_pairs(fields.get("links", ())),
            flip_pairs=None if fields.get("flip_pairs") is None else _pairs(fields["flip_pairs"]),
            sigmas=_floats(fields.get("sigmas")),
            weights=_floats(fields.get("weights")),
            upper=None if fields.get("upper") is None else tuple(int(index) for index in fields["upper"]),
            colors=None
            if fields.get("colors") is None
            else tuple((int(red), int(green), int(blue)) for red, green, blue in fields["colors"]),
        )


def _pairs(values: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(first), int(second)) for first, second in values)


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


_SIDES = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])|^(left|right)|(left|right)$")


def flip_pairs_from_names(names: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """Mirror pairs read from names such as left_eye/right_eye, leftear/rightear, L_hip/R_hip, hip.l/hip.r.

    None when no pair is found, or when a name carries a side and its partner is missing.
    """
    index = {name.lower(): position for position, name in enumerate(names)}
    swap = {"left": "right", "right": "left", "l": "r", "r": "l"}
    pairs = set()
    for name, position in index.items():
        match = _SIDES.search(name)
        if match is None:
            continue
        partner = index.get(name[: match.start()] + swap[match.group()] + name[match.end() :])
        if partner is None:
            return None
        pairs.add((min(position, partner), max(position, partner)))
    return tuple(sorted(pairs)) or None


@functools.cache
def house_skeletons() -> dict[str, Skeleton]:
    """The skeletons that ship with posecli, by name."""
    import yaml

    folder = resources.files("posecli") / "skeletons"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    skeletons = [Skeleton.from_dict(yaml.safe_load(entry.read_text(encoding="utf-8"))) for entry in files]
    return {skeleton.name: skeleton for skeleton in skeletons}


def house_skeleton(name: str) -> Skeleton:
    """The shipped skeleton of that name. Raises KeyError with the known names."""
    skeletons = house_skeletons()
    if name not in skeletons:
        raise KeyError(f"no skeleton named {name!r}; known are {', '.join(skeletons)}")
    return skeletons[name]
