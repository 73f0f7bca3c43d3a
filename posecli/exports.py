"""Files beside the results: what an algorithm writes of each picture beyond keypoints, such as meshes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from posecli.files import write_bytes
from posecli.sources import Frame, Source
from posecli.types import Prediction

MakeFiles = Callable[[Prediction], Mapping[str, bytes]]
"""From a prediction to files by suffix; see `Algorithm.files`."""


class Exports:
    """Writes the files of pictures as they come, under the pictures' names. Frames of videos have none."""

    def __init__(self, sources: Sequence[Source], folder: Path, make: MakeFiles) -> None:
        """Stems that several of the sources share are numbered."""
        self.make = make
        self.stems: dict[Source, Path] = {}
        taken: set[str] = set()
        for source in sources:
            if source.kind == "picture":
                self.stems[source] = folder / _free_stem(Path(source.name).stem, taken)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write what there is of a frame. Raises RunFailed when the disk is full."""
        stem = self.stems.get(frame.source)
        if stem is None:
            return
        for suffix, content in self.make(prediction).items():
            write_bytes(stem.with_name(stem.name + suffix), content)


def _free_stem(stem: str, taken: set[str]) -> str:
    number = 1
    while (candidate := f"{stem}{f'-{number}' if number > 1 else ''}").lower() in taken:  # some systems take A for a
        number += 1
    taken.add(candidate.lower())
    return candidate
