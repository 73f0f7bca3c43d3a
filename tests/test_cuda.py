"""On a GPU: training in every precision, stopping and going on, several ranks by NCCL. Skipped where there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch import distributed as ranks

from posecli import distributed
from posecli.config import load_experiment
from posecli.console import STOPPED, PosecliError
from posecli.data import unit_loader
from posecli.devices import has_bf16
from posecli.stopping import Stopped
from posecli.training import Training, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def farthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference of two runs' weights."""
    return max((first[name].float() - second[name].float()).abs().max().item() for name in first)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("fp32", 1e-3),  # TF32 convolutions
        ("bf16", 0.1),
        ("fp16", 0.1),  # with loss scaling
    ],
)
def test_a_run_on_the_gpu_ends_near_one_on_the_cpu(tmp_path: Path, precision: str, tolerance: float) -> None:
    fields = {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}}  # Adam makes much of what is next to nothing
    train(tiny.experiment(**fields), tmp_path / "cpu", device="cpu")
    run = train(tiny.experiment(precision=precision, workers=2, **fields), tmp_path / "gpu", device="cuda")
    assert run.device.type == "cuda"
    assert all(map(math.isfinite, run.scores.values()))
    weights = [load_file(tmp_path / name / "last.safetensors") for name in ("cpu", "gpu")]
    assert farthest(*weights) < tolerance


def test_auto_takes_the_gpu_and_bf16(tmp_path: Path) -> None:
    run = train(tiny.experiment(epochs=1, precision="auto"), tmp_path)
    assert run.device.type == "cuda"
    assert has_bf16(run.device) == torch.cuda.is_bf16_supported(including_emulation=False)


def test_stopped_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, averages, the scaler and the GPU's own generator come back: dropout goes on as it would have."""
    fields = {"model": {"dropout": 0.3}, "ema": 0.9, "precision": "fp16", "epochs": 2, "eval_every": 1}
    train(tiny.experiment(**fields), tmp_path / "whole", device="cuda")
    stop = lambda self: self.run.step == 6 and self.run.epoch == 1  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_stopping", stop)
        with pytest.raises(Stopped) as error:
            train(tiny.experiment(**fields), tmp_path / "parts", device="cuda")
    assert error.value.exit_code == STOPPED
    train(tiny.experiment(**fields), tmp_path / "parts", device="cuda", resume=True)
    whole, parts = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert farthest(whole, parts) < 1e-5


def test_a_non_finite_loss_is_seen_though_it_is_looked_at_late(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match=r"the loss is not finite in epoch 1 .* for the batch"):
        train(tiny.experiment(model={"poison": 3}), tmp_path, device="cuda")


def test_batches_are_pinned_and_equal_those_for_a_cpu() -> None:
    samples = tiny.TinyData().build()
    algorithm = tiny.TinyModel().build(samples.skeleton)
    pinned, plain = (
        list(unit_loader(samples, algorithm.transform(True), batch_size=4, workers=2, pin_memory=pin))
        for pin in (True, False)
    )
    for first, second in zip(pinned, plain, strict=True):
        assert first.inputs["image"].is_pinned()
        assert torch.equal(first.inputs["image"], second.inputs["image"])
        assert first.ids == second.ids


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of NCCL with this process alone in it: one GPU has room for no more."""
    store = ranks.HashStore()
    ranks.init_process_group("nccl", store=store, rank=0, world_size=1, device_id=torch.device("cuda", 0))
    yield
    distributed.leave()


def test_ranks_talk_by_nccl(tmp_path: Path, one_rank: None) -> None:
    for items in ([], ["Zürich", {"a": [1, 2.5, None]}]):
        assert distributed.gather_json(items) == items
    assert distributed.totals([3, -1]) == [3, -1]
    train(tiny.experiment(accumulate=2), tmp_path / "ranks", device="cuda")
    distributed.leave()
    train(tiny.experiment(accumulate=2), tmp_path / "alone", device="cuda")
    ranked, alone = (load_file(tmp_path / name / "last.safetensors") for name in ("ranks", "alone"))
    assert farthest(ranked, alone) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_recorded_backbone_trains_alike(tmp_path: Path, precision: str) -> None:
    """Replayed steps are the launched ones; statistics of normalisation are not moved by the recording."""
    weights, losses = [], []
    for recorded in ("false", "true"):
        settings = ["data.train.count=128", "data.val.count=16", "data.workers=2", f"train.cuda_graphs={recorded}"]
        settings += ["train.epochs=2", "train.eval_every=1", f"train.precision={precision}"]
        folder = tmp_path / recorded
        run = train(load_experiment("topdown/default", settings), folder, device="cuda")
        assert ("forward" in vars(run.algorithm.backbone)) == (recorded == "true")
        weights.append(load_file(folder / "last.safetensors"))
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses.append([record["loss"] for record in records if record["kind"] == "epoch"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    counted = [name for name in weights[0] if name.endswith("num_batches_tracked")]
    assert counted
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in counted)
