"""The score of knowing nothing: the mean pose of the training data, in 2D put into every true box. numpy only."""

from __future__ import annotations

import numpy as np

from posecli.console import PosecliError
from posecli.mapping import house_rules
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, People, Prediction


def mean_pose(train: Dataset) -> FloatArray:
    """The mean place of each labelled keypoint in its box, (K, 2), from 0 to 1 across and down the box.

    A keypoint that is never labelled is in the middle. Raises PosecliError when nobody has a box.
    """
    people = train.people[np.flatnonzero(train.people.labelled.any(axis=1))]
    if people.boxes is None or not len(people):
        raise PosecliError(f"{train.name}: nobody in it is labelled and has a box, there is no mean pose")
    corner, sides = _frames(people)
    places = (people.keypoints[..., :2] - corner) / sides
    known = people.labelled[..., None]
    total, count = np.where(known, places, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), 0.5))


def guess(truth: Dataset, pose: FloatArray) -> list[Prediction]:
    """The pose (K, 2) in the box of every true person."""
    predictions = []
    for index in range(len(truth)):
        sample = truth[index]
        if sample.people.boxes is None or not len(sample.people):
            continue
        corner, sides = _frames(sample.people)
        keypoints = corner + pose * sides
        sure = np.ones(keypoints.shape[:2], np.float32)
        extra = {"row": sample.people.extra["row"]}
        predictions.append(Prediction(sample.id, People(keypoints, sure, sample.people.boxes, sure[:, 0], extra)))
    return predictions


def _frames(people: People) -> tuple[FloatArray, FloatArray]:
    """Upper left corners and sides of the boxes, both (N, 1, 2)."""
    assert people.boxes is not None
    sides = np.maximum(people.boxes[:, None, 2:] - people.boxes[:, None, :2], 1e-6)
    return people.boxes[:, None, :2], sides


def mean_pose_3d(train: Dataset) -> FloatArray:
    """The mean 3D pose (K, 3) in mm of someone who faces the camera, relative to the root.

    Each pose of `extra["keypoints_3d"]` is turned about the camera's vertical axis until its hips lie along x, the left
    one on the camera's right, so that the mean holds no heading. Raises PosecliError without 3D poses, root or hips.
    """
    poses = train.people.extra.get("keypoints_3d")
    if poses is None:
        raise PosecliError(f"{train.name} has no 3D poses, there is no mean of them")
    root, left, right = _root_and_hips(train.skeleton)
    poses = poses.astype(np.float64) - poses[:, [root]]
    across = poses[:, left] - poses[:, right]  # (P, 3)
    poses = poses[np.isfinite(across).all(axis=1)]
    if not len(poses):
        raise PosecliError(f"{train.name}: the hips are known in no 3D pose, there is no mean pose")
    angles = np.arctan2(across[:, 2], across[:, 0])[np.isfinite(across).all(axis=1)]
    turned = poses.copy()
    turned[..., 0] = np.cos(angles)[:, None] * poses[..., 0] + np.sin(angles)[:, None] * poses[..., 2]
    turned[..., 2] = np.cos(angles)[:, None] * poses[..., 2] - np.sin(angles)[:, None] * poses[..., 0]
    known = np.isfinite(turned)
    return np.asarray(np.where(known, turned, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def guess_3d(truth: Dataset, pose: FloatArray) -> list[Prediction]:
    """The pose (K, 3) for every true person."""
    predictions = []
    for index in range(len(truth)):
        sample = truth[index]
        count = len(sample.people)
        sure = np.ones((count, len(pose)), np.float32)
        poses = np.repeat(pose[None].astype(np.float32), count, axis=0)
        extra = {"row": sample.people.extra["row"]}
        predictions.append(Prediction(sample.id, People(poses, sure, sample.people.boxes, sure[:, 0], extra)))
    return predictions


def _root_and_hips(skeleton: Skeleton) -> tuple[int, int, int]:
    """Root, left and right hip. Raises PosecliError where there are none."""
    called = [
        [name for name in house_rules().called(hip) if name in skeleton.names] for hip in ("left_hip", "right_hip")
    ]
    if skeleton.root is None or not all(called):
        raise PosecliError(f"skeleton {skeleton.name!r} has no root or no hips, which say where a 3D pose is headed")
    return skeleton.root, skeleton.names.index(called[0][0]), skeleton.names.index(called[1][0])
