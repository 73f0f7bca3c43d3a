"""`list`, `config`, `plugins` and `doctor`: what they print, as text and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from posecli import doctor
from posecli.config import load_experiment
from posecli.console import PosecliError
from posecli.plugins import Plugin
from posecli.scaffold import write_package

Posecli = Callable[..., subprocess.CompletedProcess[str]]

LISTED = [
    # what, a name in it, keys of each row
    ("models", "topdown.heatmap", {"name", "plugin", "description", "fields"}),
    ("datasets", "synthetic", {"name", "plugin", "description", "fields"}),
    ("metrics", "pck", {"name", "plugin", "description", "fields"}),
    ("backbones", "hrnet", {"name", "plugin", "description", "fields"}),
    ("writers", "coco", {"name", "plugin", "description", "fields"}),
    ("configs", "topdown/coco/hrnet-w32", {"name", "file"}),
    ("skeletons", "coco", {"name", "keypoints", "flip pairs", "sigmas"}),
]


@pytest.mark.parametrize(("what", "name", "keys"), LISTED)
def test_list(posecli: Posecli, what: str, name: str, keys: set[str]) -> None:
    rows = json.loads(posecli("list", what, "--json").stdout)[what]
    assert name in [row["name"] for row in rows]
    assert all(set(row) == keys for row in rows)
    assert all(row.get("description", "said") for row in rows), "every component says what it is"
    text = posecli("list", what).stdout.splitlines()
    assert len(text) == len(rows) + 1
    assert text[0].startswith("name")


def test_list_fields(posecli: Posecli) -> None:
    rows = json.loads(posecli("list", "backbones", "--json").stdout)["backbones"]
    (fields,) = [row["fields"] for row in rows if row["name"] == "hrnet"]
    (width,) = [field for field in fields if field["name"] == "width"]
    assert width["default"] == 32
    assert width["description"]
    assert "\nhrnet\n" in posecli("list", "backbones", "--fields").stdout


def test_config_show_is_a_config(posecli: Posecli, tmp_path: Path) -> None:
    shown = posecli("config", "show", "topdown/coco/hrnet-w32", "--set", "train.epochs=3").stdout
    path = tmp_path / "shown.yaml"
    path.write_text(shown, encoding="utf-8")
    assert load_experiment(str(path)) == load_experiment("topdown/coco/hrnet-w32", ["train.epochs=3"])
    as_json = posecli("config", "show", "topdown/coco/hrnet-w32", "--set", "train.epochs=3", "--json").stdout
    assert json.loads(as_json) == yaml.safe_load(shown)


def test_config_show_origins(posecli: Posecli) -> None:
    shown = posecli("config", "show", "topdown/coco/hrnet-w48", "--set", "train.epochs=3", "--origins").stdout
    lines = {line.split(":")[0].strip(): line for line in shown.splitlines()}
    assert lines["width"].endswith("hrnet-w48.yaml")
    assert lines["epochs"].endswith("# --set train.epochs=3")
    assert lines["padding"].endswith("# default")
    assert yaml.safe_load(shown)["train"]["epochs"] == 3


def test_config_check(posecli: Posecli, tmp_path: Path, project: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("extends: topdown/default\ntrain: {epoch: 3}\n", encoding="utf-8")
    done = posecli("config", "check", "topdown/default", str(bad))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "topdown/default: ok",
        f"{bad}: train.epoch: unknown key; did you mean 'epochs'?",
    ]
    everything = posecli("config", "check", str(project / "configs"))
    assert everything.returncode == 0
    assert "/base/" not in everything.stdout


def test_config_copy(posecli: Posecli, tmp_path: Path) -> None:
    name, mine, full = "topdown/coco/hrnet-w32-udp", tmp_path / "mine.yaml", tmp_path / "full.yaml"
    assert posecli("config", "copy", name, str(mine)).returncode == 0
    assert posecli("config", "copy", name, str(full), "--full").returncode == 0
    assert load_experiment(str(mine)) == load_experiment(str(full)) == load_experiment(name)
    assert "extends" not in full.read_text(encoding="utf-8")
    again = posecli("config", "copy", name, str(mine))
    assert (again.returncode, again.stderr) == (2, f"error: {mine} exists already; choose another name\n")


def test_plugins_new(posecli: Posecli, tmp_path: Path) -> None:
    done = posecli("plugins", "new", "my_pose", "--out", str(tmp_path))
    assert done.returncode == 0
    folder = tmp_path / "posecli-my_pose"
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}
    assert folder / "posecli_my_pose" / "configs" / "my_pose" / "default.yaml" in texts
    assert not [path for path, text in texts.items() if "NAME" in text or "TITLE" in text or "NAME" in path.name]
    for tool in (["ruff", "check"], ["ruff", "format", "--check"]):
        checked = subprocess.run(
            [sys.executable, "-m", *tool, str(folder)], cwd=tmp_path, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout


NAMES = [
    ("a-b", "lower-case letters, digits and underscores", "a hyphen"),
    ("Acme", "lower-case letters", "a capital"),
    ("3d", "starting with a letter", "a digit first"),
    ("class", "lower-case letters", "a keyword"),
    ("../x", "lower-case letters", "a path"),
    ("topdown", "is taken by posecli", "a plugin that is installed"),
]


@pytest.mark.parametrize(("name", "message", "note"), NAMES)
def test_plugin_names_are_checked(tmp_path: Path, name: str, message: str, note: str) -> None:
    with pytest.raises(PosecliError, match=message):
        write_package(name, tmp_path)
    assert not list(tmp_path.iterdir()), note


def test_plugins_new_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "posecli-acme").mkdir()
    with pytest.raises(PosecliError, match=r"posecli-acme exists already"):
        write_package("acme", tmp_path)


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor(posecli: Posecli) -> None:
    """The environment the tests run in is fine."""
    done = posecli("doctor", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True), report
    status = {finding["name"]: finding["status"] for finding in report["findings"]}
    assert {"python", "torch", "numpy", "opencv-python", "cpu", "gpu", "bf16", "current folder"} <= set(status)
    assert status["plugin core"] == "ok"


IMPORTS = [
    # module, distribution, extra, status, what the finding must hold
    ("json", "pytest", None, "ok", pytest.__version__),
    ("no_such_module", "no-such-distribution", None, "broken", "pip install --upgrade --force-reinstall no-such"),
    ("no_such_module", "no-such-distribution", "extra", "missing", "pip install 'posecli[extra]'"),
    ("no_such_module", "pytest", "extra", "broken", "ModuleNotFoundError"),
    ("os; os._exit(9)", "pytest", None, "broken", "the interpreter ended with code 9"),
    ("ctypes; ctypes.string_at(0)", "pytest", None, "broken", "the interpreter ended with code -11"),
]


@pytest.mark.parametrize(("module", "distribution", "extra", "status", "text"), IMPORTS)
def test_imports_are_tried_apart(module: str, distribution: str, extra: str | None, status: str, text: str) -> None:
    finding = doctor.try_import(module, distribution, extra)
    assert finding.status == status
    assert text in f"{finding.detail} {finding.advice}"


def test_a_broken_part_is_a_fault_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", {"no_such_module": "no-such-distribution"})
    monkeypatch.setattr(doctor, "OPTIONAL", {})
    findings = list(doctor.examine())
    assert [fault.name for fault in doctor.faults(findings)] == ["no-such-distribution"]
    assert all(fault.advice for fault in doctor.faults(findings))
    assert doctor.report(findings)["ok"] is False


def test_doctor_names_a_broken_plugin() -> None:
    plugin = Plugin("broken", "third", "third-broken", "1.2", "failed", "RuntimeError: no")
    finding = doctor.plugin_finding(plugin)
    assert (finding.name, finding.status, finding.detail) == ("plugin broken", "broken", "RuntimeError: no")
    assert "pip uninstall third-broken" in finding.advice


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (finding,) = doctor.guarded("x", lambda: doctor.folder_finding("x", tmp_path / "absent"))
    assert finding.status == "broken"
