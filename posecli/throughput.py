"""How fast one worker makes training samples, held against a bare loop that reads the same files."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posecli.algorithm import Transform
from posecli.data import unit_loader
from posecli.datasets.coco import coco_dataset
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, Made, People, Sample

TURNS = 9  # that loaders and bare loops take; the best one counts
WARM_BATCHES = 4  # batches of a loader that do not count: its worker is starting


def benchmark_pictures(annotations: Path | None, folder: Path) -> tuple[Dataset, str]:
    """The pictures of a COCO annotation file, or pictures like COCO's made in `folder`; and what they are."""
    if annotations is not None:
        samples = coco_dataset(annotations)
        return samples, f"{len(samples)} pictures of {annotations.name}"
    samples = textured_pictures(folder, 40)
    sizes = [Path(str(path)).stat().st_size / 1000 for path in samples.images]
    return samples, f"{len(samples)} made pictures of 640×425, {min(sizes):.0f}–{max(sizes):.0f} kB"


def textured_pictures(folder: Path, count: int, seed: int = 0) -> Dataset:
    """JPEGs of 640×425 with texture at all scales, 100–170 kB, and 2.6 people a picture, as in COCO."""
    generator = np.random.default_rng(seed)
    paths, people = [], []
    for index in range(count):
        image = np.zeros((425, 640, 3), np.float32)
        for scale in (2, 8, 32, 128):
            noise = generator.standard_normal((425 // scale + 2, 640 // scale + 2, 3)).astype(np.float32)
            strength = (15 + 24 * index / max(count - 1, 1)) if scale == 2 else 10 + 6 * np.log2(scale)
            image += cv2.resize(noise, (640, 425), interpolation=cv2.INTER_CUBIC) * strength
        path = folder / f"textured{index:03d}.jpg"
        cv2.imwrite(str(path), np.clip(image + 127, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
        people.append(_random_people(generator, 3 if index % 5 < 3 else 2))
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in people])])
    sizes = np.tile([[640, 425]], (count, 1))
    skeleton = house_skeleton("coco")
    return Dataset("textured", skeleton, list(range(count)), sizes, offsets, People.concatenate(people), paths)


def _random_people(generator: np.random.Generator, count: int) -> People:
    heights = generator.uniform(60, 400, count)
    sides = np.stack([heights * 0.5, heights], axis=1)
    corners = generator.uniform(0, 1, (count, 2)) * (np.array([640, 425]) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    keypoints = corners[:, None] + generator.uniform(0, 1, (count, 17, 2)) * sides[:, None]
    return People(keypoints, np.full((count, 17), 2.0), boxes)


@dataclass(frozen=True)
class LoaderRun:
    """An epoch of the training loader with one worker, once it runs."""

    rate: float  # units a second
    first_memory: float  # MB of the worker's own memory when it had warmed up
    last_memory: float  # and at the end of the epoch


def run_loader(made: Sequence[Sample], transform: Transform, units: int, share_decoding: bool = False) -> LoaderRun:
    """An epoch of at least `units` training units, `made` over and over."""
    loader = unit_loader(
        Repeated(made, math.ceil(units / len(made))),
        transform,
        batch_size=16,
        workers=1,
        shuffle=True,
        share_decoding=share_decoding,
    )
    seen, start, first = 0, 0.0, 0.0
    for number, batch in enumerate(loader):
        if number >= WARM_BATCHES:
            seen += len(batch)
        if number == WARM_BATCHES - 1:
            start, first = time.perf_counter(), worker_memory()
    return LoaderRun(seen / (time.perf_counter() - start), first, worker_memory())


def worker_memory() -> float:
    """Private megabytes of this process's children; NaN where the system does not tell."""
    pages = 0
    for child in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return math.nan
        pages += int(fields[1]) - int(fields[2])  # resident less shared
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Repeated(Made[Sample]):
    """Units many times over, each time as if of other pictures."""

    def __init__(self, units: Sequence[Sample], times: int) -> None:
        self.units = units
        self.times = times
        first = np.asarray(getattr(units, "sample_index", np.arange(len(units))))
        self.sample_index = np.concatenate([first + repeat * (first.max() + 1) for repeat in range(times)])

    def __len__(self) -> int:
        return len(self.units) * self.times

    def item(self, index: int) -> Sample:
        return self.units[index % len(self.units)]


def imread_rate(paths: Sequence[str], units: int) -> float:
    """Pictures a second of a bare loop, OpenCV on one thread."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    for path in paths:
        cv2.imread(path)
    start = time.perf_counter()
    for index in range(units):
        cv2.imread(paths[index % len(paths)])
    rate = units / (time.perf_counter() - start)
    cv2.setNumThreads(threads)
    return rate
