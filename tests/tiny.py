"""A tiny algorithm on tiny pictures in memory, for tests of the engine; as a script it trains in several ranks.

`python tests/tiny.py '[{"folder": ..., "world": 2, "fields": {...}}, ...]'` runs one job after the other, leaves every
rank's weights as FOLDER/rank-N.safetensors and prints the ranks' exit codes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.config import DatasetConfig, Experiment, ModelConfig
from posecli.skeleton import Skeleton
from posecli.types import Dataset, Example, People, Prediction, Sample

SKELETON = Skeleton("tiny", ("a", "b", "c"), links=((0, 1), (1, 2)))
SIDE = 16


class TinyData(DatasetConfig):
    """Noise pictures with three bright dots."""

    name: ClassVar[str] = "tiny"
    count: int = 24
    seed: int = 0

    def build(self) -> Dataset:
        generator = np.random.default_rng(self.seed)
        points = generator.uniform(2, SIDE - 2, (self.count, 3, 2)).astype(np.float32)
        images = generator.integers(0, 80, (self.count, SIDE, SIDE, 3), dtype=np.uint8)
        for image, dots in zip(images, points.round().astype(int), strict=True):
            image[dots[:, 1], dots[:, 0], np.arange(3)] = 255
        boxes = np.tile(np.float32([0, 0, SIDE, SIDE]), (self.count, 1))
        people = People(points, np.full((self.count, 3), 2, np.float32), boxes)
        return Dataset(
            "tiny",
            SKELETON,
            list(range(self.count)),
            np.full((self.count, 2), SIDE),
            np.arange(self.count + 1),
            people,
            list(images),
        )


@dataclass(frozen=True)
class TinyTransform:
    """The picture, brighter or darker by chance in training."""

    train: bool

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        assert isinstance(sample.image, np.ndarray)
        factor = generator.uniform(0.7, 1.0) if self.train else 1.0
        image = (sample.image * factor).astype(np.uint8)
        targets = {"keypoints": sample.people.keypoints[0]}
        return Example({"image": image}, targets, sample, np.eye(2, 3))


class Tiny(Algorithm):
    """One convolution, normalised; with dropout a step also depends on torch's own generator."""

    needs = "image"

    def __init__(self, skeleton: Skeleton, dropout: float, poison: int | None) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.poison = poison
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(dropout))
        self.out = nn.Linear(6 * (SIDE // 2) ** 2, 2 * len(skeleton))

    def transform(self, train: bool) -> Transform:
        return TinyTransform(train)

    def points(self, batch: Batch) -> Tensor:
        pixels = batch.inputs["image"].permute(0, 3, 1, 2).float() / 255
        return self.out(self.features(pixels).flatten(1)).unflatten(1, (-1, 2))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        error = (self.points(batch) - batch.targets["keypoints"] / SIDE).square().mean()
        if self.poison is not None and any(sample.id == self.poison for sample in batch.samples):
            error = error * torch.nan
        return {"points": error, "size": 1e-3 * self.out.weight.square().mean()}

    def predict(self, batch: Batch) -> list[Prediction]:
        points = (self.points(batch).float() * SIDE).cpu().numpy()
        score = np.ones((1, len(self.skeleton)), np.float32)
        extra = {"row": np.zeros(1, np.int64)}
        return [
            Prediction(sample.id, People(row[None], score, sample.people.boxes, np.ones(1, np.float32), extra))
            for sample, row in zip(batch.samples, points, strict=True)
        ]


class TinyModel(ModelConfig):
    """The tiny algorithm."""

    name: ClassVar[str] = "tiny"
    dropout: float = 0.0
    poison: int | None = None

    def build(self, skeleton: Skeleton) -> Algorithm:
        return Tiny(skeleton, self.dropout, self.poison)


def experiment(model: dict[str, Any] | None = None, workers: int = 0, **train: Any) -> Experiment:
    """A tiny experiment; `train` changes the training's fields."""
    fields = {
        "epochs": 3,
        "batch_size": 4,
        "eval_every": 100,
        "optimizer": {"lr": 0.01},
        "schedule": {"name": "constant"},
    }
    return Experiment.model_validate(
        {
            "model": TinyModel(**(model or {})),
            "data": {"train": TinyData(), "val": TinyData(count=6, seed=1), "workers": workers},
            "train": {**fields, **train},
            "eval": {"metrics": ("epe", "pck"), "batch_size": 4},
        }
    )


def work(folder: Path, fields: dict[str, Any]) -> int:
    """Train as one of the ranks, and leave its weights; the exit code."""
    from safetensors.torch import save_file

    from posecli import console, distributed
    from posecli.training import train

    console.output.quiet = True
    torch.set_num_threads(1)
    try:
        run = train(experiment(**fields), folder, device="cpu")
    except console.PosecliError as error:
        os.write(2, f"rank {distributed.rank()}: {error}\n".encode())  # at once: another rank writes too
        return error.exit_code
    state = {name: value.contiguous() for name, value in run.algorithm.state_dict().items()}
    save_file(state, folder / f"rank-{distributed.rank()}.safetensors")
    distributed.leave()
    return 0


def start(rank: int, job: dict[str, Any], port: int) -> int:
    """Fork a rank, with what torchrun would tell it, so that torch is imported once for all; its process id."""
    child = os.fork()
    if child:
        return child
    told = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": job["world"],
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    os.environ.update({key: str(value) for key, value in told.items()})
    code = 99
    try:
        code = work(Path(job["folder"]), job["fields"])
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(jobs: list[dict[str, Any]]) -> list[list[int]]:
    """Run the jobs one after the other; the exit codes of each job's ranks."""
    import posecli.evaluation
    import posecli.training  # noqa: F401  # before the forks

    codes = []
    for job in jobs:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        children = [start(rank, job, port) for rank in range(job["world"])]
        codes.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    return codes


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
