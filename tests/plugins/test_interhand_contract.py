"""Models of pairs of hands keep the contract that every plugin is held to."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from posecli.algorithm import Algorithm
from posecli.batch import Batch
from posecli.config import DatasetConfig, ModelConfig
from posecli.datasets.config import SyntheticHandsConfig
from posecli.nn.config import ResNetConfig
from posecli.testing import PluginContract
from posecli.types import Dataset, Prediction
from posecli_interhand.config import HandLossConfig, InterNetConfig
from posecli_interhand.model import InterHand


class TestInterNet(PluginContract):
    """Small volumes, decoded between voxels."""

    plugin = "interhand"
    metrics = ()
    resolution = 0.05  # pixels and millimetres

    def model_config(self) -> ModelConfig:
        return InterNetConfig(
            backbone=ResNetConfig(depth=18),
            input_size=(64, 64),
            depth=16,
            sigma=1.5,
            peak=1.0,
            deconv_filters=16,
            pyramid=True,
            root_bins=16,
            hidden=16,
            loss=HandLossConfig(keypoints=100, root_depth=0.05),
        )

    def dataset_config(self) -> DatasetConfig:
        return SyntheticHandsConfig(count=4, seed=3)

    def decoded_targets(self, algorithm: Algorithm, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """In input pixels and millimetres; half a voxel at the border is not told."""
        assert isinstance(algorithm, InterHand)
        volume, targets = algorithm.volume, batch.targets
        points = torch.cat([targets["keypoints"], targets["depth"][..., None]], dim=-1)
        blobs = volume.encode(points, targets["visible"])
        cells = torch.tensor(volume.cells)
        low, high = torch.tensor([0.0, 0.0, -200.0]) + cells, torch.tensor([64.0, 64.0, 200.0]) - 2 * cells
        inside = ((points >= low) & (points <= high)).all(dim=-1)
        return points, volume.decode(blobs.full())[0], (blobs.weights > 0) & inside

    def perfect_predictions(self, samples: Dataset) -> list[Prediction]:
        """In camera millimetres, with hand types and root depths."""
        truth = samples.people.extra
        found = []
        for row, one in enumerate(super().perfect_predictions(samples)):
            own = {name: np.nan_to_num(truth[name][row : row + 1]) for name in ("hand_type", "root_depth")}
            people = dataclasses.replace(one.people, keypoints=np.nan_to_num(truth["keypoints_3d"][row : row + 1]))
            found.append(Prediction(one.id, people.with_extra(**own)))
        return found
