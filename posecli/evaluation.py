"""From a dataset to predictions, from predictions to scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from posecli import console, distributed
from posecli.algorithm import Algorithm
from posecli.config import DataConfig, Layers, dump, parse_metric, parse_setting, validate
from posecli.console import PosecliError, few
from posecli.data import Loader, unit_loader
from posecli.datasets.config import StoredDatasetConfig
from posecli.datasets.detect import coco_like, detect_dataset
from posecli.datasets.pictures import PicturePaths, samples_of_pictures
from posecli.devices import autocast, choose_device
from posecli.interop.detections import detected_dataset
from posecli.mapping import map_skeleton
from posecli.metrics.metric import Metric, Score
from posecli.results import (
    ResultsHeader,
    decode_people,
    encode_people,
    is_coco_results,
    read_coco_results,
    read_results,
)
from posecli.skeleton import Skeleton
from posecli.trained import Trained, open_trained
from posecli.types import Dataset, Prediction


@dataclass(frozen=True)
class Evaluation:
    """Predictions beside the truth, with their scores."""

    truth: Dataset
    predictions: list[Prediction]
    scores: list[Score]
    header: ResultsHeader
    guess: list[Score] = field(default_factory=list)  # the same scores of the mean pose, when asked for


def evaluate_model(
    model: str | Path,
    *,
    data: Path | None = None,
    boxes: Path | None = None,
    box_threshold: float = 0.0,
    metrics: Sequence[str] = (),
    settings: Sequence[str] = (),
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    with_guess: bool = False,
    command: str = "",
) -> Evaluation:
    """Predict with a run or checkpoint and score it; on its own validation data unless `data` says otherwise.

    `boxes` is a detections file to look into instead of the true boxes. `settings` are KEY=VALUE over the
    checkpoint's config; with `data`, those of data.val are of that data. `with_guess` scores the mean pose of the
    model's training data as well. Raises PosecliError when something is missing or does not fit.
    """
    place = choose_device(device)
    distributed.join(place)
    of_data = [setting for setting in settings if data is not None and _speaks_of_data(setting)]
    rest = [setting for setting in settings if setting not in of_data]
    trained = open_trained(model, place, settings=rest, threshold=0.05)
    truth = _validation(trained, data, of_data, strict)
    for note in truth.notes:
        _say(console.note, note)
    truth = _in_joints_of(trained.algorithm.skeleton, truth)
    check_pictures(trained.algorithm, truth)
    chosen = build_metrics(metrics, truth.skeleton) if metrics else _possible(_metrics(trained, truth), truth.skeleton)
    predictions = predict_dataset(
        trained.algorithm,
        truth if boxes is None else _detected(trained.algorithm, truth, boxes, box_threshold),
        batch_size=batch_size or trained.batch_size,
        workers=trained.workers if workers is None else workers,
        device=place,
        precision=trained.precision,
        strict=strict,
    )
    guessed = score(truth, _guess(trained, truth), chosen) if with_guess else []
    return Evaluation(truth, predictions, score(truth, predictions, chosen), trained.header(command), guessed)


def evaluate_results(results: Path, data: Path, metrics: Sequence[str] = ()) -> Evaluation:
    """Score a results file, JSON Lines or COCO results, against labelled data, without any model.

    COCO results do not name their keypoints, so they are taken for those of the data; their categories are not looked
    at. Raises PosecliError when the two do not fit.
    """
    if is_coco_results(results):
        truth = _labels(data)
        header, people = ResultsHeader(truth.skeleton), read_coco_results(results, len(truth.skeleton))
    else:
        header, people = read_results(results)
        truth = _in_joints_of(header.skeleton, _labels(data))
    predictions = _by_file_name([Prediction(name, rows) for name, rows in people.items()], truth)
    dimensions = next((one.people.keypoints.shape[2] for one in predictions if len(one.people)), 2)
    chosen = build_metrics(metrics or usual_metrics(truth.skeleton, dimensions), truth.skeleton)
    return Evaluation(truth, predictions, score(truth, predictions, chosen), header)


def scored_data(path: Path, settings: Sequence[str] = (), strict: bool = False) -> Dataset:
    """What to score against at `path`: all of an annotation file, else the validation side of what `train` takes.

    `settings` are KEY=VALUE of data.val over what was found there.
    """
    layers = Layers()
    found = dump(_scored_config(path))
    layers.add({"train": found, "val": found}, f"--data {path}")
    for setting in settings:
        layers.add(parse_setting(setting)["data"], f"--set {setting}")
    return validate(DataConfig, layers).val.refusing(strict).build()


def _speaks_of_data(setting: str) -> bool:
    """Whether KEY=VALUE is one of data.val."""
    fields = parse_setting(setting).get("data")
    return isinstance(fields, dict) and set(fields) == {"val"}


def _scored_config(path: Path) -> StoredDatasetConfig:
    if path.is_file() and path.suffix.lower() == ".json":
        return coco_like(path.absolute())
    _, val, reason = detect_dataset(path)
    _say(console.note, f"scored: the validation side ({reason})")
    return val


def _labels(path: Path) -> Dataset:
    """`scored_data` for scoring alone, which needs no picture: where none are found, that is no fault."""
    config = _scored_config(path)
    try:
        return config.build()
    except PosecliError:
        if getattr(config, "images", config.path) is not None:
            raise
        return config.model_copy(update={"images": config.path.parent}).build()


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

    With torch.distributed every rank predicts its own part and all get the whole. Pictures that cannot be read are
    skipped and reported; with `strict` they raise UnreadableImage.
    """
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
    predictions = algorithm.finish(_gather(own, samples.skeleton))
    _report_skipped(loader)
    places = {sample_id: place for place, sample_id in enumerate(samples.ids)}
    return sorted(predictions, key=lambda prediction: places[prediction.id])


def build_metrics(texts: Sequence[str], skeleton: Skeleton) -> list[Metric]:
    """The metrics for texts such as `pck@0.05:torso`.

    Raises PosecliError for an unknown one, with the nearest name, and for one that the skeleton does not allow.
    """
    return [parse_metric(text).build(skeleton) for text in dict.fromkeys(texts)]


def usual_metrics(skeleton: Skeleton, dimensions: int = 2) -> tuple[str, ...]:
    """What to score with where nobody said: AP where there are sigmas, and PCK; errors of 3D poses with and without
    alignment, where the skeleton has a root to measure them from."""
    if dimensions == 3 and skeleton.roots:
        return ("mpjpe", "p-mpjpe")
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
            f"none of the {len(strangers)} predicted samples is in the data {truth.name!r} (it has {few(truth.ids)}; "
            f"predicted are {few(strangers)}): score against the data that was predicted"
        )
    if strangers:
        _say(
            console.warn,
            f"{len(strangers)} predicted samples are not in the data {truth.name!r} and not scored: {few(strangers)}",
        )
    return [one for metric in metrics for one in metric.compute(truth, people)]


def _validation(trained: Trained, data: Path | None, settings: Sequence[str], strict: bool) -> Dataset:
    """The data to score on."""
    if data is not None:
        return scored_data(data, settings, strict)
    if trained.experiment is None:
        raise PosecliError(f"{trained.name} brings no data of its own: say what to score it on with --data")
    return trained.experiment.data.val.refusing(strict).build()


def _guess(trained: Trained, truth: Dataset) -> list[Prediction]:
    """The mean pose of the training data in every true box."""
    if trained.experiment is None:
        raise PosecliError(f"--guess: {trained.name} does not say what it was trained on")
    return trained.algorithm.guess(trained.experiment.data.train.build(), truth)


def _metrics(trained: Trained, truth: Dataset) -> Sequence[str]:
    """What to score with where the user does not say."""
    return usual_metrics(truth.skeleton) if trained.experiment is None else trained.experiment.eval.metrics


def _detected(algorithm: Algorithm, truth: Dataset, boxes: Path, threshold: float) -> Dataset:
    """The pictures of the truth with the boxes of a detections file in place of their people."""
    if algorithm.needs != "boxes":
        raise PosecliError(f"--boxes {boxes}: this model finds people by itself and takes no boxes")
    asked, notes = detected_dataset(truth, boxes, threshold)
    for note in notes:
        _say(console.note, note)
    return asked


def _say(speak: Callable[[str], None], message: str) -> None:
    """Say something once, not once a rank."""
    if distributed.first_process():
        speak(message)


def _in_joints_of(predicted: Skeleton, truth: Dataset) -> Dataset:
    """The truth in the joints that are predicted: itself, or where it has the same names elsewhere, found by names.

    Raises PosecliError for another number of keypoints, or names that do not lead to all of them; warns where no name
    but the number is the same.
    """
    wanted = truth.skeleton
    if len(predicted) != len(wanted):
        raise PosecliError(
            f"{len(predicted)} keypoints a person are predicted (skeleton {predicted.name!r}), the data "
            f"{truth.name!r} has {len(wanted)} (skeleton {wanted.name!r}): score against data of the same skeleton"
        )
    others = [(mine, its) for mine, its in zip(predicted.names, wanted.names, strict=True) if mine != its]
    if not others:
        return truth
    (mine, its), moved = others[0], {mine for mine, _ in others} & set(wanted.names)
    if not moved:
        _say(console.warn, f"keypoints are named otherwise in the data: {mine!r} is predicted where it has {its!r}")
        return truth
    _say(console.note, f"{truth.name}: its keypoints, in another order than the model's, are taken by their names")
    mapped = map_skeleton(wanted, predicted)
    return dataclasses.replace(truth, skeleton=predicted, people=mapped.people(truth.people))


def check_pictures(algorithm: Algorithm, samples: Dataset) -> None:
    """Raise PosecliError where a model that looks at pictures is given motion that nobody filmed."""
    if algorithm.needs == "keypoints":
        return
    images = samples.images
    if isinstance(images, PicturePaths):
        missing = int((images.names == "").sum())
    else:
        missing = sum(isinstance(image, np.ndarray) and not image.size for image in images)
    if missing:
        raise PosecliError(
            f"{samples.name}: {missing} of its {len(samples)} frames have no picture, which this model looks at; "
            "a lifter learns from such data: --algo lifter"
        )


def _by_file_name(predictions: list[Prediction], truth: Dataset) -> list[Prediction]:
    """Predictions that are named by their pictures' paths, as `infer` names them, under the truth's own ids.

    Those stay that are known by their ids already, and those that are no picture's of the truth.
    """
    known = set(truth.ids)
    if any(prediction.id in known for prediction in predictions):
        return predictions
    meant = samples_of_pictures([prediction.id for prediction in predictions], truth)
    return [dataclasses.replace(one, id=meant.get(one.id, one.id)) for one in predictions]


def _possible(texts: Sequence[str], skeleton: Skeleton) -> list[Metric]:
    """The metrics of a config that this skeleton allows; the others are reported. Raises when none is left."""
    metrics, faults = [], []
    for text in texts:
        try:
            metrics += build_metrics([text], skeleton)
        except PosecliError as error:
            faults.append(error)
    if not metrics and faults:
        raise faults[0]
    for fault in faults:
        _say(console.warn, f"left out: {fault}")
    return metrics


@torch.inference_mode()
def _predict_units(
    algorithm: Algorithm, loader: Loader, device: torch.device, precision: str, label: str
) -> list[Prediction]:
    predictions: list[Prediction] = []
    with _evaluating(algorithm), console.progress(loader.units, label, "unit") as bar:
        for batch in loader:
            with autocast(device, precision):
                predictions += algorithm.predict(batch.to(device))
            bar.update(len(batch))
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
    if distributed.world() == 1:
        return own
    items = distributed.gather_json([[prediction.id, encode_people(prediction.people)] for prediction in own])
    return [Prediction(sample_id, decode_people(rows, len(skeleton))) for sample_id, rows in items]


def _report_skipped(loader: Loader) -> None:
    skipped = list(dict.fromkeys(distributed.gather_json(loader.skipped)))
    if skipped:
        _say(
            console.warn,
            f"{len(skipped)} pictures could not be read and were skipped: {'; '.join(map(str, skipped))}",
        )
