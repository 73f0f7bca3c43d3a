"""One backbone, several necks and heads: what each finds goes into one prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor, nn

from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.console import PosecliError
from posecli.drawing import draw_people
from posecli.nn.backbone import Backbone
from posecli.nn.heads import seen_by
from posecli.nn.normalize import Normalize
from posecli.scoring import instance_scores
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, ImageArray, People, Prediction, Sample
from posecli.units import PersonUnits
from posecli_multitask.config import TAKEN
from posecli_multitask.drawing import draw_classes
from posecli_multitask.tasks import ClassTask, KeypointTask
from posecli_multitask.transform import MultiTaskTransform, is_class_column


class Network(nn.Module):
    """Backbone, necks and heads. State names are `heads.NAME...` and `necks.NAME...`, so heads named 0 and 1 have the
    names of the reference's."""

    def __init__(
        self, backbone: Backbone, necks: nn.ModuleDict, heads: nn.ModuleDict, neck_of: Mapping[str, str | None]
    ) -> None:
        """`neck_of` says for each head on which neck it sits, None for the backbone itself: its coarsest map, or all of
        its maps where the head is a pyramid."""
        super().__init__()
        self.backbone = backbone
        self.necks = necks
        self.heads = heads
        self.neck_of = dict(neck_of)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What each head gives, in order."""
        maps = self.backbone(images)
        seen = {name: neck(maps[-1]) for name, neck in self.necks.items()}
        necks = ((head, self.neck_of[name]) for name, head in self.heads.items())
        return tuple(head(seen_by(head, maps) if neck is None else seen[neck]) for head, neck in necks)


class MultiTask(Algorithm):
    """Several tasks on one crop of a person.

    A prediction has the `keypoints` and `scores` of one head; in `extra` the keypoints (1, K, 2) of every other head
    that finds any, and the probabilities (1, C) of every head of classes, under the heads' names.
    """

    needs = "boxes"
    flip_index: Tensor | None

    def __init__(
        self,
        network: Network,
        tasks: Sequence[KeypointTask | ClassTask],
        main: str,
        skeleton: Skeleton,
        training_transform: MultiTaskTransform,
        evaluation_transform: MultiTaskTransform,
        *,
        flip_test: bool = True,
    ) -> None:
        """`tasks` are those of the network's heads, in order; `main` is the head that gives the keypoints."""
        super().__init__()
        self.normalize = Normalize()
        self.backbone = network.backbone
        self.necks = network.necks
        self.heads = network.heads
        self.neck_of = network.neck_of
        self.tasks = tuple(tasks)
        self.main = main
        self.skeleton = skeleton
        self.training_transform = training_transform
        self.evaluation_transform = evaluation_transform
        self.flip_test = flip_test
        index = skeleton.flip_index
        self.register_buffer("flip_index", None if index is None else torch.from_numpy(index), persistent=False)

    @property
    def class_tasks(self) -> tuple[ClassTask, ...]:
        """Those that tell classes."""
        return tuple(task for task in self.tasks if isinstance(task, ClassTask))

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        return {task.name: task.classes for task in self.class_tasks}

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        """Raises PosecliError where a head is to be trained whose classes no column tells, or one tells others."""
        if train:
            for task in self.class_tasks:
                self._check_column(samples, task)
        return PersonUnits(samples)

    def _check_column(self, samples: Dataset, task: ClassTask) -> None:
        columns = {name: values for name, values in samples.people.extra.items() if is_class_column(values)}
        if task.column not in columns:
            raise PosecliError(self._no_column(samples.name, task, sorted(columns)))
        values, count = columns[task.column], len(task.classes)
        what = f"head {task.name!r}: column {task.column!r} of {samples.name!r}"
        beyond = values >= count
        if beyond.any():
            raise PosecliError(
                f"{what} has {int(beyond.sum())} rows of classes beyond the last of {count} (0 {task.classes[0]} to "
                f"{count - 1} {task.classes[-1]}), up to {int(values.max())}: name all of them in "
                f"model.heads.{task.name}.classes, and let rows of unknown class have -1"
            )
        if not (values >= 0).any():
            raise PosecliError(f"{what} knows nobody's class, {self._without(task)}")

    def _no_column(self, data: str, task: ClassTask, columns: list[str]) -> str:
        near = get_close_matches(task.column, columns, n=1)
        return (
            f"head {task.name!r}: the data {data!r} has no column {task.column!r} to learn its classes from"
            f"{f'; did you mean {near[0]!r}?' if near else ''} (columns: {', '.join(columns) or 'none'}): name one "
            f"with --set model.heads.{task.name}.column=NAME, or {self._without(task)}"
        )

    def _without(self, task: ClassTask) -> str:
        """How to do without a head."""
        neck = self.neck_of[task.name]
        alone = neck is not None and list(self.neck_of.values()).count(neck) == 1
        rest = f" --set model.necks.{neck}=null" if alone else ""
        return f"leave the head out with --set model.heads.{task.name}=null{rest}"

    def transform(self, train: bool) -> Transform:
        return self.training_transform if train else self.evaluation_transform

    def network(self) -> nn.Module:
        return Network(self.backbone, self.necks, self.heads, self.neck_of)

    def outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """What each head gives for crops (B, H, W, 3) uint8 RGB."""
        outputs: tuple[Tensor, ...] = self.network()(self.normalize(images))
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        outputs = self.outputs(batch.inputs["image"])
        return {
            task.name: task.weight * task.loss(output, batch.targets)
            for task, output in zip(self.tasks, outputs, strict=True)
        }

    def predict(self, batch: Batch) -> list[Prediction]:
        images = batch.inputs["image"]
        outputs = self.outputs(images)
        if self.flip_test and self.flip_index is not None:
            mirrored = self.outputs(images.flip(2))
            index = self.flip_index
            outputs = tuple(
                task.average(first, second, index)
                for task, first, second in zip(self.tasks, outputs, mirrored, strict=True)
            )
        samples = list(batch.samples)  # made once
        people = self._people(samples, batch.undo, outputs)
        return [Prediction(sample.id, people[row : row + 1]) for row, sample in enumerate(samples)]

    def _people(self, samples: Sequence[Sample], undo: Tensor, outputs: Sequence[Tensor]) -> People:
        """One row a sample, with the box it was cut out by; a true box counts as sure."""
        extra: dict[str, Array] = {}
        points, scores = np.zeros((0, 0, 2)), np.zeros((0, 0))
        for task, output in zip(self.tasks, outputs, strict=True):
            if isinstance(task, ClassTask):
                extra[task.name] = task.decode(output).cpu().numpy()
                continue
            places, sure = task.decode(output)
            pixels = (places.double().cpu() @ undo[:, :, :2].mT + undo[:, None, :, 2]).numpy()
            if task.name == self.main:
                points, scores = pixels, sure.float().cpu().numpy()
            else:
                extra[task.name] = pixels
        asked = People.concatenate([sample.people[:1] for sample in samples])
        extra |= {name: asked.extra[name] for name in TAKEN if name in asked.extra}
        people = People(points, scores, asked.boxes, asked.instance_scores, extra)
        return dataclasses.replace(people, instance_scores=instance_scores(people).astype(np.float32))

    def guess(self, train: Dataset, truth: Dataset) -> list[Prediction]:
        """The mean pose, by every head that finds keypoints, and of classes how often each one is in `train`."""
        shares = {task.name: _shares(train, task) for task in self.class_tasks}
        others = [task.name for task in self.tasks if isinstance(task, KeypointTask) and task.name != self.main]
        guessed = []
        for one in super().guess(train, truth):
            classes = {name: np.tile(share, (len(one.people), 1)) for name, share in shares.items()}
            points = dict.fromkeys(others, one.people.keypoints)
            guessed.append(Prediction(one.id, one.people.with_extra(**classes, **points)))
        return guessed

    def draw(self, image: ImageArray, prediction: Prediction, threshold: float = 0.3) -> ImageArray:
        drawn = draw_people(image, prediction.people, self.skeleton, threshold)
        return draw_classes(drawn, prediction.people, self.classes)


def _shares(train: Dataset, task: ClassTask) -> Array:
    """How often each class is there, (C,); all alike where the column is missing."""
    count = len(task.classes)
    values = np.asarray(train.people.extra.get(task.column, np.zeros(0)), dtype=np.int64)
    known = values[(values >= 0) & (values < count)]
    return np.bincount(known, minlength=count) / len(known) if len(known) else np.full(count, 1 / count)
