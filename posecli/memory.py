"""How this process holds on to memory. Imports nothing heavy: it is called before torch is."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT_BYTES = 1 << 30
MAPPED_BYTES = 32 << 20  # the most that glibc allows


def keep_freed_memory() -> None:
    """Tell glibc not to return memory that will be asked for again a moment later.

    A training step frees its activations, a loader its picture, and the next one needs as much: filling fresh pages
    costs a tenth of a small network's step, and a loader as much as the warp. Up to a gigabyte stays, never more than
    was in use at once. Other C libraries are left as they are.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if adjust is not None:
        adjust(_MMAP_THRESHOLD, MAPPED_BYTES)
        adjust(_TRIM_THRESHOLD, KEPT_BYTES)
