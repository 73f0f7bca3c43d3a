"""Checkpoints: what is written is read again, and nothing but weights is ever read."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from posecli import checkpoint
from posecli.checkpoint import (
    Header,
    LoadReport,
    initialise,
    load_checkpoint,
    read_header,
    resolve_model,
    save_checkpoint,
)
from posecli.console import PosecliError


def make_header() -> Header:
    skeleton = {"name": "two", "keypoints": ["head", "tail"]}
    return Header(
        {"model": {"use": "topdown.heatmap"}}, skeleton, {"pck@0.05": 0.7}, 3, 120, "posecli train", {"a": "1"}
    )


def make_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last)
    return {"weight": weight, "tied": weight, "half": torch.ones(3).half(), "count": torch.tensor(7)}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    save_checkpoint(path, make_state(), make_header())
    state, header = load_checkpoint(path)
    assert header == make_header() == read_header(path)
    assert state.keys() == make_state().keys()
    for name, value in make_state().items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value), name
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # no temporary file is left
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, make_state(), make_header())
    assert checkpoint.sha256(tmp_path / "a") == checkpoint.sha256(tmp_path / "b")
    assert len(checkpoint.sha256(tmp_path / "a")) == 64


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, make_state(), make_header())
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(PosecliError, match="no space left"):
        save_checkpoint(path, {}, make_header())
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch executed",)


def foreign_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no checkpoints, and what is said of them."""
    save_checkpoint(folder / "whole", make_state(), make_header())
    whole = (folder / "whole").read_bytes()
    cases: dict[str, tuple[bytes, str]] = {
        "cut in the weights": (whole[:-100], "truncated"),
        "cut in the header": (whole[:50], "truncated"),
        "empty": (b"", "truncated"),
        "text": (b"not a checkpoint at all, only text", "truncated or not"),
        "bare pickle with code": (pickle.dumps({"state_dict": Evil()}), "pickled"),
        "protocol 2 pickle with code": (pickle.dumps(Evil(), protocol=2), "pickled"),
    }
    for name, (content, _) in cases.items():
        (folder / name).write_bytes(content)
    torch.save({"state_dict": make_state(), "evil": Evil()}, folder / "zip with code")
    save_file({"a": torch.zeros(1)}, folder / "other safetensors")
    save_file({"a": torch.zeros(1)}, folder / "old schema", metadata={"posecli": '{"schema": 0}'})
    save_file({"a": torch.zeros(1)}, folder / "damaged header", metadata={"posecli": "{"})
    save_file({"a": torch.zeros(1)}, folder / "poor header", metadata={"posecli": '{"schema": 1, "x": 2}'})
    more = {
        "zip with code": "pickled",
        "other safetensors": "not a checkpoint of posecli",
        "old schema": "another version",
        "damaged header": "truncated or not",
        "poor header": "damaged",
        "missing": "no such file",
    }
    texts = {name: text for name, (_, text) in cases.items()} | more
    return {name: (folder / name, text) for name, text in texts.items()}


def test_foreign_files_get_one_line_and_are_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (path, text) in foreign_files(tmp_path).items():
        for read in (load_checkpoint, read_header):
            if read is read_header and name == "cut in the weights":
                continue
            with pytest.raises(PosecliError, match=text) as caught:
                read(path)
            assert str(path) in str(caught.value), name
    assert not (tmp_path / "executed").exists()


def test_resolve_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PosecliError, match="runs/latest does not exist here; train first"):
        resolve_model("runs/latest")
    with pytest.raises(PosecliError, match="no model nothing: no run folder"):
        resolve_model("nothing")
    Path("runs/one").mkdir(parents=True)
    with pytest.raises(PosecliError, match=r"it has no best\.safetensors"):
        resolve_model("runs/one")
    save_checkpoint(Path("runs/one/best.safetensors"), make_state(), make_header())
    Path("runs/latest").symlink_to("one")
    for name in ("runs/one", "runs/latest", "runs/one/best.safetensors"):
        assert resolve_model(name).read_bytes() == Path("runs/one/best.safetensors").read_bytes()
    Path("old.pth").write_bytes(b"")
    with pytest.raises(PosecliError, match="posecli import mmpose"):
        resolve_model("old.pth")


def network(keypoints: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, keypoints, 1))


def test_initialise_takes_what_fits_and_lists_the_rest() -> None:
    torch.manual_seed(0)
    old, new = network(17), network(4)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    report = initialise(new, {**old.state_dict(), "extra": torch.zeros(1)})
    assert report.mismatched == ("2.weight", "2.bias") == report.fresh
    assert report.unexpected == ("extra",)
    assert report.missing == ()
    for name, value in new.state_dict().items():
        expected = fresh[name] if name in report.mismatched else old.state_dict()[name]
        assert torch.equal(value, expected), name
    assert report.summary() == "7 of 9 tensors loaded; 2 started fresh: 2.weight, 2.bias; 1 not used: extra"


def test_a_summary_is_short_however_many_tensors_there_are() -> None:
    report = LoadReport(("a",), tuple("bcdefg"), tuple("hijk"), ("z",))
    assert report.summary() == "1 of 8 tensors loaded; 7 started fresh: z, b, c ...; 4 not used: h, i, j ..."
    assert LoadReport(("a",), (), (), ()).summary() == "1 of 1 tensors loaded"


def test_initialise_with_nothing_that_fits() -> None:
    with pytest.raises(PosecliError, match="nothing in the checkpoint fits"):
        initialise(network(4), {"weight": torch.zeros(3)})


def test_a_model_is_never_downloaded_for() -> None:
    fields = {"backbone": {"use": "resnet", "pretrained": True}, "list": [{"pretrained": True}], "other": 1}
    assert checkpoint.without_downloads(fields) == {
        "backbone": {"use": "resnet", "pretrained": False},
        "list": [{"pretrained": False}],
        "other": 1,
    }


def test_versions_name_what_the_model_stands_on() -> None:
    assert {"python", "posecli", "torch", "torchvision", "numpy"} <= checkpoint.current_versions().keys()
