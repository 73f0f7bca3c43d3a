"""Plugins are isolated: a broken one is reported by name, and everything else works."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posecli.plugins import suggest

Posecli = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., None]

HOOK = "from posecli import hookimpl\n"
COMPONENT = """
from typing import ClassVar
from posecli.config import {kind}Config

class {name}({kind}Config):
    '''A {name}.'''
    name: ClassVar[str] = {component!r}
    {body}

@hookimpl
def posecli_{hook}():
    return [{name}]
"""
BUILD = "def build(self, *parts): raise NotImplementedError"


def component(name: str, kind: str = "Backbone", body: str = BUILD) -> str:
    return HOOK + COMPONENT.format(name="Mine", kind=kind, component=name, hook=f"{kind.lower()}s", body=body)


GOOD = component("third.good")
BROKEN = [
    # name, code, what the error must hold, note
    ("raises", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines", "raises at import"),
    ("leaves", "import sys; sys.exit(3)", "SystemExit: 3", "leaves at import"),
    ("syntax", "def f(:", "SyntaxError", "is no Python"),
    ("absent", "import no_such_module", "No module named 'no_such_module'", "needs what is not there"),
    (
        "misspelt",
        HOOK + "@hookimpl\ndef posecli_modles(): return []",
        "unknown hook 'posecli_modles'; did you mean 'posecli_models'?",
        "a misspelt hook",
    ),
    ("bare", "def posecli_models(): return []", "'posecli_models' is not marked", "a hook without its mark"),
    (
        "arguments",
        HOOK + "@hookimpl\ndef posecli_commands(app, extra): pass",
        "'extra'",
        "an argument that the hook does not have",
    ),
    ("taken", component("resnet"), "backbone 'resnet' is claimed by both 'core' and 'taken'", "a name that is taken"),
    (
        "twice",
        component("third.twice").replace("[Mine]", "[Mine, Mine]"),
        "claimed by both 'twice' and 'twice'",
        "one name twice",
    ),
    ("wrongkind", component("x", "Metric").replace("metrics", "models"), "not a model config class", "another kind"),
    ("nothing", HOOK + "@hookimpl\ndef posecli_models(): return 3", "posecli_models returned 3", "no list"),
    ("strange", HOOK + "@hookimpl\ndef posecli_models(): return [3]", "returned 3, which is not a model", "no class"),
    ("nameless", component(""), "Mine, which does not set its `name`", "a component without a name"),
    ("abstract", component("x", body="pass"), "Mine, which does not define `build`", "a component that builds nothing"),
    ("hookraises", HOOK + "@hookimpl\ndef posecli_config_dirs(): return [1 / 0]", "ZeroDivisionError", "a hook raises"),
]


@pytest.fixture(scope="module")
def everything(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All broken plugins at once, and a good one."""
    folder = tmp_path_factory.mktemp("plugins") / "site"
    for name, code, _, _ in BROKEN:
        install(folder, name, code)
    install(folder, "good", f"print('noise on standard output')\n{GOOD}")
    return folder


@pytest.fixture(scope="module")
def rows(posecli: Posecli, everything: Path) -> dict[str, dict[str, Any]]:
    """What `posecli plugins --json` says, by plugin name."""
    done = posecli("plugins", "--json", path=everything)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["plugins"]}


@pytest.mark.parametrize(("name", "code", "error", "note"), BROKEN, ids=[row[3] for row in BROKEN])
def test_broken_plugin_is_reported(
    rows: dict[str, dict[str, Any]], name: str, code: str, error: str, note: str
) -> None:
    assert rows[name]["status"] == "failed", note
    assert error in rows[name]["error"], note
    assert "\n" not in rows[name]["error"]
    assert (rows[name]["distribution"], rows[name]["version"], rows[name]["adds"]) == (f"third-{name}", "1.2", {})


def test_the_others_work(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["good"]["adds"] == {"backbone": ["third.good"]}
    assert rows["good"]["hooks"] == ["posecli_backbones"]
    for name in ("core", "topdown"):
        assert rows[name]["status"] == "ok"
        assert rows[name]["distribution"] == "posecli"


def test_commands_work_beside_broken_plugins(posecli: Posecli, everything: Path) -> None:
    for arguments in (["--help"], ["--version"], ["plugins"]):
        done = posecli(*arguments, path=everything)
        assert (done.returncode, done.stderr.count("warning")) == (0, 0), arguments
    listed = posecli("list", "backbones", "--json", path=everything)
    names = {row["name"]: row["plugin"] for row in json.loads(listed.stdout)["backbones"]}
    assert names["resnet"] == "core"
    assert names["third.good"] == "good"
    for name, *_ in BROKEN:
        assert f"warning: plugin {name!r} could not be loaded: " in listed.stderr


def test_an_unknown_name_may_be_a_broken_plugins(posecli: Posecli, everything: Path, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("model: third.model\ndata: {train: synthetic, val: synthetic}\n", encoding="utf-8")
    done = posecli("config", "show", str(config), path=everything)
    assert done.returncode == 2
    assert re.search(r"no model named 'third.model'.*plugins that failed to load: .*raises", done.stderr)


def test_two_plugins_of_one_name(posecli: Posecli, install: Install, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "first", GOOD, entry="acme")
    install(site, "second", component("third.other"), entry="acme")
    done = posecli("plugins", "--json", path=site)
    found = [row for row in json.loads(done.stdout)["plugins"] if row["name"] == "acme"]
    assert sorted(row["status"] for row in found) == ["failed", "ok"]
    error = next(row["error"] for row in found if row["status"] == "failed")
    assert "two plugins are named 'acme'" in error
    assert "third_first (third-first, 1.2)" in error
    assert "third_second (third-second, 1.2)" in error


def test_a_third_party_cannot_take_a_house_plugins_name(posecli: Posecli, install: Install, tmp_path: Path) -> None:
    install(tmp_path / "site", "aaa", GOOD, entry="topdown")
    done = posecli("plugins", "--json", path=tmp_path / "site")
    found = {
        row["distribution"]: row["status"] for row in json.loads(done.stdout)["plugins"] if row["name"] == "topdown"
    }
    assert found == {"posecli": "ok", "third-aaa": "failed"}


LIMITS = [
    # POSECLI_PLUGINS, what is loaded, note
    ("good", ["core", "good"], "one"),
    ("good, topdown", ["core", "good", "topdown"], "two, with a blank"),
    ("", ["core"], "none: the core stays"),
    ("unknown", ["core"], "one that is not there, which is said"),
]


@pytest.mark.parametrize(("value", "loaded", "note"), LIMITS)
def test_plugins_can_be_limited(posecli: Posecli, everything: Path, value: str, loaded: list[str], note: str) -> None:
    done = posecli("plugins", "--json", path=everything, POSECLI_PLUGINS=value)
    found = {row["name"]: row["status"] for row in json.loads(done.stdout)["plugins"]}
    assert sorted(name for name, status in found.items() if status == "ok") == loaded, note
    assert [name for name, status in found.items() if status == "failed"] == (["unknown"] if value == "unknown" else [])


def test_strict_stops_at_the_first_broken_plugin(posecli: Posecli, everything: Path) -> None:
    done = posecli("list", "models", path=everything, POSECLI_STRICT_PLUGINS="1", POSECLI_PLUGINS="raises")
    assert done.returncode == 2
    assert done.stderr == "error: plugin 'raises' (third_raises) failed: RuntimeError: two lines\n"
    assert (
        posecli("list", "models", path=everything, POSECLI_STRICT_PLUGINS="1", POSECLI_PLUGINS="good").returncode == 0
    )


def test_trace_prints_hook_calls(posecli: Posecli, everything: Path) -> None:
    done = posecli("plugins", "--json", path=everything, POSECLI_TRACE_PLUGINS="1", POSECLI_PLUGINS="good")
    assert "third_good.posecli_backbones()" in done.stderr
    assert "posecli.builtin.posecli_datasets()" in done.stderr
    json.loads(done.stdout)


COMMANDS = """
import typer
from posecli import hookimpl

@hookimpl
def posecli_commands(app):
    group = typer.Typer()

    @group.command()
    def wave() -> None:
        print("hello")

    app.add_typer(group, name={name!r})
    {after}
"""


def test_plugins_add_commands(posecli: Posecli, install: Install, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "greets", COMMANDS.format(name="greet", after=""))
    install(site, "steals", COMMANDS.format(name="plugins", after=""))
    install(site, "stumbles", COMMANDS.format(name="half", after="raise OSError('no')"))
    done = posecli("greet", "wave", path=site)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert "plugin 'steals' could not add its commands: the command 'plugins' exists already" in done.stderr
    assert "plugin 'stumbles' could not add its commands: OSError: no" in done.stderr
    listed = posecli("--help", path=site).stdout
    assert "greet" in listed
    assert "half" not in listed
    assert json.loads(posecli("plugins", "--json", path=site).stdout)["plugins"]


def test_damaged_metadata_is_no_obstacle(posecli: Posecli, install: Install, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "good", GOOD)
    (site / "third_good-1.2.dist-info" / "METADATA").write_text("", encoding="utf-8")
    assert posecli("plugins", path=site).returncode == 0


SUGGESTIONS = [
    ("hrnett", ["hrnet", "resnet"], "did you mean 'hrnet'?", "near"),
    ("zzz", ["b", "a"], "known are a, b", "far: all, sorted"),
    (
        "zzz",
        [f"a{number}" for number in range(100, 200)],
        f"known are {', '.join(f'a{n}' for n in range(100, 140))} ...",
        "many",
    ),
    ("x", [], "none is registered", "nothing there"),
]


@pytest.mark.parametrize(("name", "known", "text", "note"), SUGGESTIONS)
def test_suggestions(name: str, known: list[str], text: str, note: str) -> None:
    assert suggest(name, known) == text, note
