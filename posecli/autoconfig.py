"""What the data decides when nobody else does: the model's sizes and flips, the schedule, the metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from posecli.config import (
    DataConfig,
    Experiment,
    Fields,
    Layers,
    ModelConfig,
    dump,
    inline_yaml,
    parse_setting,
    validate,
)
from posecli.console import PosecliError
from posecli.datasets.detect import detect_dataset
from posecli.datasets.known_config import usual_metrics
from posecli.plugins import catalog
from posecli.skeleton import house_skeletons
from posecli.summary import DataSummary
from posecli.types import Dataset, FloatArray

STEPS = 4_000  # training steps that a data set gets at least, as passes over it
ENOUGH = 1_000  # people, evenly taken, say how all are turned


def experiment_for(
    layers: Layers, data: Path, settings: Sequence[str] = (), seed: int = 0, processes: int = 1
) -> tuple[Experiment, list[str]]:
    """The experiment on the user's data, and one sentence for everything that was read from the data.

    `processes` is how many share each step; they change how many steps there are, not how often the data is seen.

    `data` replaces the datasets of `layers`; what is filled in gives way to whatever a config or a setting states, and
    `settings`, as of `--set`, that speak of the data hold for the user's. Raises PosecliError when the path is no
    dataset or nobody in it is labelled.
    """
    train, val, reason = detect_dataset(data, seed)
    own = Layers()
    own.add({"train": dump(train), "val": dump(val)}, f"--data {data}")
    for setting in settings:
        own.add(parse_setting(setting).get("data", {}), f"--set {setting}")
    samples = validate(DataConfig, own).train.build()
    summary = dataclasses.replace(summarize(samples), input_size=_stated_size(layers))
    kind = _model_class(layers)
    model, model_reasons = kind.fields_for(summary)
    scores, score_reason = eval_fields(summary, train.metrics or _usual_metrics(samples))
    merged = Layers()
    chosen = {"model": model, "train": train_fields(summary, kind.unit, processes), "eval": scores}
    merged.add(chosen, f"chosen from {data}")
    merged.add(_without_datasets(layers.fields), "the config")
    merged.add({"data": own.fields}, f"--data {data}")
    merged.origins.update({path: origin for path, origin in layers.origins.items() if path[:1] != ("data",)})
    experiment = validate(Experiment, merged)
    if experiment.eval.metrics != tuple(scores["metrics"]):
        score_reason = f"metrics: {', '.join(experiment.eval.metrics)}, as stated"
    reasons = [reason, *model_reasons, *_stated(model, layers.fields.get("model"))]
    return experiment, [*reasons, schedule_reason(experiment, summary, processes), score_reason]


def _model_class(layers: Layers) -> type[ModelConfig]:
    stated = layers.fields.get("model", {})
    found = catalog().find("model", str(stated.get("use") if isinstance(stated, dict) else stated))
    assert issubclass(found, ModelConfig)
    return found


def _stated_size(layers: Layers) -> tuple[int, int] | None:
    """The model's input size where a config or a setting states one; what is no size is refused later, by name."""
    model = layers.fields.get("model", {})
    match model.get("input_size") if isinstance(model, dict) else None:
        case [int(width), int(height)]:
            return width, height
    return None


def _stated(chosen: Fields, stated: object) -> list[str]:
    """A sentence about what was chosen for the model but is stated otherwise; the reasons do not hold for these."""
    kept = list(_stated_otherwise(chosen, stated))
    return [f"as stated, and not as chosen: {', '.join(kept)}"] if kept else []


def _stated_otherwise(chosen: Fields, stated: object, prefix: str = "") -> Iterator[str]:
    if not isinstance(stated, dict):
        return
    for key, value in chosen.items():
        if key not in stated or key == "input_size":  # of which its own reason says so
            continue
        if isinstance(value, dict):
            yield from _stated_otherwise(value, stated[key], f"{prefix}{key}.")
        elif stated[key] != value:
            yield f"{prefix}{key} {inline_yaml(stated[key])}"


def _usual_metrics(samples: Dataset) -> tuple[str, ...]:
    """By which sets of these keypoints are scored, where the data, converted perhaps, has what they divide by."""
    house = house_skeletons().get(samples.skeleton.name)
    usual = usual_metrics(house.name) if house is not None and house.names == samples.skeleton.names else ()
    return tuple(name for name in usual if "box_size" not in name or "box_size" in samples.people.extra)


def _without_datasets(fields: Fields) -> Fields:
    """The fields with the loader's settings of the data section alone."""
    data = {key: value for key, value in fields.get("data", {}).items() if key not in ("train", "val")}
    return {**fields, "data": data}


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
    if len(keypoints) > ENOUGH:
        keypoints = keypoints[np.linspace(0, len(keypoints) - 1, ENOUGH).astype(int)]
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
    summary: DataSummary, unit: Literal["instances", "pictures"] = "instances", processes: int = 1
) -> Fields:
    """Batch, epochs and schedule for so many instances, or pictures, where the network sees one of them at once."""
    count = _units(summary, unit)
    batch = int(np.clip(2 ** math.floor(math.log2(max(count / 8, 1))), 4, 32))
    epochs = int(np.clip(round(STEPS / _steps(count, batch) / 10) * 10, 10, 300))
    return {
        "epochs": epochs,
        "batch_size": batch,
        "eval_every": max(epochs // 10, 1),
        "schedule": {"name": "cosine", "warmup_steps": min(200, _steps(count, batch * processes) * epochs // 10)},
    }


def schedule_reason(experiment: Experiment, summary: DataSummary, processes: int = 1) -> str:
    """How long training takes, whoever decided it."""
    train, unit = experiment.train, experiment.model.unit
    count = _units(summary, unit)
    steps = _steps(count, train.batch_size * processes)
    shares = f"{processes} × {train.batch_size}" if processes > 1 else f"{train.batch_size}"
    return f"schedule: {train.epochs} epochs of {steps} steps of {shares}, for {count} {unit}"


def _steps(count: int, batch: int) -> int:
    """Steps of an epoch: the loader leaves an incomplete batch out, unless it is the only one."""
    return max(1, count // batch)


def _units(summary: DataSummary, unit: Literal["instances", "pictures"]) -> int:
    return summary.instances if unit == "instances" else summary.pictures


def eval_fields(summary: DataSummary, custom: Sequence[str] = ()) -> tuple[Fields, str]:
    """Metrics of 2D keypoints, those of the dataset's `custom` if it has any, and a sentence about them."""
    if custom:
        return {"metrics": list(custom)}, f"metrics: {', '.join(custom)}, by which such data is scored"
    if summary.has_sigmas:
        return {"metrics": ["ap", "pck"]}, "metrics: AP and PCK@0.05 of the box"
    return {"metrics": ["pck", "epe"]}, "metrics: PCK@0.05 of the box and EPE in pixels; no AP, sigmas are unknown"
