"""The metrics that ship with posecli. Imports no torch, no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from posecli.config import MetricConfig, Positive
from posecli.console import PosecliError

if TYPE_CHECKING:
    from posecli.metrics.metric import Metric
    from posecli.metrics.mpjpe import Comparison
    from posecli.skeleton import Skeleton

Alignment = Literal["none", "scale", "procrustes"]
"""`none`: as predicted; `scale`: by the best factor; `procrustes`: moved, scaled and turned, but never mirrored."""


class ApConfig(MetricConfig):
    """AP and AR by object keypoint similarity, as COCO scores; `ap@0.5` for one threshold.

    Options, joined by commas: `box` (area = 0.53 × box, where the annotated area is not to be used), `crowd` (that,
    and AP of easy, medium and hard pictures, as CrowdPose scores) and sigmas: one number for all keypoints, or one
    for each.
    """

    name: ClassVar[str] = "ap"
    threshold: float | None = Field(None, gt=0, lt=1, description="one OKS threshold instead of .50:.05:.95")
    box_area: bool = Field(False, description="take 0.53 × box for the area, also where the data annotates areas")
    sigmas: tuple[float, ...] | None = Field(None, description="instead of the dataset's own: one for all, or K")
    crowd: bool = Field(False, description="score as CrowdPose does: area 0.53 × box; easy, medium and hard apart")
    levels: tuple[float, float] = Field(
        (0.2, 0.8),
        description="crowd index from which pictures are medium, hard; the paper says 0.1, 0.8",
    )

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        words = [] if option is None else [word.strip() for word in option.split(",")]
        sigmas = tuple(_number(word, "sigma") for word in words if word not in ("box", "crowd"))
        return cls(
            threshold=None if value is None else _number(value, "threshold"),
            box_area="box" in words,
            crowd="crowd" in words,
            sigmas=sigmas or None,
        )

    def build(self, skeleton: Skeleton) -> Metric:
        import numpy as np

        from posecli.metrics.oks import Ap

        given = self.sigmas
        sigmas = skeleton.sigmas if given is None else given * len(skeleton) if len(given) == 1 else given
        if sigmas is None:
            raise PosecliError(
                f"ap needs the OKS sigmas of skeleton {skeleton.name!r}, which has none: give them in the annotation "
                f"file's category as `sigmas`, in <annotations>.skeleton.yaml beside it, or as --metric ap:0.05 "
                f"(one for all keypoints, or {len(skeleton)} joined by commas)"
            )
        if len(sigmas) != len(skeleton) or not all(sigma > 0 for sigma in sigmas):
            raise PosecliError(
                f"ap: {len(sigmas)} sigmas {sigmas} for the {len(skeleton)} keypoints of skeleton {skeleton.name!r}: "
                f"give one for all or one for each, all above 0"
            )
        source = f"sigmas of skeleton {skeleton.name!r}" if given is None else "sigmas as given"
        levels = self.levels if self.crowd else None
        return Ap(
            skeleton, np.array(sigmas, dtype=np.float64), source, self.threshold, self.box_area or self.crowd, levels
        )


class PckConfig(MetricConfig):
    """The share of keypoints nearer than a fraction of a length: `pck@0.05:bbox`, `:torso`, `:head`, `:a,b`.

    `a,b` is the distance of two keypoints, named or numbered.
    """

    name: ClassVar[str] = "pck"
    threshold: float = Field(0.05, gt=0, description="fraction of the length")
    by: str = Field("bbox", description="bbox (longer side), torso (left shoulder to right hip), head, or a,b")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        return cls(threshold=0.05 if value is None else _number(value, "threshold"), by=option or "bbox")

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.normalizers import find_normalizer
        from posecli.metrics.pck import Pck

        return Pck(skeleton, self.threshold, find_normalizer(self.by, skeleton))


class PckhConfig(MetricConfig):
    """MPII's score: the share of all joints but pelvis and thorax within a fraction of the head size, `pckh@0.5`."""

    name: ClassVar[str] = "pckh"
    threshold: float = Field(0.5, gt=0, description="fraction of the head size, the data's column `head_size`")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if option is not None:
            raise ValueError("pckh divides by the head size alone; for another length write pck as in pck@0.2:torso")
        return cls(threshold=0.5 if value is None else _number(value, "threshold"))

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.pckh import Pckh

        return Pckh(skeleton, self.threshold)


class AucConfig(MetricConfig):
    """The area under the PCK curve: `auc@30:20` for 20 thresholds up to 30 pixels."""

    name: ClassVar[str] = "auc"
    pixels: float = Field(30.0, gt=0, description="the end of the curve in pixels")
    steps: Positive = Field(20, description="thresholds, from 0 on, the end left out")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if option is not None and not option.isdigit():
            raise ValueError(f"the number of thresholds must be a whole number, got {option!r}")
        return cls(
            pixels=30.0 if value is None else _number(value, "length in pixels"),
            steps=20 if option is None else int(option),
        )

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.auc import Auc

        return Auc(skeleton, self.pixels, self.steps)


class EpeConfig(MetricConfig):
    """The mean and median keypoint error in pixels, or millimetres for 3D data."""

    name: ClassVar[str] = "epe"

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.epe import Epe

        return Epe(skeleton)


class NmeConfig(MetricConfig):
    """The mean keypoint error divided by a length: `nme:left_eye,right_eye`, `nme:36,45`, `nme:bbox`.

    `nme:box_size` is AFLW's.
    """

    name: ClassVar[str] = "nme"
    by: str = Field("bbox", description="two keypoints as a,b (names or indices), bbox, torso, head or box_size")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if value is not None:
            raise ValueError("nme has no threshold; write what to divide by as in nme:left_eye,right_eye")
        return cls(by=option or "bbox")

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.nme import Nme
        from posecli.metrics.normalizers import find_normalizer

        return Nme(skeleton, find_normalizer(self.by, skeleton))


class MpjpeConfig(MetricConfig):
    """The mean error of 3D poses in mm, relative to the root: `mpjpe`; `mpjpe:none` in the camera frame.

    `mpjpe:a` and `mpjpe:a,b` measure from another keypoint, or from between two; named or numbered.
    """

    name: ClassVar[str] = "mpjpe"
    alignment: ClassVar[Alignment] = "none"
    origin: str | None = Field(None, description="what both poses are measured from: none (the camera), a, or a,b")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if value is not None:
            raise ValueError(f"{cls.name} has no threshold; write what is measured from as in {cls.name}:pelvis")
        return cls(origin=option)

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.mpjpe import Comparison, Mpjpe, find_origin

        return Mpjpe(skeleton, Comparison(self.alignment, find_origin(self.origin, skeleton)))


class ScaledMpjpeConfig(MpjpeConfig):
    """MPJPE after the best scale for each pose, about the root or what is given as for mpjpe."""

    name: ClassVar[str] = "n-mpjpe"
    alignment: ClassVar[Alignment] = "scale"


class ProcrustesMpjpeConfig(MetricConfig):
    """MPJPE after each pose is moved, scaled and turned to fit: P-MPJPE, also called PA-MPJPE."""

    name: ClassVar[str] = "p-mpjpe"

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.mpjpe import Comparison, Mpjpe

        return Mpjpe(skeleton, Comparison("procrustes"))


class AlignedMpjpeConfig(ProcrustesMpjpeConfig):
    """The same as p-mpjpe, under its other name."""

    name: ClassVar[str] = "pa-mpjpe"


class Pck3dConfig(MetricConfig):
    """The share of 3D keypoints nearer than some mm: `3dpck@150`; `3dpck:scale`, `3dpck:procrustes` after alignment.

    Poses are measured from the root, or as given for mpjpe: `3dpck:none`, `3dpck:a`, `3dpck:a,b`.
    """

    name: ClassVar[str] = "3dpck"
    millimetres: float = Field(150.0, gt=0, description="the threshold; for 3dauc the end of the curve")
    alignment: Alignment = Field("none", description="none, scale or procrustes")
    origin: str | None = Field(None, description="what both poses are measured from: none (the camera), a, or a,b")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        millimetres = 150.0 if value is None else _number(value, "length in millimetres")
        if option == "scale" or option == "procrustes":
            return cls(millimetres=millimetres, alignment=option)
        return cls(millimetres=millimetres, origin=option)

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.mpjpe import Pck3d

        return Pck3d(skeleton, self.comparison(skeleton), self.millimetres)

    def comparison(self, skeleton: Skeleton) -> Comparison:
        """What is compared; a pose that is moved to fit needs no origin."""
        from posecli.metrics.mpjpe import Comparison, find_origin

        return Comparison(self.alignment, () if self.alignment == "procrustes" else find_origin(self.origin, skeleton))


class Auc3dConfig(Pck3dConfig):
    """The mean of 3DPCK over 31 thresholds from 0 to some mm: `3dauc@150`; options as for 3dpck."""

    name: ClassVar[str] = "3dauc"

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli.metrics.mpjpe import Auc3d

        return Auc3d(skeleton, self.comparison(skeleton), self.millimetres)


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"the {what} must be a number, got {text!r}") from None


METRICS: list[type[MetricConfig]] = [
    ApConfig,
    PckConfig,
    PckhConfig,
    AucConfig,
    EpeConfig,
    NmeConfig,
    MpjpeConfig,
    ScaledMpjpeConfig,
    ProcrustesMpjpeConfig,
    AlignedMpjpeConfig,
    Pck3dConfig,
    Auc3dConfig,
]
