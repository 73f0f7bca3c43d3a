"""The datasets of body meshes, by name. Imports no torch, no numpy, no cv2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.config import DatasetConfig, Positive, Size
from posecli.datasets.config import StoredDatasetConfig

if TYPE_CHECKING:
    from posecli.types import Dataset


class SyntheticBodiesConfig(DatasetConfig):
    """Bodies drawn by code, with their exact 3D keypoints, shape and pose; nothing to download."""

    name: ClassVar[str] = "synthetic-bodies"
    count: Positive = Field(2000, description="pictures")
    seed: int = Field(0, ge=0, description="another seed, other bodies and postures; train and val must differ")
    size: Size = Field((160, 160), description="width and height of a picture in pixels")
    turned: float = Field(90.0, ge=0, le=180, description="degrees at most that a body is turned from the camera")
    body: Literal["capsules", "smpl", "anny"] = Field(
        "capsules", description="what is drawn: the built-in body, the SMPL file that was set, or the package anny"
    )
    backdrop: Literal["clutter", "studio"] = Field("clutter", description="what is behind: anything, or an even wall")

    def build(self) -> Dataset:
        from posecli_mesh.scenes import synthetic_bodies

        return synthetic_bodies(self.count, self.seed, self.size, self.turned, self.body, self.backdrop)


class SmplNpzConfig(StoredDatasetConfig):
    """SMPL's parameters with pictures, an .npz with imgname, center, scale, part, and S, pose and shape if known."""

    name: ClassVar[str] = "smpl-npz"
    images: Path | None = Field(None, description="folder of the pictures; looked for beside the file by default")

    def read(self) -> Dataset:
        from posecli_mesh.parameters import smpl_npz_dataset

        return smpl_npz_dataset(self.path, self.images)


DATASETS: list[type[DatasetConfig]] = [SyntheticBodiesConfig, SmplNpzConfig]
