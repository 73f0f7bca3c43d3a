"""The metrics that ship with posecli. Imports no torch, no numpy."""

from __future__ import annotations

from posecli.config import MetricConfig

METRICS: list[type[MetricConfig]] = []
