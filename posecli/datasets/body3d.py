"""Annotations of filmed motion as the usual preparations of Human3.6M and MPI-INF-3DHP store them.

An .npz with `imgname` (N,), `part` (N, K, 3) x, y, visible in image pixels and `S` (N, K, 4) x, y, z, visible in the
camera frame; beside it a pickle of cameras, a dictionary of dictionaries with R (3, 3), T (3, 1), f (2, 1), c (2, 1),
k (3, 1), p (2, 1), w and h.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.camera import project
from posecli.console import PosecliError
from posecli.datasets.lengths import millimetres
from posecli.interop.unpickle import load_npy, load_npz, load_pickle, record_names
from posecli.types import Array, Camera, FloatArray, IntArray

LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # of a camera that looks along world y
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


def find_file(path: Path) -> Path:
    """The annotation file for a path: the file, or the only .npz of a folder that holds `imgname`, `part` and `S`."""
    if path.is_file():
        return path
    found = [file for file in sorted(path.glob("*.npz")) if _holds_bodies(file)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(file.name for file in found) or "none"
    raise PosecliError(f"{path}: name one annotation file .npz with imgname, part and S in it: {listed}")


def _holds_bodies(file: Path) -> bool:
    import zipfile

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


def find_images(file: Path, stated: Path | None, first: str) -> Path | None:
    """The folder of the pictures, where they are there at all."""
    if stated is not None:
        if not (stated / first).is_file():
            raise PosecliError(f"the picture {first} is not in {stated}")
        return stated
    places = [folder / name for folder in (file.parent, file.parent.parent) for name in (".", "images")]
    return next((place for place in places if (place / first).is_file()), None)
