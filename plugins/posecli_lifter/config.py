"""What a lifting model is made of. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from posecli.config import Config, DatasetConfig, Fields, Fraction, ModelConfig, Positive
from posecli_lifter.augmentation import MotionAugmentation

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli.summary import DataSummary
    from posecli.types import Dataset
    from posecli_lifter.model import Lifter


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a kernel has a middle: give an odd number of frames")
    return value


Odd = Annotated[Positive, AfterValidator(_odd)]
Table = tuple[tuple[float, ...], ...]


class StatisticsConfig(Config):
    """Means and deviations of every coordinate over a data set."""

    mean_2d: Table = Field(description="of each joint's x and y in pixels")
    deviation_2d: Table = Field(description="of each joint's x and y in pixels")
    mean_3d: Table = Field(description="of each joint's x, y, z in metres from the root; the root left out")
    deviation_3d: Table = Field(description="of each joint's x, y, z in metres from the root; the root left out")


class SemiConfig(Config):
    """How clips without 3D truth take part in training."""

    projection: float = Field(1.0, ge=0, description="weight of the distance between projected poses and 2D keypoints")
    bones: float = Field(1.0, ge=0, description="weight of the difference of mean bone lengths")
    warmup: int = Field(0, ge=0, description="first steps in which only labelled clips count")


class PartlyLabelledConfig(DatasetConfig):
    """Clips with 3D truth and clips whose 3D is not used, for semi-supervised training."""

    name: ClassVar[str] = "partly-labelled"
    labelled: DatasetConfig = Field(description="clips with 3D")
    unlabelled: DatasetConfig = Field(description="clips whose 3D, if any, stays unknown; they need cameras")
    share: Fraction = Field(1.0, description="of the labelled clips that keep their 3D")

    def build(self) -> Dataset:
        from posecli_lifter.partly_labelled import partly_labelled

        return partly_labelled(self.labelled.build(), self.unlabelled.build(), self.share)


class LifterConfig(ModelConfig):
    """What all lifting models share."""

    augment: MotionAugmentation = Field(MotionAugmentation(), description="how training windows are varied")
    stride: Positive = Field(1, description="frames from one training window to the next")
    longest: Positive = Field(2000, description="frames of a clip that are predicted at once; longer ones in pieces")
    flip_test: bool = Field(True, description="average with the mirrored clip; off when flip pairs are unknown")

    @classmethod
    def fields_for(cls, summary: DataSummary) -> tuple[Fields, list[str]]:
        if summary.flip_pairs is None:
            return {}, ["no flips: pairs are unknown; give `flip_pairs` in the category or in a skeleton file"]
        return {}, [f"flips: {summary.flip_pairs} pairs of left and right keypoints"]


class TemporalConfig(LifterConfig):
    """A temporal convolution net: VideoPose3D, and with kernels of one frame SimpleBaseline3D."""

    name: ClassVar[str] = "lifter.temporal"
    mmpose_prefixes: ClassVar[tuple[tuple[str, str], ...]] = (
        ("traj_backbone.", "trajectory_backbone."),
        ("traj_head.", "trajectory_head."),
    )
    kernels: tuple[Odd, ...] = Field(
        (3, 3, 3), min_length=1, description="frames of the first convolution and of each block; their product is seen"
    )
    channels: Positive = Field(1024, description="of all layers")
    dropout: Fraction = Field(0.25, description="share of features dropped in training")
    causal: bool = Field(False, description="see only the frame itself and those before it")
    normalize: Literal["image", "person", "person-place", "standard"] = Field(
        "image",
        description="image: in halves of the picture; person: as a camera sees it that looks straight at the person, "
        "at one size; person-place: with where and how large beside; standard: by the statistics of a data set",
    )
    statistics: StatisticsConfig | None = Field(None, description="for normalize: standard")
    loss: Literal["distance", "squared"] = Field("distance", description="of joints, or squared of coordinates")
    trajectory: bool = Field(False, description="a second net for where the root is, so that poses are absolute")
    semi: SemiConfig | None = Field(None, description="learn from clips without 3D too; needs the trajectory")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.normalize == "standard") != (self.statistics is not None):
            raise ValueError("`normalize: standard` goes with `statistics`, and only that")
        if self.trajectory and self.normalize != "image":
            raise ValueError("a trajectory is told from where the person stands in the picture: `normalize: image`")
        if self.semi is not None and not self.trajectory:
            raise ValueError("to project poses, it must be known where they stand: `trajectory: true`")
        return self

    @property
    def frames(self) -> int:
        """The receptive field."""
        return math.prod(self.kernels)

    def build(self, skeleton: Skeleton) -> Lifter:
        from posecli_lifter.build import build_temporal

        return build_temporal(self, skeleton)


class DSTFormerConfig(LifterConfig):
    """MotionBERT: attention over joints and frames; every frame of a window is lifted at once."""

    name: ClassVar[str] = "lifter.dstformer"
    frames: Positive = Field(243, description="of a window, at most")
    channels: Positive = Field(512, description="of every joint's features")
    depth: Positive = Field(5, description="pairs of blocks, one with space first and one with time first")
    heads: Positive = Field(8, description="of the attention")
    mlp_ratio: float = Field(2.0, gt=0, description="hidden features of a block over its channels")
    embedding: Positive = Field(512, description="features of the head")
    scale_loss: float = Field(0.5, ge=0, description="weight of the distance after the best scaling")
    velocity_loss: float = Field(20.0, ge=0, description="weight of the distance of steps between frames")
    target: Literal["image", "metres"] = Field(
        "image", description="image: what the picture shows with a depth, no size; metres: from the root"
    )
    body: float = Field(
        4200.0, gt=0, description="millimetres that all bones add up to, which gives poses of target image their size"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"{self.channels} channels do not go into {self.heads} heads")
        return self

    def build(self, skeleton: Skeleton) -> Lifter:
        from posecli_lifter.build import build_dstformer

        return build_dstformer(self, skeleton)
