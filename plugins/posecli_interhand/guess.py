"""The score of knowing nothing about a pair of hands: the mean hands of the training data, at the true wrists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.camera import back_project, project
from posecli.console import PosecliError
from posecli.types import Camera, Dataset, FloatArray, People, Prediction, Sample
from posecli_interhand.metric import JOINTS, WRISTS, from_wrists


@dataclass(frozen=True)
class MeanHands:
    """What hands are like on average."""

    joints: FloatArray  # (42, 3) camera millimetres from the own hand's wrist
    apart: FloatArray  # (3,) from the right wrist to the left one
    hand_type: FloatArray  # (2,) the share of pictures with a right and a left hand, of those where it is known


def mean_hands(train: Dataset) -> MeanHands:
    """The means over a dataset of pairs. Raises PosecliError where it is none, or some joint is never labelled."""
    extra = train.people.extra
    if "keypoints_3d" not in extra or "hand_type" not in extra:
        raise PosecliError(f"{train.name}: no pairs of hands in 3D are in it, there are no mean hands")
    points = extra["keypoints_3d"].astype(np.float64)
    joints = from_wrists(points)
    known = np.isfinite(joints)
    if not known.any(axis=0).all():
        raise PosecliError(f"{train.name}: some joints are never labelled, there are no mean hands")
    apart = points[:, WRISTS[1]] - points[:, WRISTS[0]]
    apart = apart[np.isfinite(apart).all(axis=1)]
    said = extra["hand_type"][extra["hand_type_valid"] > 0]
    return MeanHands(
        np.where(known, joints, 0).sum(axis=0) / known.sum(axis=0),
        apart.mean(axis=0) if len(apart) else np.zeros(3),
        said.mean(axis=0) if len(said) else np.full(2, 0.5),
    )


def guess_hands(train: Dataset, truth: Dataset) -> list[Prediction]:
    """The mean hands of `train` for every pair of `truth`: the right wrist, or of left hands the left one, where it
    truly is, and the other one where it is on average."""
    mean = mean_hands(train)
    return [Prediction(sample.id, _placed(mean, sample)) for sample in (truth[index] for index in range(len(truth)))]


def _placed(mean: MeanHands, sample: Sample) -> People:
    people, camera = sample.people, sample.camera
    if camera is None:
        raise PosecliError(f"sample {sample.id} has no camera, hands cannot be placed")
    points = np.stack(
        [
            _hands(mean, truth, absolute, camera)
            for truth, absolute in zip(people.extra["keypoints_3d"], people.extra["absolute_depth"], strict=True)
        ]
    )
    count = len(people)
    extra = {
        "row": people.extra["row"],
        "keypoints_2d": project(points, camera.focal, camera.center, camera.distortion).astype(np.float32),
        "hand_type": np.tile(mean.hand_type, (count, 1)).astype(np.float32),
        "root_depth": np.full(count, mean.apart[2], np.float32),
    }
    sure = np.ones((count, 2 * JOINTS), np.float32)
    return People(points, sure, people.boxes, sure[:, 0], extra)


def _hands(mean: MeanHands, truth: FloatArray, absolute: FloatArray, camera: Camera) -> FloatArray:
    """Both hands (42, 3), camera millimetres. A left wrist is seen where the mean puts it, at its own true depth."""
    wrists = truth[list(WRISTS)].astype(np.float64)
    if np.isfinite(wrists).all():
        pixel = project(wrists[:1] + mean.apart, camera.focal, camera.center)
        wrists[1] = back_project(pixel, absolute[1:].astype(np.float64), camera.focal, camera.center)[0]
    wrists = np.where(np.isfinite(wrists), wrists, 0.0)
    return np.asarray(np.repeat(wrists, JOINTS, axis=0) + mean.joints)
