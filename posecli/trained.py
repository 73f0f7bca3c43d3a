"""A model ready to predict: a run, a checkpoint or a published one, with what its experiment says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from posecli.algorithm import Algorithm
from posecli.checkpoint import current_versions, open_model, resolve_model, sha256
from posecli.config import Experiment, Layers, dump, parse_setting, validate
from posecli.console import PosecliError
from posecli.devices import place
from posecli.results import ResultsHeader


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, and where it is from; a published model has no experiment."""

    algorithm: Algorithm
    name: str
    checkpoint: str  # SHA-256
    experiment: Experiment | None = None

    @property
    def batch_size(self) -> int:
        """What is scored at once; a published model takes whole pictures, which differ in size."""
        return 1 if self.experiment is None else self.experiment.eval.batch_size

    @property
    def workers(self) -> int:
        """Loader processes."""
        return 2 if self.experiment is None else self.experiment.data.workers

    @property
    def precision(self) -> str:
        """What it was trained in."""
        return "fp32" if self.experiment is None else self.experiment.train.precision

    def header(self, command: str) -> ResultsHeader:
        """The first line of results that `command` makes with it."""
        algorithm = self.algorithm
        versions = current_versions()
        return ResultsHeader(algorithm.skeleton, self.name, self.checkpoint, command, versions, algorithm.classes)


def open_trained(
    model: str | Path,
    device: torch.device,
    *,
    settings: Sequence[str] = (),
    weights: Path | None = None,
    threshold: float = 0.5,
) -> Trained:
    """The model of a run folder, a checkpoint, or `torchvision/keypointrcnn`, on the device.

    `settings` are KEY=VALUE over a checkpoint's config. A published model's weights are downloaded unless `weights` is
    a file with them, and it leaves out people scoring below `threshold`. Raises PosecliError.
    """
    from posecli.detection import KEYPOINT_RCNN, keypoint_rcnn_file, open_keypoint_rcnn

    if str(model) == KEYPOINT_RCNN:
        if settings:
            raise PosecliError(f"--set changes the config of a checkpoint; {KEYPOINT_RCNN} has none")
        file = keypoint_rcnn_file(weights)
        return Trained(open_keypoint_rcnn(file, threshold).to(device), KEYPOINT_RCNN, sha256(file))
    if str(model).startswith("torchvision/"):
        raise PosecliError(f"no model {model}: the published model that posecli knows is {KEYPOINT_RCNN}")
    if weights is not None:
        raise PosecliError(f"--model-weights goes with --model {KEYPOINT_RCNN}; a checkpoint holds its own weights")
    algorithm, experiment = _open_checkpoint(model, settings, device)
    place(algorithm, device, experiment.train.channels_last)
    return Trained(algorithm.eval(), experiment.model.name, sha256(resolve_model(model)), experiment)


def _open_checkpoint(model: str | Path, settings: Sequence[str], device: torch.device) -> tuple[Algorithm, Experiment]:
    """The trained algorithm and its experiment, with settings applied to both."""
    algorithm, experiment, _ = open_model(model, device)
    if not settings:
        return algorithm, experiment
    layers = Layers()
    layers.add(dump(experiment), str(model))
    for setting in settings:
        layers.add(parse_setting(setting), f"--set {setting}")
    changed = validate(Experiment, layers)
    if changed.model == experiment.model:
        return algorithm, changed
    rebuilt = changed.model.build(algorithm.skeleton)
    try:
        rebuilt.load_state_dict(algorithm.state_dict())
    except RuntimeError as error:
        raise PosecliError(f"the weights of {model} do not fit the model that --set makes of it: {error}") from error
    return rebuilt.to(device).eval(), changed
