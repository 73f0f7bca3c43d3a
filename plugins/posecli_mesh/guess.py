"""The score of knowing nothing about bodies: the mean pose and shape of the training data, for everybody."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posecli.console import PosecliError
from posecli.types import Dataset, FloatArray, People, Prediction
from posecli_mesh.bodies import BODIES, GENDER_NUMBERS, Body, labelled


def mean_body(train: Dataset) -> tuple[FloatArray, FloatArray]:
    """The mean rotations (P, 3, 3) and the mean shape (S,) of the bodies that are labelled.

    The mean of rotations is the one nearest to all of them in squares of the matrices. Raises PosecliError without any.
    """
    extra = train.people.extra
    if "rotations" not in extra or "shape" not in extra:
        raise PosecliError(f"{train.name} has no poses and shapes of bodies, there is no mean body")
    known = labelled(train.people)
    if not known.any():
        raise PosecliError(f"{train.name}: nobody's pose and shape is labelled, there is no mean body")
    left, _, right = np.linalg.svd(extra["rotations"][known].mean(axis=0, dtype=np.float64))
    left[..., 2] *= np.linalg.det(left @ right)[..., None]
    return left @ right, extra["shape"][known].mean(axis=0, dtype=np.float64)


@torch.inference_mode()
def guess_bodies(body: Body, joint_index: Tensor, train: Dataset, truth: Dataset) -> list[Prediction]:
    """The mean body of `train` for every true person, ten metres before the camera.

    `joint_index` (K,) says which of the body's joints each keypoint is.
    """
    parameters = [values.astype(np.float32)[None] for values in mean_body(train)]
    rotations, shape = parameters
    found = body(*(torch.from_numpy(values).to(joint_index.device) for values in parameters))
    keypoints = (found.joints[:, joint_index].cpu().numpy() + np.array([0.0, 0.0, 10.0])) * 1000
    predictions = []
    for index in range(len(truth)):
        sample = truth[index]
        count = len(sample.people)
        sure = np.ones((count, keypoints.shape[1]), np.float32)
        extra = {
            "row": sample.people.extra["row"],
            "rotations": rotations.repeat(count, axis=0),
            "shape": shape.repeat(count, axis=0),
            "body": np.full(count, BODIES.index(body.name)),
            "gender": np.full(count, GENDER_NUMBERS.index(body.gender)),
        }
        points = keypoints.repeat(count, axis=0).astype(np.float32)
        predictions.append(Prediction(sample.id, People(points, sure, sample.people.boxes, sure[:, 0], extra)))
    return predictions
