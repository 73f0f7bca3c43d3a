"""How crowded a picture is, as CrowdPose's files say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.datasets.config import CrowdPoseConfig

STATED: list[tuple[Any, float | None]] = [(0.5, 0.5), ("0.5", 0.5), (None, np.nan), ("a", None), ([1], None)]


@pytest.mark.parametrize(("stated", "expected"), STATED, ids=["number", "digits", "null", "text", "list"])
def test_what_a_file_states(shared: Path, tmp_path: Path, stated: Any, expected: float | None) -> None:
    folder = shared / "data" / "format-samples" / "crowdpose"
    document = json.loads((folder / "test_crowdpose.json").read_text())
    document["images"][0]["crowdIndex"] = stated
    (tmp_path / "stated.json").write_text(json.dumps(document))
    config = CrowdPoseConfig(path=tmp_path / "stated.json", images=folder)
    if expected is None:
        name = document["images"][0]["id"]
        with pytest.raises(
            PosecliError, match=rf"stated.json: image {name} has the crowdIndex .*; a number is expected"
        ):
            config.build()
    else:
        dataset = config.build()
        np.testing.assert_allclose(dataset.people.extra["crowd_index"][: dataset.offsets[1]], expected)
