"""PCKh, as MPII Human Pose (Andriluka et al., CVPR 2014) and MPII-TRB (Duan et al., ICCV 2019) are scored."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from posecli.console import PosecliError, counted
from posecli.metrics.matching import keypoint_distances, pair_people
from posecli.metrics.metric import Metric, Score
from posecli.metrics.normalizers import HEAD_TOPS, named_keypoint
from posecli.metrics.pck import require_2d
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, IntArray, People, SampleId

TORSO = ("pelvis", "thorax")  # joints that MPII leaves out
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
CONTOUR = re.compile(r"(medial|lateral)_|(left|right)_neck$")  # names of MPII-TRB's points that are no joints


class Pckh(Metric):
    """The share of all labelled keypoints whose error / head size ≤ threshold, pelvis and thorax left out.

    Head sizes are 0.6 of the head box's diagonal, the column `head_size` in pixels. A joint counts as often as it is
    labelled. Errors as large as the threshold are right, as in MPII's own evaluation and in MMPose 0.x; MMPose 1.x and
    MPII-TRB's score ask for smaller ones (<), which differs only there. A person without a prediction counts as
    missed, one without a head size is left out. Details: the mean of left and right for every kind of joint and, of
    MPII-TRB, all joints (skeleton) and all other points (contour); else every keypoint.
    """

    def __init__(self, skeleton: Skeleton, threshold: float) -> None:
        self.skeleton = skeleton
        self.threshold = threshold
        self.counting = [index for index, name in enumerate(skeleton.names) if name.lower() not in TORSO]

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        pairs = pair_people(truth, predictions)
        require_2d(truth, "PCKh")
        sizes = _head_sizes(truth)[pairs.rows]
        distances = keypoint_distances(pairs.predicted, pairs.truth, pairs.visible, sizes[:, None])
        counts = (~np.isnan(distances)).sum(axis=0)  # (K,)
        hits = (distances <= self.threshold).sum(axis=0)
        without = int(np.isnan(sizes).sum())
        notes = [f"of the head size; {counted(len(pairs) - without, 'person', 'people')}"]
        if without:
            notes.append(f"{counted(without, 'person', 'people')} without head size left out")
        if pairs.missed:
            notes.append(f"{pairs.missed}, counted as wrong")
        value = _share(hits[self.counting], counts[self.counting])
        return [Score(f"PCKh@{self.threshold:g}", value, note="; ".join(notes), details=self._details(hits, counts))]

    def _details(self, hits: IntArray, counts: IntArray) -> dict[str, float]:
        names = self.skeleton.names
        shares = [_share(hits[index], counts[index]) for index in range(len(names))]
        details = {kind: float(np.mean([shares[index] for index in joints])) for kind, joints in _kinds(names).items()}
        contour = np.array([CONTOUR.match(name) is not None for name in names])
        if contour.any():
            details["skeleton"] = _share(hits[~contour], counts[~contour])
            details["contour"] = _share(hits[contour], counts[contour])
        return details or dict(zip(names, shares, strict=True))


def _head_sizes(truth: Dataset) -> FloatArray:
    """The positive head sizes of all people (N,), NaN where there is none. Raises PosecliError where there are none."""
    sizes = np.asarray(truth.people.extra.get("head_size", np.nan), dtype=np.float64)
    if not (sizes > 0).any():
        raise PosecliError(
            f"pckh needs head sizes, which {truth.name!r} does not have: put MPII's mpii_gt_val.mat beside the list or "
            "name it by --set data.val.headboxes=FILE, give annotations of COCO's form a `head_size` in pixels, or "
            "divide by the distance of two keypoints, as in pck@0.5:head_top,upper_neck"
        )
    return np.where(sizes > 0, sizes, np.nan)


def _kinds(names: tuple[str, ...]) -> dict[str, list[int]]:
    """The head and every kind of limb of which there is a left and a right one."""
    top = named_keypoint(names, HEAD_TOPS)
    kinds = {} if top is None else {"head": [top]}
    for limb in LIMBS:
        sides = [named_keypoint(names, [f"{side} {limb}"]) for side in ("left", "right")]
        if None not in sides:
            kinds[limb] = [index for index in sides if index is not None]
    return kinds


def _share(hits: IntArray, counts: IntArray) -> float:
    total = int(np.sum(counts))
    return int(np.sum(hits)) / total if total else float("nan")
