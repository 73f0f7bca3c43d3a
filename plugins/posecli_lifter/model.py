"""The lifting algorithm: 2D keypoints of a person's frames in, 3D poses out; whatever the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.console import PosecliError
from posecli.losses.pose3d import length
from posecli.skeleton import Skeleton
from posecli.types import BoolArray, Dataset, FloatArray, People, Prediction, Sample
from posecli_lifter.losses import BoneMean, Projection
from posecli_lifter.normalization import METRE, Normalization, View
from posecli_lifter.transform import WindowTransform
from posecli_lifter.units import ClipUnits, WindowUnits, balanced

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs (B, T, J, 3), targets, weights (B, T, J)) -> scalar."""
LENS = [0, 1, 4, 3, 2]
"""OpenCV's k1 k2 p1 p2 k3 as `losses.project` takes them: k1 k2 k3, then what acts along x, p2, and along y, p1."""


class Backbone(Protocol):
    """Features of the frames of keypoints (B, T, K, C) that have `before` frames before them and `after` after."""

    before: int
    after: int

    def __call__(self, keypoints: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Cutting:
    """How clips are cut into units."""

    frames: int  # of a training window
    stride: int  # frames from one training window to the next
    longest: int  # frames of a clip that are predicted at once
    causal: bool  # whether frames see only what was before
    whole: bool  # whether all frames of a window are spoken of, or one
    unlabelled: bool = False  # whether frames without 3D are trained on


@dataclass(frozen=True)
class SemiSupervision:
    """How clips without 3D truth take part."""

    projection: Projection
    bones: BoneMean
    warmup: int  # steps in which they do not


class Lifter(Algorithm):
    """Poses relative to the root, or with a trajectory where they stand before the camera.

    `trajectory`: a backbone and a head for the root's place in metres.
    """

    needs = "keypoints"
    flip_index: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        normalization: Normalization,
        loss: Loss,
        skeleton: Skeleton,
        training_transform: WindowTransform,
        evaluation_transform: WindowTransform,
        cutting: Cutting,
        *,
        flip_test: bool = True,
        trajectory: tuple[Backbone, nn.Module] | None = None,
        semi: SemiSupervision | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.trajectory_head = trajectory[1] if trajectory else None
        self.trajectory_backbone = trajectory[0] if trajectory else None
        self.normalization = normalization
        self.loss = loss
        self.skeleton = skeleton
        self.training_transform = training_transform
        self.evaluation_transform = evaluation_transform
        self.cutting = cutting
        self.flip_test = flip_test
        self.semi = semi
        index = skeleton.flip_index
        self.register_buffer("flip_index", None if index is None else torch.from_numpy(index), persistent=False)

    # --- units and inputs -------------------------------------------------------------------------------------------

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        cutting = self.cutting
        if train:
            if "keypoints_3d" not in samples.people.extra:
                raise PosecliError(f"{samples.name} has 2D keypoints only: a lifter learns from data with 3D poses")
            windows = WindowUnits(
                samples,
                cutting.frames,
                cutting.stride,
                cutting.causal,
                "all" if cutting.whole else "one",
                unlabelled=cutting.unlabelled,
            )
            return balanced(windows) if cutting.unlabelled else windows
        margin = (self.backbone.before + self.backbone.after) // 2
        return ClipUnits(samples, cutting.longest, margin, cutting.causal)

    def transform(self, train: bool) -> Transform:
        return self.training_transform if train else self.evaluation_transform

    def spoken_of(self, frames: int) -> slice:
        """Which of so many frames the network gives poses of."""
        return slice(self.backbone.before, frames - self.backbone.after)

    # --- training ---------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        view = View.of(batch.inputs)
        inputs = self.normalization.inputs(view)
        rows = self.spoken_of(inputs.shape[1])
        view = view.frames(rows)
        truth = batch.targets["keypoints_3d"][:, rows]
        known = batch.targets["known"][:, rows]
        known = known * self.normalization.root_known(known)[..., None]  # nothing is relative to an unknown root
        outputs = self.head(self.backbone(inputs))
        losses = {"pose": self._pose_loss(outputs, truth, known, view)}
        if self.trajectory_head is not None:
            place = self._trajectory(inputs)
            losses["trajectory"] = self._trajectory_loss(place, truth, known)
            if self.semi is not None:
                losses |= self._semi_losses(self.semi, outputs, place, known, view, batch.targets["distortion"])
        return losses

    def _pose_loss(self, outputs: Tensor, truth: Tensor, known: Tensor, view: View) -> Tensor:
        weights = self.normalization.asked(known)
        targets = torch.where(weights[..., None] > 0, self.normalization.targets(truth, view), 0.0)
        return self.loss(outputs, targets, weights) / weights.mean().clamp(min=1 / weights.numel())

    def _trajectory_loss(self, place: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """The distance from the true root, less important the farther away it is."""
        root = self.normalization.root_of(truth) / METRE  # (B, T, 3)
        sure = self.normalization.root_known(known)
        weights = sure / root[..., 2].clamp(min=0.1)
        distances = length(place[..., 0, :].float() - root)
        return (distances * weights).sum() / sure.sum().clamp(min=1)

    def _semi_losses(
        self, semi: SemiSupervision, outputs: Tensor, place: Tensor, known: Tensor, view: View, distortion: Tensor
    ) -> dict[str, Tensor]:
        """What the units without any known joint teach; nothing while training warms up."""
        labelled = known.flatten(1).sum(dim=1) > 0
        # this step is counted already; frozen layers count none
        started = float(not self.training or semi.warmup == 0 or self.steps > semi.warmup)
        half = view.size[:, :1] / 2
        focal, center = view.camera()
        intrinsics = torch.cat([focal / half, (center - view.size / 2) / half, distortion[:, LENS]], dim=1)
        counted = (view.visible > 0) * (~labelled)[:, None, None] * (view.focal > 0).all(dim=1)[:, None, None]
        projection = semi.projection(outputs + place, view.image_scaled(), intrinsics, counted.float())
        return {"projection": started * projection, "bones": started * semi.bones(outputs, labelled)}

    @property
    def steps(self) -> int:
        """Training steps so far, as normalisation layers count them and checkpoints keep them."""
        counters = [module.num_batches_tracked for module in self.modules() if isinstance(module, nn.BatchNorm1d)]
        return int(counters[0]) if counters and counters[0] is not None else 0

    # --- prediction -------------------------------------------------------------------------------------------------

    def predict(self, batch: Batch) -> list[Prediction]:
        view = View.of(batch.inputs)
        poses = self.poses(view)
        if self.flip_test and self.flip_index is not None:
            mirrored = self.poses(view.mirrored(self.flip_index))[:, :, self.flip_index]
            poses = (poses + mirrored * poses.new_tensor([-1.0, 1.0, 1.0])) / 2
        places = poses.float().cpu().numpy()
        confidences = view.frames(self.spoken_of(view.visible.shape[1])).visible.float().cpu().numpy()
        return [
            prediction
            for sample, own, sure in zip(batch.samples, places, confidences, strict=True)
            for prediction in self._predictions(sample, own, sure)
        ]

    def poses(self, view: View) -> Tensor:
        """Poses (B, T', K, 3) in camera millimetres, of the frames with enough before and after them.

        The root is at 0 unless a trajectory tells its place.
        """
        inputs = self.normalization.inputs(view)
        seen = view.frames(self.spoken_of(inputs.shape[1]))
        poses = self.normalization.poses(self.head(self.backbone(inputs)), seen)
        return poses if self.trajectory_head is None else poses + self._trajectory(inputs).float() * METRE

    def _trajectory(self, inputs: Tensor) -> Tensor:
        """Where the root is, (B, T', 1, 3) metres."""
        assert self.trajectory_backbone is not None
        assert self.trajectory_head is not None
        place: Tensor = self.trajectory_head(self.trajectory_backbone(inputs))
        return place

    def _predictions(self, sample: Sample, poses: FloatArray, confidences: FloatArray) -> list[Prediction]:
        """One for each frame of a unit that was asked for; poses (T', K, 3), confidences (T', K) of its 2D.

        Of a frame without any known keypoint the pose is unknown too.
        """
        asked: BoolArray = sample.people.extra["output"]
        rows = np.flatnonzero(asked)
        start = self.backbone.before
        poses, confidences = poses[rows - start], confidences[rows - start]
        overall = confidences.mean(axis=1)
        poses[overall == 0] = np.nan  # a copy: `rows` are picked
        scores = np.where(confidences > 0, confidences, overall[:, None])  # what was not seen is told from the rest
        extra = {name: sample.people.extra[name][rows] for name in ("row", "track_id") if name in sample.people.extra}
        boxes = None if sample.people.boxes is None else sample.people.boxes[rows]
        people = People(poses, scores, boxes, overall, extra)
        return [Prediction(sample.frames[row], people[place : place + 1]) for place, row in enumerate(rows)]
