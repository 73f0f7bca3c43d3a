"""InterHand2.6M (Moon et al., ECCV 2020): pairs of hands in 3D, https://mks0601.github.io/InterHand2.6M/

Three files lie side by side. `*_data.json` lists pictures (`capture`, `camera`, `frame_idx`) and annotations (`bbox`,
`joint_valid` (42, 1), `hand_type` right, left or interacting, `hand_type_valid`); `*_camera.json` has for each capture
`camrot`, `campos`, `focal` and `princpt` by camera; `*_joint_3d.json` has for each capture and frame `world_coord`
(42, 3). Lengths are millimetres, x_camera = camrot (x_world - campos). A file of RootNet (the same authors) has boxes
and the wrists' depths as a network found them: a list of `annot_id`, `bbox` and `abs_depth` (right, left).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posecli.camera import project, world_to_camera
from posecli.console import PosecliError
from posecli.datasets.coco import collection_paused, parse_json
from posecli.datasets.hand_columns import JOINTS, TYPES, WRISTS, hand_columns
from posecli.datasets.hand_sets import FINGERS_OUTWARD
from posecli.datasets.pictures import PicturePaths, find_pictures
from posecli.geometry import box_areas, keypoint_boxes, scale_boxes
from posecli.skeleton import house_skeleton
from posecli.types import Array, BoolArray, Camera, Chosen, Dataset, FloatArray, IntArray, People

Record = dict[str, Any]
Part = Literal["train", "val", "test"]
Subset = Literal["all", "human_annot", "machine_annot"]
PADDED = 1.25  # how much RootNet's boxes are grown already; this is taken off, so that a model's padding fits both
CHUNK = 20_000  # annotations whose joints are seen through their cameras together
VALIDITY = ((2 * JOINTS, 1), (2 * JOINTS,))  # shapes of joint_valid
ENOUGH = 12  # labelled joints that a single hand must have
SHOWN = 3  # examples named of each kind of fault


@dataclass
class Faults:
    """Why annotations or pictures are left out: for each reason, of which kind and which ones."""

    found: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, reason: str, which: object, kind: str = "annotation") -> None:
        self.found.setdefault((reason, kind), []).append(str(which))

    def lines(self) -> list[str]:
        """One line a reason, with how many there are and the first of them."""
        return [
            f"{len(ids)} left out, {reason}: {kind} {', '.join(ids[:SHOWN])}{', …' if len(ids) > SHOWN else ''}"
            for (reason, kind), ids in self.found.items()
        ]


@dataclass(frozen=True)
class Files:
    """The three parsed files, and RootNet's where it is wanted."""

    path: Path
    images: list[Record]
    annotations: list[Record]
    cameras: Mapping[str, Record]
    joints: Mapping[str, Mapping[str, Record]]
    rootnet: Mapping[str, Record] | None


@dataclass(frozen=True)
class Usable:
    """The annotations that are whole, in the order of the file."""

    pictures: list[Record]
    annotations: list[Record]
    joints: list[Any]  # world_coord of each
    camera: IntArray  # (A,) row of `cameras`
    cameras: list[Camera]
    valid: BoolArray  # (A, 42)


@collection_paused()
def interhand_dataset(
    path: Path,
    images: Path | None = None,
    part: Part | None = None,
    subset: Subset = "all",
    rootnet: Path | None = None,
    single: bool = False,
    strict: bool = False,
) -> Dataset:
    """A picture a sample, its pair of hands the one row; skeleton `interhand`, columns as in `hand_columns`.

    `path`: a `*_data.json`, or a folder in which that of `part` and `subset` is looked for. `rootnet`: boxes and
    `absolute_depth` from RootNet instead of the truth. With `single` every hand with 12 labelled joints or more is a
    row of its own, in the order of the other hand sets and with a tight box, for 2D models. Annotations that are not
    whole are left out and counted in `notes`; with `strict` they raise PosecliError.
    """
    files = read_files(find_data(path, part, subset), rootnet)
    faults = Faults()
    usable = check(files, faults)
    lines = faults.lines()
    if lines and (strict or not usable.annotations):
        raise PosecliError(f"{files.path}: {'; '.join(lines)}")
    dataset = assemble(files, usable, images, lines)
    return _single_hands(dataset) if single else dataset


def assemble(files: Files, usable: Usable, images: Path | None, notes: Sequence[str] = ()) -> Dataset:
    """The dataset of what is whole, which is at least one annotation."""
    names = [str(picture["file_name"]) for picture in usable.pictures]
    return Dataset(
        name=f"{files.path.resolve().parent.name}/{files.path.stem.removesuffix('_data')}",
        skeleton=house_skeleton("interhand"),
        ids=[picture["id"] for picture in usable.pictures],
        sizes=np.array([(picture["width"], picture["height"]) for picture in usable.pictures], dtype=np.int64),
        offsets=np.arange(len(names) + 1),
        people=_people(files, usable),
        images=PicturePaths(_picture_folder(files.path, names, images), names),
        cameras=Chosen(usable.cameras, usable.camera),
        notes=tuple(notes),
    )


# --- files ------------------------------------------------------------------------------------------------------------


def find_data(path: Path, part: Part | None, subset: Subset) -> Path:
    """The `*_data.json` at a path. Raises PosecliError that lists what is there instead."""
    if path.is_file():
        if not path.name.endswith("_data.json"):
            raise PosecliError(f"{path}: give InterHand2.6M's *_data.json; its cameras and joints are found beside it")
        return path
    if not path.is_dir():
        raise PosecliError(f"no InterHand2.6M at {path}; give its folder or a *_data.json")
    found = sorted({*path.glob("*_data.json"), *path.glob("*/*_data.json"), *path.glob("annotations/*/*_data.json")})
    wanted = [file for file in found if part is None or f"_{part}_" in file.name or file.parent.name == part]
    if len(wanted) > 1:
        wanted = [file for file in wanted if file.parent.name == subset] or wanted
    if len(wanted) == 1:
        return wanted[0]
    listed = ", ".join(str(file.relative_to(path)) for file in found) or "none"
    raise PosecliError(f"{path}: one *_data.json is wanted; choose with part and subset, or name it: {listed}")


def read_files(data: Path, rootnet: Path | None = None) -> Files:
    """The three files of a `*_data.json`. Raises PosecliError."""
    document = _table(data)
    for name in ("images", "annotations"):
        if not isinstance(document.get(name), list) or not document[name]:
            raise PosecliError(f"{data} has no list `{name}`; InterHand2.6M's *_data.json has images and annotations")
    stem = data.name.removesuffix("_data.json")
    cameras, joints = (_table(data.with_name(f"{stem}_{name}.json")) for name in ("camera", "joint_3d"))
    return Files(
        data, document["images"], document["annotations"], cameras, joints, None if rootnet is None else _found(rootnet)
    )


def _table(path: Path) -> dict[str, Any]:
    document = parse_json(path)
    if not isinstance(document, dict):
        raise PosecliError(f"{path} is no JSON object, as the files of InterHand2.6M are")
    return document


def _found(path: Path) -> dict[str, Record]:
    """RootNet's boxes and depths by annotation id."""
    rows = parse_json(path)
    keys = {"annot_id", "bbox", "abs_depth"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= set(row) for row in rows):
        raise PosecliError(f"{path} is not RootNet's output: a list of annot_id, bbox and abs_depth is expected")
    return {str(row["annot_id"]): row for row in rows}


def _picture_folder(data: Path, names: Sequence[str], images: Path | None) -> Path:
    """Where the pictures lie; in the published layout images/PART beside annotations/."""
    part = next((part for part in ("train", "val", "test") if f"_{part}_" in data.name), None)
    published = [] if part is None else [folder / "images" / part for folder in list(data.parents)[:3]]
    return find_pictures(data, names, images, published)


# --- what is whole ----------------------------------------------------------------------------------------------------


def check(files: Files, faults: Faults) -> Usable:
    """The annotations with a picture of their own, a camera, joints, and hands of the type they say; the others are
    faults."""
    pictures = _pictures(files.images, faults)
    shown: set[int | str | None] = set()  # pictures whose pair is known
    numbers: dict[tuple[str, str], int] = {}
    cameras: list[Camera] = []
    kept: list[tuple[Record, Record, Any, int, BoolArray]] = []
    for place, annotation in enumerate(files.annotations):
        if not isinstance(annotation, dict) or not np.isfinite(_numbers(annotation.get("id"), ())).all():
            faults.add("they have no number as id", place, "entry of annotations")
            continue
        picture = pictures.get(_key(annotation.get("image_id")))
        reason = _fault(files, picture, annotation)
        if reason is None and annotation["image_id"] in shown:
            reason = "their picture has a pair of hands already"
        if reason is not None or picture is None:
            faults.add(str(reason), annotation["id"])
            continue
        shown.add(annotation["image_id"])
        capture, name = str(picture["capture"]), str(picture["camera"])
        if (capture, name) not in numbers:
            numbers[capture, name] = len(cameras)
            cameras.append(_camera(files.cameras[capture], name))
        joints = files.joints[capture][str(picture["frame_idx"])]["world_coord"]
        kept.append((picture, annotation, joints, numbers[capture, name], _valid(annotation)))
    return Usable(
        [row[0] for row in kept],
        [row[1] for row in kept],
        [row[2] for row in kept],
        np.array([row[3] for row in kept], dtype=np.int64),
        cameras,
        np.array([row[4] for row in kept], dtype=bool).reshape(-1, 2 * JOINTS),
    )


def _pictures(records: Sequence[Record], faults: Faults) -> dict[Any, Record]:
    """The pictures by id; those without one are faults."""
    pictures = {}
    for place, record in enumerate(records):
        identity = _key(record.get("id")) if isinstance(record, dict) else None
        if identity is None:
            faults.add("they have no id", place, "entry of images")
        else:
            pictures[identity] = record
    return pictures


def _key(value: Any) -> int | str | None:
    """An id to look for; None where it is no number and no text."""
    return value if isinstance(value, int | str) else None


def _numbers(value: Any, shape: tuple[int, ...]) -> FloatArray:
    """The numbers of a value from JSON; a single NaN where they are others or have another shape."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.full(1, np.nan)
    return numbers if numbers.shape == shape else np.full(1, np.nan)


def _fault(files: Files, picture: Record | None, annotation: Record) -> str | None:
    """Why an annotation cannot be used, or None."""
    if picture is None:
        return "their picture is not listed"
    missing = [key for key in ("file_name", "width", "height", "capture", "camera", "frame_idx") if key not in picture]
    if missing:
        return f"their picture has no {missing[0]}"
    if not np.isfinite(_numbers([picture["width"], picture["height"]], (2,))).all():
        return "their picture's width and height are no numbers"
    capture, name = str(picture["capture"]), str(picture["camera"])
    if not _has_camera(files.cameras.get(capture), name):
        return f"camera {name} of capture {capture} is not in the camera file"
    frame = _entry(_entry(files.joints, capture), str(picture["frame_idx"]))
    if _numbers(_entry(frame, "world_coord"), (2 * JOINTS, 3)).ndim != 2:
        return "their frame has no 42 joints in the joint_3d file"
    if annotation.get("bbox") and _numbers(annotation["bbox"], (4,)).shape != (4,):
        return "their bbox is not four numbers"
    if files.rootnet is not None:
        row = files.rootnet.get(str(annotation["id"]))
        if row is None:
            return "RootNet's file has no box of them"
        if _numbers(row["bbox"], (4,)).shape != (4,) or _numbers(row["abs_depth"], (2,)).shape != (2,):
            return "RootNet's bbox and abs_depth of them are not four and two numbers"
    if not any(len(_numbers(annotation.get("joint_valid"), shape)) == 2 * JOINTS for shape in VALIDITY):
        return "joint_valid has not 42 entries"
    return _type_fault(annotation, _valid(annotation))


def _entry(table: Any, key: str) -> Any:
    """What a JSON object holds there; None where it does not, or is no object."""
    return table.get(key) if isinstance(table, dict) else None


def _type_fault(annotation: Record, valid: BoolArray) -> str | None:
    if not valid.any():
        return "no joint is labelled"
    if not annotation.get("hand_type_valid", 0):
        return None
    name = annotation.get("hand_type")
    if not isinstance(name, str) or name not in TYPES:
        return f"the hand type {name!r} is none of {', '.join(TYPES)}"
    labelled = {"right": bool(valid[:JOINTS].any()), "left": bool(valid[JOINTS:].any())}
    absent = {"right": "left", "left": "right"}.get(name)
    if absent is not None and (labelled[absent] or not labelled[name]):
        return f"the hand type is {name} but joints of the {absent} hand are labelled"
    return None


def _valid(annotation: Record) -> BoolArray:
    return np.asarray(np.asarray(annotation["joint_valid"], dtype=np.float64).reshape(-1) > 0)


def _has_camera(capture: Any, name: str) -> bool:
    shapes: dict[str, tuple[int, ...]] = {"camrot": (3, 3), "campos": (3,), "focal": (2,), "princpt": (2,)}
    values = {key: _numbers(_entry(_entry(capture, key), name), shape) for key, shape in shapes.items()}
    return all(np.isfinite(numbers).all() for numbers in values.values()) and bool((values["focal"] > 0).all())


def _camera(capture: Record, name: str) -> Camera:
    fields = (np.array(capture[key][name], dtype=np.float64) for key in ("camrot", "campos", "focal", "princpt"))
    return Camera(*fields)


# --- columns ----------------------------------------------------------------------------------------------------------


def _people(files: Files, usable: Usable) -> People:
    points, pixels = _seen(usable)
    valid = usable.valid
    points = np.where(valid[..., None], points, np.float32(np.nan))
    depth = points[:, WRISTS, 2]
    boxes: FloatArray = np.array(
        [annotation.get("bbox") or [np.nan] * 4 for annotation in usable.annotations], dtype=np.float64
    )
    if files.rootnet is not None:
        rows = [files.rootnet[str(annotation["id"])] for annotation in usable.annotations]
        boxes = np.array([row["bbox"] for row in rows], dtype=np.float64)
        depth = np.array([row["abs_depth"] for row in rows], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    if files.rootnet is not None:
        boxes = scale_boxes(boxes, 1 / PADDED)
    pixels = np.where(valid[..., None], pixels, np.float32(np.nan))
    boxes = np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, keypoint_boxes(pixels))
    known = np.array([float(bool(annotation.get("hand_type_valid", 0))) for annotation in usable.annotations])
    types = np.array([TYPES.get(str(annotation.get("hand_type")), (1.0, 1.0)) for annotation in usable.annotations])
    columns = hand_columns(types, known, points[:, WRISTS, 2]) | {"absolute_depth": depth.astype(np.float64)}
    extra: dict[str, Array] = {
        "keypoints_3d": points,
        **columns,
        "annotation_id": np.array([int(annotation["id"]) for annotation in usable.annotations], dtype=np.int64),
        "area": box_areas(boxes),
        "crowd": np.zeros(len(boxes), dtype=bool),
    }
    return People(pixels, np.where(valid, 2, 0).astype(np.float32), boxes.astype(np.float32), None, extra)


def _seen(usable: Usable) -> tuple[FloatArray, FloatArray]:
    """All joints, labelled or not: camera points (A, 42, 3) and pixels (A, 42, 2), float32."""
    count = len(usable.joints)
    points, pixels = np.empty((count, 42, 3), np.float32), np.empty((count, 42, 2), np.float32)
    rotation, position, focal, center = (
        np.stack([getattr(camera, name) for camera in usable.cameras])
        for name in ("rotation", "position", "focal", "center")
    )
    for start in range(0, count, CHUNK):
        rows = slice(start, start + CHUNK)
        which = usable.camera[rows]
        world = np.array(usable.joints[rows], dtype=np.float64)
        seen = world_to_camera(world, rotation[which], position[which])
        points[rows], pixels[rows] = seen, project(seen, focal[which], center[which])
    return points, pixels


def _single_hands(dataset: Dataset) -> Dataset:
    """Every hand of pairs as a row of its own, its joints from the wrist outward."""
    people = dataset.people
    halves = [np.arange(JOINTS), np.arange(JOINTS, 2 * JOINTS)]
    order = np.stack([half[FINGERS_OUTWARD] for half in halves])  # (2, 21)
    points, scores = people.keypoints[:, order], people.scores[:, order]  # (P, 2, 21, ...)
    kept = (scores > 0).sum(axis=-1) >= ENOUGH  # (P, 2)
    sample = np.repeat(dataset.sample_of_row, 2).reshape(-1, 2)[kept]
    pixels = points[kept]
    boxes = keypoint_boxes(pixels)
    side = np.tile(np.arange(2), (len(people), 1))
    counts = np.bincount(sample, minlength=len(dataset))
    extra: dict[str, Array] = {
        "keypoints_3d": people.extra["keypoints_3d"][:, order][kept],
        "annotation_id": (2 * people.extra["annotation_id"][:, None] + 1 - side)[kept],
        "area": box_areas(boxes),
        "crowd": np.zeros(len(boxes), dtype=bool),
    }
    return dataclasses.replace(
        dataset,
        skeleton=house_skeleton("coco_wholebody_hand"),
        people=People(pixels, scores[kept], boxes, None, extra),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        notes=(*dataset.notes, "annotation ids are 2 id for a left hand, 2 id + 1 for a right one"),
    )
