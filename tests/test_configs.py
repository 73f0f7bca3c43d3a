"""Every config that ships is right and builds its model; README names only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from posecli.config import Experiment, config_names, find_config, house_configs, layers_of, to_yaml, validate
from posecli.skeleton import house_skeleton

BUILT: dict[str, int] = {}  # weights of the models that were built
SYNTHETIC = {"data": {"train": "synthetic", "val": "synthetic"}}


def experiment(name: str) -> Experiment:
    layers = layers_of(name)
    if not layers.has("data"):  # a start for `--data`
        layers.add(SYNTHETIC, "test")
    return validate(Experiment, layers)


@pytest.mark.parametrize("name", config_names())
def test_config_is_right(name: str) -> None:
    found = experiment(name)
    assert found.model.name.split(".")[0] == name.split("/")[0], "a config stands in the folder of its family"
    assert to_yaml(found)


@pytest.fixture
def smpl_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own SMPL file, of random numbers, remembered as `posecli mesh body set` does it."""
    from posecli_mesh.bodies import PARENTS
    from posecli_mesh.remembered import remember

    random, bones, vertices = np.random.default_rng(0), len(PARENTS), 30
    arrays = {
        "v_template": random.random((vertices, 3)),
        "shapedirs": random.random((vertices, 3, 10)),
        "posedirs": random.random((vertices, 3, 9 * (bones - 1))),
        "J_regressor": random.random((bones, vertices)),
        "weights": random.random((vertices, bones)),
        "kintree_table": np.array([[0, *PARENTS[1:]], range(bones)]),
        "f": random.integers(0, vertices, (10, 3)),
    }
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **arrays)
    np.save(tmp_path / "regressor.npy", arrays["J_regressor"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    remember("smpl", {"neutral": str(tmp_path / "SMPL_NEUTRAL.npz"), "regressor": str(tmp_path / "regressor.npy")})


@pytest.mark.parametrize("name", config_names())
def test_config_builds_its_model(name: str, smpl_is_set: None) -> None:
    """For keypoints of COCO, of Human3.6M to lift, or of two hands; without weights, which take seconds to draw."""
    families = {"lifter": "h36m", "interhand": "interhand"}
    config, skeleton = experiment(name).model, families.get(name.split("/")[0], "coco")
    key = f"{config!r} {skeleton}"  # many recipes differ in their data alone
    if key not in BUILT:
        with torch.device("meta"):
            model = config.build(house_skeleton(skeleton))
        assert model.skeleton == house_skeleton(skeleton)
        BUILT[key] = sum(parameter.numel() for parameter in model.parameters())
    assert BUILT[key] > 0


def test_configs_are_short() -> None:
    """A config says what differs; the rest is extended."""
    for path in house_configs().rglob("*.yaml"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        assert len(lines) <= 30, path


def test_base_configs_are_used() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in house_configs().rglob("*.yaml"))
    for path in (house_configs() / "base").glob("*.yaml"):
        assert re.search(rf"base/{path.stem}\b", texts), f"nothing extends {path.name}"


def test_names_in_the_readme_exist(project: Path) -> None:
    families = "|".join(sorted({name.split("/")[0] for name in config_names()}))
    text = (project / "README.md").read_text(encoding="utf-8")
    for name in set(re.findall(rf"(?:--config|config (?:show|check|copy)) ((?:{families})/[\w./-]+)", text)):
        find_config(name)
