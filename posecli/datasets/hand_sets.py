"""2D hand sets as COCO keypoint JSON, in one order of keypoints: from the wrist, each finger outward, thumb first.

FreiHAND (Zimmermann et al., ICCV 2019), OneHand10K (Wang et al., TCSVT 2018), RHD (Zimmermann and Brox, ICCV 2017) and
CMU Panoptic HandDB (Simon et al., CVPR 2017), as the reference's files hold them; FreiHAND also as it is published.
Annotations with faults are noted; with `strict` they raise PosecliError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from posecli.camera import project
from posecli.console import PosecliError
from posecli.datasets.coco import (
    CocoFile,
    Record,
    build,
    collection_paused,
    find_annotations,
    keypoints_of,
    parse_json,
    read_json,
    sort_annotations,
)
from posecli.datasets.coco_skeleton import choose_categories
from posecli.datasets.pictures import PicturePaths, picture_sizes
from posecli.geometry import box_areas, keypoint_boxes
from posecli.skeleton import house_skeleton
from posecli.types import Array, Camera, Chosen, Dataset, FloatArray, People

JOINTS = 21
SKELETON = "coco_wholebody_hand"
# Where each keypoint of a hand stands in InterHand2.6M: fingers from the tip to the root, the wrist last.
FINGERS_OUTWARD = np.array([20, *(4 * finger + 3 - joint for finger in range(5) for joint in range(4))])
# In RHD the wrist is first and fingers begin at the tip, whatever the names in its category say.
RHD_ORDER = np.array([0, *(4 * finger + 4 - joint for finger in range(5) for joint in range(4))])
Keypoints = Callable[[Record], Sequence[float]]
Box = Literal["annotated", "picture"]
METRE = 1000.0  # millimetres


@collection_paused()
def onehand10k_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """OneHand10K: one hand a picture, as labelled."""
    return _hands(_table(path, strict), images, keypoints_of)


@collection_paused()
def freihand_dataset(path: Path, images: Path | None = None, box: Box = "annotated", strict: bool = False) -> Dataset:
    """FreiHAND: one right hand a picture of 224×224; a JSON file, or the published folder with training_xyz.json.

    `box`: "picture" takes the whole picture, which is centred on the hand, instead of the annotated box.
    """
    if path.is_dir() and (path / "training_xyz.json").is_file():
        dataset = _published_freihand(path, images)
    else:
        dataset = _hands(_table(path, strict), images, keypoints_of)
    if box == "annotated":
        return dataset
    whole = np.concatenate([np.zeros_like(dataset.sizes), dataset.sizes], axis=1)[dataset.sample_of_row]
    return dataclasses.replace(dataset, people=dataclasses.replace(dataset.people, boxes=whole.astype(np.float32)))


@collection_paused()
def panoptic_hand_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """CMU Panoptic HandDB: `head_size` in pixels is a column, so that `pck@0.7:head` is the reference's PCKh."""
    return _hands(_table(path, strict), images, keypoints_of)


@collection_paused()
def rhd_dataset(path: Path, images: Path | None = None, strict: bool = False) -> Dataset:
    """RHD, rendered hands: with `keypoints_3d` (P, 21, 3) in camera millimetres and cameras where the file has them."""
    table = _table(path, strict)
    dataset = _hands(table, images, _rhd)
    note = "fingers are read from the tip, as the pictures show them, not as the category names them"
    dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    cameras = [_rhd_camera(record) for record in table.images]
    if any(camera is None for camera in cameras) or any("joint_cam" not in record for record in table.annotations):
        return dataset
    points = np.array([record["joint_cam"] for record in table.annotations], dtype=np.float32)
    if points.shape[1:] != (JOINTS, 3):
        raise PosecliError(f"{table.path}: joint_cam has not {JOINTS} points of 3 numbers")
    known = [camera for camera in cameras if camera is not None]
    return dataclasses.replace(_with_columns(dataset, {"keypoints_3d": points[:, RHD_ORDER]}), cameras=known)


# --- COCO files -------------------------------------------------------------------------------------------------------


def _table(path: Path, strict: bool) -> CocoFile:
    file = find_annotations(path)
    document = read_json(file)
    return sort_annotations(file, document, choose_categories(file, document["categories"], None), strict)


def _hands(table: CocoFile, images: Path | None, keypoints: Keypoints) -> Dataset:
    return build(table, house_skeleton(SKELETON), keypoints, images)


def _rhd(annotation: Record) -> Sequence[float]:
    """RHD's keypoints, flat: its file has a triple for each; those that are not 21 triples are left as they are."""
    triples = annotation.get("keypoints") or ()
    if len(triples) == JOINTS:
        return list(chain.from_iterable(triples[index] for index in RHD_ORDER))
    return [value for index in RHD_ORDER for value in triples[3 * index : 3 * index + 3]]


def _rhd_camera(picture: Record) -> Camera | None:
    found = picture.get("cam_param")
    if not isinstance(found, dict) or not {"focal", "princpt"} <= set(found):
        return None
    focal, center = (np.array(found[name], dtype=np.float64) for name in ("focal", "princpt"))
    return Camera(np.eye(3), np.zeros(3), focal, center)


def _with_columns(dataset: Dataset, columns: dict[str, Array]) -> Dataset:
    return dataclasses.replace(dataset, people=dataset.people.with_extra(**columns))


# --- FreiHAND as published --------------------------------------------------------------------------------------------


def _published_freihand(folder: Path, images: Path | None) -> Dataset:
    """training_xyz.json (N, 21, 3) metres and training_K.json (N, 3, 3); pictures training/rgb/%08d.jpg.

    There are up to four pictures of each pose, N apart, of which only the background differs.
    """
    points = _numbers(folder / "training_xyz.json", (JOINTS, 3)) * METRE  # (N, 21, 3)
    matrices = _numbers(folder / "training_K.json", (3, 3))
    if len(points) != len(matrices):
        raise PosecliError(f"{folder}: {len(points)} poses in training_xyz.json, {len(matrices)} in training_K.json")
    pictures = images or folder / "training" / "rgb"
    found = sorted(file.name for file in pictures.glob("*.jpg") if file.stem.isdigit()) if pictures.is_dir() else []
    if not found:
        raise PosecliError(f"{pictures} has no pictures 00000000.jpg …; name their folder with images")
    numbers = np.array([int(Path(name).stem) for name in found])
    pose = numbers % len(points)
    focal, center = matrices[:, [0, 1], [0, 1]], matrices[:, :2, 2]
    pixels = project(points, focal, center)[pose]
    boxes = keypoint_boxes(pixels)
    size, _ = picture_sizes([pictures / found[0]])
    cameras = [Camera(np.eye(3), np.zeros(3), *values) for values in zip(focal, center, strict=True)]
    extra: dict[str, Array] = {
        "keypoints_3d": points[pose].astype(np.float32),
        "annotation_id": numbers,
        "area": box_areas(boxes),
        "crowd": np.zeros(len(found), dtype=bool),
    }
    return Dataset(
        name=f"{folder.resolve().name}/training",
        skeleton=house_skeleton(SKELETON),
        ids=numbers.tolist(),
        sizes=np.tile(size, (len(found), 1)),
        offsets=np.arange(len(found) + 1),
        people=People(pixels.astype(np.float32), np.full(pixels.shape[:2], 2, np.float32), boxes, None, extra),
        images=PicturePaths(pictures, found),
        cameras=Chosen(cameras, pose),
    )


def _numbers(path: Path, shape: tuple[int, int]) -> FloatArray:
    try:
        values = np.array(parse_json(path), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PosecliError(f"{path}: a list of {shape[0]}×{shape[1]} numbers is expected") from error
    if values.shape[1:] != shape:
        raise PosecliError(f"{path}: a list of {shape[0]}×{shape[1]} numbers is expected, it is {values.shape}")
    return values
