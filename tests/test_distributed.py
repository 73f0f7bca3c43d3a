"""Several ranks: what they tell each other, and that they train like one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from posecli import console, distributed
from posecli.commands.train import _experiment, _without_nproc
from posecli.commands.train import train as train_command
from posecli.console import PosecliError, RunFailed

TINY = Path(__file__).parent / "tiny.py"
TALK = """
import json, os, socket, sys
import torch
from pathlib import Path
from posecli import distributed
with socket.socket() as free:
    free.bind(("localhost", 0))
    os.environ.update(WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(free.getsockname()[1]))
os.environ["RANK"] = str(int(os.fork() > 0))  # torch is imported once for both
distributed.join(torch.device("cpu"))
rank, world = distributed.rank(), distributed.world()
gathered = distributed.gather_json([[rank, "ü" * (rank * 1000), None, 0.1]] * (rank + 1))
nothing = distributed.gather_json([])
totals = distributed.totals([rank, 10])
module = torch.nn.BatchNorm1d(2)
module.running_mean.fill_(rank + 1)
distributed.share_buffers(module)
result = {"gathered": gathered, "nothing": nothing, "totals": totals, "mean": module.running_mean.tolist()}
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(result))
distributed.leave()
if rank == 1:
    os.wait()
"""


def run(arguments: list[str], timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=timeout)


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys()
    worst = {name: (first[name].double() - second[name].double()).abs().max().item() for name in first}
    assert max(worst.values()) <= tolerance, worst


def test_a_rank_that_lost_another_ends_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun takes the exit code of whoever ends first for that of the job."""
    waits: list[float] = []
    monkeypatch.setattr(distributed, "joined", lambda: True)
    monkeypatch.setattr(distributed, "leave", lambda: None)
    monkeypatch.setattr(distributed.time, "sleep", waits.append)
    with pytest.raises(RunFailed, match="another process of this job has stopped"), distributed.parting():
        raise RuntimeError("Connection closed by peer")
    assert waits == [distributed.GRACE]
    with pytest.raises(RuntimeError, match="its own fault"), distributed.parting():
        raise RuntimeError("its own fault")
    assert waits == [distributed.GRACE]


def test_who_starts_several_processes_leaves_the_talking_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "output", console.Output())
    monkeypatch.setattr(distributed, "launch", lambda nproc, argv: nproc)
    with pytest.raises(SystemExit) as left:
        train_command(algo="topdown", out=tmp_path, resume=True, nproc=2)
    assert left.value.code == 2
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(console, "output", console.Output())
    _experiment("topdown", None, None, [], tmp_path)
    assert capsys.readouterr().err == f"nothing to resume in {tmp_path}: a new run begins there\n"


def test_alone_everything_is_ones_own() -> None:
    assert (distributed.rank(), distributed.world(), distributed.launched()) == (0, 1, False)
    assert distributed.gather_json([1, "a"]) == [1, "a"]
    assert distributed.totals([3, 4]) == [3, 4]
    distributed.join(torch.device("cpu"))
    distributed.barrier()
    distributed.leave()


def test_ranks_tell_each_other(tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text(TALK, encoding="utf-8")
    done = run([sys.executable, str(script), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert told[0] == told[1]
    assert told[0]["gathered"] == [[0, "", None, 0.1]] + [[1, "ü" * 1000, None, 0.1]] * 2
    assert told[0]["nothing"] == []
    assert told[0]["totals"] == [1, 20]
    assert told[0]["mean"] == [1.0, 1.0]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[int], str]]:
    """Folder, exit codes and messages of runs with one and two ranks, the same units in a step."""
    fields = {"epochs": 5, "freeze_norm": True, "clip_norm": 1.0, "ema": 0.9}
    wanted = {
        "alone": (1, {**fields, "batch_size": 12}),
        "pair": (2, {**fields, "batch_size": 6}),
        "alone, accumulated": (1, {**fields, "batch_size": 6, "accumulate": 2}),
        "pair, accumulated": (2, {**fields, "batch_size": 3, "accumulate": 2}),
        "poisoned": (2, {**fields, "model": {"poison": 11}}),
    }
    root = tmp_path_factory.mktemp("jobs")
    told = [{"folder": str(root / name), "world": world, "fields": some} for name, (world, some) in wanted.items()]
    done = run([sys.executable, str(TINY), json.dumps(told)])
    assert done.returncode == 0, done.stderr
    return {
        name: (root / name, codes, done.stderr) for name, codes in zip(wanted, json.loads(done.stdout), strict=True)
    }


@pytest.mark.parametrize("kind", ["", ", accumulated"])
def test_two_ranks_train_like_one(jobs: dict[str, tuple[Path, list[int], str]], kind: str) -> None:
    alone, codes, said = jobs[f"alone{kind}"]
    pair, more_codes, _ = jobs[f"pair{kind}"]
    assert (codes, more_codes) == ([0], [0, 0]), said
    assert json.loads((pair / "checkpoints/last.json").read_text())["step"] == 10
    ranks = [load_file(pair / f"rank-{rank}.safetensors") for rank in (0, 1)]
    assert_close(*ranks, tolerance=0)
    assert_close(ranks[0], load_file(alone / "rank-0.safetensors"), tolerance=1e-5)
    for name in ("last.safetensors", "best.safetensors"):
        assert_close(load_file(pair / name), load_file(alone / name), tolerance=1e-5)
    one, two = (json.loads((folder / "scores.json").read_text())["last"]["scores"] for folder in (alone, pair))
    assert two == pytest.approx(one, abs=1e-4)  # shards without duplicates


def test_a_fault_of_one_rank_is_told_by_all(jobs: dict[str, tuple[Path, list[int], str]]) -> None:
    _, codes, said = jobs["poisoned"]
    assert codes == [1, 1]
    lines = [line for line in said.splitlines() if "the loss is not finite in epoch 1" in line]
    assert sorted(line[:7] for line in lines) == ["rank 0:", "rank 1:"]
    assert all("for the batch" in line and "11" in line for line in lines)


def test_nproc_is_torchrun(tmp_path: Path) -> None:
    small = ["data.train.count=8", "data.val.count=3", "data.train.size=[64,64]", "data.val.size=[64,64]"]
    small += ["model.backbone={use: mobilenet_v3, size: small}", "eval.metrics=[pck]"]
    small += ["model.input_size=[32,32]", "model.deconv_filters=8", "train.batch_size=2", "train.precision=fp32"]
    folder = tmp_path / "run"
    arguments = [sys.executable, "-m", "posecli", "train", "--algo", "topdown", "--nproc", "2", "--device", "cpu"]
    arguments += ["--out", str(folder), "--epochs", "1", *(f"--set={setting}" for setting in small)]
    done = run(arguments)
    assert done.returncode == 0, done.stderr
    assert "on cpu in 2 processes" in done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count("PCK@0.05") == 1  # only the first rank prints
    refused = run([*arguments, "--set", "train.epohcs=1"])
    assert refused.returncode == 2
    assert refused.stderr.count("unknown key") == 1  # found before the processes are started


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["train", "--nproc", "2", "--algo", "x"], ["train", "--algo", "x"]),
        (["train", "--nproc=2", "--out", "d"], ["train", "--out", "d"]),
        (["train", "--out", "d", "--nproc", "2"], ["train", "--out", "d"]),
    ],
)
def test_each_process_gets_the_command_without_nproc(given: list[str], kept: list[str]) -> None:
    assert _without_nproc(given) == kept


def test_nproc_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(PosecliError, match="leave it out under torchrun"):
        distributed.launch(2, ["train"])


@pytest.mark.parametrize(("codes", "told"), [([2, 1], 2), ([-15, 1], 1), ([-9], 1), ([130, -2], 130)])
def test_the_exit_code_is_that_of_the_rank_with_something_to_say(codes: list[int], told: int) -> None:
    assert distributed._exit_code(codes) == told
