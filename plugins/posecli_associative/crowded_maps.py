"""Made heatmaps and tags of crowds, and how long it takes to make people of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from posecli.batch import Batch
from posecli.config import load_experiment
from posecli.measures import Measure, interleave
from posecli.nn.config import ResNetConfig
from posecli.skeleton import house_skeleton
from posecli.types import FloatArray, People, Sample
from posecli_associative.decoding import decode
from posecli_associative.model import Associative

CONFIG = "associative/coco/hrnet-w32-512"
SIZE = 512  # cells along the maps, pixels along the input
JOINTS = 17
SIGMA = 8.0  # cells; 2 in maps of a quarter of the size, as networks give them
BODY = 60.0  # cells that a keypoint is at most off the middle of its person
SEEN = 0.8  # share of keypoints with a peak; the others are looked for by tag
APART = 1.5  # between the tags of people
FLOOR = 0.01  # heatmaps where nothing is


def measure_grouping(repeats: int = 11) -> list[Measure]:
    """Decoding of 17 maps of 512×512 against a ResNet-50 on one crop of 256×192, and its share of all inference."""
    algorithm = load_experiment(CONFIG).model.build(house_skeleton("coco")).eval()
    assert isinstance(algorithm, Associative)
    backbone = ResNetConfig().build().eval()
    crop = torch.randn(1, 3, 256, 192)
    scenes = {
        "10 people": (crowded_maps(10), 0.5),
        "30 people": (crowded_maps(30), 0.7),
        "30 people, 300 peaks of nobody": (crowded_maps(30, 300), 1.2),
        "30 people, 300 peaks of nobody in each map": (crowded_maps(30, 300 * JOINTS), 1.2),
    }
    with torch.inference_mode():
        decodings = [partial(_decode, algorithm, maps) for maps, _ in scenes.values()]
        actions: list[Callable[[], object]] = [partial(backbone, crop), *decodings]
        interleave(actions, 2)  # memory and threads get ready
        limit, *ours = interleave(actions, repeats)
        whole, share = interleave([partial(algorithm.maps, blank_batch()), decodings[-1]], max(1, repeats // 4))
    note = f"one ResNet-50 forward of 256×192, {torch.get_num_threads()} threads, {JOINTS} maps of {SIZE}×{SIZE}"
    measures = [
        Measure(f"decoding {name} ÷ ResNet-50", seconds * 1e3, limit * 1e3, "ms", goal, at_least=False, note=note)
        for (name, (_, goal)), seconds in zip(scenes.items(), ours, strict=True)
    ]
    note = f"{CONFIG}, one picture of {SIZE}×{SIZE}, mirrored too, {list(scenes)[-1]}"
    part = Measure("decoding ÷ all inference", share * 1e3, (whole + share) * 1e3, "ms", 0.1, at_least=False, note=note)
    return [*measures, part]


def _decode(algorithm: Associative, maps: tuple[Tensor, Tensor]) -> object:
    return decode(*maps, algorithm.settings, (SIZE, SIZE), algorithm.max_people)


def blank_batch() -> Batch:
    """One grey picture of SIZE × SIZE."""
    sample = Sample("grey", np.zeros((0, 0, 3), np.uint8), (SIZE, SIZE), People.empty(JOINTS))
    image = torch.full((1, SIZE, SIZE, 3), 127, dtype=torch.uint8)
    return Batch({"image": image}, {}, (sample,), torch.eye(2, 3, dtype=torch.float64)[None])


def crowded_maps(people: int, extra: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Heatmaps (1, 17, 512, 512) and tags (1, 17, 512, 512, 1) of people, and of `extra` peaks that are nobody's.

    People's peaks are 0.5 to 1 high, others 0.1 to 0.5. Every peak has one tag, nobody's any of the range; elsewhere
    tags are noise, and heatmaps too, up to FLOOR.
    """
    generator = np.random.default_rng(seed)
    shape = (JOINTS, SIZE, SIZE)
    heatmaps = generator.uniform(0, FLOOR, shape).astype(np.float32)
    tags = generator.normal(0, 0.5, shape).astype(np.float32)
    for person in range(people):
        middle = generator.uniform(BODY, SIZE - BODY, 2)
        for joint in np.flatnonzero(generator.random(JOINTS) < SEEN):
            place = middle + generator.uniform(-BODY, BODY, 2)
            tag = (person - people / 2) * APART + generator.normal(0, 0.1)
            _put(heatmaps[joint], tags[joint], place, generator.uniform(0.5, 1), tag)
    for number in range(extra):
        place, tag = generator.uniform(0, SIZE - 1, 2), generator.uniform(-people / 2, people / 2) * APART
        _put(heatmaps[number % JOINTS], tags[number % JOINTS], place, generator.uniform(0.1, 0.5), tag)
    return torch.from_numpy(heatmaps)[None], torch.from_numpy(tags)[None, ..., None]


def _put(heatmap: FloatArray, tags: FloatArray, place: FloatArray, height: float, tag: float) -> None:
    """A Gaussian of a height at a place x, y; cells where it is the highest take its tag."""
    reach = int(3 * SIGMA)
    left, top = np.maximum(place.astype(int) - reach, 0)
    rows, columns = slice(top, int(place[1]) + reach + 1), slice(left, int(place[0]) + reach + 1)
    part = heatmap[rows, columns]
    y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    peak = height * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * SIGMA**2))
    tags[rows, columns][peak > part] = tag
    np.maximum(part, peak, out=part)
