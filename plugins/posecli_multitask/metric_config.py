"""Metrics of models with several heads, by name. Imports no torch, no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from posecli.config import MetricConfig, parse_metric

if TYPE_CHECKING:
    from posecli.metrics.metric import Metric
    from posecli.skeleton import Skeleton


class AccuracyConfig(MetricConfig):
    """The share of people whose class is found: accuracy@HEAD, or accuracy@HEAD:COLUMN where their names differ."""

    name: ClassVar[str] = "accuracy"
    head: str = Field(description="the head that tells the class")
    column: str | None = Field(None, description="the dataset's column with the true class; named like the head")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if value is None:
            raise ValueError("say of which head, as in accuracy@facing")
        return cls(head=value, column=option)

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli_multitask.metrics import Accuracy

        return Accuracy(self.head, self.column or self.head)


class HeadConfig(MetricConfig):
    """Any metric of the keypoints that another head finds: head@HEAD:METRIC, as in head@coordinates:pck@0.05."""

    name: ClassVar[str] = "head"
    head: str = Field(description="the head that finds the keypoints")
    metric: str = Field(description="the metric, as NAME@VALUE:OPTION")

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        if value is None or option is None:
            raise ValueError("say of which head and which metric, as in head@coordinates:pck")
        return cls(head=value, metric=option)

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli_multitask.metrics import OfHead

        return OfHead(self.head, parse_metric(self.metric).build(skeleton))
