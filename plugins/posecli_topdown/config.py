"""What a top-down model is made of. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.augmentation import Augmentation
from posecli.config import BackboneConfig, Config, Fields, Fraction, ModelConfig, Positive, Size
from posecli.nn.config import ResNetConfig

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli.summary import DataSummary
    from posecli_topdown.model import TopDown


CELL = 32  # input sides are multiples of the coarsest stride of the usual backbones


def crop_for(summary: DataSummary) -> tuple[float, list[int], str]:
    """Padding of the box, width and height of the input, and why: no larger than the instances are, within limits."""
    padding, limit = (1.0, 320) if summary.whole_pictures else (1.25, 256)
    if summary.input_size is not None:
        across, down = summary.input_size
        return padding, [across, down], f"input {across}×{down}: as stated"
    longer = max(summary.box) * padding
    scale = min(limit, max(2 * CELL, math.ceil(longer / CELL) * CELL)) / longer
    size = [max(2 * CELL, math.ceil(side * padding * scale / CELL - 0.25) * CELL) for side in summary.box]
    width, height = summary.box
    boxes = "whole pictures" if summary.whole_pictures else f"{width:.0f}×{height:.0f} px in the median"
    return padding, size, f"input {size[0]}×{size[1]}: boxes are {boxes}, grown by {padding}"


def augment_for(summary: DataSummary) -> tuple[Fields, list[str]]:
    """How far pictures may be turned and mirrored, and why."""
    fields: Fields = {"rotate": 40.0}
    turned = "stand alike, rotated up to 40°"
    if summary.uprightness < 0.5:
        fields = {"rotate": 180.0, "rotate_probability": 1.0}
        turned = "lie in all directions, rotated up to 180°"
    reasons = [f"rotation: instances {turned} (mean direction {summary.uprightness:.2f} of 1)"]
    if summary.whole_pictures:
        fields |= {"scale": [0.85, 1.15], "shift": 0.05}
        reasons.append("moved by 5 % and scaled by 15 % at most: in a whole picture instances may be at the edge")
    if summary.flip_pairs is None:
        reasons.append("no flips: pairs are unknown; give `flip_pairs` in the category or in a skeleton file")
    else:
        reasons.append(f"flips: {summary.flip_pairs} pairs of left and right keypoints")
    if not summary.has_upper:
        fields["half_body"] = 0.0
        reasons.append("no half-body crops: which keypoints are the upper body is unknown")
    return fields, reasons


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
    score: Literal["box", "box-keypoint", "box-rle", "keypoint"] = Field(
        "box-keypoint", description="a person's score: the box's, times or plus the keypoints', or the keypoints' alone"
    )
    score_threshold: float = Field(0.2, description="keypoints above it count for a person's score")
    suppression: SuppressionConfig = Field(SuppressionConfig(), description="of detections of the same person")

    @classmethod
    def fields_for(cls, summary: DataSummary) -> tuple[Fields, list[str]]:
        padding, size, why = crop_for(summary)
        augment, reasons = augment_for(summary)
        return {"padding": padding, "input_size": size, "augment": augment}, [why, *reasons]


class HeatmapConfig(TopDownConfig):
    """A heatmap for every keypoint: SimpleBaseline, HRNet and the like."""

    name: ClassVar[str] = "topdown.heatmap"
    mmpose_prefixes: ClassVar[tuple[tuple[str, str], ...]] = (  # 0.x's names in HRNetV2's head
        ("keypoint_head.final_layer.0.", "head.conv_layers.0."),
        ("keypoint_head.final_layer.1.", "head.conv_layers.1."),
        ("keypoint_head.final_layer.3.", "head.final_layer."),
    )
    codec: Literal["plain", "dark", "udp"] = Field(
        "plain", description="plain: peak and a quarter shift; dark: Taylor expansion; udp: unbiased data processing"
    )
    sigma: float = Field(2.0, gt=0, description="of the target Gaussian in heatmap cells")
    stride: Positive = Field(4, description="input pixels a heatmap cell; deconvolutions make up the difference")
    deconv_filters: Positive = Field(256, description="channels of the deconvolutions")
    pyramid: bool = Field(False, description="add the backbone's finer maps on the way up: learns places sooner")
    stacked: bool = Field(False, description="stack all of the backbone's maps at the size of the finest: HRNetV2")
    loss: Literal["mse", "ohkm"] = Field("mse", description="mse, or ohkm: only the hardest keypoints of a person")
    hard_keypoints: Positive = Field(8, description="how many keypoints ohkm takes")

    @classmethod
    def fields_for(cls, summary: DataSummary) -> tuple[Fields, list[str]]:
        fields, reasons = super().fields_for(summary)
        cells = max(fields["input_size"]) / 4
        sigma = round(min(max(cells / 40, 1.5), 3.0), 2)
        why = f"sigma {sigma}: {cells:.0f} heatmap cells along the longer side"
        return fields | {"sigma": sigma}, [*reasons, why]

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
