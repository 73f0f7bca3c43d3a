"""The backbones that ship with posecli. Imports no torch."""

from __future__ import annotations

from posecli.config import BackboneConfig

BACKBONES: list[type[BackboneConfig]] = []
