"""Pairs of hands from pictures: crop, network, volumes, and back through the camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.camera import back_project
from posecli.nn.backbone import Backbone
from posecli.nn.normalize import Normalize
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, FloatArray, ImageArray, People, Prediction, Sample
from posecli.units import PersonUnits
from posecli_interhand.config import HandLossConfig
from posecli_interhand.drawing import draw_pairs
from posecli_interhand.guess import guess_hands
from posecli_interhand.heads import JOINTS, HandHead, HandOutputs
from posecli_interhand.losses import place_error, root_error, type_error, volume_entropy, volume_error
from posecli_interhand.metric import SURE
from posecli_interhand.transform import HandsTransform
from posecli_interhand.volume import Decoding, DepthBins, Volume


class Network(nn.Module):
    """Backbone and head, and nothing else."""

    def __init__(self, backbone: Backbone, head: HandHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> HandOutputs:
        outputs: HandOutputs = self.head(self.backbone(images))
        return outputs


class InterHand(Algorithm):
    """Both hands of one crop.

    A prediction is one row: `keypoints` (1, 42, 3) in camera millimetres where the sample has a camera and the wrists'
    depths are known (`absolute_depth`), else pixels x and y and millimetres behind the own hand's wrist; `scores`; and
    in `extra` `in_camera` (1,), which of the two, `keypoints_2d` (1, 42, 2) image pixels, `hand_type` (1, 2), the
    probabilities of there being a right and a left hand, and `root_depth` (1,), millimetres that the left wrist lies
    behind the right one.
    """

    needs = "boxes"
    flip_index: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: HandHead,
        volume: Volume,
        bins: DepthBins,
        weights: HandLossConfig,
        skeleton: Skeleton,
        training_transform: HandsTransform,
        evaluation_transform: HandsTransform,
        *,
        decode: Decoding = "between",
        flip_test: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.head = head
        self.volume = volume
        self.bins = bins
        self.weights = weights
        self.skeleton = skeleton
        self.training_transform = training_transform
        self.evaluation_transform = evaluation_transform
        self.decode = decode
        self.flip_test = flip_test
        self.register_buffer("flip_index", torch.from_numpy(skeleton.flip_index), persistent=False)

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        return PersonUnits(samples)

    def transform(self, train: bool) -> Transform:
        return self.training_transform if train else self.evaluation_transform

    def network(self) -> nn.Module:
        return Network(self.backbone, self.head)

    def outputs(self, images: Tensor) -> HandOutputs:
        """What the head gives for crops (B, H, W, 3) uint8 RGB."""
        outputs: HandOutputs = self.head(self.backbone(self.normalize(images)))
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses_of(self.outputs(batch.inputs["image"]), batch.targets)

    def losses_of(self, outputs: HandOutputs, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted losses of outputs; targets as `HandsTransform` makes them."""
        points = torch.cat([targets["keypoints"], targets["depth"][..., None]], dim=-1)
        blobs = self.volume.encode(points, targets["visible"])
        places, known = self.bins.encode(targets["root_depth"], targets["root_valid"])
        volume_loss = volume_entropy if self.weights.volumes == "entropy" else volume_error
        losses = {"keypoints": self.weights.keypoints * volume_loss(outputs.volumes, blobs)}
        if self.weights.places:
            chances = torch.softmax(outputs.volumes.float().flatten(2), dim=2).view(outputs.volumes.shape)
            error = place_error(self.volume.means(chances), self.volume.voxels(points), blobs.weights)
            losses["places"] = self.weights.places * error
        return losses | {
            "root_depth": self.weights.root_depth * root_error(outputs.root, places, known),
            "hand_type": self.weights.hand_type
            * type_error(outputs.hand_type, targets["hand_type"], targets["hand_type_valid"]),
        }

    def predict(self, batch: Batch) -> list[Prediction]:
        images = batch.inputs["image"]
        outputs = self._found(images)
        if self.flip_test:
            outputs = self.average(outputs, self.flip(self._found(images.flip(2))))
        points, scores = self.volume.decode(outputs.volumes, self.decode)
        places = points.double().cpu()
        places[..., :2] = places[..., :2] @ batch.undo[:, :, :2].mT + batch.undo[:, None, :, 2]
        found = {
            "points": places,
            "scores": scores,
            "hand_type": torch.sigmoid(outputs.hand_type.float()),
            "root_depth": self.bins.decode(outputs.root),
        }
        arrays = {name: tensor.cpu().numpy() for name, tensor in found.items()}
        return [
            Prediction(sample.id, _pair(sample, {name: values[row] for name, values in arrays.items()}))
            for row, sample in enumerate(batch.samples)
        ]

    def _found(self, images: Tensor) -> HandOutputs:
        """The outputs with volumes as `Volume` decodes them, however they were learnt."""
        outputs = self.outputs(images)
        if self.weights.volumes == "entropy":
            outputs = outputs._replace(volumes=self.volume.of_logits(outputs.volumes))
        return outputs

    def flip(self, outputs: HandOutputs) -> HandOutputs:
        """Outputs for mirrored pictures, mirrored back: hands change places."""
        volumes = self.volume.flip(outputs.volumes, self.flip_index)
        return HandOutputs(volumes, self.bins.flip(outputs.root), outputs.hand_type.flip(1))

    def average(self, first: HandOutputs, second: HandOutputs) -> HandOutputs:
        """The mean of two outputs, as the flip test takes it; of types the mean probability."""
        chances = (torch.sigmoid(first.hand_type) + torch.sigmoid(second.hand_type)) / 2
        return HandOutputs(
            (first.volumes + second.volumes) / 2, (first.root + second.root) / 2, torch.logit(chances, eps=1e-6)
        )

    def guess(self, train: Dataset, truth: Dataset) -> list[Prediction]:
        return guess_hands(train, truth)

    def draw(self, image: ImageArray, prediction: Prediction, threshold: float = 0.3) -> ImageArray:
        return draw_pairs(image, prediction.people, self.skeleton, threshold)


def _pair(sample: Sample, found: dict[str, Array]) -> People:
    """The prediction's one row. `points` (42, 3): image pixels, and millimetres behind the own hand's wrist."""
    points, scores, hand_type, root = found["points"], found["scores"], found["hand_type"], found["root_depth"]
    there = np.repeat(hand_type > SURE, JOINTS)
    sure = scores[there] if there.any() else scores
    people = sample.people
    extra = {
        "keypoints_2d": points[None, :, :2].astype(np.float32),
        "hand_type": hand_type[None].astype(np.float32),
        "root_depth": np.array([root], np.float32),
        "in_camera": np.array([wrist_depths(sample, float(root)) is not None]),
    }
    extra |= {name: people.extra[name] for name in ("row", "track_id", "category") if name in people.extra}
    return People(
        in_camera(sample, points, float(root))[None],
        scores[None].astype(np.float32),
        people.boxes,
        np.array([sure.mean()], np.float32),
        extra,
    )


def wrist_depths(sample: Sample, root_depth: float) -> tuple[float, float] | None:
    """How far the right and the left wrist are from the camera; None where the sample does not say."""
    if sample.camera is None or "absolute_depth" not in sample.people.extra:
        return None
    right, left = np.asarray(sample.people.extra["absolute_depth"][0], dtype=np.float64).tolist()
    right, left = (
        (right if np.isfinite(right) else left - root_depth),
        (left if np.isfinite(left) else right + root_depth),
    )
    return (right, left) if np.isfinite(right + left) else None


def in_camera(sample: Sample, points: FloatArray, root_depth: float) -> FloatArray:
    """Points (42, 3) of image pixels and millimetres behind the own hand's wrist in camera millimetres (42, 3).

    They stay as they are where the sample has no camera or no wrist's depth; of a single known one the other follows.
    """
    camera, wrists = sample.camera, wrist_depths(sample, root_depth)
    if camera is None or wrists is None:
        return points.astype(np.float32)
    depth = points[:, 2] + np.repeat(wrists, JOINTS)
    return back_project(points[:, :2], depth, camera.focal, camera.center, camera.distortion)
