"""The datasets and writers that ship with posecli. Imports no torch, no numpy, no cv2."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

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
    backdrop: Literal["clutter", "studio"] = Field("clutter", description="what is behind: anything, or an even wall")

    def build(self) -> Dataset:
        from posecli.datasets.synthetic import synthetic_dataset

        return synthetic_dataset(self.count, self.seed, self.size, self.people, self.backdrop)


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
    backdrop: Literal["clutter", "studio"] = Field("clutter", description="what is behind: anything, or an even wall")

    def build(self) -> Dataset:
        from posecli.datasets.synthetic_hands import synthetic_hands

        return synthetic_hands(self.count, self.seed, self.size, self.interacting, self.turned, self.backdrop)


class MosaicConfig(DatasetConfig):
    """People cut out of another dataset's photos and set beside each other: scenes to group, on real photographs."""

    name: ClassVar[str] = "mosaic"
    photos: DatasetConfig = Field(description="the dataset that is cut up, with its own split")
    count: Positive = Field(2000, description="mosaics")
    seed: int = Field(0, ge=0, description="of who stands where; give each side its own photos")
    size: Size = Field((512, 512), description="width and height of a mosaic in pixels")
    people: tuple[int, int] = Field((2, 5), description="fewest and most people in a mosaic")

    def build(self) -> Dataset:
        from posecli.datasets.mosaic import Plan, mosaic_dataset

        return mosaic_dataset(self.photos.build(), Plan(self.count, self.seed, self.size, self.people))

    def refusing(self, strict: bool = True) -> Self:
        return self.model_copy(update={"photos": self.photos.refusing(strict)})


class MixedConfig(Config):
    """One part of a mix."""

    data: DatasetConfig = Field(description="a dataset, with its own split")
    share: float = Field(1.0, gt=0, description="of the mix, relative to the other parts' shares")


class MixConfig(DatasetConfig):
    """Several datasets as one, in given shares; keypoints go by name, and what a part does not know stays unknown."""

    name: ClassVar[str] = "mix"
    parts: list[MixedConfig] = Field(min_length=1, description="the datasets; the first one's skeleton is that of all")
    count: Positive | None = Field(
        None, description="samples of the mix; by default so many that every one of every part comes"
    )
    seed: int = Field(0, ge=0, description="of the random order of each part")

    def build(self) -> Dataset:
        from posecli.datasets.mix import Part, mix_datasets

        return mix_datasets([Part(part.data.build(), part.share) for part in self.parts], self.count, self.seed)

    def refusing(self, strict: bool = True) -> Self:
        parts = [part.model_copy(update={"data": part.data.refusing(strict)}) for part in self.parts]
        return self.model_copy(update={"parts": parts})


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


class CocoFormConfig(StoredDatasetConfig):
    """What the readers of COCO's form share."""

    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")
    strict: bool = Field(False, description="refuse annotations with faults, which are else noted")


class CocoConfig(CocoFormConfig):
    """COCO keypoint JSON; names, links, flip pairs and sigmas come from the file or a skeleton beside it."""

    name: ClassVar[str] = "coco"
    category: str | int | None = Field(None, description="name or id, where several have keypoints of their own")
    skeleton: str | None = Field(None, description="a shipped skeleton's name or a YAML file, over what the file says")

    def read(self) -> Dataset:
        from posecli.datasets.coco import coco_dataset

        return coco_dataset(self.path, self.images, self.category, self.skeleton, strict=self.strict)


class CocoWholeBodyConfig(CocoFormConfig):
    """COCO-WholeBody: 17 body, 6 foot, 68 face and 21 keypoints of each hand, or one of these parts."""

    name: ClassVar[str] = "coco-wholebody"
    part: Literal["wholebody", "body", "foot", "face", "left_hand", "right_hand", "hands"] = Field(
        "wholebody", description="what is read; hands: every valid hand is an instance of 21 keypoints"
    )

    def read(self) -> Dataset:
        from posecli.datasets.wholebody import wholebody_dataset

        return wholebody_dataset(self.path, self.images, self.part, strict=self.strict)


class KnownKeypointsConfig(CocoFormConfig):
    """A dataset in COCO's form whose keypoints are described by a shipped skeleton, whatever its files say of them."""

    skeleton: ClassVar[str]
    any_category: ClassVar[bool] = False  # whether annotations of categories that the file does not list are read too


class CrowdPoseConfig(KnownKeypointsConfig):
    """CrowdPose: 14 keypoints, and how crowded each picture is; `--metric ap:crowd` scores easy, medium and hard."""

    name: ClassVar[str] = "crowdpose"
    skeleton: ClassVar[str] = "crowdpose"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import crowdpose_dataset

        return crowdpose_dataset(self.path, self.images, strict=self.strict)


class AicConfig(KnownKeypointsConfig):
    """AI Challenger: 14 keypoints; the published list of pictures, or the same in COCO's form."""

    name: ClassVar[str] = "aic"
    skeleton: ClassVar[str] = "aic"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import aic_dataset

        return aic_dataset(self.path, self.images, strict=self.strict)


class OcHumanConfig(KnownKeypointsConfig):
    """OCHuman, people who hide each other: COCO's 17 keypoints; the published ochuman.json, or COCO's form."""

    name: ClassVar[str] = "ochuman"
    skeleton: ClassVar[str] = "coco"
    part: Literal["all", "val", "test"] = Field("all", description="of the published file: 2,500 pictures are val")

    def read(self) -> Dataset:
        from posecli.datasets.crowds import ochuman_dataset

        return ochuman_dataset(self.path, self.images, self.part, strict=self.strict)


class MhpConfig(KnownKeypointsConfig):
    """Multi-Human Parsing v2: MPII's 16 keypoints; a folder with images/ and pose_annos/, or COCO's form."""

    name: ClassVar[str] = "mhp"
    skeleton: ClassVar[str] = "mhp"

    def read(self) -> Dataset:
        from posecli.datasets.crowds import mhp_dataset

        return mhp_dataset(self.path, self.images, strict=self.strict)


class MpiiConfig(KnownKeypointsConfig):
    """MPII: 16 keypoints, the list of people mpii_train.json or mpii_val.json; `pckh` needs mpii_gt_val.mat."""

    name: ClassVar[str] = "mpii"
    skeleton: ClassVar[str] = "mpii"
    headboxes: Path | None = Field(None, description="mpii_gt_val.mat; looked for beside the list by default")

    def read(self) -> Dataset:
        from posecli.datasets.mpii import mpii_dataset

        return mpii_dataset(self.path, self.images, self.headboxes, strict=self.strict)


class MpiiTrbConfig(KnownKeypointsConfig):
    """MPII-TRB: MPII's people, 14 joints and 26 points of the contour; `pckh` where they have head boxes."""

    name: ClassVar[str] = "mpii-trb"
    skeleton: ClassVar[str] = "mpii_trb"

    def read(self) -> Dataset:
        from posecli.datasets.mpii import mpii_trb_dataset

        return mpii_trb_dataset(self.path, self.images, strict=self.strict)


class InterHandConfig(StoredDatasetConfig):
    """InterHand2.6M: a *_data.json with its *_camera.json and *_joint_3d.json, or the folder they lie in."""

    name: ClassVar[str] = "interhand2.6m"
    images: Path | None = Field(None, description="folder of the pictures; looked for near the files by default")
    part: Literal["train", "val", "test"] | None = Field(None, description="whose files are taken in a folder")
    subset: Literal["all", "human_annot", "machine_annot"] = Field("all", description="whose files in a folder")
    rootnet: Path | None = Field(None, description="RootNet's JSON: its boxes and wrist depths instead of the truth")
    hands: Literal["pairs", "single"] = Field(
        "pairs", description="pairs: 42 keypoints a picture; single: every hand an instance of 21, for 2D models"
    )
    strict: bool = Field(False, description="refuse annotations with faults, which are else left out and counted")

    def read(self) -> Dataset:
        from posecli.datasets.interhand import interhand_dataset

        single = self.hands == "single"
        return interhand_dataset(self.path, self.images, self.part, self.subset, self.rootnet, single, self.strict)


class FreiHandConfig(CocoFormConfig):
    """FreiHAND: right hands of 21 keypoints; COCO JSON, or the published folder with training_xyz.json."""

    name: ClassVar[str] = "freihand"
    box: Literal["annotated", "picture"] = Field(
        "annotated", description="picture: the whole of it, which with a padding of 0.8 is the reference's crop"
    )

    def read(self) -> Dataset:
        from posecli.datasets.hand_sets import freihand_dataset

        return freihand_dataset(self.path, self.images, self.box, strict=self.strict)


class OneHand10KConfig(CocoFormConfig):
    """OneHand10K: hands of 21 keypoints, COCO JSON."""

    name: ClassVar[str] = "onehand10k"

    def read(self) -> Dataset:
        from posecli.datasets.hand_sets import onehand10k_dataset

        return onehand10k_dataset(self.path, self.images, strict=self.strict)


class RhdConfig(CocoFormConfig):
    """RHD, rendered hands of 21 keypoints, COCO JSON with the joints in 3D."""

    name: ClassVar[str] = "rhd"

    def read(self) -> Dataset:
        from posecli.datasets.hand_sets import rhd_dataset

        return rhd_dataset(self.path, self.images, strict=self.strict)


class PanopticHandConfig(CocoFormConfig):
    """CMU Panoptic HandDB: hands of 21 keypoints, COCO JSON with head sizes for pck@0.7:head."""

    name: ClassVar[str] = "panoptic-hand"

    def read(self) -> Dataset:
        from posecli.datasets.hand_sets import panoptic_hand_dataset

        return panoptic_hand_dataset(self.path, self.images, strict=self.strict)


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


class DeepPoseKitConfig(StoredDatasetConfig):
    """A DeepPoseKit annotation set: an .h5 file, and a skeleton.csv beside it; needs `pip install 'posecli[hdf5]'`."""

    name: ClassVar[str] = "deepposekit"
    box: Literal["auto", "frame", "keypoints"] = Field(
        "auto", description="frame: the whole picture; keypoints: tight; auto: frame, since one animal is in a picture"
    )
    labels: Literal["auto", "annotated", "placed"] = Field(
        "auto",
        description="annotated: keypoints marked so; placed: all that lie somewhere; auto: these where none is marked",
    )
    skeleton: str | None = Field(None, description="a shipped skeleton's name or a YAML file, over what the file says")

    def read(self) -> Dataset:
        from posecli.datasets.deepposekit import deepposekit_dataset

        return deepposekit_dataset(self.path, self.box, self.labels, self.skeleton)


class MotionConfig(StoredDatasetConfig):
    """What the readers of 3D motion share."""

    unit: Literal["auto", "mm", "cm", "m"] = Field("auto", description="of 3D lengths; auto: told by the bodies")
    subjects: tuple[str, ...] = Field((), description="whom to read, named as in the data; all by default")

    @field_validator("subjects", "takes", "actions", mode="before", check_fields=False)
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Human36mConfig(MotionConfig):
    """Human3.6M as prepared for lifting: an .npz with imgname, part and S, and a cameras.pkl; 17 joints."""

    name: ClassVar[str] = "human36m"
    cameras: Path | None = Field(None, description="the pickle of cameras; looked for beside the file by default")
    detections: Path | None = Field(None, description="a .npy (N, 17, 3) of detected 2D keypoints in place of the true")
    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")
    actions: tuple[str, ...] = Field((), description="as 'Walking'; all by default")
    stride: Positive = Field(1, description="every so many-th frame of a film")

    def read(self) -> Dataset:
        from posecli.datasets.human36m import human36m_dataset

        return human36m_dataset(
            self.path,
            self.cameras,
            self.detections,
            self.images,
            subjects=self.subjects,
            actions=self.actions,
            stride=self.stride,
            unit=self.unit,
        )


class H36mConfig(Human36mConfig):
    """Human3.6M, the same as human36m."""

    name: ClassVar[str] = "h36m"


class MpiInf3dhpConfig(MotionConfig):
    """MPI-INF-3DHP as prepared for lifting: an .npz with imgname, part and S, and a pickle of cameras; 17 joints."""

    name: ClassVar[str] = "mpi-inf-3dhp"
    cameras: Path | None = Field(None, description="the pickle of cameras; looked for beside the file by default")
    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")
    stride: Positive = Field(1, description="every so many-th frame of a film")

    def read(self) -> Dataset:
        from posecli.datasets.mpi_inf_3dhp import mpi_inf_3dhp_dataset

        return mpi_inf_3dhp_dataset(
            self.path, self.cameras, self.images, subjects=self.subjects, stride=self.stride, unit=self.unit
        )


class H3wbConfig(MotionConfig):
    """H3WB: Human3.6M with the 133 keypoints of COCO-WholeBody in 3D, an .npz."""

    name: ClassVar[str] = "h3wb"
    stride: Positive = Field(1, description="every so many-th frame of a film")

    def read(self) -> Dataset:
        from posecli.datasets.h3wb import h3wb_dataset

        return h3wb_dataset(self.path, subjects=self.subjects, stride=self.stride, unit=self.unit)


class CmuMocapConfig(MotionConfig):
    """CMU motion capture: a folder of subject*.npz, each take filmed by sampled cameras; Human3.6M's 17 joints."""

    name: ClassVar[str] = "cmu-mocap"
    takes: tuple[str, ...] = Field((), description="as '02_05'; all by default")
    cameras: Positive = Field(4, description="that see each take")
    seed: int = Field(0, ge=0, description="of the cameras and the noise")
    fps: float | None = Field(None, gt=0, description="frames a second, of the file's nearest; all by default")
    noise: float = Field(0.0, ge=0, description="normal error of the 2D keypoints in pixels, as a detector has")
    missing: Fraction = Field(0.0, description="share of the 2D keypoints that are not found")

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
    MosaicConfig,
    MixConfig,
    SyntheticMotionConfig,
    SyntheticHandsConfig,
    CocoConfig,
    CocoWholeBodyConfig,
    CrowdPoseConfig,
    AicConfig,
    OcHumanConfig,
    MhpConfig,
    MpiiConfig,
    MpiiTrbConfig,
    InterHandConfig,
    FreiHandConfig,
    OneHand10KConfig,
    RhdConfig,
    PanopticHandConfig,
    LspConfig,
    LspExtendedConfig,
    DeepLabCutConfig,
    DeepPoseKitConfig,
    CmuMocapConfig,
    Human36mConfig,
    H36mConfig,
    MpiInf3dhpConfig,
    H3wbConfig,
]
WRITERS: list[type[WriterConfig]] = [CocoWriterConfig, CsvWriterConfig]
