"""Leeds Sports Pose (LSP, 2,000 pictures) and its extension (LSPET, 10,000): joints.mat and images/.

Johnson & Everingham, BMVC 2010 and CVPR 2011. LSP stores (3, 14, N) with a third row that is 1 for occluded joints;
LSPET stores (14, 3, N) with a third row that is 0 for joints nobody labelled, whose coordinates mean nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.matlab import read_matlab
from posecli.datasets.pictures import picture_sizes
from posecli.geometry import box_areas, keypoint_boxes
from posecli.skeleton import house_skeleton
from posecli.types import Array, Dataset, FloatArray, People

_NUMBERED = re.compile(r"im0*(\d+)\.(?:jpg|jpeg|png)", re.IGNORECASE)


def lsp_dataset(path: Path) -> Dataset:
    """The pictures of a folder with joints.mat and images/im00001.jpg …; ids are the pictures' numbers.

    Boxes are tight around the labelled joints. Raises PosecliError naming what is missing.
    """
    joints, layout = _read_joints(path)
    pictures = _numbered_pictures(path)
    numbers = [number for number in sorted(pictures) if number <= len(joints)]
    sizes, unreadable = picture_sizes([pictures[number] for number in numbers])
    bad = {numbers[index] for index in unreadable}
    kept = [index for index, number in enumerate(numbers) if number not in bad]
    numbers = [numbers[index] for index in kept]
    if not numbers:
        raise PosecliError(f"{path}: none of the {len(joints)} annotated pictures is readable in images/")
    rows = joints[np.array(numbers) - 1]  # (N, 14, 3)
    boxes = keypoint_boxes(rows[..., :2]).astype(np.float64)
    extra: dict[str, Array] = {"area": box_areas(boxes), "crowd": np.zeros(len(rows), dtype=bool)}
    notes = [layout, *_left_out(len(joints), len(rows), len(bad))]
    return Dataset(
        name=path.resolve().name,
        skeleton=house_skeleton("lsp"),
        ids=numbers,
        sizes=sizes[kept],
        offsets=np.arange(len(rows) + 1),
        people=People(rows[..., :2].astype(np.float32), rows[..., 2].astype(np.float32), boxes, None, extra),
        images=[pictures[number] for number in numbers],
        notes=tuple(notes),
    )


def _left_out(annotated: int, read: int, unreadable: int) -> list[str]:
    missing = annotated - read - unreadable
    notes = [f"{missing} annotated pictures are not in images/ and are left out"] if missing else []
    return notes + ([f"{unreadable} pictures cannot be read and are left out"] if unreadable else [])


def _read_joints(path: Path) -> tuple[FloatArray, str]:
    """Joints (N, 14, 3) as x, y, visibility with NaN where not labelled, and a sentence about the layout."""
    file = path / "joints.mat" if path.is_dir() else path
    if not file.is_file():
        raise PosecliError(f"no joints.mat in {path}: give the folder of LSP or LSPET that holds it and images/")
    found = np.asarray(read_matlab(file, ["joints"]).get("joints"))
    if not np.issubdtype(found.dtype, np.number):
        raise PosecliError(f"{file} holds no matrix named joints")
    stored = found.astype(np.float64)
    if stored.ndim == 3 and stored.shape[:2] == (14, 3):
        return _extended(stored.transpose(2, 0, 1)), "read as LSPET: joints with 0 in the third row are not labelled"
    if stored.ndim == 3 and stored.shape[:2] == (3, 14):
        return _original(stored.transpose(2, 1, 0)), "read as LSP: joints with 1 in the third row are occluded"
    raise PosecliError(f"{file}: joints has shape {stored.shape}; LSPET has (14, 3, N), LSP has (3, 14, N)")


def _extended(joints: FloatArray) -> FloatArray:
    labelled = joints[..., 2:] > 0
    return np.concatenate([np.where(labelled, joints[..., :2], np.nan), np.where(labelled, 2.0, 0.0)], axis=-1)


def _original(joints: FloatArray) -> FloatArray:
    return np.concatenate([joints[..., :2], np.where(joints[..., 2:] > 0, 1.0, 2.0)], axis=-1)


def _numbered_pictures(path: Path) -> dict[int, Path]:
    """The pictures by number: im00012.jpg is 12."""
    folder = (path if path.is_dir() else path.parent) / "images"
    if not folder.is_dir():
        raise PosecliError(f"no folder {folder}: the pictures im00001.jpg … are looked for there")
    matches = ((_NUMBERED.fullmatch(file.name), file) for file in folder.iterdir())
    return {int(match[1]): file for match, file in matches if match}
