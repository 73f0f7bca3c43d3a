"""What the data decides when nobody else does: input size, sigma, flips, rotation, schedule, metrics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from posecli.config import DatasetConfig, Experiment, Fields, Layers, dump, validate
from posecli.console import PosecliError
from posecli.datasets.detect import detect_dataset
from posecli.types import Dataset, FloatArray

STEPS = 4_000  # training steps that a small data set gets, as passes over it
CELL = 32  # input sides are multiples of the coarsest stride of the usual backbones


def experiment_for(layers: Layers, data: Path, seed: int = 0) -> tuple[Experiment, list[str]]:
    """The experiment on the user's data, and one sentence for everything that was read from the data.

    `data` replaces the data section; what is filled in gives way to whatever a config or a setting states. Raises
    PosecliError when the path is no dataset or nobody in it is labelled.
    """
    train, val, reason = detect_dataset(data, seed)
    samples = train.build()
    filled, reasons = filled_fields(samples)
    reasons = [reason, *samples.notes, *reasons]
    merged = Layers()
    merged.add(filled, f"chosen from {data}")
    merged.add({key: value for key, value in layers.fields.items() if key != "data"}, "the config")
    merged.add(data_fields(layers, train, val), f"--data {data}")
    merged.origins.update({path: origin for path, origin in layers.origins.items() if path[:1] != ("data",)})
    return validate(Experiment, merged), reasons


def data_fields(layers: Layers, train: DatasetConfig, val: DatasetConfig) -> Fields:
    """The data section: the user's data, with the loader's settings of the config."""
    stated = layers.fields.get("data", {})
    kept = {key: value for key, value in stated.items() if key not in ("train", "val")}
    return {"data": {**kept, "train": dump(train), "val": dump(val)}}


def filled_fields(samples: Dataset) -> tuple[Fields, list[str]]:
    """Fields for the model, the training and the scoring, and why."""
    people = samples.people[samples.people.labelled.any(axis=1)]
    if not len(people) or people.boxes is None:
        raise PosecliError(f"{samples.name}: nobody in it has a labelled keypoint and a box, there is nothing to learn")
    model, reasons = _model_fields(samples, people.boxes)
    turned, why = _augment_fields(samples, people.keypoints)
    train, when = _train_fields(len(people))
    score, how = _eval_fields(samples)
    return {"model": {**model, "augment": turned}, "train": train, "eval": score}, [*reasons, *why, *when, *how]


def _model_fields(samples: Dataset, boxes: FloatArray) -> tuple[Fields, list[str]]:
    sides = boxes[:, 2:] - boxes[:, :2]
    frames = samples.sizes[samples.sample_of_row[samples.people.labelled.any(axis=1)]]
    whole = bool((sides >= 0.95 * frames).all(axis=1).mean() > 0.9)
    padding = 1.0 if whole else 1.25
    width, height = np.median(sides, axis=0) * padding
    longest = 320 if whole else 256
    longest = min(longest, max(2 * CELL, math.ceil(max(width, height) / CELL) * CELL))
    scale = longest / max(width, height)
    size = [max(2 * CELL, math.ceil(side * scale / CELL - 0.25) * CELL) for side in (width, height)]
    sigma = round(float(np.clip(max(size) / 128, 1.5, 3.0)), 2)
    boxed = "boxes are whole pictures" if whole else f"boxes are {width / padding:.0f}×{height / padding:.0f} px"
    reasons = [
        f"input {size[0]}×{size[1]}: {boxed} in the median, padded by {padding}",
        f"sigma {sigma}: {max(size) // 4} heatmap cells along the longer side",
    ]
    return {"input_size": size, "padding": padding, "sigma": sigma}, reasons


def _augment_fields(samples: Dataset, keypoints: FloatArray) -> tuple[Fields, list[str]]:
    upright = uprightness(keypoints)
    fields: Fields = {"rotate": 40.0} if upright > 0.5 else {"rotate": 180.0, "rotate_probability": 1.0}
    turned = "stand alike, rotated up to 40°" if upright > 0.5 else "lie in all directions, rotated up to 180°"
    reasons = [f"rotation: instances {turned} (mean direction {upright:.2f} of 1)"]
    pairs = samples.skeleton.flip_pairs
    reasons.append(
        "no flips: flip pairs are unknown; give them as `flip_pairs` of the category or in a skeleton file"
        if pairs is None
        else f"flips: {len(pairs)} pairs of left and right keypoints"
    )
    if samples.skeleton.upper is None:
        fields["half_body"] = 0.0
        reasons.append("no half-body crops: which keypoints are the upper body is unknown")
    return fields, reasons


def uprightness(keypoints: FloatArray) -> float:
    """How alike instances are turned, from 0 (all directions) to 1, of keypoints (N, K, 2) with NaN for unknown.

    The mean resultant length of the direction between the two keypoints that are farthest apart on average.
    """
    finite = np.where(np.isfinite(keypoints), keypoints, np.nan)
    apart = finite[:, :, None] - finite[:, None]  # (N, K, K, 2)
    lengths = np.sqrt((apart**2).sum(axis=-1))
    known = np.isfinite(lengths)
    mean = np.where(known, lengths, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    first, second = np.unravel_index(int(mean.argmax()), mean.shape)
    steps, steps_length = apart[:, first, second], lengths[:, first, second]
    usable = np.isfinite(steps_length) & (steps_length > 0)
    if not usable.any():
        return 1.0
    return float(np.linalg.norm((steps[usable] / steps_length[usable, None]).mean(axis=0)))


def _train_fields(units: int) -> tuple[Fields, list[str]]:
    batch = int(np.clip(2 ** math.floor(math.log2(max(units / 8, 1))), 4, 32))
    steps = math.ceil(units / batch)
    epochs = int(np.clip(round(STEPS / steps / 10) * 10, 10, 210))
    fields = {
        "epochs": epochs,
        "batch_size": batch,
        "eval_every": max(epochs // 10, 1),
        "schedule": {"name": "cosine", "warmup_steps": min(200, steps * epochs // 10)},
    }
    return fields, [f"schedule: {epochs} epochs of {steps} steps of {batch}, cosine, for {units} training instances"]


def _eval_fields(samples: Dataset) -> tuple[Fields, list[str]]:
    if samples.skeleton.sigmas is not None:
        return {"metrics": ["ap", "pck"]}, ["metrics: AP and PCK@0.05 of the box"]
    return {"metrics": ["pck", "epe"]}, ["metrics: PCK@0.05 of the box and EPE in pixels; no AP, sigmas are unknown"]
