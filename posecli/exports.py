"""Files beside the results: what an algorithm writes of each picture beyond keypoints, such as meshes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from posecli.files import write_bytes
from posecli.sources import Frame, Source, output_stems
from posecli.types import Prediction

MakeFiles = Callable[[Prediction], Mapping[str, bytes]]
"""From a prediction to files by suffix; see `Algorithm.files`."""


class Exports:
    """Writes the files of pictures as they come, under the pictures' names. Frames of videos have none."""

    def __init__(self, sources: Sequence[Source], folder: Path, make: MakeFiles) -> None:
        """The stems are those of the overlays."""
        self.make = make
        stems = output_stems(sources).items()
        self.stems = {source: folder / stem for source, stem in stems if source.kind == "picture"}

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write what there is of a frame. Raises RunFailed when the disk is full."""
        stem = self.stems.get(frame.source)
        if stem is None:
            return
        for suffix, content in self.make(prediction).items():
            write_bytes(stem.with_name(stem.name + suffix), content)
