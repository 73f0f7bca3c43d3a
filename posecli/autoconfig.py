"""What the data decides when nobody else does: the model's sizes and flips, the schedule, the metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np

from posecli.config import DatasetConfig, Experiment, Fields, Layers, ModelConfig, dump, validate
from posecli.console import PosecliError
from posecli.datasets.detect import detect_dataset
from posecli.plugins import catalog
from posecli.summary import DataSummary
from posecli.types import Dataset, FloatArray

STEPS = 4_000  # training steps that a data set gets at least, as passes over it


def experiment_for(layers: Layers, data: Path, seed: int = 0) -> tuple[Experiment, list[str]]:
    """The experiment on the user's data, and one sentence for everything that was read from the data.

    `data` replaces the data section; what is filled in gives way to whatever a config or a setting states. Raises
    PosecliError when the path is no dataset or nobody in it is labelled.
    """
    train, val, reason = detect_dataset(data, seed)
    samples = train.build()
    summary = summarize(samples)
    kind = _model_class(layers)
    model, model_reasons = kind.fields_for(summary)
    schedule, schedule_reasons = train_fields(summary, kind.unit)
    scores, score_reasons = eval_fields(summary)
    merged = Layers()
    merged.add({"model": model, "train": schedule, "eval": scores}, f"chosen from {data}")
    merged.add({key: value for key, value in layers.fields.items() if key != "data"}, "the config")
    merged.add(data_fields(layers, train, val), f"--data {data}")
    merged.origins.update({path: origin for path, origin in layers.origins.items() if path[:1] != ("data",)})
    reasons = [reason, *model_reasons, *schedule_reasons, *score_reasons]
    return validate(Experiment, merged), reasons


def _model_class(layers: Layers) -> type[ModelConfig]:
    stated = layers.fields.get("model", {})
    found = catalog().find("model", str(stated.get("use") if isinstance(stated, dict) else stated))
    assert issubclass(found, ModelConfig)
    return found


def data_fields(layers: Layers, train: DatasetConfig, val: DatasetConfig) -> Fields:
    """The data section: the user's data, with the loader's settings of the config."""
    stated = layers.fields.get("data", {})
    kept = {key: value for key, value in stated.items() if key not in ("train", "val")}
    return {"data": {**kept, "train": dump(train), "val": dump(val)}}


def summarize(samples: Dataset) -> DataSummary:
    """The dataset in a few numbers. Raises PosecliError when nobody in it is labelled."""
    rows = np.flatnonzero(samples.people.labelled.any(axis=1))
    people = samples.people[rows]
    if not len(people) or people.boxes is None:
        raise PosecliError(f"{samples.name}: nobody in it has a labelled keypoint and a box, there is nothing to learn")
    sides = people.boxes[:, 2:] - people.boxes[:, :2]
    shown = samples.sample_of_row[rows]
    whole = (sides >= 0.95 * samples.sizes[shown]).all(axis=1)
    width, height = np.median(sides, axis=0)
    pictures = np.unique(shown)
    across, down = np.median(samples.sizes[pictures], axis=0)
    pairs = samples.skeleton.flip_pairs
    return DataSummary(
        instances=len(people),
        pictures=len(pictures),
        picture=(float(across), float(down)),
        box=(float(width), float(height)),
        whole_pictures=bool(whole.mean() > 0.9),
        uprightness=uprightness(people.keypoints[..., :2]),
        flip_pairs=None if pairs is None else len(pairs),
        has_upper=samples.skeleton.upper is not None,
        has_sigmas=samples.skeleton.sigmas is not None,
    )


def uprightness(keypoints: FloatArray) -> float:
    """How alike instances are turned, from 0 (all directions) to 1, of keypoints (N, K, 2) with NaN for unknown.

    The mean resultant length of the direction between the two keypoints that are farthest apart on average.
    """
    apart = keypoints[:, :, None] - keypoints[:, None]  # (N, K, K, 2)
    lengths = np.sqrt((apart**2).sum(axis=-1))
    known = np.isfinite(lengths)
    mean = np.where(known, lengths, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    first, second = np.unravel_index(int(mean.argmax()), mean.shape)
    steps, distances = apart[:, first, second], lengths[:, first, second]
    usable = np.isfinite(distances) & (distances > 0)
    if not usable.any():
        return 1.0
    return float(np.linalg.norm((steps[usable] / distances[usable, None]).mean(axis=0)))


def train_fields(
    summary: DataSummary, unit: Literal["instances", "pictures"] = "instances"
) -> tuple[Fields, list[str]]:
    """Batch, epochs and schedule for so many instances, or pictures, where the network sees one of them at once."""
    count = summary.instances if unit == "instances" else summary.pictures
    batch = int(np.clip(2 ** math.floor(math.log2(max(count / 8, 1))), 4, 32))
    steps = math.ceil(count / batch)
    epochs = int(np.clip(round(STEPS / steps / 10) * 10, 10, 300))
    fields = {
        "epochs": epochs,
        "batch_size": batch,
        "eval_every": max(epochs // 10, 1),
        "schedule": {"name": "cosine", "warmup_steps": min(200, steps * epochs // 10)},
    }
    return fields, [f"schedule: {epochs} epochs of {steps} steps of {batch}, for {count} {unit}"]


def eval_fields(summary: DataSummary) -> tuple[Fields, list[str]]:
    """Metrics that can be computed."""
    if summary.has_sigmas:
        return {"metrics": ["ap", "pck"]}, ["metrics: AP and PCK@0.05 of the box"]
    return {"metrics": ["pck", "epe"]}, ["metrics: PCK@0.05 of the box and EPE in pixels; no AP, sigmas are unknown"]
