"""Speed and memory, each against its own limit measured in the same run; the ratio is what counts, not the seconds."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import torch

from posecli.algorithm import Algorithm
from posecli.batch import Batch, collate
from posecli.checkpoint import Header, current_versions, save_checkpoint
from posecli.config import dump, load_experiment
from posecli.datasets.coco import coco_dataset
from posecli.devices import autocast, choose_device
from posecli.measures import Measure, highest, interleave
from posecli.nn.normalize import Normalize
from posecli.skeleton import house_skeleton
from posecli.throughput import TURNS, benchmark_pictures, imread_rate, run_loader
from posecli.training import Training

DATA_MODEL = "topdown/coco/resnet-50"


# --- start-up -------------------------------------------------------------------------------------------------------


def measure_startup(repeats: int = 7) -> list[Measure]:
    """`posecli --help` against `import torch`, in fresh processes."""

    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    ours, limit = interleave([run("-m", "posecli", "--help"), run("-c", "import torch")], repeats)
    return [Measure("posecli --help ÷ import torch", ours, limit, "s", 0.2, at_least=False)]


# --- data -----------------------------------------------------------------------------------------------------------


def measure_data(pictures: Path | None = None, units: int = 600) -> list[Measure]:
    """Training samples a second of one worker against a bare `cv2.imread` loop over the same files.

    `pictures` is a COCO annotation file with its pictures; without it pictures like COCO's are made.
    """
    with tempfile.TemporaryDirectory() as folder:
        samples, note = benchmark_pictures(pictures, Path(folder))
        model = load_experiment(DATA_MODEL, ["model.augment.color=1", "model.augment.cutout=1"]).model
        algorithm = model.build(samples.skeleton)
        people, transform = algorithm.units(samples, train=True), algorithm.transform(train=True)
        memory = run_loader(people, transform, units)
        files = [str(samples.images[index]) for index in samples.sample_of_row]
        each, shared, bare = highest(
            [
                lambda: run_loader(people, transform, units // 2).rate,
                lambda: run_loader(people, transform, units // 2, share_decoding=True).rate,
                lambda: imread_rate(files, units // 2),
            ],
            TURNS,
        )
        load = _measure_loading(Path(folder))
    return [
        Measure("training samples of one worker ÷ cv2.imread", each, bare, "/s", 0.85, note=note),
        Measure("the same, a picture decoded once for its people", shared, bare, "/s", 1.3, note=note),
        Measure(
            "a worker's memory at the end of an epoch ÷ at its start",
            memory.last_memory,
            memory.first_memory,
            "MB",
            1.05,
            at_least=False,
            note=f"{units} training samples",
        ),
        load,
    ]


def _measure_loading(folder: Path, people: int = 150_000) -> Measure:
    """Reading a COCO file of many people with polygons against `json.load` of the same file."""
    path = folder / "people.json"
    write_crowded_file(path, people)

    def parse() -> None:
        with path.open(encoding="utf-8") as file:
            json.load(file)

    ours, limit = interleave([lambda: coco_dataset(path, folder), parse], 3)
    note = f"{people:,} people, {path.stat().st_size / people:.0f} bytes each"
    return Measure("reading a large COCO file ÷ json.load", ours, limit, "s", 2.0, at_least=False, note=note)


def write_crowded_file(path: Path, people: int, seed: int = 0) -> None:
    """A COCO keypoint file with 2.6 people a picture and at least 1 kB of JSON for each."""
    generator = np.random.default_rng(seed)
    skeleton = house_skeleton("coco")
    pictures = max(1, round(people / 2.6))
    points = generator.integers(0, 400, (256, 17, 3))
    points[..., 2] = generator.integers(0, 3, (256, 17))
    points[points[..., 2] == 0] = 0
    outlines = np.round(generator.uniform(0, 400, (256, 96)), 2).tolist()
    annotations = [
        {
            "id": index + 1,
            "image_id": index % pictures,
            "category_id": 1,
            "iscrowd": 0,
            "area": 12_345.25,
            "bbox": [10.5, 20.25, 200.75, 300.5],
            "num_keypoints": int((points[index % 256, :, 2] > 0).sum()),
            "keypoints": points[index % 256].ravel().tolist(),
            "segmentation": [outlines[index % 256], outlines[(index + 1) % 256][:40]],
        }
        for index in range(people)
    ]
    images = [{"id": index, "file_name": f"{index:012d}.jpg", "width": 640, "height": 480} for index in range(pictures)]
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.names), "skeleton": []}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))


# --- model ----------------------------------------------------------------------------------------------------------


def measure_model(config: str = DATA_MODEL, batch_size: int = 8, device: str = "auto") -> list[Measure]:
    """Training steps and batched inference against bare loops of the same network, batches in memory."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Bench(config, batch_size, device, "fp32", False, Path(folder) / "plain")
        quick = Bench(config, batch_size, device, "bf16", True, Path(folder) / "quick")
        steps = interleave([plain.step, plain.bare_step, quick.step, quick.bare_step], 9)
        for bench in (plain, quick):
            bench.training.run.algorithm.eval()
            bench.network.eval()
        forwards = interleave([plain.predict, plain.bare_forward, quick.predict, quick.bare_forward], 9)
    note = f"{config}, batch {batch_size}, {plain.training.run.device}"
    return [
        *_against_bare("training step", steps, 0.95, batch_size, note),
        *_against_bare("batched inference", forwards, 0.9, batch_size, note),
        _gain("training: gain of bf16 and channels last ÷ the bare gain", steps, note),
        _gain("inference: gain of bf16 and channels last ÷ the bare gain", forwards, note),
    ]


def _against_bare(name: str, seconds: Sequence[float], goal: float, batch: int, note: str) -> list[Measure]:
    ours, bare, quick, quick_bare = (batch / value for value in seconds)
    return [
        Measure(f"{name} ÷ bare loop, fp32 contiguous", ours, bare, "images/s", goal, note=note),
        Measure(f"{name} ÷ bare loop, bf16 channels last", quick, quick_bare, "images/s", goal, note=note),
    ]


def _gain(name: str, seconds: Sequence[float], note: str) -> Measure:
    return Measure(name, seconds[0] / seconds[2], seconds[1] / seconds[3], "×", 0.95, note=note)


class Bench:
    """One network twice: inside the training engine, and alone in a bare loop; the same batch for both."""

    def __init__(
        self, config: str, batch_size: int, device: str, precision: str, channels_last: bool, folder: Path
    ) -> None:
        experiment = load_experiment(
            config,
            [
                f"train.precision={precision}",
                f"train.channels_last={str(channels_last).lower()}",
                f"data.train={{use: synthetic, count: {batch_size}}}",
                f"data.val={{use: synthetic, count: {batch_size}, seed: 1}}",
                f"train.batch_size={batch_size}",
                "data.workers=0",
                "model.flip_test=false",
                "eval.metrics=[pck]",
            ],
        )
        self.precision = precision
        self.training = Training(experiment, folder, choose_device(device), strict=True)
        algorithm = self.training.run.algorithm
        units = algorithm.units(experiment.data.train.build(), train=True)
        transform = algorithm.transform(train=False)
        batch = collate([transform(unit, np.random.default_rng(0)) for unit in units])
        self.batch = batch.to(self.training.run.device)
        self.training.network.train()
        self.network = copy.deepcopy(algorithm.network())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        self.images = normalized(algorithm, self.batch)
        with torch.no_grad():
            self.targets = torch.zeros_like(self._first(self.network(self.images)))

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.training.run.device, self.precision)

    def _first(self, outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def step(self) -> None:
        """A step of the engine: targets, loss, backward, optimizer."""
        self.training.step([self.batch])
        self._wait()

    def bare_step(self) -> None:
        """What nobody can do without: forward, loss, backward, optimizer."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            outputs = self._first(self.network(self.images))
            loss = torch.nn.functional.mse_loss(outputs.float(), self.targets)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self._wait()

    def predict(self) -> None:
        """Normalising, the network, decoding, and back to image pixels."""
        with torch.inference_mode(), self._autocast():
            self.training.run.algorithm.predict(self.batch)
        self._wait()

    def bare_forward(self) -> None:
        """The network alone, on normalised pictures."""
        with torch.inference_mode(), self._autocast():
            self.network(self.images)
        self._wait()

    def _wait(self) -> None:
        if self.training.run.device.type == "cuda":
            torch.cuda.synchronize()


def normalized(algorithm: Algorithm, batch: Batch) -> torch.Tensor:
    """The batch's pictures as the network wants them, (B, 3, H, W)."""
    normalize = next(module for module in algorithm.modules() if isinstance(module, Normalize))
    images: torch.Tensor = normalize(batch.inputs["image"])
    return images


# --- inference from files -------------------------------------------------------------------------------------------


def measure_infer(frames: int = 240, device: str = "auto") -> list[Measure]:
    """Peak memory of inference over a video against that over a video a quarter as long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = _untrained(folder)
        short, long = (_video_memory(folder, checkpoint, length, device) for length in (frames // 4, frames))
    what = f"peak memory of a video of {frames} frames ÷ one of {frames // 4}"
    note = "topdown/default, untrained, 320×240"
    return [Measure(what, long, short, "MB", 1.1, at_least=False, note=note)]


def _untrained(folder: Path) -> Path:
    experiment = load_experiment("topdown/default", ["data.train.count=2", "data.val.count=2"])
    skeleton = experiment.data.val.build().skeleton
    algorithm = experiment.model.build(skeleton)
    path = folder / "untrained.safetensors"
    header = Header(dump(experiment), skeleton.to_dict(), {}, 0, 0, "posecli benchmark", current_versions())
    save_checkpoint(path, algorithm.state_dict(), header)
    return path


def _video_memory(folder: Path, checkpoint: Path, frames: int, device: str) -> float:
    """Peak resident megabytes of `posecli infer` over a made video, in a process of its own."""
    video = folder / f"clip{frames}.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 240))
    generator = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(generator.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    options = ["--model", str(checkpoint), "--out", str(folder / f"out{frames}"), "--device", device]
    done = subprocess.run(
        [sys.executable, "-c", PEAK_MEMORY, "infer", str(video), *options], check=True, capture_output=True, text=True
    )
    return int(done.stdout.rsplit("peak", 1)[1]) / 1024


PEAK_MEMORY = """
import resource
from posecli.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
