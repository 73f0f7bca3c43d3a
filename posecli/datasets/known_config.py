"""The published 2D sets in COCO's form whose keypoints posecli knows. Imports no torch, no numpy, no cv2."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.config import DatasetConfig
from posecli.datasets.config import KnownKeypointsConfig

if TYPE_CHECKING:
    from posecli.datasets.known_sets import Area
    from posecli.types import Dataset


class PlainSetConfig(KnownKeypointsConfig):
    """A set that is COCO's but for the keypoints."""

    area: ClassVar[Area] = "annotated"
    films: ClassVar[bool] = False  # whether each folder of pictures holds one film

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import known_dataset

        return known_dataset(
            self.path, self.skeleton, self.images, self.area, self.strict, self.any_category, self.films
        )


class SquareSetConfig(KnownKeypointsConfig):
    """A set whose boxes are squares, given by centre and scale."""

    films: ClassVar[bool] = False  # whether each folder of pictures holds one film

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import square_dataset

        return square_dataset(self.path, self.skeleton, self.images, self.strict, self.films)


# --- bodies -----------------------------------------------------------------------------------------------------------


class PoseTrack18Config(KnownKeypointsConfig):
    """PoseTrack18: people in films, 17 keypoints; regions to ignore, and head sizes for `pck@0.5:head`."""

    name: ClassVar[str] = "posetrack18"
    skeleton: ClassVar[str] = "posetrack18"

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import posetrack18_dataset

        return posetrack18_dataset(self.path, self.images, self.strict)


class JhmdbConfig(KnownKeypointsConfig):
    """JHMDB: people in films, 15 joints; `pck@0.2` and `pck@0.2:torso`."""

    name: ClassVar[str] = "jhmdb"
    skeleton: ClassVar[str] = "jhmdb"
    metrics: ClassVar[tuple[str, ...]] = ("pck@0.2", "pck@0.2:torso")

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import jhmdb_dataset

        return jhmdb_dataset(self.path, self.images, self.strict)


class ExlposeConfig(PlainSetConfig):
    """ExLPose: people in the dark, CrowdPose's 14 keypoints."""

    name: ClassVar[str] = "exlpose"
    skeleton: ClassVar[str] = "exlpose"
    area: ClassVar[Area] = "body"


class HalpeConfig(KnownKeypointsConfig):
    """Halpe: 136 keypoints of the whole body, or the 26 of body and feet."""

    name: ClassVar[str] = "halpe"
    skeleton: ClassVar[str] = "halpe"
    part: Literal["wholebody", "body"] = Field("wholebody", description="all 136 keypoints, or body and feet, 26")

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import halpe_dataset

        return halpe_dataset(self.path, self.images, self.part, self.strict)


class HumanArtConfig(KnownKeypointsConfig):
    """Human-Art: people in photos, paintings and sculptures, COCO's 17 keypoints, or 21 with fingers and toes."""

    name: ClassVar[str] = "humanart"
    skeleton: ClassVar[str] = "coco"
    joints: Literal[17, 21] = Field(17, description="COCO's keypoints, or those of the field keypoints_21")

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import humanart_dataset

        return humanart_dataset(self.path, self.images, self.joints, self.strict)


# --- faces ------------------------------------------------------------------------------------------------------------


class Face300WConfig(SquareSetConfig):
    """300W: faces, the 68 points of COCO-WholeBody's; `nme:36,45` divides by the distance of the outer eye corners."""

    name: ClassVar[str] = "300w"
    skeleton: ClassVar[str] = "coco_wholebody_face"
    metrics: ClassVar[tuple[str, ...]] = ("nme:36,45",)


class Face300VwConfig(SquareSetConfig):
    """300VW: faces in films, the 68 points of 300W; `nme:36,45`."""

    name: ClassVar[str] = "300vw"
    skeleton: ClassVar[str] = "coco_wholebody_face"
    films: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("nme:36,45",)


class Face300WlpConfig(SquareSetConfig):
    """300W-LP: faces turned by rendering, the 68 points of 300W; `nme:36,45`."""

    name: ClassVar[str] = "300wlp"
    skeleton: ClassVar[str] = "coco_wholebody_face"
    metrics: ClassVar[tuple[str, ...]] = ("nme:36,45",)


class WflwConfig(SquareSetConfig):
    """WFLW: faces, 98 points; `nme:60,72` divides by the distance of the outer eye corners."""

    name: ClassVar[str] = "wflw"
    skeleton: ClassVar[str] = "wflw"
    metrics: ClassVar[tuple[str, ...]] = ("nme:60,72",)


class CofwConfig(PlainSetConfig):
    """COFW: partly hidden faces, 29 points; `nme:8,9` divides by the distance of the outer eye corners."""

    name: ClassVar[str] = "cofw"
    skeleton: ClassVar[str] = "cofw"
    metrics: ClassVar[tuple[str, ...]] = ("nme:8,9",)


class AflwConfig(SquareSetConfig):
    """AFLW: faces from all sides, 19 points; `nme:box_size` divides by the size of the file's box."""

    name: ClassVar[str] = "aflw"
    skeleton: ClassVar[str] = "aflw"
    metrics: ClassVar[tuple[str, ...]] = ("nme:box_size",)


class LapaConfig(PlainSetConfig):
    """LaPa: faces, 106 points; `nme:66,79` divides by the distance of the outer eye corners."""

    name: ClassVar[str] = "lapa"
    skeleton: ClassVar[str] = "lapa"
    metrics: ClassVar[tuple[str, ...]] = ("nme:66,79",)


# --- animals ----------------------------------------------------------------------------------------------------------


class AnimalPoseConfig(PlainSetConfig):
    """Animal-Pose: cats, dogs, sheep, cows and horses, 20 keypoints."""

    name: ClassVar[str] = "animalpose"
    skeleton: ClassVar[str] = "animalpose"


class Ap10kConfig(PlainSetConfig):
    """AP-10K: 54 species of mammals, 17 keypoints."""

    name: ClassVar[str] = "ap10k"
    skeleton: ClassVar[str] = "ap10k"


class AnimalKingdomConfig(PlainSetConfig):
    """Animal Kingdom: animals of all classes, 23 keypoints."""

    name: ClassVar[str] = "animal-kingdom"
    skeleton: ClassVar[str] = "animal_kingdom"
    metrics: ClassVar[tuple[str, ...]] = ("pck@0.05", "auc@30:20")
    any_category: ClassVar[bool] = True  # its files do not list all of theirs
    films: ClassVar[bool] = True


class AtrwConfig(PlainSetConfig):
    """ATRW: Amur tigers, 15 keypoints; the reference cuts them out without padding, `model.padding: 1.0`."""

    name: ClassVar[str] = "atrw"
    skeleton: ClassVar[str] = "atrw"


class Horse10Config(PlainSetConfig):
    """Horse-10: horses seen from the side, 22 keypoints; `pck@0.3` and `nme:0,1`, nose to eye."""

    name: ClassVar[str] = "horse10"
    skeleton: ClassVar[str] = "horse10"
    metrics: ClassVar[tuple[str, ...]] = ("pck@0.3", "nme:0,1")


class MacaqueConfig(PlainSetConfig):
    """MacaquePose: macaques, COCO's 17 keypoints."""

    name: ClassVar[str] = "macaque"
    skeleton: ClassVar[str] = "coco"


# --- clothes ----------------------------------------------------------------------------------------------------------


CLOTHES = ("auc@30:20", "pck@0.2", "epe")


class DeepFashionConfig(KnownKeypointsConfig):
    """DeepFashion's landmark set: 8 points of whole clothes, 6 of upper or 4 of lower ones, a file each."""

    name: ClassVar[str] = "deepfashion"
    skeleton: ClassVar[str] = "deepfashion_full"
    metrics: ClassVar[tuple[str, ...]] = CLOTHES
    part: Literal["full", "upper", "lower"] = Field("full", description="whose landmarks the file has")

    def read(self) -> Dataset:
        from posecli.datasets.known_sets import known_dataset

        return known_dataset(self.path, f"deepfashion_{self.part}", self.images, strict=self.strict)


class DeepFashion2Config(PlainSetConfig):
    """DeepFashion2: 294 landmarks of 13 kinds of clothes, each kind with its own of them."""

    name: ClassVar[str] = "deepfashion2"
    skeleton: ClassVar[str] = "deepfashion2"
    metrics: ClassVar[tuple[str, ...]] = CLOTHES


KNOWN: list[type[KnownKeypointsConfig]] = [
    PoseTrack18Config,
    JhmdbConfig,
    ExlposeConfig,
    HalpeConfig,
    HumanArtConfig,
    Face300WConfig,
    Face300VwConfig,
    Face300WlpConfig,
    WflwConfig,
    CofwConfig,
    AflwConfig,
    LapaConfig,
    AnimalPoseConfig,
    Ap10kConfig,
    AnimalKingdomConfig,
    AtrwConfig,
    Horse10Config,
    MacaqueConfig,
    DeepFashionConfig,
    DeepFashion2Config,
]
DATASETS: list[type[DatasetConfig]] = [*KNOWN]


def usual_metrics(skeleton: str) -> tuple[str, ...]:
    """Those of the set that has this skeleton, a shipped one; none where nothing is usual but AP and PCK."""
    return next((config.metrics for config in KNOWN if config.skeleton == skeleton and config.metrics), ())
