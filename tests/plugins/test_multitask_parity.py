"""A network of two heads with the weights of MMPose 0.29.0, brought over by `posecli import mmpose`, gives its numbers.

The numbers and the rule for weights are those of reference/golden/README.md and README-0.29.md in the shared folder.
Heads named 0 and 1 have the reference's state names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rule import golden_input, golden_state, import_state
from torch import Tensor

from posecli.checkpoint import open_model
from posecli.geometry import crop_matrix, invert
from posecli.losses.heatmap import JointsMSE
from posecli.losses.regression import SmoothL1
from posecli.types import Array
from posecli_multitask.model import MultiTask
from posecli_multitask.tasks import KeypointTask

CONFIG = """
data: {train: synthetic, val: synthetic}
model:
  use: multitask
  backbone: {use: resnet, depth: 18}
  input_size: [96, 128]
  necks: {"0": {kind: pool}}
  heads:
    "0": {task: regression, neck: "0"}
    "1": {task: heatmap, deconv_filters: 32}
  keypoints: "1"
"""


@pytest.fixture(scope="module")
def facts(golden: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden / "multitask29_res18.json").read_text())
    return found


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Array]:
    with np.load(golden / "multitask29_res18.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def model(facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> MultiTask:
    folder = tmp_path_factory.mktemp("parity")
    (folder / "config.yaml").write_text(CONFIG)
    opened, _, _ = open_model(import_state(golden_state(facts), folder, "--config", folder / "config.yaml"))
    assert isinstance(opened, MultiTask)
    assert sum(parameter.numel() for parameter in opened.parameters()) == facts["params"]
    return opened


@pytest.fixture(scope="module")
def outputs(model: MultiTask, facts: dict[str, Any]) -> dict[str, Tensor]:
    images = golden_input(facts["input_shape"])
    return dict(zip(("regression", "heatmap"), model.network()(images), strict=True))


@pytest.mark.parametrize("name", ["regression", "heatmap"])
def test_raw_outputs(name: str, outputs: dict[str, Tensor], arrays: dict[str, Array]) -> None:
    theirs = arrays[f"out.{name}"]
    assert np.abs(outputs[name].detach().numpy() - theirs).max() <= 1e-4 * theirs.std()


def test_losses_and_gradients(
    model: MultiTask, outputs: dict[str, Tensor], facts: dict[str, Any], arrays: dict[str, Array]
) -> None:
    """Head by head, as the reference's own sum fails when two heads tell an accuracy."""
    told = facts["losses_eval_mode"]
    targets = {name: torch.from_numpy(arrays[f"loss.in.{name}"]) for name in ("target.0", "target.1")}
    weights = [torch.from_numpy(arrays[f"loss.in.target_weight.{head}"]) for head in (0, 1)]
    tasks = {task.name: task for task in model.tasks}
    first, second = tasks["0"], tasks["1"]
    assert isinstance(first, KeypointTask)
    assert isinstance(second, KeypointTask)
    assert isinstance(first.error, SmoothL1)
    assert isinstance(second.error, JointsMSE)
    regression = first.error(outputs["regression"], targets["target.0"], weights[0])
    heatmap = second.error(outputs["heatmap"], targets["target.1"], weights[1][..., 0])
    assert regression.item() == pytest.approx(told["reg_loss"], rel=1e-4)
    assert heatmap.item() == pytest.approx(told["heatmap_loss"], rel=1e-4)
    model.zero_grad()
    (regression + heatmap).backward()
    norms = {name: value.grad.norm().item() for name, value in model.named_parameters() if value.grad is not None}
    assert set(norms) == set(facts["grad_norms"])
    for name, norm in facts["grad_norms"].items():
        assert norms[name] == pytest.approx(norm, rel=1e-3), name
    assert np.linalg.norm(list(norms.values())) == pytest.approx(facts["grad_norm_total"], rel=1e-4)


@pytest.mark.parametrize(("head", "name"), [("0", "regression"), ("1", "heatmap")])
def test_decoded_keypoints(
    head: str, name: str, model: MultiTask, outputs: dict[str, Tensor], arrays: dict[str, Array]
) -> None:
    """Within 0.05 px of a crop around (200, 150), 240 by 320 pixels. One cell from a border 0.29 does not shift a peak
    along the other axis either; posecli does, as 1.x."""
    task = next(task for task in model.tasks if task.name == head)
    assert isinstance(task, KeypointTask)
    points, scores = task.decode(outputs[name].detach())
    undo = invert(crop_matrix(np.array([200.0, 150.0]), np.array([240.0, 320.0]), (96, 128)))
    theirs = arrays[f"decode.{name}.preds"]
    found = points.double().numpy() @ undo[:, :2].T + undo[:, 2]
    off = np.abs(found - theirs[..., :2])
    inside = (points > 6).all(dim=-1).numpy() | (head == "0")
    assert inside.sum() >= 32
    assert off[inside].max() <= 0.05
    assert off.max() <= 2.5 + 1e-3, "a quarter of a cell"
    assert np.abs(scores.numpy() - theirs[..., 2]).max() <= 1e-3
