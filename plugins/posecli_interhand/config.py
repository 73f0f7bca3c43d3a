"""What a model of pairs of hands is made of. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from posecli.augmentation import Augmentation
from posecli.config import BackboneConfig, Config, ModelConfig, Positive, Size
from posecli.nn.config import ResNetConfig

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli_interhand.model import InterHand


class HandLossConfig(Config):
    """How volumes are learnt, and what each loss is multiplied by."""

    volumes: Literal["squared", "entropy"] = Field(
        "squared",
        description="squared: error of every voxel; entropy: cross entropy over the voxels and `not there`, quicker",
    )
    keypoints: float = Field(1.0, ge=0, description="the loss of the volumes")
    places: float = Field(0.0, ge=0, description="how many voxels the mean place of each volume is off; entropy only")
    root_depth: float = Field(1.0, ge=0, description="absolute error of the left wrist's depth, in bins")
    hand_type: float = Field(1.0, ge=0, description="binary cross entropy of which hands there are")

    @model_validator(mode="after")
    def _places_need_chances(self) -> HandLossConfig:
        if self.places and self.volumes != "entropy":
            raise ValueError("`places` needs volumes that are chances: set `volumes: entropy`, or `places: 0`")
        return self


class InterNetConfig(ModelConfig):
    """InterNet (Moon et al., ECCV 2020): both hands in 3D, the depth between them, and which of them there are."""

    name: ClassVar[str] = "interhand.internet"
    backbone: BackboneConfig = Field(default_factory=lambda: ResNetConfig(), description="the feature extractor")
    input_size: Size = Field((256, 256), description="width and height of the crop in pixels")
    padding: float = Field(1.25, gt=0, description="how much a box is grown before it is cut out")
    augment: Augmentation = Field(
        Augmentation(half_body=0.0, shift=0.15, scale=(0.75, 1.25), rotate=45.0),
        description="how training pictures are varied; a mirrored right hand is a left one",
    )
    stride: Positive = Field(4, description="input pixels a voxel; deconvolutions make up the difference")
    depth: Positive = Field(64, description="voxels along the depth")
    depth_bound: float = Field(400.0, gt=0, description="millimetres that the volume is deep, its middle at the wrist")
    sigma: float = Field(2.5, ge=0.8, description="of the target Gaussian in voxels")
    peak: float = Field(255.0, gt=0, description="the target Gaussian's top")
    deconv_filters: Positive = Field(256, description="channels of the deconvolutions")
    pyramid: bool = Field(False, description="add the backbone's finer maps on the way up: learns places sooner")
    root_bins: Positive = Field(64, description="bins of the depth between the wrists")
    root_bound: float = Field(400.0, gt=0, description="millimetres that the bins are deep, 0 in their middle")
    hidden: Positive = Field(512, description="channels between the layers of the heads of depth and type")
    loss: HandLossConfig = Field(HandLossConfig(), description="losses and what they are multiplied by")
    decode: Literal["between", "highest", "mean"] = Field(
        "between",
        description="between: the top of a parabola through the highest voxel and its neighbours; highest: that voxel, "
        "as the reference; mean: of all voxels, for volumes learnt by entropy",
    )
    flip_test: bool = Field(False, description="average with the mirrored picture")

    def build(self, skeleton: Skeleton) -> InterHand:
        from posecli_interhand.build import build_internet

        return build_internet(self, skeleton)
