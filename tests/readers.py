"""Processes that read pictures, for tests; a module of its own, which processes that are spawned can import."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from posecli.images import read_image
from posecli.types import ImageArray


def send_pixels(sources: list[Any], connection: Connection) -> None:
    """In a process of its own."""
    connection.send([read_image(source) for source in sources])
    connection.close()


class Readers:
    """Processes that read pictures, a list of them each."""

    def __init__(self, way: str, lists: list[list[Any]]) -> None:
        context = multiprocessing.get_context(way)
        self.ends: list[Connection] = []
        self.processes = []
        for sources in lists:
            own, child = context.Pipe(duplex=False)
            process = context.Process(target=send_pixels, args=(sources, child), daemon=True)
            process.start()
            child.close()
            self.ends.append(own)
            self.processes.append(process)

    def told(self) -> list[list[ImageArray]]:
        """What each has read; none of them may take minutes."""
        assert all(end.poll(120) for end in self.ends)
        read = [end.recv() for end in self.ends]
        for process, end in zip(self.processes, self.ends, strict=True):
            process.join(30)
            end.close()
        return read
