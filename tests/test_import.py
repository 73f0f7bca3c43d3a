"""`posecli import mmpose` and `posecli info`: names of both generations, and what does not match is said."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from posecli import cli
from posecli.checkpoint import count_parameters, load_checkpoint, sha256
from posecli.commands import import_, info
from posecli.config import load_experiment
from posecli.console import PosecliError
from posecli.interop.mmpose import build_for_import, match, read_mmpose
from posecli.interop.names import our_names
from posecli.nn.config import HRNetConfig, MobileNetV2Config, ResNetConfig, VGGConfig
from posecli.skeleton import house_skeleton

CONFIG = "topdown/coco/resnet-18"


def run(*arguments: object) -> Result:
    app = cli.app
    registered = {group.name for group in app.registered_groups} | {command.name for command in app.registered_commands}
    for name, module in (("import", import_), ("info", info)):
        if name not in registered:
            module.add(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Of a ResNet-18 model, by the reference's 1.x names, which are ours."""
    torch.manual_seed(0)
    model = build_for_import(load_experiment(CONFIG), house_skeleton("coco"))
    return model.state_dict()


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("head.", "keypoint_head.", 1): value for name, value in state.items()}


NAMES = [  # backbone, the reference's name, ours
    (ResNetConfig(), "backbone.layer1.0.downsample.1.running_mean", "backbone.layer1.0.downsample.1.running_mean"),
    (HRNetConfig(), "backbone.stage3.1.fuse_layers.0.2.1.bias", "backbone.stage3.1.fuse_layers.0.2.1.bias"),
    (None, "keypoint_head.deconv_layers.0.weight", "head.deconv_layers.0.weight"),
    (None, "keypoint_head.fc.bias", "head.fc.bias"),
    (MobileNetV2Config(), "backbone.conv1.conv.weight", "backbone.features.0.0.weight"),
    (MobileNetV2Config(), "backbone.layer1.0.conv.0.bn.bias", "backbone.features.1.conv.0.1.bias"),
    (MobileNetV2Config(), "backbone.layer1.0.conv.1.conv.weight", "backbone.features.1.conv.1.weight"),
    (MobileNetV2Config(), "backbone.layer1.0.conv.1.bn.weight", "backbone.features.1.conv.2.weight"),
    (MobileNetV2Config(), "backbone.layer3.1.conv.2.conv.weight", "backbone.features.5.conv.2.weight"),
    (MobileNetV2Config(), "backbone.layer7.0.conv.2.bn.weight", "backbone.features.17.conv.3.weight"),
    (MobileNetV2Config(), "backbone.conv2.bn.running_var", "backbone.features.18.1.running_var"),
    (VGGConfig(), "backbone.features.3.conv.weight", "backbone.features.7.weight"),
    (VGGConfig(batch_norm=False), "backbone.features.3.conv.bias", "backbone.features.5.bias"),
]


@pytest.mark.parametrize(("backbone", "theirs", "ours"), NAMES, ids=lambda value: str(value)[:40])
def test_names(backbone: Any, theirs: str, ours: str) -> None:
    assert our_names([theirs], backbone) == {theirs: ours}


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg_names_cover_the_network(depth: Any, batch_norm: bool) -> None:
    described = VGGConfig(depth=depth, batch_norm=batch_norm)
    ours = {f"backbone.{name}" for name in described.build().state_dict()}
    stages = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    theirs, position = [], 0
    for convolutions in stages:
        for _ in range(convolutions):
            theirs += [f"backbone.features.{position}.conv.{part}" for part in ("weight", "bias")]
            if batch_norm:
                parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
                theirs += [f"backbone.features.{position}.bn.{part}" for part in parts]
            position += 1
        position += 1
    assert set(our_names(theirs, described).values()) == ours


CONTENTS = {  # how users' files look
    "1.x": lambda state: {"state_dict": state, "meta": {"epoch": 7, "iter": 70}, "message_hub": {}, "optimizer": {}},
    "0.x": lambda state: {"state_dict": older(state), "meta": {"mmpose_version": "0.29.0", "epoch": 7, "iter": 70}},
    "weights alone": lambda state: state,
    "wrapped for several devices": lambda state: {"state_dict": {f"module.{key}": part for key, part in state.items()}},
    "with averaged copies": lambda state: {
        "state_dict": {**older(state), **{"ema_" + key.replace(".", "_"): part for key, part in older(state).items()}}
    },
    "with preprocessing": lambda state: {"state_dict": {**state, "data_preprocessor.mean": torch.zeros(3, 1, 1)}},
    "without counters": lambda state: {key: part for key, part in state.items() if "num_batches" not in key},
}


@pytest.mark.parametrize("name", CONTENTS)
def test_checkpoints_as_users_have_them(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(CONTENTS[name](weights), tmp_path / "theirs.pth")
    result = run("import", "mmpose", tmp_path / "theirs.pth", tmp_path / "run", "--config", CONFIG)
    assert result.exit_code == 0, result.output
    state, header = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], value) for key, value in weights.items())
    assert header.skeleton["name"] == "coco"
    assert header.experiment["model"]["backbone"]["depth"] == 18
    assert header.epoch == (7 if name in ("0.x", "1.x") else 0)
    assert header.command == shlex.join(["posecli", *sys.argv[1:]])
    for word in {"with averaged copies": ["averages"], "1.x": ["message_hub", "optimizer"]}.get(name, []):
        assert word in result.stdout


def test_what_does_not_match_is_listed_and_nothing_is_written(weights: dict[str, Tensor], tmp_path: Path) -> None:
    state = {**weights, "backbone.extra.weight": torch.zeros(1), "head.final_layer.weight": torch.zeros(4, 256, 1, 1)}
    del state["backbone.conv1.weight"]
    torch.save(state, tmp_path / "theirs.pth")
    result = run("import", "mmpose", tmp_path / "theirs.pth", tmp_path / "run", "--config", CONFIG)
    assert isinstance(result.exception, PosecliError)
    assert result.exception.exit_code == 2
    assert "nothing was written: 1 of the model's tensors are missing" in str(result.exception)
    for line in (
        f"matched: {len(weights) - 2}",
        "  backbone.conv1.weight",
        "  backbone.extra.weight",
        "  head.final_layer.weight 17×256×1×1, there head.final_layer.weight 4×256×1×1",
    ):
        assert line in result.stdout.splitlines()
    assert not (tmp_path / "run").exists()


def test_two_of_theirs_for_one_of_ours_are_not_hidden(weights: dict[str, Tensor]) -> None:
    experiment = load_experiment(CONFIG)
    model = build_for_import(experiment, house_skeleton("coco"))
    both = {**weights, **older(weights)}
    found = match(model, experiment.model, both)
    assert not found.complete
    assert "keypoint_head.final_layer.weight" in found.unexpected


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def test_code_is_not_run(weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights, "hook": Evil()}, "evil.pth")
    result = run("import", "mmpose", "evil.pth", "run", "--config", CONFIG)
    assert isinstance(result.exception, PosecliError)
    assert "asks to call posix.system" in str(result.exception)
    assert not Path("executed").exists()
    assert not Path("run").exists()


def test_files_without_weights(tmp_path: Path) -> None:
    for content, text in (({"meta": 1}, "holds no weights"), ([1], "holds a list"), ({}, "holds no weights")):
        torch.save(content, tmp_path / "theirs.pth")
        with pytest.raises(PosecliError, match=text):
            read_mmpose(tmp_path / "theirs.pth")


def test_options(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "theirs.pth")
    listed = run("import", "mmpose", tmp_path / "theirs.pth", "--list")
    assert listed.exit_code == 0
    assert "head.final_layer.weight" in listed.stdout
    cases = [  # arguments, what is said
        ([], "say which network it is with --config"),
        (["--config", CONFIG], "say where to write"),
        (["--config", "topdown/coco/resnet-81"], "no config"),
        (["--config", CONFIG, "--skeleton", "nothing"], "no skeleton 'nothing'"),
    ]
    for arguments, text in cases:
        result = run("import", "mmpose", tmp_path / "theirs.pth", *arguments)
        assert isinstance(result.exception, PosecliError)
        assert text in str(result.exception)


def test_another_skeleton(tmp_path: Path) -> None:
    """A fine-tuned model with keypoints of its own comes over with a skeleton file."""
    from posecli.skeleton import Skeleton

    model = build_for_import(load_experiment(CONFIG), Skeleton("pair", ("head", "tail")))
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    (tmp_path / "pair.yaml").write_text("name: pair\nkeypoints: [head, tail]\n")
    options = ("--config", CONFIG, "--skeleton", tmp_path / "pair.yaml")
    result = run("import", "mmpose", tmp_path / "theirs.pth", tmp_path / "ours.safetensors", *options)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "ours.safetensors")[1].skeleton["keypoints"] == ["head", "tail"]


@pytest.mark.parametrize("name", ["real_0x", "real_1x"])
def test_real_checkpoints_of_an_unknown_network_are_listed(name: str, shared: Path, tmp_path: Path) -> None:
    """LiteHRNet as the reference's trainers write it."""
    path = shared / "reference" / "checkpoints" / f"{name}.pth"
    names = [row[0] for row in json.loads(path.with_suffix(".json").read_text())["state"]]
    assert list(read_mmpose(path).state) == names
    result = run("import", "mmpose", path, tmp_path / "run", "--config", "topdown/coco/hrnet-w32", "--list")
    assert isinstance(result.exception, PosecliError)
    listed = {word.rstrip(":") for word in result.stdout.split()}
    assert set(names) <= listed
    assert not (tmp_path / "run").exists()


def test_info(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "theirs.pth")
    run("import", "mmpose", tmp_path / "theirs.pth", tmp_path / "run", "--config", CONFIG)
    result = run("info", tmp_path / "run", "--json")
    facts = json.loads(result.stdout)
    path = tmp_path / "run" / "best.safetensors"
    assert facts["file"] == str(path)
    assert facts["algorithm"] == "topdown.heatmap"
    assert facts["backbone"]["use"] == "resnet"
    assert facts["keypoints"] == list(house_skeleton("coco").names)
    assert facts["sha256"] == sha256(path)
    model = build_for_import(load_experiment(CONFIG), house_skeleton("coco"))
    assert facts["parameters"] == sum(value.numel() for value in model.parameters()) == count_parameters(path)
    shown = run("info", path).stdout
    for part in ("topdown.heatmap", "17: nose, left_eye", "resnet", f"{facts['parameters']:,}", facts["sha256"]):
        assert part in shown
    assert shown.splitlines()[0].split() == ["what", "value"]
    assert "pretrained no" in shown
    assert isinstance(run("info", tmp_path / "nothing").exception, PosecliError)
