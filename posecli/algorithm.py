"""What an algorithm is: a network with its targets, losses, decoding and drawing. Every family is one of these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from torch import Tensor, nn

from posecli.batch import Batch
from posecli.drawing import draw_people
from posecli.drawing3d import draw_views
from posecli.guess import guess, guess_3d, mean_pose, mean_pose_3d
from posecli.skeleton import Skeleton
from posecli.types import Dataset, Example, ImageArray, Prediction, Sample

Transform = Callable[[Sample, np.random.Generator], Example]
"""Sample to network input; picklable, without weights; runs in loader workers. All randomness is the generator's."""


class Algorithm(nn.Module, ABC):
    """Parts are handed to the constructor as modules; `ModelConfig.build` is the only place that makes them."""

    needs: Literal["image", "boxes", "keypoints"] = "image"
    """What `predict` must be given beside the picture; a detector or a 2D model supplies it."""

    skeleton: Skeleton

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """The names of classes, by the columns of predictions that hold their probabilities (N, C); none by default."""
        return {}

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        """What one network input stands for: by default a sample; top-down cuts one a person, a lifter windows.

        With `train` they are for training, which may cut otherwise than prediction. A sequence with a `sample_index`
        attribute (U,) int says which sample each unit was cut from.
        """
        return samples  # type: ignore[return-value]  # Dataset has length and random access, all that is asked here

    @abstractmethod
    def transform(self, train: bool) -> Transform:
        """The function that makes network inputs, with augmentation when `train`."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted scalar losses, to be summed."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Prediction]:
        """What was found, in image pixels or millimetres; `batch.undo` is applied here, exactly once.

        One Prediction for each unit, or for each of the samples that a unit was put together from.
        """

    def network(self) -> nn.Module:
        """The bare network: normalised pictures (B, 3, H, W) in, raw outputs out; what speed is held against."""
        raise NotImplementedError(f"{type(self).__name__} has no single network from pictures to outputs")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses. DistributedDataParallel synchronises only what goes through forward."""
        return self.losses(batch)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by the optimizer that moves them; one group unless the algorithm is adversarial."""
        return {"model": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def finish(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Predictions of all units put together: one for each sample, overlapping instances suppressed.

        By default people of the same sample are collected, in the order of the units.
        """
        return merge(predictions)

    def guess(self, train: Dataset, truth: Dataset) -> list[Prediction]:
        """What knowing nothing predicts for `truth`: by default the mean pose of `train`.

        It is put into every true box; a lifter's has no heading.
        """
        if self.needs == "keypoints":
            return guess_3d(truth, mean_pose_3d(train))
        return guess(truth, mean_pose(train))

    def draw(self, image: ImageArray, prediction: Prediction, threshold: float = 0.3) -> ImageArray:
        """A copy of the RGB picture with the prediction drawn over it, without keypoints that score less.

        3D poses are drawn by themselves, from two sides.
        """
        if prediction.people.keypoints.shape[2] == 3:
            return draw_views(prediction.people.keypoints, self.skeleton)
        return draw_people(image, prediction.people, self.skeleton, threshold)

    def files(self, prediction: Prediction) -> Mapping[str, bytes]:
        """Files beside the results of a picture by suffix, such as `.obj`; none by default."""
        return {}


def merge(predictions: Sequence[Prediction]) -> list[Prediction]:
    """One prediction for each sample id, people in order of arrival."""
    from posecli.types import People

    gathered: dict[int | str, list[People]] = {}
    for prediction in predictions:
        gathered.setdefault(prediction.id, []).append(prediction.people)
    return [Prediction(key, People.concatenate(parts)) for key, parts in gathered.items()]
