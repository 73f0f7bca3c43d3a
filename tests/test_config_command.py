"""`posecli config` on paths that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from posecli.commands import config
from posecli.console import PosecliError


def call(*arguments: str) -> None:
    """The command in this process: raises what the command line would print in one line."""
    app = typer.Typer()
    config.add(app)
    app(["config", *arguments], standalone_mode=False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mine.yaml", "did you mean mime.yaml?"),
        ("folder/mine.yaml", "did you mean folder/mines.yaml?"),
        ("topdown/defalt.yaml", "did you mean topdown/default.yaml?"),
        ("elsewhere/xyz.yml", "`posecli list configs` names those that need no path"),
    ],
    ids=["a file here", "a file in a folder", "a config of posecli", "nothing alike"],
)
def test_a_path_that_leads_nowhere_gets_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for path in ("mime.yaml", "folder/mines.yaml"):
        Path(path).write_text("extends: topdown/default\n", encoding="utf-8")
    expected = f"no config file {name} (looked for {tmp_path / name}); {hint}"
    with pytest.raises(PosecliError) as caught:
        call("show", name)
    assert str(caught.value) == expected
    call("check", name)  # which goes on with the other configs
    assert capsys.readouterr().out == f"{name}: {expected}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("extends: xyz", "no config named 'xyz'; `posecli list configs` names those that need no path"),
        ("extends: topdown/defalt", "no config named 'topdown/defalt'; did you mean 'topdown/default'?"),
        ("extends: topdown/default\neval: {metrics: [pckk]}", "no metric named 'pckk'; did you mean 'pck'?"),
    ],
    ids=["a base that is nowhere", "a base misspelt", "an unknown metric"],
)
def test_faults_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(content, encoding="utf-8")
    call("check", str(tmp_path / "mine.yaml"))
    told = capsys.readouterr().out
    assert told.endswith(f"{message}\n")
    assert len(told.splitlines()) == 1


def test_a_config_of_posecli_may_be_named_with_its_suffix(capsys: pytest.CaptureFixture[str]) -> None:
    call("check", "topdown/default.yaml")
    assert capsys.readouterr().out == "topdown/default.yaml: ok\n"


def test_copying_into_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("mine")
    with pytest.raises(PosecliError, match="into the folder afile: afile is a file"):
        call("copy", "topdown/default", "afile/x.yaml")
