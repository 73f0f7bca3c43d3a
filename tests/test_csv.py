"""The long CSV that convert writes: which columns there are, and which lines."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from posecli.datasets.config import SyntheticMotionConfig
from posecli.datasets.table import COLUMNS, CsvWriter

SOLID = ("x_mm", "y_mm", "z_mm")
KEPT = [  # columns of People that the dataset has, columns of the file beside COLUMNS
    ((), ()),
    (("track_id",), ("track",)),
    (("keypoints_3d",), SOLID),
    (("keypoints_3d", "track_id", "frame"), (*SOLID, "track", "frame")),
]


@pytest.mark.parametrize(("kept", "columns"), KEPT, ids=["plain", "tracked", "3D", "motion"])
def test_motion_is_written(tmp_path: Path, kept: tuple[str, ...], columns: tuple[str, ...]) -> None:
    made = SyntheticMotionConfig(clips=2, frames=3).build()
    people = dataclasses.replace(made.people, extra={name: made.people.extra[name] for name in kept})
    people.scores[4, 5], people.keypoints[4, 5] = 0, np.nan  # known in 3D alone
    dataset = dataclasses.replace(made, people=people)
    CsvWriter().write(dataset, [""] * len(dataset), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert tuple(lines[0]) == (*COLUMNS, *columns)
    assert len(lines) == 6 * 17 - ("keypoints_3d" not in kept)
    line = next(
        line for line in lines if line["image"] == dataset.ids[4] and line["keypoint"] == made.skeleton.names[6]
    )
    assert [float(line[name]) for name in "xy"] == pytest.approx(people.keypoints[4, 6].tolist(), abs=1e-3)
    if "keypoints_3d" in kept:
        assert [float(line[name]) for name in SOLID] == pytest.approx(people.extra["keypoints_3d"][4, 6], abs=1e-3)
        lost = lines[4 * 17 + 5]
        assert (lost["x"], lost["y"], lost["visibility"], lost["x_mm"] != "") == ("", "", "0", True)
    if "track" in columns:
        assert line["track"] == "1"
    if "frame" in columns:
        assert line["frame"] == "1"
    assert CsvWriter().dropped(dataset) == []
