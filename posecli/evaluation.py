"""From a dataset to predictions, from predictions to scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from posecli import console
from posecli.algorithm import Algorithm
from posecli.config import parse_metric
from posecli.console import PosecliError
from posecli.data import Loader, unit_loader
from posecli.metrics.metric import Metric, Score
from posecli.results import decode_people, encode_people
from posecli.skeleton import Skeleton
from posecli.types import Dataset, People, Prediction


def predict_dataset(
    algorithm: Algorithm,
    samples: Dataset,
    *,
    batch_size: int,
    workers: int,
    device: torch.device,
    precision: str = "fp32",
    label: str = "predicting",
    strict: bool = False,
) -> list[Prediction]:
    """One prediction for each sample in which something was asked for, in the order of the samples.

    With torch.distributed every rank predicts its own part and all get the whole. Boxes of `samples` with instance
    scores are detections: they answer no true person, so their predictions carry no `row`. Pictures that cannot be
    read are skipped and reported; with `strict` they raise UnreadableImage.
    """
    from posecli import distributed

    loader = unit_loader(
        algorithm.units(samples),
        algorithm.transform(train=False),
        batch_size=batch_size,
        workers=workers,
        share_decoding=True,
        strict=strict,
        pin_memory=device.type == "cuda",
        rank=distributed.rank(),
        world=distributed.world(),
    )
    own = _predict_units(algorithm, loader, device, precision, label)
    if samples.people.instance_scores is not None:
        own = [_without_row(prediction) for prediction in own]
    predictions = algorithm.finish(_gather(own, samples.skeleton))
    _report_skipped(loader)
    places = {sample_id: place for place, sample_id in enumerate(samples.ids)}
    return sorted(predictions, key=lambda prediction: places[prediction.id])


def build_metrics(texts: Sequence[str], skeleton: Skeleton) -> list[Metric]:
    """The metrics for texts such as `pck@0.05:torso`.

    Raises PosecliError for an unknown one, with the nearest name, and for one that the skeleton does not allow.
    """
    return [parse_metric(text).build(skeleton) for text in dict.fromkeys(texts)]


def usual_metrics(skeleton: Skeleton) -> tuple[str, ...]:
    """What to score with where nobody said: AP where there are sigmas, and PCK."""
    return ("pck", "epe") if skeleton.sigmas is None else ("ap", "pck")


def score(truth: Dataset, predictions: Sequence[Prediction], metrics: Sequence[Metric]) -> list[Score]:
    """The scores of all metrics, in their order.

    Raises PosecliError when the predictions are not of this data: none of their samples is there, or the keypoints
    are others.
    """
    known = set(truth.ids)
    people = {prediction.id: prediction.people for prediction in predictions if prediction.id in known}
    strangers = [prediction.id for prediction in predictions if prediction.id not in known]
    if strangers and not people:
        raise PosecliError(
            f"none of the {len(strangers)} predicted samples is in the data {truth.name!r} (it has {_few(truth.ids)}; "
            f"predicted are {_few(strangers)}): score against the data that was predicted"
        )
    if strangers:
        console.warn(f"{len(strangers)} predicted samples are not in the data and not scored: {_few(strangers)}")
    return [one for metric in metrics for one in metric.compute(truth, people)]


@torch.inference_mode()
def _predict_units(
    algorithm: Algorithm, loader: Loader, device: torch.device, precision: str, label: str
) -> list[Prediction]:
    from posecli.training import autocast

    predictions: list[Prediction] = []
    with _evaluating(algorithm), console.progress(len(loader), label, "batch") as bar:
        for batch in loader:
            with autocast(device, precision):
                predictions += algorithm.predict(batch.to(device))
            bar.update(1)
    return predictions


@contextmanager
def _evaluating(algorithm: Algorithm) -> Iterator[None]:
    """Evaluation mode for the block; then the mode each module was in before."""
    modes = [(module, module.training) for module in algorithm.modules()]
    algorithm.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _gather(own: list[Prediction], skeleton: Skeleton) -> list[Prediction]:
    """The predictions of all ranks, in their order; plain JSON travels, never pickles."""
    from posecli import distributed

    if distributed.world() == 1:
        return own
    items = distributed.gather_json([[prediction.id, encode_people(prediction.people)] for prediction in own])
    return [Prediction(sample_id, decode_people(rows, len(skeleton))) for sample_id, rows in items]


def _without_row(prediction: Prediction) -> Prediction:
    people = prediction.people
    extra = {name: values for name, values in people.extra.items() if name != "row"}
    return Prediction(
        prediction.id, People(people.keypoints, people.scores, people.boxes, people.instance_scores, extra)
    )


def _report_skipped(loader: Loader) -> None:
    from posecli import distributed

    skipped = list(dict.fromkeys(distributed.gather_json(loader.skipped)))
    if skipped and distributed.rank() == 0:
        console.warn(f"{len(skipped)} pictures could not be read and were skipped: {'; '.join(map(str, skipped))}")


def _few(ids: Sequence[object]) -> str:
    shown = ", ".join(repr(sample_id) for sample_id in ids[:5])
    return f"{shown} ..." if len(ids) > 5 else shown or "none"
