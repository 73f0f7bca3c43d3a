"""The metrics of body meshes, by name. Imports no torch, no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from posecli.config import MetricConfig

if TYPE_CHECKING:
    from posecli.metrics.metric import Metric
    from posecli.skeleton import Skeleton

Name = Literal["capsules", "smpl", "anny"]


class VertexErrorConfig(MetricConfig):
    """The mean distance of a body's vertices in mm, relative to the hips; `pve:smpl` says whose shapes are scored."""

    name: ClassVar[str] = "pve"
    body: Name | None = Field(None, description="capsules, smpl or anny; by default the one that the data names")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if value is not None:
            raise ValueError("pve takes no number")
        if option is None or option == "capsules" or option == "smpl" or option == "anny":
            return cls(body=option)
        raise ValueError(f"pve: no body named {option!r}; known are capsules, smpl and anny")

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli_mesh.metrics import VertexError

        return VertexError(self.body, skeleton)


class ScoredJointsConfig(MetricConfig):
    """MPJPE over the fourteen joints that SMPL's datasets are scored on, relative to the middle of the hips."""

    name: ClassVar[str] = "mpjpe-14"
    procrustes: ClassVar[bool] = False

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli_mesh.metrics import ScoredJoints

        return ScoredJoints(skeleton, self.procrustes)


class AlignedScoredJointsConfig(ScoredJointsConfig):
    """The same after each pose is moved, scaled and turned to fit."""

    name: ClassVar[str] = "p-mpjpe-14"
    procrustes: ClassVar[bool] = True


METRICS: list[type[MetricConfig]] = [VertexErrorConfig, ScoredJointsConfig, AlignedScoredJointsConfig]
