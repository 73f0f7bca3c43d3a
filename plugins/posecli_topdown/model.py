"""The top-down algorithm: crop, network, codec; whatever the head."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from posecli import geometry
from posecli.algorithm import Algorithm, Transform, merge
from posecli.batch import Batch
from posecli.codecs.codec import Codec
from posecli.nn.backbone import Backbone
from posecli.nn.heads import seen_by
from posecli.nn.normalize import Normalize
from posecli.scoring import ScoreMode, instance_scores
from posecli.skeleton import Skeleton
from posecli.suppression import oks_nms, soft_oks_nms
from posecli.transforms import CropTransform
from posecli.types import Dataset, FloatArray, People, Prediction, Sample
from posecli.units import PersonUnits
from posecli_topdown.config import SuppressionConfig

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs, targets, weights (B, K)) -> scalar."""


class Network(nn.Module):
    """Backbone and head, and nothing else."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return find(self.backbone, self.head, images)


def find(backbone: nn.Module, head: nn.Module, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """What the head gives for pictures (B, 3, H, W); all but a pyramid see only the backbone's coarsest map."""
    outputs: Tensor | tuple[Tensor, Tensor] = head(seen_by(head, backbone(images)))
    return outputs


class TopDown(Algorithm):
    """Keypoints of one person a crop. The head turns the backbone's maps into what the codec decodes."""

    needs = "boxes"
    flip_index: Tensor | None
    keypoint_weights: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        codec: Codec[Tensor] | Codec[tuple[Tensor, Tensor]],
        loss: Loss,
        skeleton: Skeleton,
        training_transform: CropTransform,
        evaluation_transform: CropTransform,
        *,
        flip_test: bool = True,
        keypoint_weights: bool = False,
        score_mode: ScoreMode = "box-keypoint",
        score_threshold: float = 0.2,
        suppression: SuppressionConfig | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.head = head
        self.codec = codec
        self.loss = loss
        self.skeleton = skeleton
        self.training_transform = training_transform
        self.evaluation_transform = evaluation_transform
        self.flip_test = flip_test
        self.score_mode: ScoreMode = score_mode
        self.score_threshold = score_threshold
        self.suppression = suppression or SuppressionConfig()
        index, weights = skeleton.flip_index, skeleton.weights if keypoint_weights else None
        self.register_buffer("flip_index", None if index is None else torch.from_numpy(index), persistent=False)
        self.register_buffer("keypoint_weights", None if weights is None else torch.tensor(weights), persistent=False)

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        return PersonUnits(samples)

    def transform(self, train: bool) -> Transform:
        return self.training_transform if train else self.evaluation_transform

    def network(self) -> nn.Module:
        return Network(self.backbone, self.head)

    def outputs(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What the head gives for crops (B, H, W, 3) uint8 RGB."""
        return find(self.backbone, self.head, self.normalize(images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        targets = self.codec.encode(batch.targets["keypoints"], batch.targets["visible"])
        weights = targets["weights"]
        if self.keypoint_weights is not None:
            weights = weights * self.keypoint_weights
        outputs = self.outputs(batch.inputs["image"])
        return {"keypoints": self.loss(outputs, self.codec.perfect(targets), weights)}  # type: ignore[arg-type]

    def predict(self, batch: Batch) -> list[Prediction]:
        images = batch.inputs["image"]
        outputs = self.outputs(images)
        if self.flip_test and self.flip_index is not None:
            mirrored = self.outputs(images.flip(2))
            outputs = self.codec.average(outputs, self.codec.flip(mirrored, self.flip_index))  # type: ignore[arg-type]
        keypoints, scores = self.codec.decode(outputs)  # type: ignore[arg-type]
        found = torch.cat([keypoints, scores[..., None]], dim=-1).float()  # (B, K, 3)
        samples = list(batch.samples)  # made once, while the device is at work
        asked = People.concatenate([sample.people for sample in samples])
        found = found.cpu()
        places = found[..., :2].double() @ batch.undo[:, :, :2].mT + batch.undo[:, None, :, 2]  # (B, K, 2)
        people = self._people(asked, places.numpy(), found[..., 2].numpy())
        return [Prediction(sample.id, people[row : row + 1]) for row, sample in enumerate(samples)]

    def _people(self, asked: People, keypoints: FloatArray, scores: FloatArray) -> People:
        """The rows that were `asked` for, with the boxes they were cut out by; a true box counts as sure."""
        identity = {name: asked.extra[name] for name in ("row", "track_id", "category") if name in asked.extra}
        people = People(keypoints, scores, asked.boxes, asked.instance_scores, identity)
        rescored = instance_scores(people, self.score_mode, self.score_threshold)
        return dataclasses.replace(people, instance_scores=rescored.astype(np.float32))

    def finish(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        return [Prediction(prediction.id, self._suppressed(prediction.people)) for prediction in merge(predictions)]

    def _suppressed(self, people: People) -> People:
        """Without the detections that turned out to be the same person. Rows of true people are all kept."""
        sigmas, method = self.skeleton.sigmas, self.suppression.method
        if method == "none" or sigmas is None or "row" in people.extra or len(people) < 2:
            return people
        areas = self._crop_areas(people)
        if method == "oks":
            return people[oks_nms(people, sigmas, self.suppression.threshold, areas)]
        rows, scores = soft_oks_nms(people, sigmas, self.suppression.threshold, areas)
        kept = people[rows]
        return People(kept.keypoints, kept.scores, kept.boxes, scores, kept.extra)

    def _crop_areas(self, people: People) -> FloatArray | None:
        """How large the people are to suppression (N,), square pixels of the picture: what is cut out for them."""
        if people.boxes is None:
            return None
        transform = self.evaluation_transform
        _, scales = geometry.box_center_scale(people.boxes.astype(np.float64), transform.padding)
        aspect = transform.size[0] / transform.size[1]
        return np.array([math.prod(geometry.fit_aspect((wide, high), aspect)) for wide, high in scales.tolist()])
