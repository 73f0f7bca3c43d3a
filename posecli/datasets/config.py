"""The datasets and writers that ship with posecli. Imports no torch, no numpy, no cv2."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from posecli.config import Config, DatasetConfig, Fraction, Positive, Size, WriterConfig

if TYPE_CHECKING:
    from posecli.conversion import Writer
    from posecli.types import Dataset


class SyntheticConfig(DatasetConfig):
    """Articulated people drawn by code over varied backgrounds; deterministic, nothing to download."""

    name: ClassVar[str] = "synthetic"
    count: Positive = Field(2000, description="pictures")
    seed: int = Field(0, ge=0, description="another seed, other people; train and val must differ")
    size: Size = Field((192, 192), description="width and height of a picture in pixels")
    people: tuple[int, int] = Field((1, 1), description="fewest and most people in a picture")

    def build(self) -> Dataset:
        from posecli.datasets.synthetic import synthetic_dataset

        return synthetic_dataset(self.count, self.seed, self.size, self.people)


class SyntheticMotionConfig(DatasetConfig):
    """Synthetic people who walk, run and change their posture, filmed in 3D without pictures; nothing to download."""

    name: ClassVar[str] = "synthetic-motion"
    clips: Positive = Field(40, description="clips, each of another person before another camera")
    frames: Positive = Field(100, description="frames of a clip, 25 a second")
    seed: int = Field(0, ge=0, description="another seed, other people; train and val must differ")
    noise: float = Field(0.0, ge=0, description="normal error of the 2D keypoints in pixels, as a detector has")
    missing: Fraction = Field(0.0, description="share of the 2D keypoints that are not found")

    def build(self) -> Dataset:
        from posecli.datasets.synthetic_motion import synthetic_motion

        return synthetic_motion(self.clips, self.frames, self.seed, self.noise, self.missing)


class SyntheticHandsConfig(DatasetConfig):
    """One or two hands drawn by code, with their exact 3D and which hands they are; nothing to download."""

    name: ClassVar[str] = "synthetic-hands"
    count: Positive = Field(2000, description="pictures")
    seed: int = Field(0, ge=0, description="another seed, other hands and postures; train and val must differ")
    size: Size = Field((144, 144), description="width and height of a picture in pixels")
    interacting: Fraction = Field(0.5, description="share of the pictures with both hands")
    turned: float = Field(70.0, ge=0, le=180, description="degrees at most that a hand is turned from showing its back")

    def build(self) -> Dataset:
        from posecli.datasets.synthetic_hands import synthetic_hands

        return synthetic_hands(self.count, self.seed, self.size, self.interacting, self.turned)


class SplitConfig(Config):
    """One side of a split that is the same on every machine: by seed, or the last pictures."""

    side: Literal["train", "val"] = Field(description="which side is read")
    val: float = Field(0.2, ge=0, description="share of the pictures on the val side, or from 1 on their number")
    seed: int = Field(0, ge=0, description="of the random order")
    order: Literal["random", "order"] = Field("random", description="random, or order: the last pictures are val")


class StoredDatasetConfig(DatasetConfig):
    """A dataset in files. `skip` and `first` cut the pictures in the order of the files, then `split` takes a side."""

    path: Path = Field(description="the annotation file or the folder; relative to the current folder")
    skip: int = Field(0, ge=0, description="pictures left out at the beginning")
    first: Positive | None = Field(None, description="at most so many pictures, after those skipped; all by default")
    split: SplitConfig | None = Field(None, description="read only one side of a split")

    def build(self) -> Dataset:
        from posecli.datasets.split import cut

        return cut(self.read(), self.skip, self.first, self.split)

    @abstractmethod
    def read(self) -> Dataset:
        """The whole dataset, before it is cut."""


class CocoConfig(StoredDatasetConfig):
    """COCO keypoint JSON; names, links, flip pairs and sigmas come from the file or a skeleton beside it."""

    name: ClassVar[str] = "coco"
    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")
    category: str | int | None = Field(None, description="name or id, where several have keypoints of their own")
    skeleton: str | None = Field(None, description="a shipped skeleton's name or a YAML file, over what the file says")

    def read(self) -> Dataset:
        from posecli.datasets.coco import coco_dataset

        return coco_dataset(self.path, self.images, self.category, self.skeleton)


class CocoWholeBodyConfig(StoredDatasetConfig):
    """COCO-WholeBody: 17 body, 6 foot, 68 face and 21 keypoints of each hand, or one of these parts."""

    name: ClassVar[str] = "coco-wholebody"
    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")
    part: Literal["wholebody", "body", "foot", "face", "left_hand", "right_hand", "hands"] = Field(
        "wholebody", description="what is read; hands: every valid hand is an instance of 21 keypoints"
    )

    def read(self) -> Dataset:
        from posecli.datasets.wholebody import wholebody_dataset

        return wholebody_dataset(self.path, self.images, self.part)


class KnownKeypointsConfig(StoredDatasetConfig):
    """A dataset in COCO's form whose keypoints are described by a shipped skeleton, whatever its files say of them."""

    skeleton: ClassVar[str]
    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")


class CrowdPoseConfig(KnownKeypointsConfig):
    """CrowdPose: 14 keypoints, and how crowded each picture is; `--metric ap:crowd` scores easy, medium and hard."""

    name: ClassVar[str] = "crowdpose"
    skeleton: ClassVar[str] = "crowdpose"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import crowdpose_dataset

        return crowdpose_dataset(self.path, self.images)


class AicConfig(KnownKeypointsConfig):
    """AI Challenger: 14 keypoints; the published list of pictures, or the same in COCO's form."""

    name: ClassVar[str] = "aic"
    skeleton: ClassVar[str] = "aic"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import aic_dataset

        return aic_dataset(self.path, self.images)


class OcHumanConfig(KnownKeypointsConfig):
    """OCHuman, people who hide each other: COCO's 17 keypoints, in COCO's form."""

    name: ClassVar[str] = "ochuman"
    skeleton: ClassVar[str] = "coco"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import ochuman_dataset

        return ochuman_dataset(self.path, self.images)


class MhpConfig(KnownKeypointsConfig):
    """Multi-Human Parsing v2: MPII's 16 keypoints, in COCO's form."""

    name: ClassVar[str] = "mhp"
    skeleton: ClassVar[str] = "mhp"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import mhp_dataset

        return mhp_dataset(self.path, self.images)


class LspConfig(StoredDatasetConfig):
    """Leeds Sports Pose or its extension: a folder with joints.mat and images/; both layouts are told apart."""

    name: ClassVar[str] = "lsp"

    def read(self) -> Dataset:
        from posecli.datasets.lsp import lsp_dataset

        return lsp_dataset(self.path)


class LspExtendedConfig(LspConfig):
    """Leeds Sports Pose Extended: a folder with joints.mat and images/."""

    name: ClassVar[str] = "lspet"


class DeepLabCutConfig(StoredDatasetConfig):
    """A DeepLabCut project: config.yaml and labeled-data/VIDEO/CollectedData_*.csv."""

    name: ClassVar[str] = "deeplabcut"
    box: Literal["auto", "frame", "keypoints"] = Field(
        "auto", description="frame: the whole picture; keypoints: tight; auto: frame where one animal is labelled"
    )

    def read(self) -> Dataset:
        from posecli.datasets.deeplabcut import deeplabcut_dataset

        return deeplabcut_dataset(self.path, self.box)


class MotionConfig(StoredDatasetConfig):
    """What the readers of 3D motion share."""

    unit: Literal["auto", "mm", "cm", "m"] = Field("auto", description="of 3D lengths; auto: told by the bodies")


class CmuMocapConfig(MotionConfig):
    """CMU motion capture: a folder of subject*.npz, each take filmed by sampled cameras; Human3.6M's 17 joints."""

    name: ClassVar[str] = "cmu-mocap"
    subjects: tuple[str, ...] = Field((), description="as '01'; all by default")
    takes: tuple[str, ...] = Field((), description="as '02_05'; all by default")
    cameras: Positive = Field(4, description="that see each take")
    seed: int = Field(0, ge=0, description="of the cameras and the noise")
    fps: float | None = Field(None, gt=0, description="frames a second, of the file's nearest; all by default")
    noise: float = Field(0.0, ge=0, description="normal error of the 2D keypoints in pixels, as a detector has")
    missing: Fraction = Field(0.0, description="share of the 2D keypoints that are not found")

    @field_validator("subjects", "takes", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    def read(self) -> Dataset:
        from posecli.datasets.cmu_mocap import cmu_dataset

        return cmu_dataset(
            self.path,
            self.subjects,
            self.takes,
            cameras=self.cameras,
            seed=self.seed,
            fps=self.fps,
            noise=self.noise,
            missing=self.missing,
            unit=self.unit,
        )


class CocoWriterConfig(WriterConfig):
    """COCO keypoint JSON, with flip pairs, sigmas, weights and colours in the category."""

    name: ClassVar[str] = "coco"

    def build(self) -> Writer:
        from posecli.datasets.coco_writer import CocoWriter

        return CocoWriter()


class CsvWriterConfig(WriterConfig):
    """A long CSV: one line a labelled keypoint."""

    name: ClassVar[str] = "csv"

    def build(self) -> Writer:
        from posecli.datasets.table import CsvWriter

        return CsvWriter()


DATASETS: list[type[DatasetConfig]] = [
    SyntheticConfig,
    SyntheticMotionConfig,
    SyntheticHandsConfig,
    CocoConfig,
    CocoWholeBodyConfig,
    CrowdPoseConfig,
    AicConfig,
    OcHumanConfig,
    MhpConfig,
    LspConfig,
    LspExtendedConfig,
    DeepLabCutConfig,
    CmuMocapConfig,
]
WRITERS: list[type[WriterConfig]] = [CocoWriterConfig, CsvWriterConfig]
