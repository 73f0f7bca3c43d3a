"""The associative-embedding models keep the contract that every plugin is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from posecli.algorithm import Algorithm
from posecli.batch import Batch
from posecli.config import DatasetConfig, ModelConfig
from posecli.datasets.config import SyntheticConfig
from posecli.nn.config import ResNetConfig
from posecli.testing import PluginContract
from posecli_associative.config import HigherConfig, TagsConfig
from posecli_associative.decoding import decode
from posecli_associative.maps import Maps, aggregate
from posecli_associative.model import Associative
from posecli_associative.oracle import true_tags

SIZE = (64, 64)


class SceneContract(PluginContract):
    """Two people a picture; what is encoded is decoded with the truth's tags."""

    plugin = "associative"
    metrics = ("ap", "pck", "epe")

    def dataset_config(self) -> DatasetConfig:
        return SyntheticConfig(count=4, seed=3, size=SIZE, people=(2, 2))

    def decoded_targets(self, algorithm: Algorithm, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of every true person and its nearest decoded one, (B, P * K, 2)."""
        assert isinstance(algorithm, Associative)
        keypoints, visible = batch.targets["keypoints"], batch.targets["visible"]
        targets, _ = algorithm.encode(batch.targets, SIZE, (SIZE[0] // 4, SIZE[1] // 4))
        heatmaps, _ = aggregate(Maps([targets.heatmaps], [targets.heatmaps]), None, None, SIZE, algorithm.unbiased)
        found = decode(heatmaps, true_tags(batch, SIZE), algorithm.settings, SIZE, unbiased=algorithm.unbiased)
        decoded = torch.full_like(keypoints, torch.inf)
        for picture, people in enumerate(found):
            places = torch.from_numpy(people.keypoints).float()  # (N, K, 2)
            gaps = (keypoints[picture, :, None] - places).norm(dim=-1) * visible[picture, :, None]
            decoded[picture] = places[gaps.sum(dim=-1).argmin(dim=1)]
        return keypoints.flatten(1, 2), decoded.flatten(1, 2), visible.flatten(1, 2) > 0


class TestTags(SceneContract):
    """A keypoint comes back to within a cell; of two in neighbouring cells only the higher one does."""

    resolution = 4.0
    overfit_rate = 5e-3

    def model_config(self) -> ModelConfig:
        return TagsConfig(backbone=ResNetConfig(depth=18), input_size=SIZE, deconv_filters=16, sigma=1.0)


class TestHigher(SceneContract):
    """Unbiased places, two resolutions."""

    resolution = 4.0
    overfit_rate = 5e-3

    def model_config(self) -> ModelConfig:
        return HigherConfig(backbone=ResNetConfig(depth=18), input_size=SIZE, deconv_filters=16, sigma=1.0, codec="udp")
