"""Writing files: whole or not there, and a clear line where a folder cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from posecli.console import PosecliError
from posecli.files import make_folder, output_folder, write_text


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, with a file in the way."""
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("mine")


@pytest.mark.parametrize("folder", ["afile", "afile/deep", "afile/deep/er"], ids=["itself", "above", "far above"])
def test_a_file_in_the_way_of_a_folder_is_named(folder: str) -> None:
    for make in (make_folder, lambda path: write_text(path / "new.txt", "new"), lambda path: _enter(path)):
        with pytest.raises(PosecliError, match=f"into the folder {folder}: afile is a file; choose a folder") as caught:
            make(Path(folder))
        assert caught.value.exit_code == 2
    assert Path("afile").read_text() == "mine"


def _enter(folder: Path) -> None:
    with output_folder(folder):
        raise AssertionError("not reached")


def test_a_folder_in_the_way_of_a_file_is_named() -> None:
    Path("folder.txt").mkdir()
    with pytest.raises(PosecliError, match=r"cannot write folder\.txt: "):
        write_text(Path("folder.txt"), "new")
    assert sorted(path.name for path in Path().iterdir()) == ["afile", "folder.txt"]


@pytest.mark.parametrize(
    ("there", "written", "left"),
    [
        ([], [], []),
        ([], ["a/b/c/new.txt"], ["a", "a/b", "a/b/c", "a/b/c/new.txt"]),
        (["a"], [], ["a"]),
        (["a/b/c"], [], ["a", "a/b", "a/b/c"]),
        ([], ["a/other.txt"], ["a", "a/other.txt"]),
    ],
    ids=["empty", "with a file", "in a folder of the user", "a folder of the user", "a file of somebody else above"],
)
def test_output_folders_that_stay_empty_vanish(there: list[str], written: list[str], left: list[str]) -> None:
    for folder in there:
        Path(folder).mkdir(parents=True)
    with pytest.raises(PosecliError, match="nothing could be read"):
        _fail(written)
    assert sorted(path.as_posix() for path in Path().rglob("*") if path.name != "afile") == left


def _fail(written: list[str]) -> None:
    with output_folder(Path("a/b/c")):
        assert Path("a/b/c").is_dir()
        for name in written:
            write_text(Path(name), "new")
        raise PosecliError("nothing could be read")
