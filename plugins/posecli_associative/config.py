"""What an associative-embedding model is made of. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.augmentation import Augmentation
from posecli.config import BackboneConfig, Config, Fields, ModelConfig, Positive
from posecli.nn.config import HRNetConfig

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli.summary import DataSummary
    from posecli_associative.model import Associative


SCENES = Augmentation(
    rotate=30, rotate_probability=1, scale=(0.75, 1.5), shift=0.2, shift_probability=1, half_body=0, flip=0.5
)
"""How the reference's bottom-up recipes vary whole pictures."""


class LossConfig(Config):
    """What the loss is made of. Weights: one for every stage, or a single one for all."""

    heatmap: tuple[float, ...] = Field((1.0,), description="weight of the heatmaps' squared error")
    pull: tuple[float, ...] = Field((1e-3,), description="weight of the distance between tags of one person")
    push: tuple[float, ...] = Field((1e-3,), description="weight of the nearness of different people's tags")
    push_kind: Literal["exp", "max", "exp-diagonal"] = Field(
        "exp", description="exp(-d²); max(0, 1 - |d|); or exp-diagonal: as MMPose 1.x, each person's own 1 counted"
    )
    supervise_empty: bool = Field(True, description="learn also the maps of keypoints that nobody in a picture shows")


class DecodeConfig(Config):
    """How maps become people."""

    tags: Literal["predicted", "oracle"] = Field(
        "predicted", description="oracle: the truth's, on labelled data only, to see what grouping loses"
    )


class AssociativeConfig(ModelConfig):
    """What all associative-embedding models share."""

    input_size: Positive = Field(512, description="side of the training picture, short side of others, in pixels")
    max_people: Positive = Field(30, description="people in a picture, when training and when predicting")
    augment: Augmentation = Field(SCENES, description="how training pictures are varied; shift: of the picture")
    codec: Literal["plain", "udp"] = Field("plain", description="plain, or udp: unbiased data processing")
    cells: Literal["floor", "nearest"] = Field(
        "floor", description="the target's cell is that a keypoint falls into (MMPose 0.x) or the nearest (1.x)"
    )
    sigma: float = Field(2.0, gt=0, description="of the target Gaussian in cells, alike at every resolution")
    loss: LossConfig = Field(LossConfig(), description="what the loss is made of")
    flip_test: bool = Field(True, description="also the mirrored picture; off when flip pairs are unknown")
    scales: tuple[float, ...] = Field((1.0,), description="scales at which a picture is seen when predicting")
    decode: DecodeConfig = Field(DecodeConfig(), description="how maps become people")

    @classmethod
    def fields_for(cls, summary: DataSummary) -> tuple[Fields, list[str]]:
        augment: Fields = {}
        reasons = []
        if summary.uprightness < 0.5:
            augment["rotate"] = 180.0
            reasons.append(f"rotation: instances lie in all directions (mean direction {summary.uprightness:.2f} of 1)")
        if summary.flip_pairs is None:
            reasons.append("no flips: pairs are unknown; give `flip_pairs` in the category or in a skeleton file")
        else:
            reasons.append(f"flips: {summary.flip_pairs} pairs of left and right keypoints")
        return {"augment": augment}, reasons


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

    def build(self, skeleton: Skeleton) -> Associative:
        from posecli_associative.build import build_hourglass

        return build_hourglass(self, skeleton)
