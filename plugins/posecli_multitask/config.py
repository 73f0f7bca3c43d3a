"""What a model of several tasks is made of. Imports no torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from posecli.augmentation import Augmentation
from posecli.config import BackboneConfig, Config, ModelConfig, Positive, Size
from posecli.nn.config import ResNetConfig

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli_multitask.model import MultiTask


NAME = re.compile(r"[A-Za-z0-9_-]+")
TAKEN = ("row", "track_id", "category")  # columns of predictions that say whom they are of


class NeckConfig(Config):
    """What lies between the backbone's coarsest map and the heads that name it."""

    kind: Literal["pool", "convolution"] = Field(
        "pool", description="pool: the map's average; convolution: 3×3, normalised and rectified"
    )
    channels: Positive = Field(256, description="of a convolution")


class TaskConfig(Config):
    """What all heads share."""

    weight: float = Field(1.0, ge=0, description="what the head's loss is multiplied by")
    neck: str | None = Field(None, description="the neck it sits on; by default the backbone's coarsest map itself")


class HeatmapTask(TaskConfig):
    """A heatmap for every keypoint."""

    task: Literal["heatmap"] = Field("heatmap", description="keypoints by heatmaps")
    codec: Literal["plain", "dark", "udp"] = Field("plain", description="how keypoints become maps and maps keypoints")
    sigma: float = Field(2.0, gt=0, description="of the target Gaussian in heatmap cells")
    stride: Positive = Field(4, description="input pixels a heatmap cell; deconvolutions make up the difference")
    deconv_filters: Positive = Field(256, description="channels of the deconvolutions")
    pyramid: bool = Field(False, description="add the backbone's finer maps on the way up: learns places sooner")


class RegressionTask(TaskConfig):
    """Coordinates from the pooled features."""

    task: Literal["regression"] = Field("regression", description="keypoints as coordinates")
    loss: Literal["smooth-l1", "l1", "wing"] = Field("smooth-l1", description="smooth-l1, l1 or wing")


class ClassTask(TaskConfig):
    """One class a person, told by a column of the dataset."""

    task: Literal["class"] = Field("class", description="which of several classes a person is of")
    column: str = Field(description="the dataset's column with the classes' numbers; -1 is unknown")
    classes: tuple[str, ...] = Field(min_length=2, description="names of the classes 0, 1, ...")
    mirrored: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of classes that change places in a mirror, as left and right"
    )
    hidden: int = Field(0, ge=0, description="channels of a layer before the classes; 0 leaves it out")

    @model_validator(mode="after")
    def _check(self) -> ClassTask:
        swapped = [name for pair in self.mirrored for name in pair]
        unknown = [name for name in swapped if name not in self.classes]
        if unknown:
            raise ValueError(f"mirrored names {unknown[0]!r}, which is none of the classes {', '.join(self.classes)}")
        for what, names in (("classes", self.classes), ("mirrored", swapped)):
            twice = [name for name in names if list(names).count(name) > 1]
            if twice:
                raise ValueError(f"{what} names {twice[0]!r} more than once")
        return self


AnyTask = Annotated[HeatmapTask | RegressionTask | ClassTask, Field(discriminator="task")]


class MultiTaskConfig(ModelConfig):
    """One backbone, several necks and heads: keypoints by heatmaps or coordinates, and classes, learnt at once."""

    name: ClassVar[str] = "multitask"
    backbone: BackboneConfig = Field(default_factory=lambda: ResNetConfig(), description="the feature extractor")
    necks: dict[str, NeckConfig] = Field({}, description="necks by name; null leaves one out")
    heads: dict[str, AnyTask] = Field(
        {"keypoints": HeatmapTask()},
        min_length=1,
        description="heads by name, the loss of each by its name; null leaves one out",
    )
    keypoints: str | None = Field(
        None, description="the head whose keypoints are the prediction's; by default the only one, or `keypoints`"
    )
    input_size: Size = Field((192, 256), description="width and height of the crop in pixels")
    padding: float = Field(1.25, gt=0, description="how much a box is grown before it is cut out")
    augment: Augmentation = Field(Augmentation(), description="how training pictures are varied")
    flip_test: bool = Field(True, description="average with the mirrored picture; off when flip pairs are unknown")

    @field_validator("heads", "necks", mode="before")
    @classmethod
    def _without(cls, value: Any) -> Any:
        """`NAME: null` leaves out what the config that this one extends has."""
        return {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check(self) -> MultiTaskConfig:
        for name in (*self.heads, *self.necks):
            if not NAME.fullmatch(name) or name in TAKEN:
                raise ValueError(f"{name!r} cannot be a head's or neck's name: letters, digits, _ and - only")
        for name, head in self.heads.items():
            if head.neck is not None and head.neck not in self.necks:
                raise ValueError(f"heads.{name}.neck: there is no neck {head.neck!r}; {_listed(list(self.necks))}")
            if isinstance(head, HeatmapTask) and head.pyramid and head.neck is not None:
                raise ValueError(f"heads.{name}.neck: a pyramid sits on the backbone itself, leave the neck out")
        if self.main not in self.finders:
            raise ValueError(f"keypoints: say which head's are the prediction's; {_listed(self.finders)}")
        unused = set(self.necks) - {head.neck for head in self.heads.values()}
        if unused:
            raise ValueError(
                f"necks: no head sits on {min(unused)!r}; leave it out too, with --set model.necks.{min(unused)}=null"
            )
        return self

    @property
    def finders(self) -> list[str]:
        """The heads that find keypoints."""
        return [name for name, head in self.heads.items() if not isinstance(head, ClassTask)]

    @property
    def main(self) -> str | None:
        """The head whose keypoints are the prediction's: that of `keypoints`, or the one of that name, or the only."""
        only = self.finders[0] if len(self.finders) == 1 else None
        return self.keypoints or ("keypoints" if "keypoints" in self.finders else only)

    def build(self, skeleton: Skeleton) -> MultiTask:
        from posecli_multitask.build import build_multitask

        return build_multitask(self, skeleton)


def _listed(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there is none"
