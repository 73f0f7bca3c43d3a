"""The lifting models keep the contract that every plugin is held to, on short synthetic clips."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from posecli.algorithm import Algorithm
from posecli.batch import Batch
from posecli.config import DatasetConfig, ModelConfig
from posecli.datasets.config import SyntheticMotionConfig
from posecli.testing import PluginContract
from posecli.types import Dataset, People, Prediction
from posecli_lifter.config import DSTFormerConfig, PartlyLabelledConfig, SemiConfig, TemporalConfig
from posecli_lifter.model import Lifter
from posecli_lifter.normalization import View


class LifterContract(PluginContract):
    """What lifters share: motion instead of pictures, metrics of 3D, encoding by their normalisation."""

    plugin = "lifter"
    metrics = ("mpjpe", "p-mpjpe", "n-mpjpe")
    resolution = 0.01  # millimetres

    def dataset_config(self) -> DatasetConfig:
        return SyntheticMotionConfig(clips=2, frames=8)

    def decoded_targets(self, algorithm: Algorithm, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(algorithm, Lifter)
        codec, view = algorithm.normalization, View.of(batch.inputs)
        poses = batch.targets["keypoints_3d"]
        decoded = codec.poses(codec.targets(poses, view), view)
        return codec.relative(poses).flatten(0, 1), decoded.flatten(0, 1), batch.targets["known"].flatten(0, 1) > 0

    def perfect_predictions(self, samples: Dataset) -> list[Prediction]:
        found = []
        for index in range(len(samples)):
            people = samples[index].people
            poses, sure = people.extra["keypoints_3d"], np.ones(people.scores.shape, np.float32)
            found.append(Prediction(samples.ids[index], People(poses, sure, extra={"row": people.extra["row"]})))
        return found


class TestTemporal(LifterContract):
    """Windows of nine frames."""

    def model_config(self) -> ModelConfig:
        return TemporalConfig(kernels=(3, 3), channels=32, normalize="person-place", dropout=0)


class TestTrajectory(LifterContract):
    """Half of the windows without 3D, poses before the camera, frames that see only what was before.

    Bone lengths are compared in the mean of a batch, which ranks take of their own parts, so they are left out here.
    """

    def model_config(self) -> ModelConfig:
        return TemporalConfig(
            kernels=(3, 3),
            channels=32,
            dropout=0,
            causal=True,
            trajectory=True,
            semi=SemiConfig(projection=0.1, bones=0),
        )

    def dataset_config(self) -> DatasetConfig:
        return PartlyLabelledConfig(
            labelled=SyntheticMotionConfig(clips=2, frames=8),
            unlabelled=SyntheticMotionConfig(clips=1, frames=2, seed=1),
        )


class TestDSTFormer(LifterContract):
    """Windows of eight frames, all of them lifted at once."""

    overfit_rate = 5e-3

    def model_config(self) -> ModelConfig:
        return DSTFormerConfig(frames=8, channels=16, depth=1, heads=2, embedding=16, target="metres")
