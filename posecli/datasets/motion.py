"""Motion: clips of 3D poses that cameras see, as a dataset of frames without pictures.

Every frame is a sample. A person's frames share `extra["track_id"]`, in the order of the samples; `extra["frame"]` is
the number of the frame in its film, so that missing frames can be told; `extra["group"]` is one for all films of one
motion, which no split may tear apart. The world's z axis points up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.camera import world_to_camera
from posecli.datasets.pictures import NoPictures
from posecli.geometry import box_areas, keypoint_boxes
from posecli.skeleton import Skeleton
from posecli.types import Array, BoolArray, Camera, Chosen, Dataset, FloatArray, ImageSource, IntArray, People, SampleId

FILM = (1000, 1000)  # width and height of the sampled cameras' pictures, pixels; Human3.6M's within two pixels
FOCAL = (1050.0, 1250.0)  # pixels; Human3.6M's cameras have 1145
PITCH = (-5.0, 20.0)  # degrees downward
ROLL = 2.0  # degrees, at most
NEAREST = 3500.0  # millimetres from the middle of the motion
ROOM = 0.92  # of the picture that the motion fills at most
RUN = 5  # frames that a joint stays missing for


@dataclass(frozen=True)
class Clip:
    """One person in one film of T frames."""

    name: str  # unique; ids of its frames begin with it
    camera: Camera
    size: tuple[int, int]  # width, height in pixels
    points: FloatArray  # (T, K, 3) camera millimetres; NaN = unknown
    pixels: FloatArray  # (T, K, 2) image pixels; NaN = unknown
    action: str
    frames: IntArray | None = None  # (T,) numbers in the film; 0, 1, 2 ... if not given
    scores: FloatArray | None = None  # (T, K) of the pixels; 2 where known if not given
    images: Sequence[ImageSource] | None = None
    ids: Sequence[SampleId] | None = None  # (T,); name/number if not given
    group: str | None = None  # clips of one group show the same motion; the clip alone if not given


def motion_dataset(name: str, skeleton: Skeleton, clips: Sequence[Clip], notes: Sequence[str] = ()) -> Dataset:
    """The frames of all clips, one after the other: one person each, the clip's number as track_id."""
    lengths = np.array([len(clip.points) for clip in clips], dtype=np.int64)
    clip_of_frame = np.repeat(np.arange(len(clips)), lengths)
    numbers = np.concatenate([_frames(clip) for clip in clips])
    actions = _numbered([clip.action for clip in clips])
    pixels = np.concatenate([clip.pixels for clip in clips]).astype(np.float32)
    scores = np.concatenate([_scores(clip) for clip in clips]).astype(np.float32)
    pixels = np.where(scores[..., None] > 0, pixels, np.float32(np.nan))
    boxes = keypoint_boxes(pixels)
    extra: dict[str, Array] = {
        "keypoints_3d": np.concatenate([clip.points for clip in clips]).astype(np.float32),
        "track_id": clip_of_frame,
        "frame": numbers,
        "group": _numbered([clip.group or clip.name for clip in clips])[clip_of_frame],
        "action": actions[clip_of_frame],
        "area": box_areas(boxes),
        "crowd": np.zeros(len(numbers), dtype=bool),
    }
    return Dataset(
        name=name,
        skeleton=skeleton,
        ids=[identity for clip in clips for identity in _ids(clip)],
        sizes=np.array([clip.size for clip in clips], dtype=np.int64).reshape(-1, 2)[clip_of_frame],
        offsets=np.arange(len(numbers) + 1),
        people=People(pixels, scores, boxes, None, extra),
        images=_images(clips, len(numbers)),
        cameras=Chosen([clip.camera for clip in clips], clip_of_frame),
        notes=tuple(notes),
        actions={int(number): clip.action for number, clip in zip(actions, clips, strict=True)},
    )


def _numbered(names: Sequence[str]) -> IntArray:
    """The number of each name, in the order in which they first come."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _frames(clip: Clip) -> IntArray:
    return np.arange(len(clip.points)) if clip.frames is None else np.asarray(clip.frames, dtype=np.int64)


def _scores(clip: Clip) -> FloatArray:
    known = np.isfinite(clip.pixels).all(axis=-1)
    return np.where(known, 2.0 if clip.scores is None else clip.scores, 0.0)


def _ids(clip: Clip) -> Sequence[SampleId]:
    return [f"{clip.name}/{frame:06d}" for frame in _frames(clip).tolist()] if clip.ids is None else clip.ids


def _images(clips: Sequence[Clip], count: int) -> Sequence[ImageSource]:
    if all(clip.images is None for clip in clips):
        return NoPictures(count)
    return [image for clip in clips for image in clip.images or NoPictures(len(clip.points))]


# --- cameras ----------------------------------------------------------------------------------------------------------


def sample_camera(world: FloatArray, generator: np.random.Generator) -> Camera:
    """A camera that sees all of the motion (T, K, 3), world millimetres, z up, from a side drawn by lot.

    It stands still, on a level or looking somewhat down, as near as `NEAREST` and the size of the picture allow or up
    to a third farther off.
    """
    heading, pitch = generator.uniform(0, 360), generator.uniform(*PITCH)
    rotation = aim(heading, pitch, generator.uniform(-ROLL, ROLL))
    focal = np.repeat(generator.uniform(*FOCAL), 2)
    picture = np.array(FILM, dtype=np.float64)
    low, high = np.nanmin(world, axis=(0, 1)), np.nanmax(world, axis=(0, 1))
    middle = (low + high) / 2
    seen = world_to_camera(world, rotation, middle)
    needed = np.abs(seen[..., :2]) * focal / (ROOM * picture / 2) - seen[..., 2:]
    distance = max(float(np.nanmax(needed)), NEAREST) * generator.uniform(1, 4 / 3)
    return Camera(rotation, middle - distance * rotation[2], focal, (picture - 1) / 2)


def aim(heading: float, pitch: float, roll: float) -> FloatArray:
    """The rotation (3, 3) of a camera that looks along `heading` (from the world's y axis to the left), down by
    `pitch`, turned about its own axis by `roll`; degrees."""
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return np.asarray(_turn(2, roll) @ _turn(0, pitch) @ level @ _turn(2, heading).T)


def _turn(axis: int, degrees: float) -> FloatArray:
    angle = np.deg2rad(degrees)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[[first, second], [first, second]] = np.cos(angle)
    rotation[second, first], rotation[first, second] = np.sin(angle), -np.sin(angle)
    return np.asarray(rotation)


def like_a_detector(pixels: FloatArray, noise: float, missing: float, generator: np.random.Generator) -> FloatArray:
    """Pixels (T, K, 2) as a detector finds them: `noise` pixels of normal error in each coordinate, and joints that
    stay missing (NaN) for some frames, so that on average the share `missing` is."""
    found = pixels + noise * generator.standard_normal(pixels.shape) if noise else pixels
    return np.where(_lost(pixels, missing, generator)[..., None], np.nan, found) if missing else found


def _lost(pixels: FloatArray, missing: float, generator: np.random.Generator) -> BoolArray:
    """Which joints (T, K) of pixels (T, K, 2) are lost: those that any loss within the last RUN frames still covers."""
    frames, joints = pixels.shape[:2]
    starts = generator.random((frames + RUN - 1, joints)) < 1 - (1 - missing) ** (1 / RUN)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(starts, RUN, axis=0).any(axis=-1))
