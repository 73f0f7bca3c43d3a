"""Configs: merging, settings, error texts, round trip. No Python is ever made from a config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from posecli.config import (
    ConfigError,
    Experiment,
    Layers,
    config_names,
    copied_yaml,
    dump,
    find_config,
    layers_of,
    load_experiment,
    parse_metric,
    parse_setting,
    read_yaml,
    to_yaml,
    validate,
)
from posecli.console import PosecliError

MODEL = "model: {use: topdown.heatmap, backbone: {use: hrnet, width: 48}, sigma: 3}\n"
DATA = "data: {train: synthetic, val: {use: synthetic, seed: 1}}\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A complete experiment."""
    return write(tmp_path, "whole.yaml", MODEL + DATA)


def fields_of(path: Path, *settings: str) -> dict[str, object]:
    return dump(load_experiment(str(path), settings))


# --- merging --------------------------------------------------------------------------------------------------------


def test_extends_chain_nearest_wins(tmp_path: Path, whole: Path) -> None:
    write(tmp_path, "a/middle.yaml", "extends: ../whole.yaml\ntrain: {epochs: 7, seed: 3}\n")
    last = write(tmp_path, "b/last.yaml", "extends: ../a/middle.yaml\ntrain: {epochs: 9}\n")
    experiment = load_experiment(str(last))
    assert (experiment.train.epochs, experiment.train.seed) == (9, 3)
    assert experiment.model.backbone.width == 48  # type: ignore[attr-defined]


def test_of_several_parents_the_later_wins(tmp_path: Path, whole: Path) -> None:
    write(tmp_path, "one.yaml", "train: {epochs: 1, seed: 1}\n")
    write(tmp_path, "two.yaml", "train: {epochs: 2}\n")
    child = write(tmp_path, "child.yaml", "extends: [whole.yaml, one.yaml, two.yaml]\n")
    assert load_experiment(str(child)).train.model_dump(include={"epochs", "seed"}) == {"epochs": 2, "seed": 1}


def test_one_ancestor_by_two_ways_is_no_cycle(tmp_path: Path, whole: Path) -> None:
    write(tmp_path, "one.yaml", "extends: whole.yaml\ntrain: {epochs: 1}\n")
    write(tmp_path, "two.yaml", "extends: whole.yaml\ntrain: {seed: 2}\n")
    child = write(tmp_path, "child.yaml", "extends: [one.yaml, two.yaml]\n")
    assert load_experiment(str(child)).train.epochs == 1


MERGES = [
    # settings, the backbone that comes out, note
    ([], {"use": "hrnet", "width": 48}, "as the file says"),
    (["model.backbone.use=resnet"], {"use": "resnet", "depth": 50}, "another component replaces it whole"),
    (["model.backbone=resnet"], {"use": "resnet", "depth": 50}, "the short form too"),
    (["model.backbone={use: resnet, depth: 18}"], {"use": "resnet", "depth": 18}, "a mapping as a value"),
    (["model.backbone=resnet", "model.backbone.depth=18"], {"use": "resnet", "depth": 18}, "short form, then a field"),
    (["model.backbone.use=hrnet"], {"use": "hrnet", "width": 48}, "the same component merges"),
    (["model.backbone.width=32"], {"use": "hrnet", "width": 32}, "a field of it"),
]


@pytest.mark.parametrize(("settings", "expected", "note"), MERGES)
def test_components_merge_or_are_replaced(
    whole: Path, settings: list[str], expected: dict[str, object], note: str
) -> None:
    backbone = fields_of(whole, *settings)["model"]["backbone"]  # type: ignore[index]
    assert backbone.items() >= expected.items(), note
    assert ("width" in backbone) == (backbone["use"] == "hrnet"), note


SETTINGS = [
    ("train.optimizer.lr=5e-4", 5e-4, "no dot before the exponent"),
    ("train.optimizer.lr=1E-3", 1e-3, "capital"),
    ("train.optimizer.lr=2.5e+1", 25.0, "sign"),
    ("train.optimizer.lr=3", 3, "whole"),
    ("train.clip_norm=", None, "nothing is null"),
    ("train.clip_norm=null", None, "null"),
    ("eval.metrics=[pck@0.05:torso, epe]", ["pck@0.05:torso", "epe"], "a list"),
    ("train.channels_last=false", False, "a truth value"),
    ("data.train.path=a=b", "a=b", "a second equals sign"),
]


@pytest.mark.parametrize(("text", "value", "note"), SETTINGS)
def test_settings_are_yaml(text: str, value: object, note: str) -> None:
    fields: object = parse_setting(text)
    while isinstance(fields, dict):
        (fields,) = fields.values()
    assert fields == value, note
    assert type(fields) is type(value), note


def test_numbers_are_the_same_in_files_and_settings(tmp_path: Path) -> None:
    path = write(tmp_path, "x.yaml", "a: 5e-4\nb: 1e3\nc: 1e\nd: e5\n")
    assert read_yaml(path) == {"a": 5e-4, "b": 1000.0, "c": "1e", "d": "e5"}


def test_origins_follow_what_won(tmp_path: Path, whole: Path) -> None:
    child = write(tmp_path, "child.yaml", "extends: whole.yaml\nmodel: {sigma: 2}\n")
    layers = layers_of(str(child), ["model.backbone.use=resnet"])
    assert layers.origin(("model", "sigma")) == str(child)
    assert layers.origin(("data", "train")) == str(whole)
    assert layers.origin(("model", "backbone", "width")) == "--set model.backbone.use=resnet", "the old width is gone"
    assert layers.has("model", "backbone")
    assert not layers.has("model", "backbone", "width")


# --- what is wrong is said in one line ------------------------------------------------------------------------------

MULTITASK = """model:
  use: multitask
  heads: {keypoints: {task: heatmap}, kind: {task: class, column: kind, classes: [a, b]}}
"""

FAULTS = [
    # text of the file, settings, what the message must hold, note
    (MODEL + DATA + "trian: {}\n", [], ["bad.yaml: trian: unknown key; did you mean 'train'?"], "at the top"),
    (
        MODEL + DATA + "train: {epoch: 3}\n",
        [],
        ["bad.yaml: train.epoch: unknown key; did you mean 'epochs'?"],
        "in a section",
    ),
    (
        MODEL.replace("hrnet", "hrnett") + DATA,
        [],
        ["bad.yaml: model.backbone: no backbone named 'hrnett'; did you mean 'hrnet'?"],
        "a component's name",
    ),
    (
        MODEL.replace("width", "widht") + DATA,
        [],
        ["bad.yaml: model.backbone.widht: unknown key; did you mean 'width'?"],
        "a component's field",
    ),
    (
        MODEL.replace("topdown.heatmap", "topdown.heatmaps") + DATA,
        [],
        ["model: no model named 'topdown.heatmaps'; did you mean 'topdown.heatmap'?"],
        "the model's name",
    ),
    (MODEL + DATA, ["train.epochs=many"], ["--set train.epochs=many: train.epochs:", "got 'many'"], "a wrong type"),
    (
        MODEL + DATA + "train: {epochs: -1}\n",
        [],
        ["bad.yaml: train.epochs:", "greater than 0", "got -1"],
        "a wrong value",
    ),
    (MODEL + DATA + "train:\n", [], ["bad.yaml: train:", "got None"], "an empty section"),
    (MODEL, [], ["data: a value is required"], "a section missing"),
    (MODEL + "data: {train: synthetic}\n", [], ["bad.yaml: data.val: a value is required"], "a value missing"),
    (
        "model: {backbone: resnet}\n" + DATA,
        [],
        ["bad.yaml: model: say which model with `use:`", "topdown.simcc"],
        "no use",
    ),
    (
        MODEL + DATA,
        ["model.backbone=3"],
        ["--set model.backbone=3: model.backbone:", "got 3"],
        "a number for a component",
    ),
    (MODEL + DATA, ["train.optimizer.name=adamm"], ["train.optimizer.name:", "'adamw'", "got 'adamm'"], "a choice"),
    (MODEL + DATA, ["eval.metrics=[1]"], ["--set eval.metrics=[1]: eval.metrics.0:", "got 1"], "inside a list"),
    (
        MULTITASK + DATA,
        ["model.heads.kind.weigth=2"],
        ["--set model.heads.kind.weigth=2: model.heads.kind.weigth: unknown key; did you mean 'weight'?"],
        "a key of one of several kinds",
    ),
    (
        MULTITASK + DATA,
        ["model.heads.kind.sigma=2"],
        ["model.heads.kind.sigma: unknown key; known are classes, column,"],
        "a key of another kind",
    ),
    (
        MULTITASK + DATA,
        ["model.heads.kind.weight=-1"],
        ["model.heads.kind.weight: Input should be greater than or equal to 0, got -1"],
        "a value of one of several kinds",
    ),
    (
        MULTITASK + DATA,
        ["model.heads.kind.task=clas"],
        ["model.heads.kind.task: 'clas' is none of heatmap, regression, class; did you mean 'class'?"],
        "no such kind",
    ),
    (MULTITASK + DATA, ["model.heads.other.weight=1"], ["model.heads.other.task: a value is required"], "no kind"),
    (
        MULTITASK + DATA,
        ["model.heads.other.task=class"],
        ["model.heads.other.column: a value is required", "model.heads.other.classes: a value is required"],
        "values missing in one of several kinds",
    ),
    (
        MULTITASK + DATA,
        ["model.necks.a.chanels=1"],
        ["model.necks.a.chanels: unknown key; did you mean 'channels'?"],
        "a key in a section with a free name",
    ),
    (MODEL + DATA, ["epochs"], ["--set 'epochs': write KEY=VALUE"], "a setting without a value"),
    (MODEL + DATA, ["train..epochs=3"], ["write KEY=VALUE"], "a setting with an empty part"),
    (MODEL + DATA, ["train.epochs=[1"], ["--set 'train.epochs=[1': the value is not valid YAML"], "a setting cut off"),
    ("model: {a: 1\nb: 2\n", [], ["bad.yaml is not valid YAML: line 2:"], "a bracket left open"),
    ("train: {epochs: 1}\n\ntrain: {epochs: 2}\n", [], ["line 3: the key 'train' stands twice"], "a key twice"),
    ("- 1\n", [], ["bad.yaml: a config is a mapping of keys to values, this is a list"], "a list"),
    ("extends: bse.yaml\n", [], ["bad.yaml: extends: no file", "bse.yaml"], "a parent missing"),
    ("extends: 3\n", [], ["bad.yaml: extends: give a config or a list of configs, got 3"], "a parent that is none"),
    ("extends: [[a]]\n", [], ["extends: give a config or a list of configs"], "a list of lists"),
    ("extends: bad.yaml\n", [], ["bad.yaml extends itself"], "a cycle of one"),
]


@pytest.mark.parametrize(("text", "settings", "parts", "note"), FAULTS, ids=[fault[3] for fault in FAULTS])
def test_faults_name_file_key_and_value(
    tmp_path: Path, text: str, settings: list[str], parts: list[str], note: str
) -> None:
    path = write(tmp_path, "bad.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_experiment(str(path), settings)
    message = str(caught.value)
    assert all(part in message for part in parts), f"{note}: {message}"
    assert "\n" not in message


def test_a_longer_cycle_is_found(tmp_path: Path) -> None:
    first = write(tmp_path, "first.yaml", "extends: second.yaml\n")
    write(tmp_path, "second.yaml", "extends: first.yaml\n")
    with pytest.raises(ConfigError, match=r"first\.yaml extends itself by way of .*second\.yaml"):
        load_experiment(str(first))


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "bad.yaml", MODEL + DATA + "train: {epochs: no, sead: 3}\n")
    with pytest.raises(ConfigError, match=r"train\.epochs.*; .*train\.sead: unknown key; did you mean 'seed'\?"):
        load_experiment(str(path))


def test_unknown_config_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no config 'topdown/coco/hrnet-w23'.*did you mean 'topdown/coco/hrnet-w32'"):
        find_config("topdown/coco/hrnet-w23")


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot read the config .*bad\.yaml"):
        load_experiment(str(path))


PYTHON_TAGS = [
    "model: !!python/object/apply:os.system ['touch {mark}']\n",
    "model: !!python/object/new:subprocess.check_output [['touch', '{mark}']]\n",
    "model: !!python/name:os.system\n",
    "a: &a !!python/module:os\nmodel: *a\n",
]


@pytest.mark.parametrize("text", PYTHON_TAGS)
def test_python_in_a_config_is_refused(tmp_path: Path, text: str) -> None:
    mark = tmp_path / "executed"
    path = write(tmp_path, "bad.yaml", text.replace("{mark}", str(mark)))
    with pytest.raises(ConfigError, match=r"line 1: could not determine a constructor"):
        load_experiment(str(path))
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        parse_setting(f"a=!!python/object/apply:os.system ['touch {mark}']")
    assert not mark.exists()


# --- out and in again -----------------------------------------------------------------------------------------------


def test_dump_reads_back_equal(whole: Path) -> None:
    experiment = load_experiment(str(whole), ["train.optimizer.lr=1e-5", "train.clip_norm=1"])
    text = to_yaml(experiment)
    layers = Layers()
    layers.add(yaml.safe_load(text), "text")
    assert validate(Experiment, layers) == experiment
    assert dump(validate(Experiment, layers)) == yaml.safe_load(text)


def test_a_run_folder_is_a_config(tmp_path: Path, whole: Path) -> None:
    experiment = load_experiment(str(whole))
    write(tmp_path, "run/config.yaml", to_yaml(experiment))
    assert load_experiment(str(tmp_path / "run")) == experiment


def test_a_family_stands_for_its_default() -> None:
    assert find_config("topdown") == find_config("topdown/default")


def test_experiments_are_frozen(whole: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_experiment(str(whole)).train.epochs = 3  # type: ignore[misc]


def test_copies_extend_the_same(tmp_path: Path) -> None:
    name = "topdown/coco/hrnet-w32-udp"
    copy = write(tmp_path, "mine/copy.yaml", copied_yaml(find_config(name)))
    assert "extends: topdown/coco/hrnet-w32\n" in copy.read_text(encoding="utf-8")
    assert load_experiment(str(copy)) == load_experiment(name)


def test_copies_keep_comments_and_foreign_parents(tmp_path: Path, whole: Path) -> None:
    child = write(
        tmp_path, "child.yaml", "# mine\nextends:\n- whole.yaml  # first\n- base/coco_person\ntrain: {seed: 4}\n"
    )
    copy = write(tmp_path, "elsewhere/copy.yaml", copied_yaml(child))
    assert copy.read_text(encoding="utf-8").startswith(f"# mine\nextends: [{whole}, base/coco_person]\ntrain:")
    assert load_experiment(str(copy)) == load_experiment(str(child))


def test_base_files_are_not_listed() -> None:
    names = config_names()
    assert "topdown/coco/hrnet-w32" in names
    assert not [name for name in names if name.startswith("base/")]


METRICS = [
    ("pkc", "no metric named 'pkc'; did you mean 'pck'?"),
    ("epe@x@y", "metric 'epe@x@y'"),
]


@pytest.mark.parametrize(("text", "message"), METRICS)
def test_metrics_by_name(text: str, message: str) -> None:
    with pytest.raises(PosecliError) as caught:
        parse_metric(text)
    assert message in str(caught.value)
