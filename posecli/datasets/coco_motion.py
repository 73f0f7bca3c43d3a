"""What COCO files of posecli hold beyond COCO for 3D poses and motion.

An annotation: `keypoints_3d`, flat x1 y1 z1 x2 … in camera millimetres, null where unknown; `track_id`, one for all
frames of a person; `frame`, its number in the film; `group`, one for all films of one motion; `action`, the id of an
entry of the table `actions`. A picture's record: `camera_id`, an entry of the table `cameras` with `rotation` 3×3 and
`position` (x_camera = rotation (x_world - position), millimetres), `focal`, `center` in pixels, and `distortion`
(k1 k2 p1 p2 k3) where the lens is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from posecli.console import PosecliError, few
from posecli.datasets.coco_columns import UNFIT, column, unfit
from posecli.datasets.lengths import check_millimetres
from posecli.types import Array, Camera, Chosen, Dataset, FloatArray, People

Record = dict[str, Any]
TABLES = ("cameras", "actions")
NUMBERS = ("track_id", "frame", "group", "action")
SHAPES = {"rotation": (3, 3), "position": (3,), "focal": (2,), "center": (2,), "distortion": (5,)}


# --- out --------------------------------------------------------------------------------------------------------------


def camera_records(dataset: Dataset) -> Iterator[Record]:
    """Every camera once, numbered from 0."""
    for number, camera in enumerate(_distinct(dataset)[0]):
        fields = {name: getattr(camera, name) for name in SHAPES}
        yield {"id": number, **{name: np.asarray(v).tolist() for name, v in fields.items() if v is not None}}


def camera_numbers(dataset: Dataset) -> list[int] | None:
    """The number of every picture's camera; None where there are none."""
    return None if dataset.cameras is None else _distinct(dataset)[1]


def _distinct(dataset: Dataset) -> tuple[list[Camera], list[int]]:
    """The different cameras, and which one each picture has. Cameras of equal numbers are one."""
    numbers: dict[bytes, int] = {}
    cameras: list[Camera] = []
    index = []
    for camera in dataset.cameras or ():
        fields = (getattr(camera, name) for name in SHAPES)
        key = b"|".join(b"" if value is None else np.asarray(value, np.float64).tobytes() for value in fields)
        if key not in numbers:
            numbers[key] = len(cameras)
            cameras.append(camera)
        index.append(numbers[key])
    return cameras, index


def action_records(dataset: Dataset) -> Iterator[Record]:
    """The names of the actions."""
    for number, name in dataset.actions.items():
        yield {"id": number, "name": name}


def motion_fields(people: People) -> Iterator[Record] | None:
    """What each row has beyond COCO, a record a row; None where no row has any of it."""
    numbers = {name: people.extra[name].tolist() for name in NUMBERS if name in people.extra}
    points = people.extra.get("keypoints_3d")
    if not numbers and points is None:
        return None
    return _records(len(people), numbers, points)


def _records(count: int, numbers: Mapping[str, list[int]], points: FloatArray | None) -> Iterator[Record]:
    for row in range(count):
        record: Record = {name: values[row] for name, values in numbers.items()}
        if points is not None:
            flat = np.round(points[row].astype(np.float64), 3).reshape(-1)
            record["keypoints_3d"] = [None if value != value else value for value in flat.tolist()]
        yield record


# --- in ---------------------------------------------------------------------------------------------------------------


def read_cameras(file: Path, images: Sequence[Record], more: Mapping[str, list[Record]]) -> Sequence[Camera] | None:
    """The camera of every picture; None where the file has no table of them. Raises PosecliError."""
    if "cameras" not in more:
        return None
    cameras = [_camera(file, record) for record in more["cameras"]]
    place = {record["id"]: index for index, record in enumerate(more["cameras"])}
    try:
        lost = [record for record in images if record.get("camera_id") not in place]
    except TypeError as error:
        fault = "has the camera_id {}, which is no number and no text"
        raise unfit(file, images, lambda record: hash(record.get("camera_id")), fault, "image", "camera_id") from error
    if lost:
        raise PosecliError(f"{file}: image {lost[0]['id']} has no camera_id that its table `cameras` lists")
    return Chosen(cameras, np.array([place[record["camera_id"]] for record in images], dtype=np.int64))


def _camera(file: Path, record: Record) -> Camera:
    if not isinstance(record, dict) or not isinstance(record.get("id"), int | float | str):
        raise PosecliError(f"{file}: an entry of `cameras` has no id, a number or text")
    fields: dict[str, FloatArray] = {}
    for name, shape in SHAPES.items():
        if name == "distortion" and record.get(name) is None:
            continue
        try:
            values = np.asarray(record.get(name), dtype=np.float64)
        except UNFIT:
            values = np.zeros(0)
        if values.shape != shape or not np.isfinite(values).all():
            wanted = "×".join(map(str, shape))
            raise PosecliError(f"{file}: camera {record['id']} needs `{name}`, {wanted} numbers")
        fields[name] = values
    if not (fields["focal"] > 0).all():
        raise PosecliError(
            f"{file}: camera {record['id']} has the focal lengths {record['focal']}; give two above 0, in pixels"
        )
    return Camera(**fields)


def read_actions(file: Path, more: Mapping[str, list[Record]]) -> dict[int, str]:
    """The names of the actions by id. Raises PosecliError."""
    try:
        return {int(record["id"]): str(record["name"]) for record in more.get("actions", ())}
    except UNFIT as error:
        raise PosecliError(f"{file}: an entry of `actions` needs a numeric id and a name") from error


def read_motion(
    file: Path, annotations: Sequence[Record], joints: int, more: Mapping[str, list[Record]]
) -> dict[str, Array]:
    """The columns of what annotations have beyond COCO; a number counts where every annotation has it.

    Only `track_id` is known elsewhere; the other numbers are read from files with one of the tables. Raises
    PosecliError, also for lengths in another unit and for two poses of one track in one frame.
    """
    columns: dict[str, Array] = {}
    for name in NUMBERS if more else NUMBERS[:1]:
        if annotations and all(isinstance(record.get(name), int) for record in annotations):
            columns[name] = column(file, annotations, name, np.int64, 0)
    if any(record.get("keypoints_3d") for record in annotations):
        columns["keypoints_3d"] = _points(file, annotations, joints)
        check_millimetres(columns["keypoints_3d"], str(file))
        _check_frames(file, annotations, columns)
    return columns


def _points(file: Path, annotations: Sequence[Record], joints: int) -> FloatArray:
    """The 3D keypoints (A, K, 3), NaN where unknown."""
    unknown: list[float | None] = [None] * (3 * joints)
    rows = [record.get("keypoints_3d") or unknown for record in annotations]
    try:
        wrong = next((index for index, row in enumerate(rows) if len(row) != 3 * joints), None)
    except TypeError as error:
        raise unfit(
            file,
            annotations,
            lambda record: len(record.get("keypoints_3d") or ()),
            "has the keypoints_3d {}; a list of numbers is expected",
            key="keypoints_3d",
        ) from error
    if wrong is not None:
        raise PosecliError(
            f"{file}: annotation {annotations[wrong]['id']} has {len(rows[wrong])} numbers in keypoints_3d, "
            f"{3 * joints} are expected"
        )
    try:
        flat = np.fromiter(_numbers(chain.from_iterable(rows)), np.float32, len(rows) * 3 * joints)
    except UNFIT as error:
        raise unfit(
            file,
            annotations,
            lambda record: np.fromiter(_numbers(record.get("keypoints_3d") or ()), np.float32),
            "has keypoints_3d with something that is no number",
        ) from error
    points = flat.reshape(len(rows), joints, 3)
    _check_finite(file, annotations, points)
    return np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, np.float32(np.nan))


def _numbers(values: Iterable[float | None]) -> Iterator[float]:
    return (np.nan if value is None else value for value in values)


def _check_finite(file: Path, annotations: Sequence[Record], points: FloatArray) -> None:
    """Raise PosecliError where a labelled joint has NaN or infinity; what is unknown is null."""
    finite = np.asarray(np.isfinite(points).all(axis=-1))  # (A, K)
    wrong = [
        annotations[row]["id"]
        for row in np.flatnonzero(~finite.all(axis=1)).tolist()
        if _has_infinite(annotations[row], np.flatnonzero(~finite[row]).tolist())
    ]
    if wrong:
        raise PosecliError(
            f"{file}: keypoints_3d of labelled joints are NaN or infinite in the annotations {few(wrong)}; "
            "numbers are expected, and null where a joint is unknown in 3D"
        )


def _has_infinite(record: Record, joints: Sequence[int]) -> bool:
    """Whether one of these joints, none of them finite, is labelled and not null."""
    points, flat = record.get("keypoints_3d") or (), record.get("keypoints") or ()
    return any(
        points and None not in points[3 * joint : 3 * joint + 3] and any(flat[3 * joint + 2 : 3 * joint + 3])
        for joint in joints
    )


def _check_frames(file: Path, annotations: Sequence[Record], columns: Mapping[str, Array]) -> None:
    """Raise PosecliError where a track has different poses in one frame; mixes repeat whole frames."""
    if not {"track_id", "frame"} <= set(columns):
        return
    moments = np.stack([columns["track_id"], columns["frame"]], axis=1)
    _, first, inverse = np.unique(moments, axis=0, return_index=True, return_inverse=True)
    moment = inverse.reshape(-1)
    again = np.flatnonzero(first[moment] != np.arange(len(moment)))
    poses = columns["keypoints_3d"]
    differs = ~np.isclose(poses[again], poses[first[moment[again]]], equal_nan=True).all(axis=(1, 2))
    if differs.any():
        row = again[differs][0]
        same = [annotations[index]["id"] for index in np.flatnonzero(moment == moment[row]).tolist()]
        raise PosecliError(
            f"{file}: the annotations {few(same)} are all frame {moments[row, 1]} of track {moments[row, 0]}, with "
            f"different poses; number the frames of a track, and give each film's people track_ids of their own"
        )
