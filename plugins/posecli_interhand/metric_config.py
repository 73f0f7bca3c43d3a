"""The metric of pairs of hands, by name. Imports no torch, no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from posecli.config import MetricConfig

if TYPE_CHECKING:
    from posecli.metrics.metric import Metric
    from posecli.skeleton import Skeleton


class InterHandMetricConfig(MetricConfig):
    """Pairs of hands as InterHand2.6M scores them: MPJPE of all, single and interacting hands, MRRPE, handedness."""

    name: ClassVar[str] = "interhand"

    def build(self, skeleton: Skeleton) -> Metric:
        from posecli_interhand.metric import InterHandMetric

        return InterHandMetric(skeleton)
