"""A trained model as a function of pictures; where the people are that it is to look at; opening models for a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from posecli.algorithm import Algorithm
from posecli.batch import Batch, alike, collate
from posecli.checkpoint import current_command
from posecli.console import PosecliError
from posecli.detection import Boxes, BoxFile, Detector
from posecli.devices import autocast, choose_device
from posecli.images import read_image
from posecli.lifting import Lifting
from posecli.results import ResultsHeader, read_header
from posecli.skeleton import Skeleton
from posecli.sources import Frame, Source
from posecli.trained import Trained, open_trained
from posecli.types import Dataset, FloatArray, ImageArray, People, Prediction

FindBoxes = Callable[[Sequence[Frame]], Sequence[Boxes]]
"""Where the people of some frames are: boxes and scores for each frame."""

NOBODY: Boxes = (np.zeros((0, 4)), np.zeros(0))


# --- finding the people ---------------------------------------------------------------------------------------------


def whole_pictures(frames: Sequence[Frame]) -> Sequence[Boxes]:
    """One box a frame: all of it."""
    return [(np.array([[0.0, 0.0, frame.image.shape[1], frame.image.shape[0]]]), np.ones(1)) for frame in frames]


@dataclass(frozen=True)
class BoxesFromFile:
    """Boxes by the frames' names."""

    file: BoxFile

    def __call__(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        return [self.file.find(frame.id) for frame in frames]


@dataclass(frozen=True)
class BoxesFromDetector:
    """Boxes by a detector that looks at all frames together."""

    detector: Detector

    def __call__(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        return self.detector([frame.image for frame in frames])


@dataclass(frozen=True)
class Search:
    """How a model that needs boxes is told where the people are: by a file, a detector, or else the whole picture."""

    boxes: Path | None = None  # a COCO detections file
    detector: str | None = None  # `torchvision/<name>`
    detector_weights: Path | None = None  # a file instead of the published weights
    threshold: float = 0.5  # people that a file or a detector scores lower are left out

    def open(self, device: torch.device) -> FindBoxes:
        """Raises PosecliError when the file or the detector cannot be had."""
        from posecli.detection import open_detector, read_boxes

        if self.boxes is not None and self.detector is not None:
            raise PosecliError("--boxes and --detector both say where the people are: give one of them")
        if self.boxes is not None:
            return BoxesFromFile(read_boxes(self.boxes, self.threshold))
        if self.detector is not None:
            return BoxesFromDetector(open_detector(self.detector, device, self.threshold, self.detector_weights))
        return whole_pictures


# --- predicting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Some frames and what the network is to see of them."""

    frames: tuple[Frame, ...]
    batches: tuple[Batch, ...]


class Predictor:
    """A function from a picture to its People; `prepare` and `predict` do the same in two steps for many frames."""

    def __init__(
        self,
        algorithm: Algorithm,
        device: torch.device | str = "cpu",
        *,
        find_boxes: FindBoxes = whole_pictures,
        batch_size: int = 8,
        precision: str = "fp32",
        header: ResultsHeader | None = None,
    ) -> None:
        if algorithm.needs == "keypoints":
            raise PosecliError("this model takes 2D keypoints, not pictures: predict them with a 2D model first")
        self.device = torch.device(device)
        self.algorithm = algorithm.to(self.device).eval()
        self.find_boxes = find_boxes
        self.batch_size = batch_size
        self.precision = precision
        self.header = header or ResultsHeader(algorithm.skeleton)
        self._transform = algorithm.transform(train=False)

    def __call__(self, image: ImageArray | str | Path, boxes: FloatArray | None = None) -> People:
        """The people in a picture, in its pixels: RGB uint8 (H, W, 3), or a path.

        `boxes` (N, 4), x1 y1 x2 y2, say where they are, for models that need it; by default the whole picture is one.
        Raises UnreadableImage.
        """
        place = Path(image) if isinstance(image, str | Path) else Path("image")
        pixels = image if isinstance(image, np.ndarray) else read_image(place)
        frame = Frame(Source(place.as_posix(), "picture", place), 0, pixels)
        given = None if boxes is None else [(np.asarray(boxes, np.float64).reshape(-1, 4), np.ones(len(boxes)))]
        return self.predict(self.prepare([frame], given))[0].people

    def prepare(self, frames: Sequence[Frame], boxes: Sequence[Boxes] | None = None) -> Work:
        """Find the people and make the network's inputs; may run in a thread beside `predict`."""
        if self.algorithm.needs == "image":
            boxes = [NOBODY] * len(frames)
        units = self.algorithm.units(_dataset(frames, boxes or self.find_boxes(frames), self.algorithm))
        generator = np.random.default_rng(0)
        examples = [self._transform(units[index], generator) for index in range(len(units))]
        groups = alike(examples, self.batch_size)
        batches = (collate([examples[place] for place in group]) for group in groups)
        pinned = self.device.type == "cuda"
        return Work(tuple(frames), tuple(batch.pin_memory() if pinned else batch for batch in batches))

    @torch.inference_mode()
    def predict(self, work: Work) -> list[Prediction]:
        """One prediction for each frame, in the frames' order."""
        predictions: list[Prediction] = []
        for batch in work.batches:
            with autocast(self.device, self.precision):
                predictions += self.algorithm.predict(batch.to(self.device))
        finished = self.algorithm.finish(predictions)
        people = {prediction.id: prediction.people for prediction in finished}
        nobody = People.empty(len(self.algorithm.skeleton))
        return [Prediction(frame.id, people.get(frame.id, nobody)) for frame in work.frames]


def _dataset(frames: Sequence[Frame], boxes: Sequence[Boxes], algorithm: Algorithm) -> Dataset:
    """The frames as a dataset whose people are detections: boxes with scores, keypoints unknown."""
    corners = np.concatenate([row for row, _ in boxes]).astype(np.float32)  # (P, 4)
    scores = np.concatenate([row for _, row in boxes]).astype(np.float32)  # (P,)
    joints = len(algorithm.skeleton)
    unknown = np.full((len(corners), joints, 2), np.nan, np.float32)
    return Dataset(
        name="frames",
        skeleton=algorithm.skeleton,
        ids=[frame.id for frame in frames],
        sizes=np.array([frame.image.shape[1::-1] for frame in frames]),
        offsets=np.cumsum([0, *(len(row) for row, _ in boxes)]),
        people=People(unknown, np.zeros((len(corners), joints), np.float32), corners, scores),
        images=[frame.image for frame in frames],
    )


# --- opening models -------------------------------------------------------------------------------------------------


def load(
    model: str | Path = "runs/latest",
    device: str = "auto",
    *,
    search: Search | None = None,
    model_weights: Path | None = None,
    batch_size: int = 8,
    precision: str = "fp32",
) -> Predictor:
    """The predictor of a run folder, a checkpoint, or `torchvision/keypointrcnn`; its published weights are downloaded,
    unless `model_weights` is a file with them.

    Raises PosecliError when there is no such model, or what it needs cannot be had.
    """
    opening = Opening(choose_device(device), search or Search(), model_weights, batch_size, precision)
    return opening.predictor(opening.trained(model))


@dataclass(frozen=True)
class Opening:
    """How models are opened for a job."""

    device: torch.device
    search: Search
    model_weights: Path | None = None
    batch_size: int = 8
    precision: str = "fp32"

    def trained(self, model: str | Path) -> Trained:
        """A run folder, a checkpoint, or a published model."""
        return open_trained(model, self.device, weights=self.model_weights, threshold=self.search.threshold)

    def predictor(self, trained: Trained) -> Predictor:
        """The model as a function of pictures."""
        return Predictor(
            trained.algorithm,
            self.device,
            find_boxes=self.search.open(self.device) if trained.algorithm.needs == "boxes" else whole_pictures,
            batch_size=self.batch_size,
            precision=self.precision,
            header=trained.header(current_command()),
        )

    def lifting(self, trained: Trained, skeleton: Skeleton) -> Lifting:
        """The lifter as a function of films whose 2D people have this skeleton."""
        return Lifting(
            trained.algorithm,
            skeleton,
            self.device,
            batch_size=self.batch_size,
            precision=self.precision,
            header=trained.header(current_command()),
        )

    def for_pictures(self, model: str, pose2d: str | None) -> tuple[Predictor, Lifting | None]:
        """The 2D model, and the lifter if `model` is one; `pose2d` is what finds the keypoints that it lifts.

        Raises PosecliError where the two do not go together.
        """
        trained = self.trained(model)
        if trained.algorithm.needs != "keypoints":
            if pose2d is not None:
                raise PosecliError(f"--pose2d finds keypoints for a lifter, but {model} takes pictures: leave it out")
            return self.predictor(trained), None
        if pose2d is None:
            raise PosecliError(
                f"{model} lifts 2D keypoints and takes no pictures: say what finds them with --pose2d RUN (a 2D model) "
                f"or give a results file of 2D keypoints, KEYPOINTS.jsonl"
            )
        flat = self.trained(pose2d)
        if flat.algorithm.needs == "keypoints":
            raise PosecliError(f"--pose2d {pose2d} is a lifter itself: name a model that takes pictures")
        return self.predictor(flat), self.lifting(trained, flat.algorithm.skeleton)

    def for_results(self, model: str, results: Path) -> Lifting:
        """The lifter for the 2D keypoints of a results file. Raises PosecliError when the model is none."""
        skeleton = read_header(results).skeleton
        trained = self.trained(model)
        if trained.algorithm.needs != "keypoints":
            raise PosecliError(f"{results} holds keypoints, but {model} takes pictures: name a lifter with --model")
        return self.lifting(trained, skeleton)
