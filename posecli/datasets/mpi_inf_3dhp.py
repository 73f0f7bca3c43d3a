"""MPI-INF-3DHP (Mehta et al., 3DV 2017) as prepared for pose lifting: an .npz of annotations and a pickle of cameras.

Pictures of the training set are named S4_Seq2_Cam0_001033.jpg, those of the test set TS1_002001.jpg.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.body3d import (
    LEVEL,
    BodyFile,
    FilmCamera,
    film_clip,
    films_of,
    find_cameras,
    find_file,
    find_images,
    read_bodies,
    read_cameras,
)
from posecli.datasets.motion import Clip, motion_dataset
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray

NAME = re.compile(r"(S\d+_Seq\d+_Cam\d+|TS\d+)_(\d+)\.\w+")
LIKE = "S4_Seq2_Cam0_001033.jpg or TS1_002001.jpg"
UPRIGHT = LEVEL  # turns the world's y axis, which points up here, into z
CAMERAS = {True: ("cameras_test.pkl", "cameras.pkl"), False: ("cameras_train.pkl", "cameras.pkl")}  # by: is a test


def mpi_inf_3dhp_dataset(
    path: Path,
    cameras: Path | None = None,
    images: Path | None = None,
    *,
    subjects: Sequence[str] = (),
    stride: int = 1,
    unit: str = "auto",
) -> Dataset:
    """The films of an annotation file; ids are the pictures' names.

    `cameras`: the pickle of cameras, looked for beside the file by default. `subjects` as S4 or TS1, all by default;
    `stride` takes every n-th frame. Test cameras are stored without a place: they are taken to look level. Raises
    PosecliError.
    """
    file = find_file(path)
    skeleton = house_skeleton("mpi_inf_3dhp")
    bodies = read_bodies(file, len(skeleton), unit)
    films = {film: rows for (film,), rows in films_of(file, bodies.names, NAME, LIKE).items()}
    chosen = {film: rows for film, rows in films.items() if not subjects or film.split("_")[0] in subjects}
    if not chosen:
        there = ", ".join(sorted({film.split("_")[0] for film in films}))
        raise PosecliError(f"{file}: no film of {', '.join(subjects)}; there are {there}")
    source = find_cameras(file, cameras, CAMERAS[next(iter(films)).startswith("TS")])
    known = read_cameras(source)
    folder = find_images(file, images, bodies.names[0])
    clips = [_clip(film, rows[::stride], bodies, source, known, folder) for film, rows in chosen.items()]
    notes = [*bodies.notes, f"cameras from {source}", *(note for _, note in clips if note)]
    return motion_dataset(file.stem, skeleton, [clip for clip, _ in clips], notes)


def _clip(
    film: str,
    rows: list[int],
    bodies: BodyFile,
    source: Path,
    known: Mapping[Any, Mapping[str, Any]],
    folder: Path | None,
) -> tuple[Clip, str]:
    """The clip of a film, and a word where its camera does not fit its keypoints."""
    if film not in known:
        raise PosecliError(f"{source}: no camera {film}, which {bodies.path} needs")
    camera = FilmCamera(f"{source}: camera {film}", known[film], _place)
    take = film.rpartition("_Cam")[0] or film
    return film_clip(film, bodies.take(np.array(rows)), camera, folder, action=take, group=take)


def _place(rotation: FloatArray, offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """In a world with z up; T is where the world's origin lies for the camera, not its place."""
    return rotation @ UPRIGHT.T, UPRIGHT @ (-rotation.T @ offset)
