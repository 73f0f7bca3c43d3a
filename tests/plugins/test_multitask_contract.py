"""Models of several tasks keep the contract that every plugin is held to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posecli.algorithm import Algorithm
from posecli.batch import Batch
from posecli.config import ModelConfig
from posecli.nn.config import ResNetConfig
from posecli.testing import PluginContract
from posecli.types import Dataset, Prediction
from posecli_multitask.config import ClassTask, HeatmapTask, MultiTaskConfig, NeckConfig, RegressionTask
from posecli_multitask.model import MultiTask
from posecli_multitask.tasks import KeypointTask

FACING = ClassTask(
    column="facing",
    classes=("camera", "right", "away", "left"),
    mirrored=(("right", "left"),),
    neck="pooled",
    weight=0.01,
    hidden=16,
)


class TestMultiTask(PluginContract):
    """Heatmaps, coordinates and a class at once, on three kinds of necks."""

    plugin = "multitask"
    metrics = ("pck", "epe")
    resolution = 0.5
    margin = 12

    def model_config(self) -> ModelConfig:
        return MultiTaskConfig(
            backbone=ResNetConfig(depth=18),
            input_size=(64, 64),
            necks={"pooled": NeckConfig(kind="pool"), "narrow": NeckConfig(kind="convolution", channels=32)},
            heads={
                "keypoints": HeatmapTask(codec="dark", sigma=1.5, deconv_filters=16, neck="narrow"),
                "coordinates": RegressionTask(neck="pooled", weight=0.1),
                "facing": FACING,
            },
        )

    def decoded_targets(self, algorithm: Algorithm, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of both heads that find keypoints."""
        assert isinstance(algorithm, MultiTask)
        keypoints, visible = batch.targets["keypoints"], batch.targets["visible"]
        inside = ((keypoints >= self.margin) & (keypoints <= 63 - self.margin)).all(dim=-1)
        found = []
        for task in algorithm.tasks:
            if isinstance(task, KeypointTask):
                targets = task.codec.encode(keypoints, visible)
                found.append((task.codec.decode(task.codec.perfect(targets))[0], (targets["weights"] > 0) & inside))
        assert len(found) == 2
        return keypoints.repeat(2, 1, 1), torch.cat([one for one, _ in found]), torch.cat([kept for _, kept in found])

    def test_perfect_predictions_score_best(self) -> None:
        """Also those of a class and of a head that is not the main one."""
        samples = self.dataset_config().build()
        perfect = {prediction.id: prediction.people for prediction in self.perfect_predictions(samples)}
        from posecli.config import parse_metric

        for text in ("pck", "epe", "accuracy@facing", "head@coordinates:epe", "head@coordinates:pck@0.1"):
            for score in parse_metric(text).build(samples.skeleton).compute(samples, perfect):
                assert np.isclose(score.value, score.best, atol=1e-6), score

    def perfect_predictions(self, samples: Dataset) -> list[Prediction]:
        chances = np.eye(4)[samples.people.extra["facing"]]
        return [
            Prediction(one.id, one.people.with_extra(facing=chances[row : row + 1], coordinates=one.people.keypoints))
            for row, one in enumerate(super().perfect_predictions(samples))
        ]


class TestPyramid(TestMultiTask):
    """The same, with heatmaps that see all of the backbone's maps."""

    def model_config(self) -> ModelConfig:
        model = super().model_config()
        assert isinstance(model, MultiTaskConfig)
        pyramid = HeatmapTask(codec="dark", sigma=1.5, deconv_filters=16, pyramid=True)
        return model.model_copy(
            update={"necks": {"pooled": NeckConfig(kind="pool")}, "heads": {**model.heads, "keypoints": pyramid}}
        )
