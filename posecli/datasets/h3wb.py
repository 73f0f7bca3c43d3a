"""H3WB (Zhu et al., ICCV 2023): Human3.6M with the 133 keypoints of COCO-WholeBody in 3D.

An .npz of pickled dictionaries. `train_data`: subject → action → `frame_id` (F,), `global_3d`, and for each camera
`camera_3d` (F, 133, 3) in the camera frame and `pose_2d` (F, 133, 2) pixels. `metadata`: subject → camera → K (3, 3)
with lengths in thousands of pixels, R, T (x_camera = R x_world + T) and Distortion (5,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError
from posecli.datasets.body3d import distance_factor
from posecli.datasets.lengths import millimetres
from posecli.datasets.motion import Clip, motion_dataset
from posecli.interop.unpickle import load_npz, record_names
from posecli.skeleton import house_skeleton
from posecli.types import Camera, Dataset, FloatArray

NOT_CAMERAS = ("frame_id", "global_3d")
PICTURE = (1000, 1002)  # width and height of Human3.6M's pictures, which the file does not state
THOUSANDS = 100.0  # focal lengths below this are in thousands of pixels


def h3wb_dataset(path: Path, *, subjects: Sequence[str] = (), stride: int = 1, unit: str = "auto") -> Dataset:
    """All films of the file, or those of `subjects` as S5; `stride` takes every n-th frame. Raises PosecliError."""
    file = _file(path)
    data, metadata = _tables(file)
    lost = sorted(set(subjects) - set(data))
    if lost:
        raise PosecliError(f"{file}: no subject {lost[0]}; there are {', '.join(sorted(data))}")
    clips = [
        _clip(file, subject, str(action), str(camera), film, metadata)
        for subject, actions in data.items()
        if not subjects or subject in subjects
        for action, film in actions.items()
        for camera in film
        if camera not in NOT_CAMERAS
    ]
    if not clips:
        raise PosecliError(f"{file}: no film of a camera in it")
    factor, notes = millimetres(np.concatenate([clip.points for clip in clips]), str(file), unit)
    thinned = [_thinned(clip, stride, factor) for clip in clips]
    return motion_dataset(file.stem, house_skeleton("coco_wholebody"), thinned, notes)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.npz"))
    if len(found) != 1:
        raise PosecliError(f"{path}: name one .npz of H3WB in it: {', '.join(file.name for file in found) or 'none'}")
    return found[0]


def _tables(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = load_npz(file)
    found = []
    for name in ("train_data", "metadata"):
        value = arrays[name].item() if name in arrays and arrays[name].shape == () else None
        if not isinstance(value, dict) or not value:
            raise PosecliError(f"{file} holds no dictionary `{name}`: an .npz of H3WB has train_data and metadata")
        strange = record_names(value)
        if strange:
            raise PosecliError(
                f"{file}: `{name}` holds objects of {', '.join(strange)}, not plain values; it is refused"
            )
        found.append(value)
    return found[0], found[1]


def _clip(
    file: Path, subject: str, action: str, number: str, film: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Clip:
    """One film, lengths as in the file."""
    where = f"{file}: {subject}, {action}, camera {number}"
    try:
        points = np.asarray(film[number]["camera_3d"], dtype=np.float64)
        pixels = np.asarray(film[number]["pose_2d"], dtype=np.float64)
        frames = np.asarray(film["frame_id"], dtype=np.int64)
        camera = _camera(metadata[subject][number])
    except (KeyError, TypeError, ValueError) as error:
        raise PosecliError(f"{where}: camera_3d, pose_2d, frame_id or the camera's K, R, T is missing") from error
    joints = len(house_skeleton("coco_wholebody"))
    if points.shape != (len(frames), joints, 3) or pixels.shape != (len(frames), joints, 2):
        raise PosecliError(f"{where}: {points.shape} and {pixels.shape} for {len(frames)} frames of {joints} keypoints")
    name = f"{subject}/{action}/{number}"
    return Clip(name, camera, PICTURE, points, pixels, action.split(" ")[0], frames, group=f"{subject}/{action}")


def _camera(fields: Mapping[str, Any]) -> Camera:
    matrix = np.asarray(fields["K"], dtype=np.float64).reshape(3, 3)
    matrix = matrix * (1000.0 if matrix[0, 0] < THOUSANDS else 1.0)
    rotation = np.asarray(fields["R"], dtype=np.float64).reshape(3, 3)
    offset = np.asarray(fields["T"], dtype=np.float64).reshape(3)
    lens: FloatArray | None = None
    if fields.get("Distortion") is not None:
        lens = np.asarray(fields["Distortion"], dtype=np.float64).reshape(5)
    position = -rotation.T @ (offset * distance_factor(offset))
    return Camera(rotation, position, matrix[[0, 1], [0, 1]], matrix[:2, 2], lens)


def _thinned(clip: Clip, stride: int, factor: float) -> Clip:
    order = np.argsort(_frames(clip), kind="stable")[::stride]
    return Clip(
        clip.name,
        clip.camera,
        clip.size,
        clip.points[order] * factor,
        clip.pixels[order],
        clip.action,
        _frames(clip)[order],
        group=clip.group,
    )


def _frames(clip: Clip) -> Any:
    assert clip.frames is not None
    return clip.frames
