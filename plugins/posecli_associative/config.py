"""What an associative-embedding model is made of. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from posecli.config import BackboneConfig, Config, Fields, ModelConfig, Positive, Size
from posecli.nn.config import HRNetConfig
from posecli_associative.augmentation import SceneAugmentation

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli.summary import DataSummary
    from posecli_associative.model import Associative


MULTIPLE = 64  # input sides are multiples of it: maps of 1/4 that are halved four times fit


def _with_one(scales: tuple[float, ...]) -> tuple[float, ...]:
    if not all(0 < scale < math.inf for scale in scales) or 1 not in scales:
        raise ValueError("give positive numbers with 1 among them, as in [0.5, 1, 2]: tags are read at scale 1")
    return scales


Scales = Annotated[tuple[float, ...], AfterValidator(_with_one)]


def input_for(summary: DataSummary) -> tuple[list[int], str]:
    """Width and height of the input, and why: as the pictures are, no larger than instances and the limits ask for."""
    if summary.input_size is not None:
        across, down = summary.input_size
        return [across, down], f"input {across}×{down}: as stated"
    width, height = summary.picture
    scale = min(1.0, 256 / max(summary.box), 512 / min(summary.picture))
    sides = [max(2, math.ceil(side * scale / MULTIPLE - 0.25)) * MULTIPLE for side in (width, height)]
    people = "instances {:.0f}×{:.0f} px in the median".format(*summary.box)
    return sides, f"input {sides[0]}×{sides[1]}: pictures are {width:.0f}×{height:.0f}, {people}"


class LossConfig(Config):
    """What the loss is made of. Weights: one for every stage, or a single one for all."""

    heatmap: tuple[float, ...] = Field((1.0,), description="weight of the heatmaps' squared error")
    foreground: float = Field(
        0.0, ge=0, description="how much more a cell at a keypoint counts than one far from any; 0 as in MMPose"
    )
    pull: tuple[float, ...] = Field((1e-3,), description="weight of the distance between tags of one person")
    push: tuple[float, ...] = Field((1e-3,), description="weight of the nearness of different people's tags")
    push_kind: Literal["exp", "max", "exp-diagonal"] = Field(
        "exp", description="exp(-d²); max(0, 1 - |d|); or exp-diagonal: as MMPose 1.x, each person's own 1 counted"
    )
    supervise_empty: bool = Field(True, description="learn also the maps of keypoints that nobody in a picture shows")


class DecodeConfig(Config):
    """How maps become people. The defaults are MMPose 0.x's; 1.x: adjust=inside, fill=cost, limit=first."""

    tags: Literal["predicted", "oracle"] = Field(
        "predicted", description="oracle: the truth's, on labelled data only, to see what grouping loses"
    )
    project: bool = Field(True, description="maps are resized to the input first; else to the finest stage only")
    reach: int = Field(2, ge=1, le=8, description="nothing within so many rows and columns exceeds a peak")
    candidates: Positive = Field(30, description="how many peaks of each keypoint take part, the highest ones")
    detection_threshold: float = Field(0.1, ge=0, description="peaks that are not above it do not count")
    tag_threshold: float = Field(1.0, gt=0, description="tags of one person differ by less from their mean")
    use_detection_score: bool = Field(
        True, description="compare tags in whole numbers, the higher peak first; else by their distance alone"
    )
    order: tuple[int, ...] | None = Field(
        None, description="in which keypoints are grouped, the surest first; as the skeleton lists them by default"
    )
    limit: Literal["best", "grouping", "first"] = Field(
        "best",
        description="who stays when there are too many: those with the best scores; grouping: those begun first, and "
        "all peaks go to them (MMPose 0.x's ignore_too_much); first: those begun first (MMPose 1.x)",
    )
    adjust: Literal["auto", "none", "quarter", "inside", "udp"] = Field(
        "auto",
        description="places between cells. quarter: a quarter cell towards the higher neighbour (MMPose 0.x); inside: "
        "the same, not at the border (1.x); udp: a Newton step; auto: udp with the udp codec, otherwise quarter",
    )
    fill: Literal["none", "penalty", "cost"] = Field(
        "penalty",
        description="keypoints without a peak. penalty: where heatmap less rounded tag distance is highest, if the "
        "heatmap is above 0 there (MMPose 0.x); cost: where rounded tag distance is lowest, then heatmap highest (1.x)",
    )


class AssociativeConfig(ModelConfig):
    """What all associative-embedding models share."""

    input_size: Size = Field(
        (512, 512), description="width and height of training pictures; others are scaled to its short side"
    )
    max_people: Positive = Field(30, description="people in a picture, when training and when predicting")
    augment: SceneAugmentation = Field(SceneAugmentation(), description="how training pictures are varied")
    border: Literal["counts", "ignored"] = Field(
        "counts", description="whether training also looks at what lies beside the picture"
    )
    codec: Literal["plain", "udp"] = Field("plain", description="plain, or udp: unbiased data processing")
    cells: Literal["floor", "nearest"] = Field(
        "floor", description="the target's cell is that a keypoint falls into (MMPose 0.x) or the nearest (1.x)"
    )
    sigma: float = Field(2.0, gt=0, description="of the target Gaussian in cells, alike at every resolution")
    loss: LossConfig = Field(LossConfig(), description="what the loss is made of")
    flip_test: bool = Field(True, description="also the mirrored picture; off when flip pairs are unknown")
    scales: Scales = Field((1.0,), description="scales at which a picture is seen when predicting, 1 among them")
    decode: DecodeConfig = Field(DecodeConfig(), description="how maps become people")

    unit: ClassVar[Literal["instances", "pictures"]] = "pictures"

    @classmethod
    def fields_for(cls, summary: DataSummary) -> tuple[Fields, list[str]]:
        size, why = input_for(summary)
        augment: Fields = {}
        reasons = [why]
        if summary.uprightness < 0.5:
            augment["rotate"] = 180.0
            reasons.append(f"rotation: instances lie in all directions (mean direction {summary.uprightness:.2f} of 1)")
        if summary.flip_pairs is None:
            reasons.append("no flips: pairs are unknown; give `flip_pairs` in the category or in a skeleton file")
        else:
            reasons.append(f"flips: {summary.flip_pairs} pairs of left and right keypoints")
        return {"input_size": size, "augment": augment}, reasons


class TagsConfig(AssociativeConfig):
    """Heatmaps and tags at one resolution (Newell et al., NeurIPS 2017), over any backbone."""

    name: ClassVar[str] = "associative.tags"
    backbone: BackboneConfig = Field(default_factory=lambda: HRNetConfig(), description="the feature extractor")
    stride: Positive = Field(4, description="input pixels a cell; deconvolutions make up the difference")
    deconv_filters: Positive = Field(256, description="channels of the deconvolutions")

    def build(self, skeleton: Skeleton) -> Associative:
        from posecli_associative.build import build_tags

        return build_tags(self, skeleton)


class HigherConfig(AssociativeConfig):
    """HigherHRNet (Cheng et al., CVPR 2020): a second, finer stage of heatmaps."""

    name: ClassVar[str] = "associative.higher"
    backbone: BackboneConfig = Field(default_factory=lambda: HRNetConfig(), description="the feature extractor")
    deconv_filters: Positive | None = Field(None, description="channels of the finer stage; the backbone's by default")

    def build(self, skeleton: Skeleton) -> Associative:
        from posecli_associative.build import build_higher

        return build_higher(self, skeleton)


class HourglassConfig(AssociativeConfig):
    """The stacked hourglass (Newell et al., NeurIPS 2017): every stack gives heatmaps and tags; the last is decoded."""

    name: ClassVar[str] = "associative.hourglass"
    stacks: Positive = Field(4, description="hourglasses one behind the other")
    channels: tuple[Positive, ...] = Field(
        (256, 384, 512, 640, 768), min_length=2, description="of each resolution, from stride 4 down"
    )

    @property
    def multiple(self) -> int:
        """Input sides are multiples of it: a map of 1/4 is halved from each resolution to the next."""
        return 4 << (len(self.channels) - 1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(side % self.multiple for side in self.input_size):
            width, height = (math.ceil(side / self.multiple) * self.multiple for side in self.input_size)
            raise ValueError(
                f"input_size {list(self.input_size)}: an hourglass of {len(self.channels)} resolutions takes multiples "
                f"of {self.multiple}, as in [{width}, {height}]"
            )
        return self

    def build(self, skeleton: Skeleton) -> Associative:
        from posecli_associative.build import build_hourglass

        return build_hourglass(self, skeleton)
