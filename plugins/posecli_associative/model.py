"""The associative-embedding algorithm: the whole picture through a network once, everybody read from its maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from posecli import console, geometry
from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.console import RunFailed, few
from posecli.nn.normalize import Normalize
from posecli.skeleton import Skeleton
from posecli.types import Dataset, FloatArray, People, Prediction, Sample, SampleId
from posecli_associative.config import DecodeConfig
from posecli_associative.decoding import Found, decode
from posecli_associative.losses import StageLoss
from posecli_associative.maps import Maps, MapSize, aggregate, aggregate_scales, split_outputs
from posecli_associative.oracle import true_tags
from posecli_associative.targets import Cells, SceneTargets, encode_scene, resize_mask
from posecli_associative.transform import SceneTransform
from posecli_associative.units import training_scenes


@dataclass(frozen=True)
class Stage:
    """What one of the network's outputs holds beside heatmaps, and whether it is decoded."""

    tags: bool = True
    decoded: bool = True


class Network(nn.Module):
    """Backbone and head, and nothing else."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.head(self.backbone(images))
        return outputs


class Associative(Algorithm):
    """Keypoints of everybody in a picture, and a tag for each that says whose it is."""

    needs = "image"
    flip_index: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        stages: Sequence[Stage],
        losses: Sequence[StageLoss],
        skeleton: Skeleton,
        training_transform: SceneTransform,
        evaluation_transform: SceneTransform,
        *,
        unbiased: bool = False,
        cells: Cells = "floor",
        sigma: float = 2.0,
        max_people: int = 30,
        flip_test: bool = True,
        settings: DecodeConfig | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.head = head
        self.stages = tuple(stages)
        self.stage_losses = tuple(losses)
        self.skeleton = skeleton
        self.training_transform = training_transform
        self.evaluation_transform = evaluation_transform
        self.unbiased = unbiased
        self.cells: Cells = cells
        self.sigma = sigma
        self.max_people = max_people
        self.flip_test = flip_test
        self.settings = settings or DecodeConfig()
        self.too_many = False  # people found in some picture; said once
        index = skeleton.flip_index
        self.register_buffer("flip_index", None if index is None else torch.from_numpy(index), persistent=False)

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        return training_scenes(samples, self.max_people) if train else super().units(samples)

    def transform(self, train: bool) -> Transform:
        return self.training_transform if train else self.evaluation_transform

    def network(self) -> nn.Module:
        return Network(self.backbone, self.head)

    def outputs(self, images: Tensor) -> list[Tensor]:
        """The stages' maps for pictures (B, H, W, 3) uint8 RGB."""
        outputs: list[Tensor] = self.head(self.backbone(self.normalize(images)))
        return outputs

    # --- training ---------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.inputs["image"]
        outputs = self.outputs(images)
        input_size = (images.shape[2], images.shape[1])
        sizes = [(output.shape[3], output.shape[2]) for output in outputs]
        targets = {size: self.encode(batch.targets, input_size, size) for size in dict.fromkeys(sizes)}
        return self.compare(outputs, [targets[size] for size in sizes])

    def encode(
        self, truth: Mapping[str, Tensor], input_size: tuple[int, int], map_size: tuple[int, int]
    ) -> tuple[SceneTargets, Tensor]:
        """Targets of maps (width, height) and their mask (B, h, w), from `keypoints`, `visible` and `mask`."""
        used = truth["visible"].any(dim=2).any(dim=0)  # rows after the last person are empty in every picture
        people = int(used.nonzero().max()) + 1 if used.any() else 1
        keypoints, visible = truth["keypoints"][:, :people], truth["visible"][:, :people]
        targets = encode_scene(keypoints, visible, input_size, map_size, self.sigma, self.unbiased, self.cells)
        return targets, resize_mask(truth["mask"], map_size)

    def compare(self, outputs: Sequence[Tensor], targets: Sequence[tuple[SceneTargets, Tensor]]) -> dict[str, Tensor]:
        """The weighted losses `heatmap`, `pull` and `push`, summed over the stages."""
        joints = len(self.skeleton)
        summed: dict[str, Tensor] = {}
        for stage, loss, output, (truth, mask) in zip(self.stages, self.stage_losses, outputs, targets, strict=True):
            tags = output[:, joints:] if stage.tags else None
            for name, value in loss(output[:, :joints], tags, truth, mask).items():
                summed[name] = summed[name] + value if name in summed else value
        return summed

    # --- predicting -------------------------------------------------------------------------------------------------

    def predict(self, batch: Batch) -> list[Prediction]:
        height, width = batch.inputs["image"].shape[1:3]
        heatmaps, tags = self.maps(batch)
        _check(batch, heatmaps, tags)
        if self.settings.tags == "oracle":
            tags = true_tags(batch, (heatmaps.shape[2], heatmaps.shape[3]))
        found = decode(heatmaps, tags, self.settings, (width, height), self.max_people, self.unbiased)
        return [
            Prediction(sample.id, self._people(sample.id, undo, people))
            for sample, undo, people in zip(batch.samples, batch.undo.numpy(), found, strict=True)
        ]

    def maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Heatmaps (B, K, H, W) and tags (B, K, H, W, L) of a batch, mirrored pictures and other scales included.

        Tags are those of scale 1, one for each stage that has some and for each side.
        """
        size = None
        if self.settings.project:
            size = (batch.inputs["image"].shape[1], batch.inputs["image"].shape[2])
        heatmaps, tags = self._maps(batch.inputs["image"], size)
        others = [self._maps(images, size)[0] for name, images in batch.inputs.items() if name != "image"]
        return aggregate_scales([heatmaps, *others], self.unbiased), tags

    def _maps(self, images: Tensor, size: MapSize | None) -> tuple[Tensor, Tensor]:
        flipped = None
        if self.flip_test and self.flip_index is not None:
            flipped = self._split(self.outputs(images.flip(2)))
        return aggregate(self._split(self.outputs(images)), flipped, self.flip_index, size, self.unbiased)

    def _split(self, outputs: Sequence[Tensor]) -> Maps:
        """What is decoded of the stages."""
        decoded = [stage.decoded for stage in self.stages]
        tagged = [stage.decoded and stage.tags for stage in self.stages]
        return split_outputs(outputs, len(self.skeleton), decoded, tagged)

    def _people(self, name: SampleId, undo: FloatArray, found: Found) -> People:
        """In image pixels, with boxes around their keypoints; a keypoint that was not found is unknown."""
        if found.dropped and not self.too_many:
            self.too_many = True
            count = len(found.keypoints)
            console.note(
                f"{name}: {count + found.dropped} people found, the best {count} are kept, as in every picture with "
                f"more: model.max_people={self.max_people}"
            )
        known = found.scores > 0
        places = np.where(known[..., None], geometry.apply(undo, found.keypoints), np.nan).astype(np.float32)
        boxes = geometry.keypoint_boxes(places).astype(np.float32)
        scores = np.where(known, found.scores, 0).astype(np.float32)
        return People(places, scores, boxes, found.instance_scores.astype(np.float32))


def _check(batch: Batch, *maps: Tensor) -> None:
    """Raises RunFailed with the pictures whose maps are no numbers."""
    finite = torch.stack([values.flatten(1).isfinite().all(dim=1) for values in maps]).all(dim=0).tolist()
    broken = [name for name, good in zip(batch.ids, finite, strict=True) if not good]
    if broken:
        raise RunFailed(
            f"the network gives maps that are not finite for {few(broken)}: the weights are broken, "
            "or the precision is too low; try another checkpoint, or precision fp32"
        )
