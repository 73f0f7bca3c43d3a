"""CMU motion capture as joint positions, filmed by sampled cameras: http://mocap.cs.cmu.edu

A file subject*.npz holds `names` (J,), `fps` and one array a take (T, J, 3), world millimetres, y up, as forward
kinematics gives them for the bones of the ASF skeleton: each name is a bone, each place its far end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecli.camera import see
from posecli.console import PosecliError
from posecli.datasets.lengths import millimetres
from posecli.datasets.motion import FILM, Clip, like_a_detector, motion_dataset, sample_camera
from posecli.interop.unpickle import load_npz
from posecli.skeleton import house_skeleton
from posecli.types import Array, Dataset, FloatArray

# Human3.6M's joints by the bone whose far end they are; `lradius` would end in the middle of the forearm.
BONES = {
    **{"root": "root", "spine": "upperback", "thorax": "thorax", "neck_base": "lowerneck", "head": "head"},
    **{"right_hip": "rhipjoint", "right_knee": "rfemur", "right_foot": "rtibia"},
    **{"left_hip": "lhipjoint", "left_knee": "lfemur", "left_foot": "ltibia"},
    **{"left_shoulder": "lclavicle", "left_elbow": "lhumerus", "left_wrist": "lwrist"},
    **{"right_shoulder": "rclavicle", "right_elbow": "rhumerus", "right_wrist": "rwrist"},
}
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # y up becomes z up


@dataclass(frozen=True)
class Take:
    """One take of one subject."""

    name: str
    joints: FloatArray  # (T, 17, 3) world, z up, in the file's unit
    rate: float  # frames a second


def cmu_dataset(
    path: Path,
    subjects: Sequence[str] = (),
    takes: Sequence[str] = (),
    *,
    cameras: int = 4,
    seed: int = 0,
    fps: float | None = None,
    noise: float = 0.0,
    missing: float = 0.0,
    unit: str = "auto",
) -> Dataset:
    """The takes of a folder of subject*.npz, or of one file, in Human3.6M's seventeen joints.

    Each take is seen by so many `cameras`, which depend on `seed` and the take's name alone; each view is a clip.
    `subjects` and `takes` choose by name, all by default. `fps` takes every n-th frame, as near as that comes. The 2D
    keypoints have `noise` pixels of normal error, and the share `missing` of them is unknown. Raises PosecliError.
    """
    found = [take for file in _files(path, subjects) for take in _read(file)]
    chosen = [take for take in found if not takes or take.name in takes]
    lost = sorted(set(takes) - {take.name for take in found})
    if lost:
        raise PosecliError(f"{path}: no take {lost[0]!r}; there are {', '.join(take.name for take in found)}")
    factor, notes = millimetres(np.concatenate([take.joints for take in chosen]), str(path), unit)
    clips = []
    for take in chosen:
        step = 1 if fps is None else max(round(take.rate / fps), 1)
        world = take.joints * factor
        for view in range(cameras):
            generator = np.random.default_rng((seed, zlib.crc32(take.name.encode()), view))
            clips.append(_film(take.name, view, world, step, generator, noise, missing))
    count = "1 take" if len(chosen) == 1 else f"{len(chosen)} takes, each"
    views = f"{count} seen by {cameras} sampled camera{'s' if cameras > 1 else ''}, seed {seed}"
    return motion_dataset(path.stem, house_skeleton("h36m"), clips, (*notes, views))


def _film(
    name: str, view: int, world: FloatArray, step: int, generator: np.random.Generator, noise: float, missing: float
) -> Clip:
    camera = sample_camera(world, generator)
    points, pixels = see(camera, world)
    found = like_a_detector(pixels, noise, missing, generator)  # of all frames, so that each is the same for any step
    frames = np.arange(0, len(world), step)
    return Clip(f"{name}/{view}", camera, FILM, points[frames], found[frames], name, frames, group=name)


def _files(path: Path, subjects: Sequence[str]) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.glob("subject*.npz"))
    if not files:
        raise PosecliError(
            f"no subject*.npz in {path}: give the folder of the CMU motion capture files, or one of them"
        )
    named = {file.stem.removeprefix("subject"): file for file in files}
    lost = sorted(set(subjects) - set(named))
    if lost:
        raise PosecliError(f"{path}: no subject {lost[0]!r}; there are {', '.join(named)}")
    return [file for name, file in named.items() if not subjects or name in subjects]


def _read(file: Path) -> Iterator[Take]:
    arrays = load_npz(file)
    missing = [name for name in ("names", "fps") if name not in arrays]
    if missing:
        raise PosecliError(f"{file} holds no `{missing[0]}`: it needs names (J,), fps and one array (T, J, 3) a take")
    names = [str(name) for name in arrays["names"].tolist()]
    lost = sorted(set(BONES.values()) - set(names))
    if lost:
        raise PosecliError(f"{file}: no joint {lost[0]!r} among its names, {', '.join(names)}")
    columns = [names.index(BONES[joint]) for joint in house_skeleton("h36m").names]
    rate = float(arrays["fps"])
    for name, array in arrays.items():
        if array.ndim == 3:
            yield Take(name, _upright(file, name, array, len(names))[:, columns], rate)


def _upright(file: Path, name: str, array: Array, joints: int) -> FloatArray:
    if array.shape[1:] != (joints, 3) or not len(array) or array.dtype.kind != "f":
        raise PosecliError(f"{file}: take {name} has shape {array.shape}; ({joints} joints, 3) a frame are expected")
    return np.asarray(array.astype(np.float64) @ UPRIGHT.T)
