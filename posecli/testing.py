"""What every plugin is held to: a test class to inherit from. posecli's own families pass it too.

class TestContract(PluginContract):
    plugin = "acme"

    def model_config(self) -> ModelConfig:
        return AcmeConfig(input_size=(48, 48), channels=8)
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import yaml
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from posecli.algorithm import Algorithm
from posecli.batch import Batch, collate
from posecli.checkpoint import Header, load_checkpoint, open_model, save_checkpoint
from posecli.codecs.codec import Codec
from posecli.config import (
    Component,
    DataConfig,
    DatasetConfig,
    Experiment,
    MetricConfig,
    ModelConfig,
    dump,
    parse_metric,
    to_yaml,
)
from posecli.datasets.config import SyntheticConfig
from posecli.plugins import catalog
from posecli.types import Dataset, People, Prediction

HEAVY = ("torch", "torchvision", "numpy", "cv2", "scipy")
RANKS = 2
PATIENCE = 600  # seconds that ranks may take, on a machine with other things to do
STEPS = 2  # of the comparison between ranks and a single process
TRANSFORM_LIMIT = 1 << 20  # bytes: a transform goes to every worker and must not carry weights


class PluginContract:
    """Inherit from it, set `plugin`, and return a small model; pytest runs the checks on a few synthetic pictures."""

    plugin: ClassVar[str] = ""  # the entry point's name
    metrics: ClassVar[tuple[str, ...]] = ("pck", "epe")  # beside the plugin's own; as on the command line
    resolution: ClassVar[float] = 1.0  # how far a keypoint may move by encoding and decoding, input pixels
    margin: ClassVar[float] = 0.0  # keypoints nearer to the border than this are not held to it, input pixels
    overfit_steps: ClassVar[int] = 40
    overfit_rate: ClassVar[float] = 2e-3  # Adam's learning rate
    overfit_ratio: ClassVar[float] = 0.5  # of the first loss, to be undercut
    rank_tolerance: ClassVar[float] = 1e-5  # between weights after training on two ranks and on one
    gpu_tolerance: ClassVar[float] = 1e-3  # relative, between losses on a GPU and on the CPU
    gpu_distance: ClassVar[float] = 0.5  # between keypoints predicted on a GPU and on the CPU, pixels or millimetres

    # --- what a plugin says -----------------------------------------------------------------------------------------

    def model_config(self) -> ModelConfig:
        """A model small enough to train for a few steps on one CPU core."""
        raise NotImplementedError("return a small model config")

    def dataset_config(self) -> DatasetConfig:
        """A few pictures that the model can be trained on; an even number of units."""
        return SyntheticConfig(count=4, seed=0, size=(96, 96))

    def decoded_targets(self, algorithm: Algorithm, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """True keypoints, the same after encoding and decoding, both (B, K, D), and which count, (B, K).

        By default in input pixels by the algorithm's `codec`; an algorithm without one overrides this.
        """
        codec = getattr(algorithm, "codec", None)
        assert isinstance(codec, Codec), "override decoded_targets: the algorithm has no codec"
        keypoints, visible = batch.targets["keypoints"], batch.targets["visible"]
        targets = codec.encode(keypoints, visible)
        decoded, _ = codec.decode(codec.perfect(targets))
        farthest = torch.tensor(codec.input_size) - 1 - self.margin
        inside = ((keypoints >= self.margin) & (keypoints <= farthest)).all(dim=-1)
        return keypoints, decoded, (targets["weights"] > 0) & inside

    # --- what is checked --------------------------------------------------------------------------------------------

    def test_plugin_is_loaded(self) -> None:
        found = {plugin.name: plugin for plugin in catalog().plugins}
        assert self.plugin in found, f"no plugin {self.plugin!r} is installed; found are {', '.join(found)}"
        assert found[self.plugin].status == "ok", found[self.plugin].error

    def test_importing_the_plugin_stays_light(self) -> None:
        """Listing what the plugin adds imports nothing heavy: `posecli --help` does it every time."""
        code = f"import sys, posecli.plugins; posecli.plugins.catalog(); print(*set({HEAVY}) & set(sys.modules))"
        environment = {**os.environ, "POSECLI_PLUGINS": self.plugin, "POSECLI_STRICT_PLUGINS": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.strip(), f"importing the plugin imports {done.stdout.strip()}"

    def test_configs_survive_yaml(self) -> None:
        """Defaults are valid, and what a config says can be written out and read back."""
        for config in [self.model_config(), *self._default_configs()]:
            assert type(config).model_validate(yaml.safe_load(to_yaml(config))) == config
            undescribed = [name for name, field in type(config).model_fields.items() if not field.description]
            assert not undescribed, f"{config.name}: fields without a description: {', '.join(undescribed)}"

    def test_examples_travel_between_processes(self) -> None:
        """Transforms and examples pickle, carry no weights, and depend on the generator alone."""
        algorithm, samples = self._built()
        for train in (True, False):
            unit = algorithm.units(samples, train)[0]
            content = pickle.dumps(algorithm.transform(train))
            assert len(content) < TRANSFORM_LIMIT, f"the transform takes {len(content)} bytes: does it hold weights?"
            example = algorithm.transform(train)(unit, np.random.default_rng(0))
            again = pickle.loads(content)(unit, np.random.default_rng(0))
            pickle.loads(pickle.dumps(example))
            for name, array in {**example.inputs, **example.targets}.items():
                np.testing.assert_array_equal(array, {**again.inputs, **again.targets}[name], err_msg=name)
            assert not isinstance(example.sample.image, np.ndarray) or not example.sample.image.size, "drop the pixels"

    def test_losses_reach_every_parameter(self) -> None:
        """Losses are finite scalars, and their sum gives every trainable parameter a finite gradient."""
        algorithm, samples = self._built()
        losses = algorithm.train()(example_batch(algorithm, samples))
        for name, loss in losses.items():
            assert loss.ndim == 0, f"loss {name!r} is no scalar"
            assert torch.isfinite(loss), f"loss {name!r} is {loss.item()}"
        _summed(losses).backward()  # type: ignore[no-untyped-call]
        trainable = {name: parameter for name, parameter in algorithm.named_parameters() if parameter.requires_grad}
        lost = [name for name, parameter in trainable.items() if parameter.grad is None]
        assert not lost, f"no gradient reaches {', '.join(lost)}"
        wild = [name for name, p in trainable.items() if p.grad is not None and not torch.isfinite(p.grad).all()]
        assert not wild, f"the gradient is not finite at {', '.join(wild)}"
        grouped = {id(parameter) for group in algorithm.parameter_groups().values() for parameter in group}
        unmoved = [name for name, parameter in trainable.items() if id(parameter) not in grouped]
        assert not unmoved, f"parameter_groups leaves out {', '.join(unmoved)}"

    def test_decoding_inverts_encoding(self) -> None:
        algorithm, samples = self._built()
        true, decoded, counted = self.decoded_targets(algorithm, example_batch(algorithm, samples))
        assert counted.any(), "no keypoint to compare"
        error = (true - decoded).norm(dim=-1)[counted].max().item()
        assert error <= self.resolution, f"a keypoint moved by {error:.3g}"

    def test_saved_weights_predict_the_same(self, tmp_path: Path) -> None:
        algorithm, samples = self._built()
        dataset = self.dataset_config()
        experiment = Experiment(model=self.model_config(), data=DataConfig(train=dataset, val=dataset))
        path = tmp_path / "model.safetensors"
        save_checkpoint(path, algorithm.state_dict(), Header(dump(experiment), samples.skeleton.to_dict()))
        opened, read_back, _ = open_model(path)
        assert read_back == experiment
        batch = example_batch(algorithm, samples)
        with torch.inference_mode():
            pairs = zip(algorithm.eval().predict(batch), opened.predict(batch), strict=True)
        for first, second in pairs:
            assert first.id == second.id
            np.testing.assert_array_equal(first.people.keypoints, second.people.keypoints)
            np.testing.assert_array_equal(first.people.scores, second.people.scores)

    def test_one_batch_is_learnt(self) -> None:
        """The network, its losses and its gradients fit together: a batch can be learnt by heart."""
        algorithm, samples = self._built()
        batch = example_batch(algorithm, samples)
        groups = algorithm.train().parameter_groups().values()
        optimizers = [torch.optim.Adam(group, lr=self.overfit_rate) for group in groups]
        first = last = float("nan")
        for step in range(self.overfit_steps):
            loss = _backward(algorithm, batch)
            for optimizer in optimizers:
                optimizer.step()
            first, last = (loss if step == 0 else first), loss
        assert last < self.overfit_ratio * first, f"the loss went from {first:.4g} to {last:.4g} only"

    def test_perfect_predictions_score_best(self) -> None:
        """Truth handed in as the prediction gets each metric's best value."""
        samples = self.dataset_config().build()
        perfect = {prediction.id: prediction.people for prediction in self.perfect_predictions(samples)}
        own = [config for config in self._default_configs() if isinstance(config, MetricConfig)]
        for config in own + [parse_metric(text) for text in self.metrics]:
            scores = config.build(samples.skeleton).compute(samples, perfect)
            assert np.isfinite(scores[0].value), f"{config.name}: nothing was scored"
            for score in scores:
                assert np.isnan(score.value) or np.isclose(score.value, score.best, atol=1e-6), score

    def test_two_ranks_train_like_one(self, tmp_path: Path) -> None:
        """Two processes with half of the batch each end in the weights of one with the whole batch."""
        algorithm, samples = self._built()
        batch = example_batch(algorithm, samples)
        before = {name: tensor.clone() for name, tensor in algorithm.state_dict().items()}
        # a rate at which the weights move by about 0.1 in all, far more than the tolerance
        algorithm.eval()
        _backward(algorithm, batch)
        rate = 0.1 / max(_gradient_norm(algorithm), 1e-12)
        _train(algorithm, algorithm, batch, rate)
        moved = max(float((tensor - before[name]).abs().max()) for name, tensor in algorithm.state_dict().items())
        assert moved > 10 * self.rank_tolerance, "training moved nothing"
        first, second = self._ranks(tmp_path, rate)
        for name, tensor in algorithm.state_dict().items():
            assert torch.equal(first[name], second[name]), f"the ranks disagree about {name}"
            difference = float((first[name] - tensor).abs().max())
            assert difference <= self.rank_tolerance, f"{name} differs by {difference:.3g} from one process"

    def test_a_gpu_agrees_with_the_cpu(self) -> None:
        """On a GPU losses, gradients and predictions are what they are on the CPU; in bf16 the losses stay near."""
        import pytest

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        algorithm, samples = self._built()
        batch = example_batch(algorithm, samples)
        expected = _on_device(algorithm.eval(), batch, torch.device("cpu"))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = _on_device(algorithm, batch, torch.device("cuda"))
        for name, loss in expected.losses.items():
            assert np.isclose(found.losses[name], loss, rtol=self.gpu_tolerance, atol=1e-7), name
            assert np.isclose(found.quick[name], loss, rtol=0.1, atol=1e-3), f"{name} in bf16"
        assert np.isclose(found.gradient, expected.gradient, rtol=10 * self.gpu_tolerance), "the gradient's norm"
        assert found.predictions.keys() == expected.predictions.keys()
        for key, people in expected.predictions.items():
            assert found.predictions[key].keypoints.shape[1:] == people.keypoints.shape[1:]
            if found.predictions[key].keypoints.shape == people.keypoints.shape:
                moved = np.linalg.norm(found.predictions[key].keypoints - people.keypoints, axis=-1)
                # an untrained network's highest cells are nearly equal: a few may change places
                assert (moved > self.gpu_distance).sum() <= 0.1 * moved.size, f"{key}: keypoints moved by {moved}"

    # --- how --------------------------------------------------------------------------------------------------------

    def perfect_predictions(self, samples: Dataset) -> list[Prediction]:
        """The truth in the form of this family's predictions; families that predict in 3D say so here."""
        return _perfect(samples)

    def _built(self) -> tuple[Algorithm, Dataset]:
        return _build(self.model_config(), self.dataset_config())

    def _default_configs(self) -> list[Component]:
        """Every component of the plugin that needs no value, with its defaults."""
        known = catalog()
        classes = [known.components[kind][name] for (kind, name), owner in known.owners.items() if owner == self.plugin]
        return [found() for found in classes if not any(field.is_required() for field in found.model_fields.values())]

    def _ranks(self, folder: Path, rate: float) -> list[dict[str, Tensor]]:
        """The weights of each rank after training in a process of its own."""
        job = {"model": dump(self.model_config()), "dataset": dump(self.dataset_config()), "rate": rate}
        code = "import sys; from posecli.testing import train_as_rank; train_as_rank(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(folder), json.dumps(job)]
        running = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(RANKS)]
        try:
            errors = [process.communicate(timeout=PATIENCE)[1] for process in running]
        finally:
            for process in running:
                process.kill()  # one that waits for a rank that died; no harm to one that has ended
        assert not any(process.returncode for process in running), "\n".join(errors)
        return [load_checkpoint(folder / f"rank{rank}.safetensors")[0] for rank in range(RANKS)]


def example_batch(algorithm: Algorithm, samples: Dataset) -> Batch:
    """All training units of the samples as one batch, without augmentation."""
    units = algorithm.units(samples, train=True)
    transform = algorithm.transform(train=False)
    return collate([transform(units[index], np.random.default_rng(index)) for index in range(len(units))])


def train_as_rank(folder: str, job: str, rank: str) -> None:
    """What each process of `test_two_ranks_train_like_one` does; the weights go to `folder`."""
    torch.set_num_threads(1)
    fields = json.loads(job)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=int(rank), world_size=RANKS)
    model = ModelConfig.model_validate(fields["model"])
    algorithm, samples = _build(model, DatasetConfig.model_validate(fields["dataset"]))
    units = algorithm.units(samples, train=True)
    assert len(units) % RANKS == 0, f"{len(units)} units do not go into {RANKS} equal parts"
    batch = _part(example_batch(algorithm, samples), int(rank))
    _train(DistributedDataParallel(algorithm.eval()), algorithm, batch, fields["rate"])
    header = Header({}, samples.skeleton.to_dict())
    save_checkpoint(Path(folder) / f"rank{rank}.safetensors", algorithm.state_dict(), header)
    distributed.destroy_process_group()


@dataclass(frozen=True)
class Found:
    """What an algorithm makes of a batch on some device."""

    losses: dict[str, float]
    gradient: float  # the norm of all gradients
    quick: dict[str, float]  # the losses in bf16, where the device is a GPU
    predictions: dict[int | str, People]


def _on_device(algorithm: Algorithm, batch: Batch, device: torch.device) -> Found:
    algorithm, moved = algorithm.to(device), batch.to(device)
    algorithm.zero_grad()
    losses = algorithm(moved)
    _summed(losses).backward()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        predictions = {prediction.id: prediction.people for prediction in algorithm.finish(algorithm.predict(moved))}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            quick = algorithm(moved)
            if device.type == "cuda":
                algorithm.predict(moved)
    return Found(_numbers(losses), _gradient_norm(algorithm), _numbers(quick), predictions)


def _numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in losses.items()}


def _build(model: ModelConfig, dataset: DatasetConfig) -> tuple[Algorithm, Dataset]:
    torch.manual_seed(0)
    samples = dataset.build()
    return model.build(samples.skeleton), samples


def _part(batch: Batch, rank: int) -> Batch:
    """Every RANKS-th example, beginning with the rank's."""
    rows = slice(rank, None, RANKS)
    return dataclasses.replace(
        batch,
        inputs={name: tensor[rows] for name, tensor in batch.inputs.items()},
        targets={name: tensor[rows] for name, tensor in batch.targets.items()},
        samples=batch.samples[rows],
        undo=batch.undo[rows],
    )


def _train(forward: torch.nn.Module, algorithm: Algorithm, batch: Batch, rate: float) -> None:
    """A few steps of plain gradient descent; plain, for Adam turns rounding errors into whole steps."""
    groups = algorithm.parameter_groups().values()
    optimizers = [torch.optim.SGD(group, lr=rate) for group in groups]
    for _ in range(STEPS):
        _backward(forward, batch)
        for optimizer in optimizers:
            optimizer.step()


def _backward(forward: torch.nn.Module, batch: Batch) -> float:
    """Fresh gradients of the summed losses, which come back."""
    forward.zero_grad()
    loss = _summed(forward(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _summed(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _gradient_norm(algorithm: Algorithm) -> float:
    gradients = [parameter.grad for parameter in algorithm.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())


def _perfect(samples: Dataset) -> list[Prediction]:
    """The truth in the form of predictions, without what only truth has."""
    predictions = []
    for index in range(len(samples)):
        sample = samples[index]
        people = dataclasses.replace(
            sample.people,
            keypoints=np.nan_to_num(sample.people.keypoints),
            scores=np.ones_like(sample.people.scores, dtype=np.float32),
            instance_scores=np.ones(len(sample.people), dtype=np.float32),
            extra={"row": sample.people.extra["row"]},
        )
        predictions.append(Prediction(sample.id, people))
    return predictions
