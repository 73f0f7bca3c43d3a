"""From a picture's pair of hands to a network input: one crop around both, depths beside the keypoints."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from posecli.augmentation import Augmentation
from posecli.geometry import is_mirrored
from posecli.skeleton import Skeleton
from posecli.transforms import CropTransform, Draft, StagedTransform
from posecli.types import Array, People, Sample

JOINTS = 21  # of a hand; the right hand's come first
WRISTS = (20, 41)


@dataclass(frozen=True)
class HandsTransform(StagedTransform):
    """Cuts out the box of the sample's first row, which is a pair of hands: input `image` (H, W, 3) uint8 RGB.

    Targets, all float32: `keypoints` (42, 2) input pixels, `depth` (42,) millimetres behind the own hand's wrist and
    `visible` (42,), 1 where both are known; `hand_type` (2,), whether there is a right and a left hand, and
    `hand_type_valid` (); `root_depth` (), millimetres that the left wrist lies behind the right one, and `root_valid`
    (). What is not known is 0. A mirrored picture's right hand is the left one.
    """

    skeleton: Skeleton
    size: tuple[int, int]  # width, height of the input
    padding: float = 1.25  # the box grown by this factor
    augmentation: Augmentation | None = None  # None when evaluating

    def begin(self, sample: Sample, generator: np.random.Generator) -> Draft:
        crop = self.crop.begin(sample, generator)
        truth = depths(sample.people)
        if is_mirrored(crop.undo):
            truth = mirrored(truth)
        visible = crop.targets["visible"] * truth.pop("known")
        return dataclasses.replace(crop, targets={**crop.targets, **truth, "visible": visible})

    @functools.cached_property
    def crop(self) -> CropTransform:
        """What cuts out the picture and moves the keypoints with it."""
        return CropTransform(self.skeleton, self.size, self.padding, augmentation=self.augmentation)


def depths(people: People) -> dict[str, Array]:
    """What is known of the first row beside its 2D keypoints: the targets above, and `known` (42,), 1 where the depth
    is."""
    extra = people.extra
    points = extra["keypoints_3d"][0] if "keypoints_3d" in extra else np.full((2 * JOINTS, 3), np.nan)
    relative = np.concatenate(
        [points[:JOINTS, 2] - points[WRISTS[0], 2], points[JOINTS:, 2] - points[WRISTS[1], 2]]
    )  # (42,)
    known = np.isfinite(relative)
    return {
        "depth": np.where(known, relative, 0).astype(np.float32),
        "known": known.astype(np.float32),
        **_column(people, "hand_type", "hand_type_valid", (2,)),
        **_column(people, "root_depth", "root_valid", ()),
    }


def _column(people: People, name: str, valid: str, shape: tuple[int, ...]) -> dict[str, Array]:
    """The first row of a column and of the one that says whether it is known; zeros where they are not there."""
    if name not in people.extra or valid not in people.extra:
        return {name: np.zeros(shape, np.float32), valid: np.zeros((), np.float32)}
    known = np.asarray(people.extra[valid][0], dtype=np.float32)
    values = np.asarray(people.extra[name][0], dtype=np.float32)
    return {name: np.where(known > 0, values, np.float32(0)).astype(np.float32), valid: known}


def mirrored(truth: dict[str, Array]) -> dict[str, Array]:
    """The same of the mirror image: hands change places. Twice is as before."""
    swap = np.r_[JOINTS : 2 * JOINTS, 0:JOINTS]
    return {
        **truth,
        "depth": truth["depth"][swap],
        "known": truth["known"][swap],
        "hand_type": truth["hand_type"][::-1].copy(),
        "root_depth": -truth["root_depth"],
    }
