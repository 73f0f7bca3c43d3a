"""What a body mesh model is made of. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.augmentation import Augmentation
from posecli.config import BackboneConfig, Config, Fraction, ModelConfig, Positive, Size
from posecli.nn.config import ResNetConfig

if TYPE_CHECKING:
    from posecli.skeleton import Skeleton
    from posecli_mesh.model import MeshRecovery


class MeshAugmentation(Augmentation):
    """How much the crop of one person is varied, with the body that stands in it; defaults are the reference's."""

    half_body: Fraction = Field(0.0, description="probability of showing only the upper or the lower body")
    shift: Fraction = Field(0.0, description="largest shift as a fraction of the padded box")
    scale: tuple[float, float] = Field((0.75, 1.25), description="range of the box's scale")
    rotate: float = Field(30.0, ge=0, le=180, description="largest rotation in degrees")
    channel_noise: Fraction = Field(0.4, description="largest relative change of the brightness of each colour channel")


class BodyConfig(Config):
    """The parametric body whose pose and shape are found."""

    name: Literal["capsules", "smpl", "anny"] = Field(
        "capsules", description="capsules: built in; smpl: the user's own file; anny: the package of that name"
    )
    path: Path | None = Field(None, description="smpl: its file; by default the one `posecli mesh body set` remembered")
    gender: Literal["neutral", "male", "female"] = Field("neutral", description="smpl: which of its bodies")
    regressor: Path | None = Field(None, description="smpl: .npy (24, V), vertices to keypoints; remembered as well")


class MeshLossConfig(Config):
    """Weights of the losses; 0 turns one off."""

    keypoints_2d: float = Field(100.0, ge=0, description="projected keypoints, smooth L1 in halves of the input")
    keypoints_3d: float = Field(1000.0, ge=0, description="3D keypoints, smooth L1 in metres")
    vertices: float = Field(20.0, ge=0, description="vertices, L1 in metres")
    rotations: float = Field(30.0, ge=0, description="rotation matrices, squared")
    shape: float = Field(0.2, ge=0, description="shape, squared")
    guide: float = Field(10.0, ge=0, description="cross entropy of the guide's heatmaps, if there is a guide")


class GuideConfig(Config):
    """Keypoints that are found on the way and told to the head: learnt in far fewer pictures than without."""

    filters: tuple[Positive, ...] = Field(
        (64, 64), description="channels of deconvolutions; each doubles the maps, and finer maps of the backbone join"
    )
    sigma: float = Field(1.0, gt=0, description="of a keypoint's target in cells of the map")


class AdversarialConfig(Config):
    """A discriminator that learns to tell real poses and shapes from found ones."""

    kind: Literal["vanilla", "lsgan", "wgan", "hinge"] = Field("lsgan", description="how its scores are judged")
    weight: float = Field(1.0, ge=0, description="of the generator's side")
    motion: Path | None = Field(
        None, description="npz with pose (M, 72) and shape (M, 10) of real people; by default the labels of the batch"
    )


class HMRConfig(ModelConfig):
    """A body mesh for each person, by iterative regression (HMR, Kanazawa et al., CVPR 2018)."""

    name: ClassVar[str] = "mesh.hmr"
    mmpose_prefixes: ClassVar[tuple[tuple[str, str], ...]] = (
        ("mesh_head.", "head."),
        ("discriminator.", "adversary.discriminator."),
    )

    backbone: BackboneConfig = Field(default_factory=lambda: ResNetConfig(), description="the feature extractor")
    body: BodyConfig = Field(BodyConfig(), description="the parametric body")
    input_size: Size = Field((224, 224), description="width and height of the crop in pixels")
    padding: float = Field(1.25, gt=0, description="how much a box is grown before it is cut out")
    augment: MeshAugmentation = Field(MeshAugmentation(), description="how training pictures are varied")
    rounds: Positive = Field(3, description="how often the estimate is corrected")
    hidden: Positive = Field(1024, description="width of the head's layers")
    dropout: float = Field(0.5, ge=0, lt=1, description="in the head while training")
    guide: GuideConfig | None = Field(None, description="keypoints found on the way; none by default, as published")
    mean_params: Path | None = Field(
        None, description="npz with pose (144,), shape (10,) and cam (3,) to start from; by default the body at rest"
    )
    focal: float = Field(5000.0, gt=0, description="of the camera that sees the crop, in input pixels")
    losses: MeshLossConfig = Field(MeshLossConfig(), description="weights of the losses")
    adversarial: AdversarialConfig | None = Field(None, description="a discriminator of poses; none by default")

    @property
    def mmpose_ignored(self) -> tuple[str, ...]:
        copies = ("generator.", "smpl.")  # backbone and head once more, and the body, which is the user's own file
        return copies if self.adversarial is not None else (*copies, "discriminator.")

    def build(self, skeleton: Skeleton) -> MeshRecovery:
        from posecli_mesh.build import build_hmr

        return build_hmr(self, skeleton)
