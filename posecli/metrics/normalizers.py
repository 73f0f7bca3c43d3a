"""The length by which a person's keypoint errors are divided: box side, torso, head, or any two keypoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from posecli.console import PosecliError
from posecli.plugins import suggest
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, IntArray, People

HEAD_TOPS = ("head top", "top head", "head")
NECKS = ("upper neck", "neck", "thorax")


@dataclass(frozen=True)
class Normalizer:
    """How to get one length a person, NaN where it is not known."""

    name: str
    description: str
    measure: Callable[[People], FloatArray]  # people -> (N,) pixels

    def lengths(self, truth: Dataset, rows: IntArray) -> FloatArray:
        """The positive lengths of the people at `rows`, (P,), in pixels; NaN where there is none."""
        lengths = np.asarray(self.measure(truth.people), dtype=np.float64)[rows]
        return np.where(lengths > 0, lengths, np.nan)


def find_normalizer(text: str, skeleton: Skeleton) -> Normalizer:
    """The normaliser for `bbox`, `torso`, `head`, `box_size` or two keypoints `a,b` (names or indices).

    Raises PosecliError when the skeleton has no such keypoints.
    """
    if text == "bbox":
        return Normalizer(text, "the longer side of the box", _longer_side)
    if text == "torso":
        pair = _torso(skeleton)
        return Normalizer(text, f"the distance {_pair_name(skeleton, pair)}", _between(pair))
    if text == "head":
        return _head(skeleton)
    if text == "box_size":
        return Normalizer(text, "the data's box size", _box_size)
    pair = keypoint_pair(text, skeleton)
    return Normalizer(text, f"the distance {_pair_name(skeleton, pair)}", _between(pair))


def keypoint_pair(text: str, skeleton: Skeleton) -> tuple[int, int]:
    """Two keypoint indices from `36,45` or `left_eye,right_eye`. Raises PosecliError with the nearest name."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise PosecliError(
            f"normaliser {text!r}: give bbox, torso, head, box_size or two keypoints, as in left_eye,right_eye"
        )
    first, second = (keypoint_index(part, skeleton) for part in parts)
    if first == second:
        raise PosecliError(f"normaliser {text!r}: the two keypoints are the same one")
    return first, second


def keypoint_index(text: str, skeleton: Skeleton) -> int:
    """The index of a keypoint, named or numbered. Raises PosecliError with the nearest name."""
    if text in skeleton.names:
        return skeleton.names.index(text)
    if text.isdigit() and int(text) < len(skeleton):
        return int(text)
    raise PosecliError(f"skeleton {skeleton.name!r} has no keypoint {text!r}; {suggest(text, skeleton.names)}")


def named_keypoint(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The first keypoint that carries one of the wanted names, whatever its spelling: L_hip, hip.left, leftHip."""
    spelled = [_words(name) for name in names]
    for phrase in wanted:
        words = _words(phrase)
        if words in spelled:
            return spelled.index(words)
    return None


def _words(name: str) -> frozenset[str]:
    """The words of a keypoint name: lower case, sides written out."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    parted = re.sub(r"\b(left|right)(?=[a-z])|(?<=[a-z])(left|right)\b", r" \1\2 ", parted)
    words = re.findall(r"[a-z0-9]+", parted)
    sides = {"l": "left", "r": "right"}
    return frozenset(sides.get(word, word) for word in words)


def _torso(skeleton: Skeleton) -> tuple[int, int]:
    shoulder = named_keypoint(skeleton.names, ["left shoulder"])
    hip = named_keypoint(skeleton.names, ["right hip"])
    if shoulder is None or hip is None:
        raise PosecliError(
            f"normaliser 'torso' needs keypoints named left shoulder and right hip, which the skeleton "
            f"{skeleton.name!r} does not have; give two of its keypoints by name, as in pck@0.2:first,second"
        )
    return shoulder, hip


def _head(skeleton: Skeleton) -> Normalizer:
    top = named_keypoint(skeleton.names, HEAD_TOPS)
    neck = named_keypoint(skeleton.names, NECKS)
    pair = None if top is None or neck is None else (top, neck)

    def measure(people: People) -> FloatArray:
        if "head_size" in people.extra:
            return np.asarray(people.extra["head_size"], dtype=np.float64)
        if pair is None:
            raise PosecliError(
                f"normaliser 'head' needs a column `head_size` in the data or keypoints named head top and neck; "
                f"the skeleton {skeleton.name!r} has neither: give two of its keypoints, as in pck@0.5:first,second"
            )
        return _between(pair)(people)

    points = "" if pair is None else f", else the distance {_pair_name(skeleton, pair)}"
    return Normalizer("head", f"the data's head size{points}", measure)


def _pair_name(skeleton: Skeleton, pair: tuple[int, int]) -> str:
    return f"{skeleton.names[pair[0]]} to {skeleton.names[pair[1]]}"


def _between(pair: tuple[int, int]) -> Callable[[People], FloatArray]:
    def measure(people: People) -> FloatArray:
        both = people.labelled[:, pair[0]] & people.labelled[:, pair[1]]
        difference = people.keypoints[:, pair[0]] - people.keypoints[:, pair[1]]
        return np.where(both, np.sqrt((difference.astype(np.float64) ** 2).sum(axis=-1)), np.nan)

    return measure


def _box_size(people: People) -> FloatArray:
    if "box_size" not in people.extra:
        raise PosecliError("normaliser 'box_size' needs a column `box_size`, which AFLW has and the data does not")
    return np.asarray(people.extra["box_size"], dtype=np.float64)


def _longer_side(people: People) -> FloatArray:
    if people.boxes is None:
        raise PosecliError(
            "normaliser 'bbox' needs boxes, which the data does not have: normalise by torso, head or two keypoints"
        )
    return np.asarray((people.boxes[:, 2:] - people.boxes[:, :2]).max(axis=1), dtype=np.float64)
