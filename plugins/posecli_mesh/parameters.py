"""Body parameters as the usual preparations of SMPL's datasets store them: an .npz with pose, shape and keypoints.

`imgname` (N,), `center` (N, 2) and `scale` (N,) of a square of 200 `scale` pixels, `part` (N, 24, 3) x, y, visible in
pixels; where they are known `S` (N, 24, 4) x, y, z, visible in metres in the camera frame, `pose` (N, 72) axes times
angles and `shape` (N, 10), all of them finite, and `gender` (N,), whose body the shape is of: m, f, male, female or
neutral. The keypoints are those of `body24` (Kolotouros et al., ICCV 2019, prepared them so).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posecli.console import PosecliError, listed
from posecli.datasets.pictures import PicturePaths, find_pictures, picture_sizes
from posecli.interop.unpickle import load_npz
from posecli.skeleton import house_skeleton
from posecli.types import Array, BoolArray, Dataset, IntArray, People, SampleId
from posecli_mesh.bodies import BODIES, BONES, GENDER_NUMBERS
from posecli_mesh.rotations import from_axis_angle

PIXELS = 200.0  # that a scale of 1 stands for
TEXTS = ("imgname", "gender")
PADDING = 1.25  # by which a crop is larger than the box, so that it is the square that the file tells
FILM = re.compile(r"(S\d+)_(.+\.\d+)_\d+\.\w+")  # Human3.6M's pictures, which lie in S1/S1_Directions_1.54138969/


def smpl_npz_dataset(path: Path, images: Path | None = None) -> Dataset:
    """The people of an annotation file, one a picture; ids are the pictures' names, numbered where one comes again.

    Boxes are such that a crop with a padding of 1.25 is the file's square. Pictures that cannot be read are left out.
    Raises PosecliError for what is missing, of another shape, or no number.
    """
    arrays = load_npz(path)
    count = _check(path, arrays)
    names = np.array([str(name) for name in arrays["imgname"].tolist()], dtype=np.str_)
    paths = _pictures(path, names, images)
    sizes, unreadable = picture_sizes([paths.path(index) for index in range(len(paths))])
    kept = np.setdiff1d(np.arange(count), unreadable)
    if not len(kept):
        raise PosecliError(f"{path}: none of the {count} pictures can be read, the first is {paths.path(0)}")
    extra = _bodies(arrays)
    sides = np.repeat(np.asarray(arrays["scale"], dtype=np.float64)[:, None] * PIXELS / PADDING, 2, axis=1)
    boxes = np.concatenate([arrays["center"] - sides / 2, arrays["center"] + sides / 2], axis=1)
    extra |= {"area": (sides[:, 0] * sides[:, 1]).astype(np.float32), "crowd": np.zeros(count, dtype=bool)}
    pixels, known = arrays["part"][..., :2], arrays["part"][..., 2] > 0
    people = People(
        np.where(known[..., None], pixels, np.nan).astype(np.float32),
        np.where(known, 2, 0).astype(np.float32),
        boxes.astype(np.float32),
        extra=extra,
    )
    lost = count - len(kept)
    return Dataset(
        name=path.stem,
        skeleton=house_skeleton("body24"),
        ids=_ids([str(names[row]) for row in kept]),
        sizes=sizes[kept],
        offsets=np.arange(len(kept) + 1),
        people=people[kept],
        images=PicturePaths(paths.folder, paths.names[kept]),
        notes=(f"{lost} pictures cannot be read and are left out",) if lost else (),
    )


def _check(path: Path, arrays: dict[str, Array]) -> int:
    """How many people are in the file."""
    shapes: dict[str, tuple[int, ...]] = {"imgname": (), "center": (2,), "scale": (), "part": (24, 3)}
    optional: dict[str, tuple[int, ...]] = {"S": (24, 4), "pose": (3 * len(BONES),), "shape": (10,), "gender": ()}
    missing = [name for name in shapes if name not in arrays]
    if missing:
        raise PosecliError(f"{path} holds no {' and no '.join(missing)}: it is no file of SMPL annotations")
    count = len(arrays["imgname"])
    for name, shape in (shapes | optional).items():
        if name in arrays and arrays[name].shape != (count, *shape):
            raise PosecliError(f"{path}: `{name}` has shape {arrays[name].shape}, {(count, *shape)} is right")
        if name in arrays and name not in TEXTS and arrays[name].dtype.kind not in "fiub":
            raise PosecliError(f"{path}: `{name}` holds {arrays[name].dtype}, numbers are needed")
    if not count:
        raise PosecliError(f"{path} holds nobody")
    for name in ("center", "scale", "pose", "shape"):
        if name in arrays:
            finite = np.isfinite(arrays[name].reshape(count, -1)).all(axis=1)
            _refuse(path, arrays, np.asarray(~finite), f"`{name}` is not finite")
    _refuse(path, arrays, np.asarray(arrays["scale"] <= 0), "`scale` is not above 0")
    _refuse(path, arrays, _genders(arrays) < 0, "`gender` is not m, f, male, female or neutral")
    return count


def _refuse(path: Path, arrays: dict[str, Array], bad: BoolArray, what: str) -> None:
    """Raises PosecliError with the number of bad rows (N,) and the first pictures, where there are any."""
    if bad.any():
        names = [str(name) for name in arrays["imgname"][bad].tolist()]
        raise PosecliError(
            f"{path}: {what} for {len(names)} of {len(bad)} people ({listed(names)}): correct or remove them"
        )


def _bodies(arrays: dict[str, Array]) -> dict[str, Array]:
    """The columns in 3D, NaN where a file has none."""
    count = len(arrays["imgname"])
    points = np.full((count, 24, 3), np.nan)
    if "S" in arrays:
        points = np.where(arrays["S"][..., 3:] > 0, arrays["S"][..., :3] * 1000, np.nan)
    has_body = "pose" in arrays and "shape" in arrays
    pose = arrays["pose"] if has_body else np.full((count, 3 * len(BONES)), np.nan)
    shape = arrays["shape"] if has_body else np.full((count, 10), np.nan)
    rotations = from_axis_angle(torch.from_numpy(pose.astype(np.float32)).view(count, -1, 3)).numpy()
    return {
        "keypoints_3d": points.astype(np.float32),
        "rotations": rotations,
        "shape": shape.astype(np.float32),
        "has_body": np.full(count, has_body, np.float32),
        "body": np.full(count, BODIES.index("smpl")),
        "gender": _genders(arrays),
    }


def _genders(arrays: dict[str, Array]) -> IntArray:
    """Numbers in GENDER_NUMBERS (N,), -1 for a word that is none; neutral where the file says nothing."""
    if "gender" not in arrays:
        return np.zeros(len(arrays["imgname"]), np.int64)
    words = [word.decode("latin-1") if isinstance(word, bytes) else str(word) for word in arrays["gender"].tolist()]
    numbers = {"": GENDER_NUMBERS.index("neutral")}
    for number, gender in enumerate(GENDER_NUMBERS):
        numbers |= {gender: number, gender[0]: number}
    return np.array([numbers.get(word.strip().lower(), -1) for word in words], np.int64)


def _pictures(path: Path, names: NDArray[np.str_], images: Path | None) -> PicturePaths:
    """Where the pictures lie: under their names, or in the folders of Human3.6M's films."""
    first = str(names[0])
    filed = np.array([_in_film(str(name)) for name in names], dtype=np.str_)
    for way in (names, filed):
        folder = path.parent if images is None else images
        if (folder / str(way[0])).is_file():
            return PicturePaths(folder, way)
    return PicturePaths(find_pictures(path, first, images), names)


def _in_film(name: str) -> str:
    match = FILM.fullmatch(name)
    return name if match is None else f"{match[1]}/{match[1]}_{match[2]}/{name}"


def _ids(names: list[str]) -> list[SampleId]:
    times: dict[str, int] = {}
    ids: list[SampleId] = []
    for name in names:
        times[name] = times.get(name, 0) + 1
        ids.append(name if times[name] == 1 else f"{name}/{times[name]}")
    return ids
