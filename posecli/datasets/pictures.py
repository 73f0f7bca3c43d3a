"""Where pictures lie and how large they are, without decoding them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posecli.console import PosecliError
from posecli.transforms import NO_PIXELS
from posecli.types import ImageArray, ImageSource, IntArray, Made

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
