"""The restricted unpickler: data comes out as it was, code never runs."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posecli.console import PosecliError
from posecli.interop.opcodes import Global, Record
from posecli.interop.unpickle import load_npy, load_npz, load_pickle, load_torch, record_names


class Calls:
    """Pickles as a call of `function` on `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Log:
    """A class of somebody's training code."""

    def __init__(self) -> None:
        self.history = np.arange(3.0)
        self.nested = {"deeper": collections.Counter("aab")}


def write(path: Path, value: Any, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def equal(first: Any, second: Any) -> bool:
    if isinstance(second, np.ndarray):
        return (
            isinstance(first, np.ndarray)
            and first.dtype == second.dtype
            and first.shape == second.shape
            and all(equal(a, b) for a, b in zip(first.flat, second.flat, strict=True))
        )
    if isinstance(second, dict):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in second)
    if isinstance(second, list | tuple):
        return type(first) is type(second) and all(equal(a, b) for a, b in zip(first, second, strict=True))
    return bool(type(first) is type(second) and first == second)


structured = np.array([(1, 2.5), (3, 4.5)], dtype=[("index", "<i4"), ("value", ">f8")])
ragged = np.empty(2, dtype=object)
ragged[0], ragged[1] = np.arange(3), {"a": [1.5, None]}

DATA: dict[str, Any] = {
    "scalars": [None, True, False, 0, -1, 2**15, 2**40, -(2**70), 1.5, float("inf"), "text é", b"bytes\x00\xff"],
    "containers": {"tuple": (1, (2,), ()), ("a", 1): [[]], 3: {"deep": {"deeper": [1, 2, 3]}}},
    "sets": [{1, 2}, frozenset({3, 4})],
    "complex and bytearray": [1 + 2j, bytearray(b"ab")],
    "float matrix": np.arange(12.0).reshape(3, 4),
    "column major": np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    "big endian": np.arange(5, dtype=">f4"),
    "flags and text": [np.array([True, False]), np.array(["ab", "c"]), np.array([b"x", b"yz"])],
    "nothing": np.zeros((0, 3), np.float32),
    "single": np.array(5),
    "objects": ragged,
    "structured": structured,
    "numpy numbers": [np.float32(1.5), np.int64(-3), np.bool_(True)],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", DATA)
def test_data_comes_out_as_it_was(name: str, protocol: int, tmp_path: Path) -> None:
    assert equal(load_pickle(write(tmp_path / "data.pkl", DATA[name], protocol)), DATA[name])


@pytest.mark.parametrize("protocol", range(6))
def test_subclasses_of_dict_become_dicts(protocol: int, tmp_path: Path) -> None:
    ordered = collections.OrderedDict(b=1, a=2)
    grouped = collections.defaultdict(list, {"x": [1]})
    value = load_pickle(write(tmp_path / "data.pkl", [ordered, grouped, collections.Counter("aab")], protocol))
    assert value == [{"b": 1, "a": 2}, {"x": [1]}, {"a": 2, "b": 1}]
    assert list(value[0]) == ["b", "a"]
    assert {type(part) for part in value} == {dict}


def test_shared_and_circular_containers_stay_so(tmp_path: Path) -> None:
    shared: list[Any] = [1]
    shared.append(shared)
    value = load_pickle(write(tmp_path / "data.pkl", {"a": shared, "b": shared}, 4))
    assert value["a"] is value["b"]
    assert value["a"][1] is value["a"]


@pytest.mark.parametrize("protocol", range(6))
def test_other_classes_become_inert_records(protocol: int, tmp_path: Path) -> None:
    value = load_pickle(write(tmp_path / "data.pkl", {"log": Log(), "kind": Log, "path": Path("a/b")}, protocol))
    log = value["log"]
    assert isinstance(log, Record)
    assert log.name.endswith("test_unpickle.Log")
    assert np.array_equal(log.state["history"], np.arange(3.0))
    assert log.state["nested"] == {"deeper": {"a": 2, "b": 1}}
    assert isinstance(value["kind"], Global)
    assert {name.split(".")[0] for name in record_names(value)} >= {"pathlib", log.name.split(".")[0]}


EVIL: dict[str, Callable[[str], Any]] = {
    "os.system": lambda path: Calls(os.system, f"touch {path}"),
    "eval": lambda path: Calls(builtins.eval, f"open({path!r}, 'w').close()"),
    "exec": lambda path: Calls(builtins.exec, f"open({path!r}, 'w').close()"),
    "open": lambda path: Calls(builtins.open, path, "w"),
    "subprocess": lambda path: Calls(subprocess.Popen, ["touch", path]),
    "deep inside": lambda path: {"state_dict": {"weight": [(1, {"x": Calls(os.system, f"touch {path}")})]}},
    "in a key": lambda path: {(1, Calls(os.system, f"touch {path}")): 1},
    "in an object's state": lambda path: _with_state(Calls(os.system, f"touch {path}")),
    "in an array": lambda path: np.array([Calls(os.system, f"touch {path}")], dtype=object),
}


def _with_state(value: Any) -> Log:
    log = Log()
    log.nested = value
    return log


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", EVIL)
def test_code_is_refused_and_not_run(name: str, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    plain = write(tmp_path / "evil.pkl", EVIL[name](str(mark)), protocol)
    with pytest.raises(PosecliError, match="refused, and nothing of it was run") as caught:
        load_pickle(plain)
    assert str(plain) in str(caught.value)
    for modern in (True, False):
        path = tmp_path / f"evil_{modern}.pth"
        torch.save(EVIL[name](str(mark)), path, _use_new_zipfile_serialization=modern, pickle_protocol=max(protocol, 2))
        with pytest.raises(PosecliError, match="refused, and nothing of it was run"):
            load_torch(path)
    assert not mark.exists()


def test_the_evil_files_are_evil(tmp_path: Path) -> None:
    """The same bytes do run code in Python's own unpickler; else the test above would prove nothing."""
    mark = tmp_path / "executed"
    path = write(tmp_path / "evil.pkl", EVIL["exec"](str(mark)), 4)
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"], check=True)
    assert mark.exists()


HAND_WRITTEN: dict[str, tuple[bytes, str | None]] = {
    # name: pickle, its record's name or None for a refusal
    "call by way of getattr": (b"cbuiltins\ngetattr\n(cbuiltins\nstr\nVupper\ntR(VA\ntR.", "builtins.getattr()"),
    "import by INST": (b"(Vtouch executed\nios\nsystem\n.", None),
    "import by OBJ": (b"(cos\nsystem\nVtouch executed\no.", None),
    "an unknown class by INST": (b"(I1\nimodule\nClass\n.", "module.Class"),
    "an extension code": (b"\x82\x01.", None),
    "a call of data": (b"I1\n(tR.", None),
    "a state for data": (b"]}b.", None),
    "items of a tuple": (b"(t(I1\nI2\nu.", None),
    "no end": (b"]", None),
    "an empty stack": (b".", None),
    "a mark alone": (b"(.", None),
    "nothing stored": (b"g0\n.", None),
    "an array of addresses": (b"cnumpy\ndtype\n(VP8\ntR.", None),
    "an array too short": (
        b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I9\ntcnumpy\ndtype\n(Vf8\ntRI00\nC\x02abtb.",
        None,
    ),
    "an encoding that runs code": (b"c_codecs\nencode\n(Vx\nVzip\ntR.", None),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_pickles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, expected = HAND_WRITTEN[name]
    path = tmp_path / "hand.pkl"
    path.write_bytes(content)
    if expected is None:
        with pytest.raises(PosecliError, match=r"hand\.pkl"):
            load_pickle(path)
    else:
        assert expected in record_names(load_pickle(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["hand.pkl"]


def test_nesting_without_end_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.pkl"
    path.write_bytes(b"(" * 100_000 + b"t" * 100_000 + b".")
    with pytest.raises(PosecliError, match="nested too deeply"):
        load_pickle(path)


@pytest.mark.parametrize("modern", [True, False])
def test_torch_files(modern: bool, tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    saved = {
        "matrix": base,
        "view": base[1:, ::2],
        "transposed": base.t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "kinds": [torch.ones(3, dtype=kind) for kind in (torch.half, torch.bfloat16, torch.uint8, torch.bool)],
        "complex": torch.ones(2, dtype=torch.complex64),
        "module": collections.OrderedDict(torch.nn.Conv2d(3, 4, 3).state_dict()),
        "size": torch.Size([1, 2]),
        "log": Log(),
    }
    path = tmp_path / "file.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=modern)
    loaded = load_torch(path)
    for name in ("matrix", "view", "transposed", "parameter", "empty", "scalar", "complex"):
        assert loaded[name].dtype == saved[name].dtype
        assert torch.equal(loaded[name], saved[name].detach()), name
    assert loaded["matrix"].data_ptr() == loaded["transposed"].data_ptr()
    assert [value.dtype for value in loaded["kinds"]] == [value.dtype for value in saved["kinds"]]
    assert torch.equal(loaded["module"]["weight"], saved["module"]["weight"])
    assert loaded["size"] == (1, 2)
    assert [name.split(".")[-1] for name in record_names(loaded)] == ["Log"]


def damaged_torch_files(folder: Path) -> dict[str, Path]:
    torch.save({"a": torch.arange(1000.0)}, folder / "zip")
    torch.save({"a": torch.arange(1000.0)}, folder / "legacy", _use_new_zipfile_serialization=False)
    for name in ("zip", "legacy"):
        (folder / f"cut {name}").write_bytes((folder / name).read_bytes()[:-500])
    with (
        zipfile.ZipFile(folder / "zip") as old,
        zipfile.ZipFile(folder / "compressed", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with zipfile.ZipFile(folder / "short storage", "w") as new, zipfile.ZipFile(folder / "zip") as old:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:100] if name.endswith("data/0") else old.read(name))
    with zipfile.ZipFile(folder / "other zip", "w") as new:
        new.writestr("readme", "text")
    (folder / "text").write_text("no checkpoint")
    (folder / "empty").write_bytes(b"")
    names = ("cut zip", "cut legacy", "compressed", "short storage", "other zip", "text", "empty", "absent")
    return {name: folder / name for name in names}


def test_damaged_torch_files_get_one_line(tmp_path: Path) -> None:
    for name, path in damaged_torch_files(tmp_path).items():
        with pytest.raises(PosecliError) as caught:
            load_torch(path)
        assert str(path) in str(caught.value), name


def test_a_tensor_cannot_reach_beyond_its_numbers(tmp_path: Path) -> None:
    def rebuilt(storage: Any) -> Any:
        return torch._utils._rebuild_tensor_v2, (storage, 0, (1000,), (1,), False, collections.OrderedDict())

    class Wide:
        def __reduce__(self) -> Any:
            return rebuilt(torch.zeros(4).storage())

    with pytest.warns(UserWarning, match="TypedStorage"):
        torch.save(Wide(), tmp_path / "wide.pth")
    with pytest.raises(PosecliError, match="out of bounds"):
        load_torch(tmp_path / "wide.pth")


def test_a_torchscript_program_is_refused(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"N.")
        archive.writestr("script/code/__torch__.py", "")
    with pytest.raises(PosecliError, match="TorchScript program"):
        load_torch(tmp_path / "script.pt")


def test_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.arange(6).reshape(2, 3))
    np.save(tmp_path / "objects.npy", ragged, allow_pickle=True)
    np.savez(tmp_path / "both.npz", plain=np.ones(2), objects=ragged)
    assert equal(load_npy(tmp_path / "plain.npy"), np.arange(6).reshape(2, 3))
    assert equal(load_npy(tmp_path / "objects.npy"), ragged)
    assert equal(load_npz(tmp_path / "both.npz"), {"plain": np.ones(2), "objects": ragged})
    np.save(tmp_path / "evil.npy", np.array(Calls(os.system, f"touch {tmp_path}/executed")), allow_pickle=True)
    with pytest.raises(PosecliError, match="refused"):
        load_npy(tmp_path / "evil.npy")
    assert not (tmp_path / "executed").exists()


# --- files as users have them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "classes"), [("real_0x", {}), ("real_1x", {"HistoryBuffer": 6, "getattr": 4})])
def test_real_checkpoints(name: str, classes: dict[str, int], shared: Path) -> None:
    """Two LiteHRNet checkpoints; the newer one holds training logs that torch's own weights_only loading refuses."""
    path = shared / "reference" / "checkpoints" / f"{name}.pth"
    loaded = load_torch(path)
    assert {key.split(".")[-1]: count for key, count in record_names(loaded).items()} == classes
    trusted = torch.load(path, weights_only=True)["state_dict"] if not classes else None
    assert len(loaded["state_dict"]) == 1418
    for key, value in (trusted or {}).items():
        assert torch.equal(loaded["state_dict"][key], value), key


def test_sample_pickles_agree_with_pickle(shared: Path) -> None:
    """Camera and pose files of several datasets; they are known to hold arrays only, so pickle may read them here."""
    paths = sorted((shared / "data" / "format-samples").rglob("*.pkl"))
    assert len(paths) >= 6
    for path in paths:
        with path.open("rb") as stream:
            trusted = pickle.load(stream)
        loaded = load_pickle(path)
        assert record_names(loaded) == {}
        assert equal(loaded, dict(trusted) if isinstance(trusted, collections.defaultdict) else trusted), path


def test_sample_object_arrays(shared: Path) -> None:
    folder = shared / "data" / "format-samples"
    trusted = np.load(folder / "h3wb" / "h3wb_train_bbox_subset.npz", allow_pickle=True)
    loaded = load_npz(folder / "h3wb" / "h3wb_train_bbox_subset.npz")
    assert equal(loaded, {name: trusted[name] for name in trusted})
    trusted = np.load(folder / "300vw" / "broken_frames.npy", allow_pickle=True)
    assert equal(load_npy(folder / "300vw" / "broken_frames.npy"), trusted)
