"""Benchmarks: what they compare is what they say; nothing here is timed against a bound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from posecli import benchmark
from posecli.benchmark import write_crowded_file
from posecli.commands.benchmark import add
from posecli.datasets.coco import coco_dataset
from posecli.measures import Measure
from posecli.throughput import Repeated, textured_pictures


@pytest.mark.parametrize(
    ("ours", "limit", "goal", "at_least", "reached", "note"),
    [
        (90, 100, 0.85, True, True, "fast enough"),
        (80, 100, 0.85, True, False, "too slow"),
        (0.1, 1.0, 0.2, False, True, "short enough"),
        (0.3, 1.0, 0.2, False, False, "too long"),
    ],
)
def test_goals(ours: float, limit: float, goal: float, at_least: bool, reached: bool, note: str) -> None:
    assert Measure("speed", ours, limit, "/s", goal, at_least).reached is reached, note


def test_made_pictures_are_like_cocos(tmp_path: Path) -> None:
    samples = textured_pictures(tmp_path, 5)
    sizes = [Path(str(path)).stat().st_size for path in samples.images]
    assert min(sizes) >= 100_000
    assert max(sizes) <= 170_000
    assert len(samples.people) / len(samples) == pytest.approx(2.6)


def test_crowded_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    write_crowded_file(path, 260)
    samples = coco_dataset(path, tmp_path)
    assert (len(samples), len(samples.people)) == (100, 260)
    assert path.stat().st_size / 260 > 1000


def test_repeated_units_are_other_pictures(tmp_path: Path) -> None:
    samples = textured_pictures(tmp_path, 2)
    units = Repeated(samples, 3)  # type: ignore[arg-type]
    assert len(units) == 6
    assert len(np.unique(units.sample_index)) == 6
    assert units[4].id == samples[0].id


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "measure_startup", lambda: [Measure("start", 1.0, 10.0, "s", 0.2, at_least=False)])
    app = typer.Typer()
    add(app)
    result = CliRunner().invoke(app, ["benchmark", "startup", "--json"])
    (measure,) = json.loads(result.stdout)["measures"]
    assert (measure["ratio"], measure["reached"]) == (0.1, True)
