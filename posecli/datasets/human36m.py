"""Human3.6M (Ionescu et al., TPAMI 2014) as prepared for pose lifting: an .npz of annotations and a cameras.pkl."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.body3d import (
    BodyFile,
    FilmCamera,
    film_clip,
    films_of,
    find_cameras,
    find_file,
    find_images,
    keep_without_pictures,
    read_bodies,
    read_cameras,
    with_detections,
)
from posecli.datasets.motion import Clip, motion_dataset
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray

NAME = re.compile(r"(S\d+)_(.+)\.(\d+)_(\d+)\.\w+")
LIKE = "S1_Directions_1.54138969_000001.jpg"
Film = tuple[str, ...]
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
    n-th frame of a film. A frame whose picture is not there has none. Raises PosecliError.
    """
    file = find_file(path)
    skeleton = house_skeleton("h36m")
    bodies = read_bodies(file, len(skeleton), unit)
    if detections is not None:
        bodies = with_detections(bodies, detections)
    films = films_of(file, bodies.names, NAME, LIKE)
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
    folder = find_images(file, images, *bodies.names)
    clips = [_clip(film, rows, bodies, source, known, folder, detections is None) for film, rows in chosen.items()]
    kept, lost = keep_without_pictures([clip for clip, _ in clips], folder)
    notes = [*bodies.notes, f"cameras from {source}", *(note for _, note in clips if note), *lost]
    return motion_dataset(file.stem, skeleton, kept, notes)


def action_of(film: Film) -> str:
    """The kind of action: Directions of Directions_1."""
    return film[1].split("_")[0].split(" ")[0]


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
    camera = FilmCamera(f"{source}: camera {number} of {subject}", known[subject, number], _place)
    own, group = bodies.take(np.array(rows)), f"{subject}/{action}"
    return film_clip("/".join(film), own, camera, folder, action=action_of(film), group=group, is_true=is_true)


def _place(rotation: FloatArray, offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """R turns from the camera to the world, T is the camera's place there, z up."""
    return rotation.T, offset
