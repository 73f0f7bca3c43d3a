"""What a top-down model is made of. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.augmentation import Augmentation
from posecli.config import BackboneConfig, Config, Fraction, ModelConfig, Positive, Size
from posecli.nn.config import ResNetConfig

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli_topdown.model import TopDown


class SuppressionConfig(Config):
    """What becomes of detections that turn out to be the same person. True boxes are never suppressed."""

    method: Literal["oks", "soft-oks", "none"] = Field("oks", description="by OKS, which needs the skeleton's sigmas")
    threshold: Fraction = Field(0.9, description="OKS above which two people are the same")


class TopDownConfig(ModelConfig):
    """What all top-down models share."""

    backbone: BackboneConfig = Field(default_factory=lambda: ResNetConfig(), description="the feature extractor")
    input_size: Size = Field((192, 256), description="width and height of the crop in pixels")
    padding: float = Field(1.25, gt=0, description="how much a box is grown before it is cut out")
    augment: Augmentation = Field(Augmentation(), description="how training pictures are varied")
    flip_test: bool = Field(True, description="average with the mirrored picture; off when flip pairs are unknown")
    keypoint_weights: bool = Field(False, description="weigh the loss by the skeleton's keypoint weights")
    score_threshold: float = Field(0.2, description="keypoints above it count for a person's score")
    suppression: SuppressionConfig = Field(SuppressionConfig(), description="of detections of the same person")


class HeatmapConfig(TopDownConfig):
    """A heatmap for every keypoint: SimpleBaseline, HRNet and the like."""

    name: ClassVar[str] = "topdown.heatmap"
    codec: Literal["plain", "dark", "udp"] = Field(
        "plain", description="plain: peak and a quarter shift; dark: Taylor expansion; udp: unbiased data processing"
    )
    sigma: float = Field(2.0, gt=0, description="of the target Gaussian in heatmap cells")
    stride: Positive = Field(4, description="input pixels a heatmap cell; deconvolutions make up the difference")
    deconv_filters: Positive = Field(256, description="channels of the deconvolutions")
    loss: Literal["mse", "ohkm"] = Field("mse", description="mse, or ohkm: only the hardest keypoints of a person")
    hard_keypoints: Positive = Field(8, description="how many keypoints ohkm takes")

    def build(self, skeleton: Skeleton) -> TopDown:
        from posecli_topdown.build import build_heatmap

        return build_heatmap(self, skeleton)


class SimCCConfig(TopDownConfig):
    """Two classifications a keypoint, one an axis (SimCC, Li et al., ECCV 2022)."""

    name: ClassVar[str] = "topdown.simcc"
    split_ratio: float = Field(2.0, gt=0, description="bins a pixel")
    sigma: float = Field(6.0, gt=0, description="of the target Gaussian in bins")
    deconv_filters: Positive = Field(256, description="channels of the deconvolutions")
    stride: Positive = Field(4, description="input pixels a cell of the map that is classified")

    def build(self, skeleton: Skeleton) -> TopDown:
        from posecli_topdown.build import build_simcc

        return build_simcc(self, skeleton)


class RegressionConfig(TopDownConfig):
    """Coordinates straight from pooled features (DeepPose, Toshev and Szegedy, CVPR 2014)."""

    name: ClassVar[str] = "topdown.regression"
    loss: Literal["smooth-l1", "l1", "wing"] = Field("smooth-l1", description="smooth-l1, l1 or wing")

    def build(self, skeleton: Skeleton) -> TopDown:
        from posecli_topdown.build import build_regression

        return build_regression(self, skeleton)
