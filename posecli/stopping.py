"""Ctrl-C and SIGTERM, so that a run stops where it can go on from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from posecli.console import STOPPED, PosecliError


class Stopped(PosecliError):
    """The user stopped the run; everything is saved."""

    exit_code = STOPPED


class StopRequest:
    """Ctrl-C and SIGTERM, noted instead of obeyed: the loop stops where it can go on from. The second one stops."""

    def __init__(self) -> None:
        self.requested = False
        self._immediate = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            # a signal that whoever started us lets us ignore stays ignored
            self._former = {number: handler for number, handler in former.items() if handler != signal.SIG_IGN}
        for number in self._former:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    @contextmanager
    def at_once(self, wanted: bool = True) -> Iterator[None]:
        """Within the block a request interrupts."""
        if wanted and self.requested:
            raise KeyboardInterrupt
        self._immediate = wanted
        try:
            yield
        finally:
            self._immediate = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested or self._immediate:
            raise KeyboardInterrupt
        self.requested = True
