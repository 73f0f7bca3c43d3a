"""How sure one is of a whole person: the box's score, the keypoints' scores, or both. numpy only."""

from __future__ import annotations

from typing import Literal

import numpy as np

from posecli.types import FloatArray, People

ScoreMode = Literal["box", "box-keypoint", "box-rle", "keypoint"]


def instance_scores(people: People, mode: ScoreMode = "box-keypoint", threshold: float = 0.2) -> FloatArray:
    """Scores (N,) of people whose `instance_scores` are those of their boxes (1 where there are none).

    box: the box's score. keypoint: the mean keypoint score. box-keypoint: the box's score × the mean of the keypoint
    scores above `threshold`, 0 without any. box-rle: the box's score + the mean + the largest keypoint score (Li et
    al., ICCV 2021).
    """
    box = np.ones(len(people), np.float32) if people.instance_scores is None else people.instance_scores
    if mode == "box":
        return box
    if mode == "keypoint":
        return np.asarray(people.scores.mean(axis=1))
    if mode == "box-rle":
        return np.asarray(box + people.scores.mean(axis=1) + people.scores.max(axis=1))
    above = people.scores > threshold
    sums = np.where(above, people.scores, 0).sum(axis=1)
    return np.asarray(box * sums / np.maximum(above.sum(axis=1), 1))
