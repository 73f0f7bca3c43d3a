"""The training loop: what moves the weights, what is kept, and that a stopped run goes on as if it never stopped."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from posecli import checkpoint, files, optimization, runs, training
from posecli.config import OptimizerConfig, ScheduleConfig, load_experiment
from posecli.console import PosecliError, RunFailed
from posecli.devices import choose_device
from posecli.metrics.metric import Metric, Score
from posecli.optimization import Average, rate_factor
from posecli.stopping import Stopped
from posecli.training import beats, is_better, pick, train
from posecli.types import Dataset, People, SampleId

Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(folder: Path, **fields: Any) -> Weights:
    """The last weights of a tiny run on the CPU."""
    train(tiny.experiment(**fields), folder, device="cpu")
    return load_file(folder / "last.safetensors")


def epoch_losses(folder: Path) -> list[float]:
    return [record["loss"] for record in runs.Log(folder).records() if record["kind"] == "epoch"]


def assert_equal(first: Weights, second: Weights) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_close(first: Weights, second: Weights, tolerance: float) -> None:
    worst = {name: (first[name] - second[name]).abs().max().item() for name in first if first[name].is_floating_point()}
    assert max(worst.values()) <= tolerance, worst


# --- schedules, optimizers, averages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "step", "factor"),
    [
        ({"name": "constant", "warmup_steps": 0}, 7, 1.0),
        ({"name": "constant", "warmup_steps": 11, "warmup_ratio": 0.1}, 0, 0.1),  # the first step has the ratio
        ({"name": "constant", "warmup_steps": 11, "warmup_ratio": 0.1}, 5, 0.55),  # half way
        ({"name": "constant", "warmup_steps": 11, "warmup_ratio": 0.1}, 10, 1.0),  # the last step of it has it all
        ({"name": "constant", "warmup_steps": 500, "warmup_ratio": 0.0}, 42, 42 / 209),  # at most a tenth
        ({"name": "step", "warmup_steps": 0}, 1699, 1.0),  # 170 of 210 epochs of 10 steps
        ({"name": "step", "warmup_steps": 0}, 1700, 0.1),
        ({"name": "step", "warmup_steps": 0}, 2000, 0.01),
        ({"name": "cosine", "warmup_steps": 0}, 0, 1.0),
        ({"name": "cosine", "warmup_steps": 0}, 1050, 0.5),
        ({"name": "cosine", "warmup_steps": 0, "final": 0.2}, 1050, 0.6),
        ({"name": "cosine", "warmup_steps": 0, "final": 0.2}, 2100, 0.2),
        ({"name": "exponential", "warmup_steps": 0, "final": 0.01}, 0, 1.0),
        ({"name": "exponential", "warmup_steps": 0, "final": 0.01}, 1050, 0.1),
    ],
)
def test_learning_rate(fields: dict[str, Any], step: int, factor: float) -> None:
    assert rate_factor(ScheduleConfig(**fields), step, 2100) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    model = tiny.TinyModel().build(tiny.SKELETON)
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.5})
    optimizer = optimization.build_optimizers(model, config)["model"]
    decays = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert {name: decays[id(weight)] for name, weight in model.named_parameters()} == {
        "features.0.weight": 0.5,
        "features.0.bias": 0.0,
        "features.1.weight": 0.0,
        "features.1.bias": 0.0,
        "out.weight": 0.5,
        "out.bias": 0.0,
    }


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_fused_steps_equal_plain_ones_in_channels_last(name: str) -> None:
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.01})
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = (
            tiny.TinyModel().build(tiny.SKELETON).to(memory_format=torch.channels_last).eval()
        )  # a bias before a norm has noise for a gradient
        optimizer = optimization.build_optimizers(model, config)["model"]
        for group in optimizer.param_groups:
            group["fused"] = fused
        for _ in range(3):
            optimizer.zero_grad()
            pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
            model.out(model.features(pixels).flatten(1)).square().sum().backward()
            optimizer.step()
        results.append(dict(model.state_dict()))
    assert_close(*results, tolerance=1e-5)


def test_average_follows_the_weights_and_steps_in_for_them() -> None:
    module = nn.BatchNorm1d(2)
    average = Average(module, 0.5)
    with torch.no_grad():
        module.weight.fill_(3.0)  # from 1
        module.num_batches_tracked.fill_(7)
    average.update()  # decay min(0.5, 2/11): 1 + (3 - 1) * 9/11
    expected = 1 + 2 * 9 / 11
    with average.in_place():
        assert module.weight.tolist() == pytest.approx([expected] * 2)
        assert module.num_batches_tracked.item() == 7
    assert module.weight.tolist() == [3.0, 3.0]
    for _ in range(10):
        average.update()
    before = average.values["weight"].clone()
    average.update()  # the full decay by now
    torch.testing.assert_close(average.values["weight"], (before + 3.0) / 2)


# --- the best epoch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("higher", "value", "former", "better"),
    [
        (True, 0.6, 0.5, True),
        (True, 0.5, 0.5, False),  # the earlier one stays
        (False, 3.0, 4.0, True),
        (False, 4.0, 3.0, False),
        (True, 0.1, math.nan, True),
        (False, math.nan, 3.0, False),
        (True, math.nan, math.nan, False),
    ],
)
def test_best_in_the_direction_of_the_score(higher: bool, value: float, former: float, better: bool) -> None:
    assert is_better(Score("x", value, higher), value, former) is better


@pytest.mark.parametrize(
    ("now", "former", "better", "note"),
    [
        ({"PCK": 1.0, "EPE": 2.9, "AUC": 0.5}, {"PCK": 1.0, "EPE": 3.6, "AUC": 0.9}, True, "the next one decides"),
        ({"PCK": 1.0, "EPE": 3.6, "AUC": 0.9}, {"PCK": 1.0, "EPE": 3.6, "AUC": 0.5}, True, "and the one after it"),
        ({"PCK": 0.9, "EPE": 1.0, "AUC": 1.0}, {"PCK": 1.0, "EPE": 3.6, "AUC": 0.5}, False, "the first one counts"),
        ({"PCK": 1.0, "EPE": 3.6, "AUC": 0.5}, {"PCK": 1.0, "EPE": 3.6, "AUC": 0.5}, False, "the earlier one stays"),
        (
            {"PCK": math.nan, "EPE": 2.0, "AUC": 0.5},
            {"PCK": math.nan, "EPE": 3.6, "AUC": 0.5},
            True,
            "unknown as before",
        ),
        ({"PCK": 0.1, "EPE": 2.0, "AUC": 0.5}, {}, True, "nothing to beat"),
    ],
)
def test_the_others_decide_between_equals(now: dict, former: dict, better: bool, note: str) -> None:
    scores = [Score(name, value, higher_is_better=name != "EPE") for name, value in now.items()]
    assert beats(scores, scores[0], former) is better, note


def test_the_named_score_decides() -> None:
    scores = [Score("AP", 0.5), Score("EPE", 3.0, higher_is_better=False)]
    assert pick(scores, None).name == "AP"
    assert pick(scores, "EPE").name == "EPE"
    with pytest.raises(PosecliError, match=r"no score named 'PCK'; eval\.metrics give AP, EPE"):
        pick(scores, "PCK")


def test_a_wrong_best_is_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match=r"train\.best: no score named 'AP'"):
        train(tiny.experiment(best="AP"), tmp_path, device="cpu")


def test_predictions_that_a_metric_cannot_score_are_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(Metric):
        def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
            if predictions and "shape" not in next(iter(predictions.values())).extra:
                raise PosecliError("no shapes were found")
            return [Score("picky", 0.0)]

    monkeypatch.setattr("posecli.evaluation.build_metrics", lambda *arguments: [Picky()])
    with pytest.raises(PosecliError, match="no shapes were found"):
        train(tiny.experiment(), tmp_path, device="cpu")
    assert not (tmp_path / "log.jsonl").exists()


def test_nobody_to_score_is_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training._datasets

    def nobody(*arguments: Any) -> Any:
        samples, truth = whole(*arguments)
        truth.people.scores[:] = 0
        return samples, truth

    monkeypatch.setattr(training, "_datasets", nobody)
    with pytest.raises(PosecliError, match="nobody in it has a labelled keypoint, there is nothing to score"):
        train(tiny.experiment(), tmp_path, device="cpu")


def test_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    run = train(tiny.experiment(epochs=4, eval_every=1, optimizer={"lr": 0.05}), tmp_path, device="cpu")
    scored = [record for record in runs.Log(tmp_path).records() if record["kind"] == "scores"]
    values = {record["epoch"]: record["scores"]["EPE"] for record in scored}
    assert run.best_name == "EPE"  # lower is better
    assert run.best_epoch == min(values, key=lambda epoch: values[epoch])
    header = checkpoint.load_checkpoint(tmp_path / "best.safetensors")[1]
    assert (header.epoch, header.scores) == (run.best_epoch, run.best)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["best"] == {"epoch": run.best_epoch, "picked_by": "EPE", "scores": run.best}


# --- steps ----------------------------------------------------------------------------------------------------------


def test_accumulated_batches_equal_a_bigger_one(tmp_path: Path) -> None:
    fields = {"freeze_norm": True, "clip_norm": 0.5, "optimizer": {"name": "sgd", "lr": 0.05}}
    bigger = trained(tmp_path / "bigger", batch_size=8, **fields)
    summed = trained(tmp_path / "summed", batch_size=4, accumulate=2, **fields)
    assert_close(bigger, summed, tolerance=1e-6)


def test_frozen_statistics_stay(tmp_path: Path) -> None:
    weights = trained(tmp_path, freeze_norm=True, epochs=1)
    assert weights["features.1.running_mean"].abs().max() == 0
    assert weights["features.1.num_batches_tracked"] == 0


def test_no_randomness_is_left_to_chance(tmp_path: Path) -> None:
    first, again, workers, other = (
        trained(tmp_path / str(number), model={"dropout": 0.3}, epochs=2, **fields)
        for number, fields in enumerate([{}, {}, {"workers": 2}, {"seed": 1}])
    )
    assert_equal(first, again)
    assert_equal(first, workers)
    assert not torch.equal(first["out.weight"], other["out.weight"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_alike(tmp_path: Path, precision: str) -> None:
    assert_close(
        trained(tmp_path / "full", epochs=1),
        trained(tmp_path / precision, epochs=1, precision=precision),
        tolerance=0.1,
    )


def test_last_weights_are_the_averaged_ones(tmp_path: Path) -> None:
    averaged = trained(tmp_path, ema=0.9, epochs=2)
    raw = load_file(next((tmp_path / "checkpoints").glob("*.safetensors")))
    assert not torch.equal(averaged["out.weight"], raw["out.weight"])
    assert_equal(averaged, load_file(tmp_path / "best.safetensors"))


# --- the run's folder -----------------------------------------------------------------------------------------------


def test_folder_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(tiny.experiment(epochs=2, eval_every=1), device="cpu")
    assert run.folder.parent == Path("runs")
    assert run.folder.name.startswith("tiny-")
    assert (tmp_path / "runs/latest").resolve() == run.folder.resolve()
    assert {path.name for path in run.folder.iterdir()} == {
        "best.safetensors",
        "checkpoints",
        "config.yaml",
        "curves.png",
        "env.json",
        "last.safetensors",
        "log.jsonl",
        "metrics.csv",
        "samples.jpg",
        "scores.json",
    }
    assert len(list((run.folder / "checkpoints").iterdir())) == 3  # one pair and the pointer
    table = (run.folder / "metrics.csv").read_text().splitlines()
    assert table[0].startswith("epoch,step,loss,lr,images_per_second,seconds,EPE")
    assert [line.split(",")[:2] for line in table[1:]] == [["1", "6"], ["2", "12"]]


def test_latest_is_a_text_file_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    first, second = runs.new_folder("tiny"), runs.new_folder("tiny")
    assert first != second
    assert runs.latest_folder() is None
    runs.point_latest(second)
    assert runs.latest_folder() == second


@pytest.mark.parametrize(
    ("fields", "init", "message"),
    [({"best": "AP"}, None, "no score named 'AP'"), ({}, Path("nowhere.safetensors"), "nowhere")],
    ids=["a wrong score", "a missing checkpoint"],
)
def test_what_cannot_begin_leaves_the_latest_run_alone(
    fields: dict[str, Any], init: Path | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = train(tiny.experiment(epochs=1), device="cpu").folder
    with pytest.raises(PosecliError, match=message):
        train(tiny.experiment(**fields), device="cpu", init=init)
    assert runs.latest_folder() == first
    assert {path.name for path in Path("runs").iterdir()} == {first.name, "latest"}


def test_more_epochs_by_resume_know_the_best_so_far(tmp_path: Path) -> None:
    best = train(tiny.experiment(epochs=2, eval_every=2), tmp_path, device="cpu").best
    worse = tiny.experiment(epochs=3, eval_every=3, optimizer={"lr": 1e9})
    run = train(worse, tmp_path, device="cpu", resume=True)
    assert (run.best_epoch, run.best) == (2, best)
    assert checkpoint.load_checkpoint(tmp_path / "best.safetensors")[1].epoch == 2


def test_new_optimizer_settings_hold_after_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny.experiment(epochs=1, optimizer={"lr": 0.01}), tmp_path, device="cpu")
    seen: list[tuple[Any, ...]] = []
    run_all = training.Training.run_all

    def look(self: training.Training) -> None:
        group = self.optimizers["model"].param_groups[0]
        state = next(iter(self.optimizers["model"].state.values()))
        seen.append((group["weight_decay"], group["factor"], group["betas"], float(state["step"])))
        run_all(self)

    monkeypatch.setattr(training.Training, "run_all", look)
    changed = {"lr": 0.01, "weight_decay": 0.5, "factors": {"model": 0.1}, "betas": (0.5, 0.9)}
    run = train(tiny.experiment(epochs=2, optimizer=changed), tmp_path, device="cpu", resume=True)
    assert seen == [(0.5, 0.1, (0.5, 0.9), run.step / 2)]  # the steps so far are kept


def test_the_best_file_and_its_scores_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a killed run had written better weights than its last checkpoint knows of."""

    class Killed(BaseException):
        pass

    train_epoch = training.Training._train_epoch

    def killed(self: training.Training) -> None:
        if self.run.epoch == 3:
            raise Killed
        train_epoch(self)

    fields = {"epochs": 4, "eval_every": 1, "save_every": 4}
    train(tiny.experiment(**{**fields, "epochs": 1}, optimizer={"lr": 0.05}), tmp_path, device="cpu")
    monkeypatch.setattr(training.Training, "_train_epoch", killed)
    with pytest.raises(Killed):
        train(tiny.experiment(**fields, optimizer={"lr": 0.05}), tmp_path, device="cpu", resume=True)
    monkeypatch.undo()
    left = checkpoint.read_header(tmp_path / "best.safetensors")
    assert left.epoch > 1
    run = train(tiny.experiment(**fields, optimizer={"lr": 3.0}), tmp_path, device="cpu", resume=True)
    header = checkpoint.read_header(tmp_path / "best.safetensors")
    assert (run.best_epoch, run.best) == (header.epoch, header.scores) == (left.epoch, left.scores)


def test_without_its_file_there_is_no_best(tmp_path: Path) -> None:
    train(tiny.experiment(epochs=1), tmp_path, device="cpu")
    (tmp_path / "best.safetensors").unlink()
    run = train(tiny.experiment(epochs=2, eval_every=1, optimizer={"lr": 1.0}), tmp_path, device="cpu", resume=True)
    assert run.best_epoch == checkpoint.read_header(tmp_path / "best.safetensors").epoch == 2


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    with pytest.raises(PosecliError, match="already holds a run: go on with it by --resume"):
        trained(tmp_path, epochs=1)


def test_init_takes_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained(tmp_path / "first", epochs=1)
    before["out.weight"] = before["out.weight"][:4].clone()  # a head for fewer keypoints
    header = checkpoint.load_checkpoint(tmp_path / "first" / "best.safetensors")[1]
    checkpoint.save_checkpoint(tmp_path / "other.safetensors", before, header)
    run = train(
        tiny.experiment(epochs=1, optimizer={"lr": 1e-9}),
        tmp_path / "next",
        device="cpu",
        init=tmp_path / "other.safetensors",
    )
    now = run.algorithm.state_dict()
    assert (now["features.0.weight"] - before["features.0.weight"]).abs().max() < 1e-6
    assert "1 started fresh: out.weight" in capsys.readouterr().err
    listed = dict(line.split("  ") for line in (tmp_path / "next/init.txt").read_text().splitlines())
    assert listed.pop("out.weight") == "started fresh, other shape"
    assert listed.keys() == now.keys() - {"out.weight"}
    assert set(listed.values()) == {"loaded"}


def test_plugins_watch_and_a_raising_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from posecli.hookspecs import hookimpl
    from posecli.plugins import catalog

    class Watcher:
        seen: list[Any] = []

        @hookimpl
        def posecli_train_start(self, run: training.Run) -> None:
            raise KeyError("lost")

        @hookimpl
        def posecli_train_log(self, step: int, values: dict[str, float]) -> None:
            self.seen.append((step, sorted(values)))

        @hookimpl
        def posecli_train_end(self, run: training.Run, scores: dict[str, float]) -> None:
            self.seen.append((run.epoch, scores))

    watcher = Watcher()
    catalog().manager.register(watcher, name="watcher")
    try:
        run = train(tiny.experiment(epochs=1), tmp_path, device="cpu")
    finally:
        catalog().manager.unregister(name="watcher")
    assert "plugin 'watcher': posecli_train_start: KeyError: 'lost'" in capsys.readouterr().err
    assert [step for step, _ in watcher.seen] == [6, 6, 1]
    assert "loss" in watcher.seen[0][1]
    assert watcher.seen[-1] == (1, run.best)


# --- faults ---------------------------------------------------------------------------------------------------------


def test_a_non_finite_loss_names_its_batch_and_loses_nothing(tmp_path: Path) -> None:
    healthy = tiny.experiment(epochs=2)
    train(healthy, tmp_path, device="cpu")
    before = runs.Checkpoints(tmp_path, 1).load()
    poisoned = tiny.experiment(model={"poison": 11}, epochs=3)
    with pytest.raises(
        RunFailed, match=r"not finite in epoch 3 near step 1\d: points nan, size \S+ for the batch .*11"
    ):
        train(poisoned, tmp_path, device="cpu", resume=True)
    after = runs.Checkpoints(tmp_path, 1).load()
    assert_equal(before[0], after[0])


def test_a_full_disk_is_one_line_and_the_pair_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = files.write_bytes, []

    def fill(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(runs, "write_bytes", lambda path, content: with_disk_errors(fill, path, content))
    with pytest.raises(RunFailed, match=r"^no space left for .*step-00000012\.state\.pt: free some and run again"):
        train(tiny.experiment(model={"dropout": 0.3}), tmp_path / "full", device="cpu")
    assert json.loads((tmp_path / "full/checkpoints/last.json").read_text())["step"] == 6
    monkeypatch.undo()
    torch.set_num_threads(1)
    train(tiny.experiment(model={"dropout": 0.3}), tmp_path / "full", device="cpu", resume=True)
    assert_equal(load_file(tmp_path / "full/last.safetensors"), trained(tmp_path / "whole", model={"dropout": 0.3}))


def with_disk_errors(write: Any, path: Path, content: bytes) -> None:
    with files.disk_errors(path):
        write(path, content)


def test_a_full_disk_while_weights_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fill)
    with pytest.raises(RunFailed, match=r"^no space left for .*step-00000006\.safetensors"):
        train(tiny.experiment(), tmp_path, device="cpu")


def test_no_device_of_that_name() -> None:
    for name, message in [("cuda:99", "GPU 99 was asked for"), ("gpu", "write auto, cpu, cuda")]:
        with pytest.raises(PosecliError, match=message):
            choose_device(name)


def test_graphs_are_refused_where_they_would_be_wrong(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match=r"train\.cuda_graphs is for one process and train\.accumulate=1"):
        train(tiny.experiment(cuda_graphs=True, accumulate=2), tmp_path, device="cpu")


# --- stopping and going on ------------------------------------------------------------------------------------------

EVERYTHING = {"model": {"dropout": 0.3}, "ema": 0.9, "accumulate": 2, "batch_size": 3, "eval_every": 1, "epochs": 3}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [2, 4, 6])  # within the first epoch, at its end, within the second
def test_ctrl_c_saves_after_a_step_and_resume_equals_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, step: int
) -> None:
    fields = {**EVERYTHING, "workers": workers}
    original = training.Training.step

    def interrupted(self: training.Training, batches: list[Any]) -> None:
        original(self, batches)
        if self.run.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training.Training, "step", interrupted)
    with pytest.raises(Stopped, match="everything is saved"):
        train(tiny.experiment(**fields), tmp_path / "stopped", device="cpu")
    monkeypatch.undo()
    saved = json.loads((tmp_path / "stopped/checkpoints/last.json").read_text())
    assert saved["step"] == step
    torch.set_num_threads(1)
    resumed = train(tiny.experiment(**fields), tmp_path / "stopped", device="cpu", resume=True)
    whole = train(tiny.experiment(**fields), tmp_path / "whole", device="cpu")
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal(load_file(tmp_path / "stopped" / name), load_file(tmp_path / "whole" / name))
    assert (resumed.step, resumed.best, resumed.best_epoch) == (whole.step, whole.best, whole.best_epoch)
    assert epoch_losses(tmp_path / "stopped") == pytest.approx(epoch_losses(tmp_path / "whole"))
    logs = [runs.Log(tmp_path / name).records() for name in ("stopped", "whole")]
    assert [(r["kind"], r["epoch"], r["step"]) for r in logs[0]] == [
        (r["kind"], r["epoch"], r["step"]) for r in logs[1]
    ]


def test_ctrl_c_while_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tiny.Tiny.predict

    def interrupt(self: Any, batch: Any) -> Any:
        if self.out.weight.grad is None:  # the rehearsal before the first step
            return original(self, batch)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr(tiny.Tiny, "predict", interrupt)
    with pytest.raises(Stopped, match="while scoring epoch 1"):
        train(tiny.experiment(**EVERYTHING), tmp_path / "stopped", device="cpu")
    monkeypatch.undo()
    torch.set_num_threads(1)
    resumed = train(tiny.experiment(**EVERYTHING), tmp_path / "stopped", device="cpu", resume=True)
    assert_equal(load_file(tmp_path / "stopped/last.safetensors"), trained(tmp_path / "whole", **EVERYTHING))
    assert resumed.scored == 3


def test_ctrl_c_while_the_best_weights_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = training.save_weights

    def interrupted(path: Path, *arguments: Any) -> None:
        if path.name == "best.safetensors":
            os.kill(os.getpid(), signal.SIGINT)
        save(path, *arguments)

    monkeypatch.setattr(training, "save_weights", interrupted)
    with pytest.raises(Stopped, match="while scoring"):
        train(tiny.experiment(epochs=1), tmp_path, device="cpu")
    monkeypatch.undo()
    run = train(tiny.experiment(epochs=1), tmp_path, device="cpu", resume=True)
    header = checkpoint.read_header(tmp_path / "best.safetensors")
    assert (header.epoch, header.scores) == (run.best_epoch, run.best)


def test_an_epoch_of_which_nothing_is_left_has_no_loss() -> None:
    assert math.isnan(training.Meter().loss)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    weights = trained(tmp_path, epochs=1)
    run = train(tiny.experiment(epochs=1), tmp_path, device="cpu", resume=True)
    assert run.step == 6
    assert_equal(weights, load_file(tmp_path / "last.safetensors"))


def test_resuming_with_fewer_epochs_than_are_done_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, epochs=2)
    with pytest.raises(PosecliError, match=r"it is in epoch 2 already, and train\.epochs=1 ends before"):
        train(tiny.experiment(epochs=1), tmp_path, device="cpu", resume=True)


def test_records_are_json_for_every_reader(tmp_path: Path) -> None:
    log = runs.Log(tmp_path)
    log.add("scores", epoch=1, scores={"AP": 0.5, "AP:large": math.nan})
    assert log.path.read_text() == '{"kind": "scores", "epoch": 1, "scores": {"AP": 0.5, "AP:large": null}}\n'
    assert log.records()[0]["scores"]["AP:large"] is None


def test_resuming_on_other_data_within_an_epoch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.Training, "_stopping", lambda self: self.run.step == 2)
    with pytest.raises(Stopped):
        train(tiny.experiment(), tmp_path, device="cpu")
    monkeypatch.undo()
    other = tiny.experiment()
    data = other.data.model_copy(update={"train": tiny.TinyData(count=20)})
    with pytest.raises(PosecliError, match="over 24 units, and the data has 20 now"):
        train(other.model_copy(update={"data": data}), tmp_path, device="cpu", resume=True)


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    state = next((tmp_path / "checkpoints").glob("*.state.pt"))
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(PosecliError, match="cannot resume from"):
        train(tiny.experiment(epochs=2), tmp_path, device="cpu", resume=True)


# --- the command, in processes of its own ---------------------------------------------------------------------------

SMALL = {
    "data.train.count": "24",
    "data.val.count": "4",
    "data.train.size": "[64, 64]",
    "data.val.size": "[64, 64]",
    "model.input_size": "[32, 32]",
    "model.deconv_filters": "8",
    "model.backbone": "{use: mobilenet_v3, size: small}",
    "eval.metrics": "[pck]",
    "train.batch_size": "2",
    "train.epochs": "3",
    "train.eval_every": "9",
    "train.precision": "fp32",
}


def command(*options: str, **settings: str) -> list[str]:
    """`posecli train` of a small top-down model on the CPU."""
    pairs = [f"--set={key}={value}" for key, value in {**SMALL, **settings}.items()]
    return [sys.executable, "-m", "posecli", "train", "--device", "cpu", *options, *pairs]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def stopped_by(number: int, folder: Path, workers: int) -> subprocess.CompletedProcess[str]:
    """Start the command, send the signal once there is a first checkpoint, and return what it said."""
    arguments = command("--algo", "topdown", "--out", str(folder), **{"data.workers": str(workers)})
    process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, text=True)
    while not (folder / "checkpoints/last.json").is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert not (folder / "last.safetensors").exists()  # it had not come to its end
    return subprocess.CompletedProcess(arguments, process.returncode, None, said)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("uninterrupted")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = [f"{key}={value}" for key, value in {**SMALL, "data.workers": "0"}.items()]
    train(load_experiment("topdown/default", settings), folder, device="cpu")
    torch.set_num_threads(before)
    return load_file(folder / "last.safetensors")


def test_killed_with_no_mercy_and_resumed(tmp_path: Path, uninterrupted: Weights) -> None:
    folder = tmp_path / "run"
    assert stopped_by(signal.SIGKILL, folder, workers=2).returncode == -signal.SIGKILL
    arguments = [sys.executable, "-m", "posecli", "train", "--resume", "--out", str(folder), "--device", "cpu"]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"resuming {folder} after step" in done.stderr
    assert_equal(load_file(folder / "last.safetensors"), uninterrupted)


def test_ctrl_c_exits_130_and_says_how_to_go_on(tmp_path: Path, uninterrupted: Weights) -> None:
    folder = tmp_path / "run"
    stopped = stopped_by(signal.SIGINT, folder, workers=0)
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1].endswith(f"go on with: posecli train --resume --out {folder}")
    train(load_experiment(str(folder / "config.yaml")), folder, device="cpu", resume=True)
    assert_equal(load_file(folder / "last.safetensors"), uninterrupted)
