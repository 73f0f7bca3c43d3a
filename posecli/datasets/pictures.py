"""Where pictures lie, which samples they are of and how large they are, without decoding them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from posecli.console import PosecliError
from posecli.transforms import NO_PIXELS
from posecli.types import Dataset, ImageArray, ImageSource, IntArray, Made, SampleId

Named = TypeVar("Named")

TRIED = 50  # pictures that are looked for to find their folder
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap width and height


class PicturePaths(Made[ImageSource]):
    """Paths in one folder, packed: loader workers share the names without a Python object for each.

    An empty name stands for a frame of motion without a picture.
    """

    def __init__(self, folder: Path, names: Sequence[str] | NDArray[np.str_]) -> None:
        self.folder = folder
        self.names = np.array(names, dtype=np.str_)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Where a picture is, or would be."""
        return self.folder / str(self.names[index])

    def item(self, index: int) -> Path | ImageArray:
        return self.path(index) if self.names[index] else NO_PIXELS


class NoPictures(Made[ImageSource]):
    """The pictures of motion that nobody filmed: empty arrays."""

    def __init__(self, count: int) -> None:
        self.length = count

    def __len__(self) -> int:
        return self.length

    def item(self, index: int) -> ImageArray:
        return NO_PIXELS


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height as `read_image` gives them, from the header alone; None when it is missing or unreadable."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # asking a PNG without EXIF for it would decode the whole picture
            sideways = "exif" in picture.info and picture.getexif().get(0x0112, 1) in _SIDEWAYS
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
        return None
    return (height, width) if sideways else (width, height)


def picture_sizes(paths: Sequence[Path]) -> tuple[IntArray, list[int]]:
    """Sizes (N, 2) as width, height, and the indices of the pictures that cannot be read, whose size is 0, 0."""
    sizes = [picture_size(path) for path in paths]
    unreadable = [index for index, size in enumerate(sizes) if size is None]
    return np.array([size or (0, 0) for size in sizes], dtype=np.int64).reshape(-1, 2), unreadable


def find_pictures(
    annotations: Path, names: str | Sequence[str], images: Path | None, places: Sequence[Path] = ()
) -> Path:
    """The folder in which the pictures of these names, or at least some of them, lie.

    `images` when it is given; else of `places`, the annotation file's folder and the usual ones near it, the one that
    holds the first picture that is anywhere. A few dozen names are tried, the first of all before the others.
    Raises PosecliError that says where was looked.
    """
    if images is not None:
        if not images.is_dir():
            raise PosecliError(f"the folder of pictures {images} does not exist; give another with images")
        return images
    tried = [names] if isinstance(names, str) else names[:: max(1, len(names) // TRIED)]
    places = [*places, *_usual_places(annotations)]
    for name in tried:
        for place in places:
            if name and (place / name).is_file():
                return place
    link = next((place / name for name in tried for place in places if name and (place / name).is_symlink()), None)
    if link is not None:
        raise PosecliError(
            f"{annotations}: the picture {link} is a link to {os.readlink(link)}, which is not there from here: it was "
            "moved; convert the data again, or with --copy, which makes no links"
        )
    looked = ", ".join(str(place) for place in places if place.is_dir())
    others = f" (nor are {len(tried) - 1} others)" if len(tried) > 1 else ""
    raise PosecliError(
        f"{annotations}: the picture {tried[0]} is in none of {looked}{others}; name the folder with "
        "--set data.train.images=FOLDER or data.val.images=FOLDER (convert: --set images=FOLDER)"
    )


def _usual_places(annotations: Path) -> list[Path]:
    """Folders where pictures of an annotation file often are, e.g. annotations/x_val2017.json and val2017/."""
    folder = annotations.parent
    stem = annotations.stem.rpartition("_")[2]
    near = [folder, folder / "images", folder / stem, folder / "images" / stem]
    above = [folder.parent / "images", folder.parent / stem, folder.parent / "images" / stem, folder.parent]
    return [*near, *above]


def samples_of_pictures(names: Sequence[SampleId], samples: Dataset) -> dict[SampleId, SampleId]:
    """The ids of the samples whose pictures these names are, paths or bare file names; others are not there.

    Of several with the same file name the one is meant that shares most folders with the sample's path, counted from
    the name on; where two share as many, neither is.
    """
    paths = {
        sample: image for sample, image in zip(samples.ids, samples.images, strict=True) if isinstance(image, Path)
    }
    named: dict[str, list[SampleId]] = {}
    for sample, path in paths.items():
        named.setdefault(path.name, []).append(sample)
    claims: dict[SampleId, list[tuple[int, SampleId]]] = {}  # who may be meant: shared parts, and by which name
    for name in names:
        own = Path(str(name))
        shared = [(_shared_parts(paths[sample], own), sample) for sample in named.get(own.name, [])]
        if most := _only_largest(shared):
            claims.setdefault(most[1], []).append((most[0], name))
    winners = ((_only_largest(claimed), sample) for sample, claimed in claims.items())
    return {winner[1]: sample for winner, sample in winners if winner is not None}


def _shared_parts(first: Path, second: Path) -> int:
    """How many parts of two paths agree, from the file name on."""
    pairs = zip(reversed(first.parts), reversed(second.parts), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _only_largest(counted: Sequence[tuple[int, Named]]) -> tuple[int, Named] | None:
    """The one with the largest count; None where there is none, or several."""
    largest = max((count for count, _ in counted), default=0)
    found = [pair for pair in counted if pair[0] == largest]
    return found[0] if len(found) == 1 else None
