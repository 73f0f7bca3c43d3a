"""Human3.6M (Ionescu et al., TPAMI 2014) as prepared for pose lifting: an .npz of annotations and a cameras.pkl."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.body3d import (
    FAR,
    LEVEL,
    BodyFile,
    disagreement,
    find_cameras,
    find_file,
    find_images,
    picture_shape,
    pinhole,
    placed,
    read_bodies,
    read_cameras,
    with_detections,
)
from posecli.datasets.motion import Clip, motion_dataset
from posecli.skeleton import house_skeleton
from posecli.types import Camera, Dataset, FloatArray

NAME = re.compile(r"(?P<subject>S\d+)_(?P<action>.+)\.(?P<camera>\d+)_(?P<frame>\d+)\.\w+")
Film = tuple[str, str, str]
"""Subject, action with its number, camera."""


def human36m_dataset(
    path: Path,
    cameras: Path | None = None,
    detections: Path | None = None,
    images: Path | None = None,
    *,
    subjects: Sequence[str] = (),
    actions: Sequence[str] = (),
    stride: int = 1,
    unit: str = "auto",
) -> Dataset:
    """The films of an annotation file; ids are the pictures' names.

    `cameras`: the pickle of cameras, looked for beside the file by default. `detections`: a .npy (N, 17, 3) with 2D
    keypoints in place of the true ones. `subjects` as S9, `actions` as Walking, all by default; `stride` takes every
    n-th frame of a film. Pictures are read where they are there. Raises PosecliError.
    """
    file = find_file(path)
    skeleton = house_skeleton("h36m")
    bodies = read_bodies(file, len(skeleton), unit)
    if detections is not None:
        bodies = with_detections(bodies, detections)
    films = films_of(file, bodies.names)
    chosen = {
        film: rows[::stride]
        for film, rows in films.items()
        if (not subjects or film[0] in subjects) and (not actions or action_of(film) in actions)
    }
    if not chosen:
        there = ", ".join(sorted({film[0] for film in films})), ", ".join(sorted({action_of(film) for film in films}))
        raise PosecliError(f"{file}: no film of those subjects and actions; there are {there[0]}; {there[1]}")
    source = find_cameras(file, cameras, ("cameras.pkl",))
    known = read_cameras(source)
    folder = find_images(file, images, bodies.names[0])
    clips = [_clip(film, rows, bodies, source, known, folder, detections is None) for film, rows in chosen.items()]
    notes = [*bodies.notes, f"cameras from {source}", *(note for _, note in clips if note)]
    return motion_dataset(file.stem, skeleton, [clip for clip, _ in clips], notes)


def films_of(file: Path, names: Sequence[str]) -> dict[Film, list[int]]:
    """The rows of each film in the order of its frames, from names such as S1_Directions_1.54138969_000001.jpg."""
    films: dict[Film, list[tuple[int, int]]] = {}
    for row, name in enumerate(names):
        match = NAME.fullmatch(PurePosixPath(name).name)
        if match is None:
            raise PosecliError(f"{file}: the picture {name} is not named like S1_Directions_1.54138969_000001.jpg")
        film = (match["subject"], match["action"], match["camera"])
        films.setdefault(film, []).append((int(match["frame"]), row))
    return {film: [row for _, row in sorted(frames)] for film, frames in films.items()}


def action_of(film: Film) -> str:
    """The kind of action: Directions of Directions_1."""
    return film[1].split("_")[0].split(" ")[0]


def frame_of(name: str) -> int:
    """The number of a picture in its film."""
    return int(PurePosixPath(name).stem.rpartition("_")[2])


def _clip(
    film: Film,
    rows: list[int],
    bodies: BodyFile,
    source: Path,
    known: Mapping[Any, Mapping[str, Any]],
    folder: Path | None,
    is_true: bool,
) -> tuple[Clip, str]:
    """The clip of a film, and a word where its camera does not fit its keypoints."""
    subject, action, number = film
    if (subject, number) not in known:
        raise PosecliError(f"{source}: no camera {number} of {subject}, which {bodies.path} needs")
    fields = known[subject, number]
    where = f"{source}: camera {number} of {subject}"
    focal, center, distortion = pinhole(where, fields)
    rotation, position = _place(placed(where, fields))
    camera = Camera(rotation, position, focal, center, distortion)
    own = bodies.take(np.array(rows))
    apart = disagreement(camera, own.points, own.pixels) if is_true else 0.0
    note = f"{where}: 3D keypoints lie {apart:.0f} px beside the 2D ones of {action}" if apart > FAR else ""
    clip = Clip(
        "/".join(film),
        camera,
        picture_shape(fields, center),
        own.points,
        own.pixels,
        action_of(film),
        np.array([frame_of(name) for name in own.names]),
        own.scores,
        None if folder is None else [folder / name for name in own.names],
        own.names,
        f"{subject}/{action}",
    )
    return clip, note


def _place(stated: tuple[FloatArray, FloatArray] | None) -> tuple[FloatArray, FloatArray]:
    """Rotation and position; R turns from the camera to the world, T is the camera's place there, z up."""
    return (LEVEL, np.zeros(3)) if stated is None else (stated[0].T, stated[1])
