"""Annotations of filmed motion as the usual preparations of Human3.6M and MPI-INF-3DHP store them.

An .npz with `imgname` (N,), `part` (N, K, 3) x, y, visible in image pixels and `S` (N, K, 4) x, y, z, visible in the
camera frame; beside it a pickle of cameras, a dictionary of dictionaries with R (3, 3), T (3, 1), f (2, 1), c (2, 1),
k (3, 1), p (2, 1), w and h.
"""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.camera import project
from posecli.console import PosecliError, few
from posecli.datasets.lengths import millimetres
from posecli.datasets.motion import Clip
from posecli.interop.unpickle import load_npy, load_npz, load_pickle, record_names
from posecli.transforms import NO_PIXELS
from posecli.types import Array, Camera, FloatArray, IntArray

LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # of a camera that looks along world y
TRIED = 50  # pictures that are looked for to find their folder
FAR = 20.0  # pixels between 2D keypoints and projected 3D ones that are worth a word


@dataclass(frozen=True)
class BodyFile:
    """The columns of an annotation file."""

    path: Path
    names: tuple[str, ...]  # (N,) of the pictures
    pixels: FloatArray  # (N, K, 2), NaN = unknown
    scores: FloatArray  # (N, K): 2 known, 0 unknown
    points: FloatArray  # (N, K, 3) camera millimetres, NaN = unknown
    notes: tuple[str, ...]

    def take(self, rows: IntArray) -> BodyFile:
        """Some rows."""
        return dataclasses.replace(
            self,
            names=tuple([self.names[row] for row in rows.tolist()]),
            pixels=self.pixels[rows],
            scores=self.scores[rows],
            points=self.points[rows],
        )


def films_of(file: Path, names: Sequence[str], pattern: re.Pattern[str], like: str) -> dict[tuple[str, ...], list[int]]:
    """The rows of each film in the order of its frames.

    The last group of `pattern` is a picture's frame, those before it say the film. Raises PosecliError for a name that
    does not fit, with how it should look, `like`.
    """
    films: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for row, name in enumerate(names):
        match = pattern.fullmatch(PurePosixPath(name).name)
        if match is None:
            raise PosecliError(f"{file}: the picture {name} is not named like {like}")
        films.setdefault(match.groups()[:-1], []).append((int(match.groups()[-1]), row))
    return {film: [row for _, row in sorted(frames)] for film, frames in films.items()}


@dataclass(frozen=True)
class FilmCamera:
    """A film's camera as the pickle states it, and how messages call it."""

    where: str
    fields: Mapping[str, Any]
    place: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
    """Rotation and position in a world with z up, of the R and T that are stated."""

    def build(self) -> Camera:
        """The camera; one without a place looks level. Raises PosecliError."""
        focal, center, distortion = pinhole(self.where, self.fields)
        stated = placed(self.where, self.fields)
        rotation, position = (LEVEL, np.zeros(3)) if stated is None else self.place(*stated)
        return Camera(rotation, position, focal, center, distortion)


def film_clip(
    name: str,
    own: BodyFile,
    camera: FilmCamera,
    folder: Path | None,
    *,
    action: str,
    group: str,
    is_true: bool = True,  # 2D keypoints are those of the 3D ones, not a detector's
) -> tuple[Clip, str]:
    """The clip of a film's rows, and a word where its camera does not fit its keypoints."""
    built = camera.build()
    apart = disagreement(built, own.points, own.pixels) if is_true else 0.0
    clip = Clip(
        name,
        built,
        picture_shape(camera.fields, built.center),
        own.points,
        own.pixels,
        action,
        np.array([int(PurePosixPath(picture).stem.rpartition("_")[2]) for picture in own.names]),
        own.scores,
        None if folder is None else [folder / picture for picture in own.names],
        own.names,
        group,
    )
    return clip, f"{camera.where}: 3D keypoints lie {apart:.0f} px beside the 2D ones" if apart > FAR else ""


def find_file(path: Path) -> Path:
    """The annotation file for a path: the file, or the only .npz of a folder that holds `imgname`, `part` and `S`."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise PosecliError(f"no annotation file {path}: an .npz with imgname, part and S is expected")
    archives = sorted(path.glob("*.npz"))
    found = [file for file in archives if _holds_bodies(file)]
    if len(found) == 1:
        return found[0]
    damaged = [file.name for file in archives if not zipfile.is_zipfile(file)]
    if damaged and not found:
        raise PosecliError(f"{path}: {few(damaged)} in it is damaged, not a whole .npz file; copy or download it again")
    listed = ", ".join(file.name for file in found) or "none"
    raise PosecliError(f"{path} is a folder; name one .npz with imgname, part and S in it: {listed}")


def _holds_bodies(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
    return {"imgname.npy", "part.npy", "S.npy"} <= names and "pose.npy" not in names  # with pose: SMPL's, not joints


def read_bodies(file: Path, joints: int, unit: str) -> BodyFile:
    """The annotations of a file. Raises PosecliError for what is missing or of another shape."""
    arrays = load_npz(file)
    for name, width in (("imgname", 0), ("part", 3), ("S", 4)):
        if name not in arrays:
            raise PosecliError(f"{file} holds no `{name}`: imgname (N,), part (N, {joints}, 3), S (N, {joints}, 4)")
        shape = arrays[name].shape
        if (shape[1:] != (joints, width)) if width else len(shape) != 1:
            raise PosecliError(
                f"{file}: `{name}` has shape {shape}; (N{f', {joints}, {width}' if width else ''}) is right"
            )
    if len({len(arrays[name]) for name in ("imgname", "part", "S")}) > 1 or not len(arrays["S"]):
        raise PosecliError(f"{file}: imgname, part and S are not of one length, or empty")
    pixels, scores = _known_pixels(arrays["part"])
    known = arrays["S"][..., 3:] > 0
    points = np.where(known, arrays["S"][..., :3], np.nan).astype(np.float64)
    factor, notes = millimetres(points, str(file), unit)
    names = tuple(str(name) for name in arrays["imgname"].tolist())
    return BodyFile(file, names, pixels, scores, points * factor, notes)


def _known_pixels(triples: Array) -> tuple[FloatArray, FloatArray]:
    known = triples[..., 2] > 0
    return np.where(known[..., None], triples[..., :2], np.nan), np.where(known, 2.0, 0.0)


def with_detections(bodies: BodyFile, file: Path) -> BodyFile:
    """The same with the 2D keypoints that a detector found: a .npy (N, K, 3) of x, y, confidence, row by row."""
    found = load_npy(file)
    expected = (*bodies.scores.shape, 3)
    if found.shape != expected:
        raise PosecliError(
            f"{file} has shape {found.shape}; {bodies.path} has {expected[0]} rows, so {expected} is right"
        )
    known = (found[..., 2] > 0) & np.isfinite(found).all(axis=-1)
    return dataclasses.replace(
        bodies,
        pixels=np.where(known[..., None], found[..., :2], np.nan),
        scores=np.where(known, found[..., 2], 0.0),
        notes=(*bodies.notes, f"2D keypoints are those found by a detector, from {file.name}"),
    )


# --- cameras ----------------------------------------------------------------------------------------------------------


def find_cameras(file: Path, stated: Path | None, names: Sequence[str]) -> Path:
    """The pickle of cameras: the stated one, or the first of `names` beside the annotations or a folder up."""
    if stated is not None:
        if not stated.is_file():
            raise PosecliError(f"there is no camera file {stated}")
        return stated
    places = [folder / name for folder in (file.parent, file.parent.parent) for name in names]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise PosecliError(f"{file}: no {' or '.join(names)} beside it or a folder up; name it with cameras=FILE")
    return found


def read_cameras(file: Path) -> dict[Any, dict[str, Any]]:
    """The fields of every camera. Raises PosecliError for a pickle that holds anything but plain values and arrays."""
    cameras = load_pickle(file)
    strange = record_names(cameras)
    if strange:
        raise PosecliError(
            f"{file} holds objects of {', '.join(strange)}; a camera file has plain values only; it is refused"
        )
    if not isinstance(cameras, dict) or not all(isinstance(camera, dict) for camera in cameras.values()):
        raise PosecliError(f"{file} holds no dictionary of cameras, each a dictionary with f and c")
    return cameras


def pinhole(source: str, fields: Mapping[str, Any]) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Focal lengths (2,), centre (2,) and distortion (5,) or None, of a camera's f, c, k and p."""
    focal, center = _numbers(source, fields, "f", 2), _numbers(source, fields, "c", 2)
    if fields.get("k") is None or fields.get("p") is None:
        return focal, center, None
    (k1, k2, k3), (p1, p2) = _numbers(source, fields, "k", 3), _numbers(source, fields, "p", 2)
    return focal, center, np.array([k1, k2, p1, p2, k3])


def placed(source: str, fields: Mapping[str, Any]) -> tuple[FloatArray, FloatArray] | None:
    """R (3, 3) and T (3,) in millimetres, told from T's length as a camera is metres away; None where not stated."""
    if fields.get("R") is None or fields.get("T") is None:
        return None
    rotation, offset = _numbers(source, fields, "R", 9).reshape(3, 3), _numbers(source, fields, "T", 3)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise PosecliError(f"{source}: R is no rotation")
    return rotation, offset * distance_factor(offset)


def distance_factor(offset: FloatArray) -> float:
    """What makes millimetres of a camera's offset (3,): cameras stand between half a metre and fifty metres away."""
    length = float(np.linalg.norm(offset))
    return 1000.0 if length < 50 else 10.0 if length < 500 else 1.0


def _numbers(source: str, fields: Mapping[str, Any], name: str, count: int) -> FloatArray:
    try:
        values = np.asarray(fields[name], dtype=np.float64).reshape(-1)
    except (KeyError, TypeError, ValueError):
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise PosecliError(f"{source}: `{name}` is not {count} numbers")
    return values


def picture_shape(fields: Mapping[str, Any], center: FloatArray) -> tuple[int, int]:
    """Width and height in pixels as stated. A side that is missing, or ends before the centre, is as long as the
    other; where both are, twice the centre."""
    stated = [fields.get(name) for name in ("w", "h")]
    sides = [
        float(side) if isinstance(side, int | float) and side > middle else 0.0
        for side, middle in zip(stated, center.tolist(), strict=True)
    ]
    guess = max(sides) or 2 * float(center.max())
    return round(sides[0] or guess), round(sides[1] or guess)


def disagreement(camera: Camera, points: FloatArray, pixels: FloatArray) -> float:
    """The median distance in pixels between 2D keypoints (N, K, 2) and the projected 3D ones (N, K, 3)."""
    apart = np.linalg.norm(project(points, camera.focal, camera.center, camera.distortion) - pixels, axis=-1)
    return float(np.median(apart[np.isfinite(apart)])) if np.isfinite(apart).any() else 0.0


def find_images(file: Path, stated: Path | None, *names: str) -> Path | None:
    """The folder of the pictures, where at least one of a few dozen of these names is there."""
    places = [folder / name for folder in (file.parent, file.parent.parent) for name in (".", "images")]
    tried = names[:: max(1, len(names) // TRIED)]
    for place in places if stated is None else [stated]:
        if any((place / name).is_file() for name in tried):
            return place
    if stated is not None:
        others = f", nor are {len(tried) - 1} others" if len(tried) > 1 else ""
        raise PosecliError(f"the picture {names[0]} is not in {stated}{others}")
    return None


def keep_without_pictures(clips: Sequence[Clip], folder: Path | None) -> tuple[list[Clip], list[str]]:
    """The clips with no picture for frames whose picture is not there, and a sentence where there are any."""
    if folder is None:
        return list(clips), []
    kept: list[Clip] = []
    total = missing = 0
    for clip in clips:
        images = [
            NO_PIXELS if isinstance(image, Path) and not image.is_file() else image for image in clip.images or ()
        ]
        total += len(images)
        missing += sum(1 for image in images if image is NO_PIXELS)
        kept.append(dataclasses.replace(clip, images=images))
    note = f"{missing} of {total} pictures are not in {folder}: their frames are kept in 3D, without a picture"
    return kept, [note] if missing else []
