"""Where the people are: boxes from a file or from torchvision's published detectors, and its Keypoint R-CNN.

Nothing here goes to the network unless the user asked for a detector or a published model by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.console import PosecliError
from posecli.interop.detections import PERSON, choose_detections, looked_into, read_detections
from posecli.nn.pretrained import download
from posecli.plugins import suggest
from posecli.skeleton import house_skeleton
from posecli.types import Example, FloatArray, ImageArray, People, Prediction, Sample

DEFAULT_DETECTOR = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
KEYPOINT_RCNN = "torchvision/keypointrcnn"

Boxes = tuple[FloatArray, FloatArray]
"""Boxes (N, 4) x1 y1 x2 y2 in image pixels, and their scores (N,)."""


# --- boxes from a file ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxFile:
    """Boxes read from a file, by the name or number of the picture."""

    path: Path
    boxes: Mapping[str, Boxes]
    left_out: Mapping[str, int] = field(default_factory=dict)  # how many of the file's boxes are not there, by reason

    def key(self, name: str) -> str | None:
        """What the file calls a picture: its name as given, its file name, the name's stem, or the number in the stem.

        None where it says nothing about the picture.
        """
        return next((key for key in picture_keys(name) if key in self.boxes), None)

    def find(self, name: str) -> Boxes:
        """The boxes of a picture; zero where the file says nothing about it."""
        key = self.key(name)
        return (np.zeros((0, 4)), np.zeros(0)) if key is None else self.boxes[key]

    def note(self, keys: Collection[str]) -> str:
        """How many of the file's boxes are looked into where these are the pictures, and why not the others."""
        kept = sum(len(scores) for key, (_, scores) in self.boxes.items() if key in keys)
        others = sum(len(scores) for _, scores in self.boxes.values()) - kept
        return looked_into(self.path, kept, {**self.left_out, "of other pictures": others})


def picture_keys(name: str) -> list[str]:
    """What a box file may call the picture `name`, the most exact first: folder/0139.jpg, 0139.jpg, 0139, 139."""
    file_name = name.rsplit("/", 1)[-1]
    stem = file_name.rsplit(".", 1)[0] if "#" not in file_name else file_name
    number = [str(int(stem))] if stem.isdigit() else []
    return list(dict.fromkeys([name, file_name, stem, *number]))


def read_boxes(path: Path, threshold: float = 0.0) -> BoxFile:
    """The boxes in a COCO detections file, or in an annotation file: people, animals, or whatever it has boxes of.

    Of a file with persons (category 1) and others the persons are taken. Scores below `threshold` and boxes without
    area are left out; a box without a score counts as certain. Raises PosecliError.
    """
    detections = read_detections(path)
    persons = (PERSON,) if any(found.category == PERSON for found in detections) else None
    kept, left_out = choose_detections(detections, threshold, persons)
    gathered: dict[str, list[list[float]]] = {str(found.picture): [] for found in detections}
    for found in kept:
        gathered[str(found.picture)].append([*found.box, found.score])
    arrays = {key: np.asarray(values, np.float64).reshape(-1, 5) for key, values in gathered.items()}
    return BoxFile(path, {key: (values[:, :4], values[:, 4]) for key, values in arrays.items()}, left_out)


# --- published weights ------------------------------------------------------------------------------------------------


def weights_file(url: str, file: Path | None, option: str) -> Path:
    """`file` where one is given, else the published file, from torch's cache or downloaded into it, hash checked.

    Raises PosecliError naming the address, the file and where to put it; `option` is the option that takes a file.
    """
    if file is None:
        try:
            return download(url)
        except PosecliError as error:
            raise PosecliError(f"{error}; or give a file with {option}") from error
    if not file.is_file():
        raise PosecliError(f"no weights file {file} (given with {option})")
    return file


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a wrong file may raise, the user hears one thing
        raise PosecliError(f"{file} does not hold plain weights ({type(error).__name__})") from error
    return state


def _load(network: nn.Module, file: Path, name: str) -> None:
    try:
        network.load_state_dict(_read_state(file))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise PosecliError(f"the weights in {file} do not fit {name}: {' '.join(str(error).split())[:300]}") from error


# --- detectors --------------------------------------------------------------------------------------------------------


class Detector:
    """A torchvision detector that keeps people scoring at least `threshold`."""

    def __init__(self, network: nn.Module, device: torch.device, threshold: float) -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.threshold = threshold

    @torch.inference_mode()
    def __call__(self, images: Sequence[ImageArray]) -> list[Boxes]:
        """Boxes and scores for each RGB picture, best first; after the network's own non-maximum suppression."""
        found = self.network([_tensor(torch.from_numpy(image), self.device) for image in images])
        return [self._people(row) for row in found]

    def _people(self, row: Mapping[str, Tensor]) -> Boxes:
        kept = (row["labels"] == PERSON) & (row["scores"] >= self.threshold)
        return row["boxes"][kept].double().cpu().numpy(), row["scores"][kept].double().cpu().numpy()


def _tensor(image: Tensor, device: torch.device) -> Tensor:
    """uint8 (H, W, 3) to float (3, H, W) in 0..1 on the device."""
    return image.to(device).permute(2, 0, 1).float() / 255


def detector_names() -> list[str]:
    """torchvision's detectors that know people, as `torchvision/<name>`."""
    from torchvision import models

    names = models.list_models(module=models.detection)
    return [f"torchvision/{name}" for name in names if "keypoint" not in name and "mask" not in name]


def open_detector(name: str, device: torch.device, threshold: float, weights: Path | None = None) -> Detector:
    """The detector `torchvision/<name>` with its published weights, or those in the file `weights`."""
    from torchvision import models

    short = name.removeprefix("torchvision/")
    if f"torchvision/{short}" not in detector_names():
        raise PosecliError(f"no detector named {name!r}; {suggest(f'torchvision/{short}', detector_names())}")
    file = weights_file(models.get_model_weights(short).DEFAULT.url, weights, "--detector-weights")
    network = models.get_model(short, weights=None, weights_backbone=None, num_classes=91)
    _load(network, file, f"the detector {short}")
    return Detector(network, device, threshold)


# --- Keypoint R-CNN: people and their 17 keypoints from whole pictures ------------------------------------------------


@dataclass(frozen=True)
class WholePicture:
    """The transform of models that take whole pictures: `image` (H, W, 3) uint8, its own size."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Example:
        from posecli.images import read_image

        empty = Sample(sample.id, np.zeros((0, 0, 3), np.uint8), sample.size, sample.people)
        return Example({"image": read_image(sample.image)}, {}, empty, np.eye(2, 3))


class KeypointRCNN(Algorithm):
    """torchvision's Keypoint R-CNN (He et al., ICCV 2017), trained on COCO's photos. It predicts; it is not trained."""

    needs = "image"

    def __init__(self, network: nn.Module, threshold: float) -> None:
        super().__init__()
        self.published = network
        self.threshold = threshold
        self.skeleton = house_skeleton("coco")

    def transform(self, train: bool) -> Transform:
        return WholePicture()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise PosecliError(f"{KEYPOINT_RCNN} is for prediction only; train a model of your own with `posecli train`")

    def predict(self, batch: Batch) -> list[Prediction]:
        images = [_tensor(image, image.device) for image in batch.inputs["image"]]
        found = self.published(images)
        return [Prediction(sample.id, self._people(row)) for sample, row in zip(batch.samples, found, strict=True)]

    def _people(self, row: Mapping[str, Tensor]) -> People:
        """Keypoint scores are the sigmoid of the network's logits, so that 0.5 is undecided."""
        kept = row["scores"] >= self.threshold
        return People(
            keypoints=row["keypoints"][kept][..., :2].float().cpu().numpy(),
            scores=row["keypoints_scores"][kept].sigmoid().float().cpu().numpy(),
            boxes=row["boxes"][kept].float().cpu().numpy(),
            instance_scores=row["scores"][kept].float().cpu().numpy(),
        )


def keypoint_rcnn_file(weights: Path | None = None) -> Path:
    """The weights of Keypoint R-CNN: `weights`, or the published file."""
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    return weights_file(KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.url, weights, "--model-weights")


def open_keypoint_rcnn(file: Path, threshold: float = 0.5) -> KeypointRCNN:
    """Keypoint R-CNN with the weights in `file`; people scoring below `threshold` are left out."""
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    network = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, num_keypoints=17)
    _load(network, file, KEYPOINT_RCNN)
    return KeypointRCNN(network, threshold).eval()
