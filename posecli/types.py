"""The values that travel: People, Sample, Dataset, Example, Prediction. numpy only.

Conventions, once and for the whole project: pictures are RGB uint8 of shape (height, width, 3); pixel centres lie at
integers; a box is (x, y, x + w, y + h); a keypoint that is not labelled is NaN with score 0; lengths in 3D are
millimetres in the camera frame (x right, y down, z forward).
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from posecli.skeleton import Skeleton

Array = NDArray[Any]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
ImageArray = NDArray[np.uint8]
SampleId = int | str
IN_PICTURE = "keypoints_2d"
"""The column of 3D people that has their keypoints (N, K, 2) in pixels of the picture, where a model gives both."""
ImageSource = Path | ImageArray | Callable[[], ImageArray]
"""Where a picture comes from: a file, pixels (RGB), or a picklable callable that makes the pixels when asked."""


Item = TypeVar("Item")


class Made(Sequence[Item]):
    """A sequence whose items are made when they are asked for. Subclasses give `__len__` and `item`."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item at `index`, from 0 to length - 1."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self.item(position) for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.item(index % len(self))


class Chosen(Made[Item]):
    """Some items of a sequence, which is kept as it is."""

    def __init__(self, items: Sequence[Item], indices: IntArray) -> None:
        self.items = items
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> Item:
        return self.items[int(self.indices[index])]


@dataclass(frozen=True)
class People:
    """N instances with K keypoints each; ground truth and predictions are the same type.

    A row is an instance: a person, an animal, a hand. Indexing with a slice, a mask or an index array gives People
    again, with every per-row array indexed alike.
    """

    keypoints: FloatArray  # (N, K, D): D = 2 image pixels or 3 camera millimetres; NaN = unknown
    scores: FloatArray  # (N, K): truth: COCO visibility 0, 1, 2; prediction: confidence
    boxes: FloatArray | None = None  # (N, 4): x1 y1 x2 y2 in image pixels
    instance_scores: FloatArray | None = None  # (N,)
    extra: Mapping[str, Array] = field(default_factory=dict)  # per row: area, crowd, row, track_id, keypoints_3d ...

    def __post_init__(self) -> None:
        if self.keypoints.ndim != 3:
            raise ValueError(f"keypoints must have shape (N, K, D), got {self.keypoints.shape}")
        count, joints = self.keypoints.shape[:2]
        _expect("scores", self.scores, (count, joints))
        if self.boxes is not None:
            _expect("boxes", self.boxes, (count, 4))
        if self.instance_scores is not None:
            _expect("instance_scores", self.instance_scores, (count,))
        for name, values in self.extra.items():
            if len(values) != count:
                raise ValueError(f"extra[{name!r}] must have {count} rows, got {len(values)}")

    @classmethod
    def empty(cls, joints: int, dimensions: int = 2) -> People:
        """Nobody: zero rows with `joints` keypoints."""
        return cls(
            np.zeros((0, joints, dimensions), np.float32),
            np.zeros((0, joints), np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros((0,), np.float32),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[People]) -> People:
        """All rows of `parts` in order. Optional arrays survive only where every part has them."""
        if not parts:
            raise ValueError("nothing to concatenate: give at least one People, or People.empty(joints)")
        shared = set.intersection(*(set(part.extra) for part in parts))
        return cls(
            np.concatenate([part.keypoints for part in parts]),
            np.concatenate([part.scores for part in parts]),
            _concatenate([part.boxes for part in parts]),
            _concatenate([part.instance_scores for part in parts]),
            {name: np.concatenate([part.extra[name] for part in parts]) for name in sorted(shared)},
        )

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, rows: slice | Array | Sequence[int]) -> People:
        boxes = None if self.boxes is None else self.boxes[rows]
        instance_scores = None if self.instance_scores is None else self.instance_scores[rows]
        extra = {name: values[rows] for name, values in self.extra.items()}
        if not isinstance(rows, slice):
            return People(self.keypoints[rows], self.scores[rows], boxes, instance_scores, extra)
        part = object.__new__(People)  # a stretch needs no check again, and loaders cut one out for every sample
        part.__dict__.update(
            keypoints=self.keypoints[rows],
            scores=self.scores[rows],
            boxes=boxes,
            instance_scores=instance_scores,
            extra=extra,
        )
        return part

    @property
    def labelled(self) -> BoolArray:
        """Which keypoints are known, (N, K): a positive score and finite coordinates."""
        known: BoolArray = (self.scores > 0) & np.isfinite(self.keypoints).all(axis=-1)
        return known

    @property
    def crowd(self) -> BoolArray:
        """Which rows stand for a group, (N,): `extra["crowd"]`, nobody where it is not given."""
        return np.asarray(self.extra.get("crowd", np.zeros(len(self), dtype=bool)), dtype=bool)

    def with_extra(self, **arrays: Array) -> People:
        """The same rows with more per-row arrays."""
        return dataclasses.replace(self, extra={**self.extra, **arrays})


def _expect(name: str, values: Array, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")


def _concatenate(arrays: Sequence[Array | None]) -> Array | None:
    known = [array for array in arrays if array is not None]
    return np.concatenate(known) if len(known) == len(arrays) else None


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: x_camera = rotation (x_world - position), millimetres; pixel = focal * x / z + center."""

    rotation: FloatArray  # (3, 3)
    position: FloatArray  # (3,) millimetres, world frame
    focal: FloatArray  # (2,) pixels
    center: FloatArray  # (2,) pixels
    distortion: FloatArray | None = None  # (5,): k1 k2 p1 p2 k3, OpenCV's order


@dataclass(frozen=True)
class Sample:
    """One picture with its people, as a dataset yields it; never augmented."""

    id: SampleId
    image: ImageSource
    size: tuple[int, int]  # width, height in pixels
    people: People
    camera: Camera | None = None
    ignore: tuple[FloatArray, ...] = ()  # polygons (P, 2) in image pixels where nothing is to be learnt
    frames: tuple[SampleId, ...] = ()  # for a unit put together from several samples: the sample of each row


@dataclass(frozen=True)
class Dataset:
    """Pictures and people in columns: packed arrays, shared between workers without a copy per person.

    `dataset[i]` makes the i-th Sample; rows `offsets[i]:offsets[i + 1]` of `people` are its people.
    """

    name: str
    skeleton: Skeleton
    ids: Sequence[SampleId]
    sizes: IntArray  # (N, 2): width, height
    offsets: IntArray  # (N + 1,)
    people: People  # all rows of all samples
    images: Sequence[ImageSource]
    cameras: Sequence[Camera] | None = None
    ignore: Mapping[int, tuple[FloatArray, ...]] = field(default_factory=dict)  # sample index -> polygons
    notes: tuple[str, ...] = ()  # what the reader decided and a user should know, one sentence each
    categories: Mapping[int, str] = field(default_factory=dict)  # names of the ids in people.extra["category"]
    actions: Mapping[int, str] = field(default_factory=dict)  # names of the ids in people.extra["action"]

    def __post_init__(self) -> None:
        count = len(self.ids)
        if len(self.images) != count or len(self.sizes) != count or len(self.offsets) != count + 1:
            raise ValueError(f"dataset {self.name!r}: ids, images, sizes and offsets disagree about the sample count")
        if self.people.keypoints.shape[1] != len(self.skeleton.names):
            raise ValueError(
                f"dataset {self.name!r}: {self.people.keypoints.shape[1]} keypoints a person, "
                f"but the skeleton names {len(self.skeleton.names)}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.sample(index, int(self.offsets[index]), int(self.offsets[index + 1]))

    def sample(self, index: int, start: int, stop: int) -> Sample:
        """The sample with only the rows from `start` to `stop` of `people`, which must be its own."""
        people = self.people[start:stop]
        if people.instance_scores is None:  # truth: a prediction made for the row names it; detections have no truth
            first = int(self.offsets[index])
            # as in People.__getitem__: nobody else has this stretch yet, and it needs no check again
            people.__dict__["extra"] = {**people.extra, "row": np.arange(start - first, stop - first)}
        width, height = self.sizes[index].tolist()
        return Sample(
            id=self.ids[index],
            image=self.images[index],
            size=(width, height),
            people=people,
            camera=None if self.cameras is None else self.cameras[index],
            ignore=self.ignore.get(index, ()),
        )

    @property
    def sample_of_row(self) -> IntArray:
        """The sample index of every row of `people`, (P,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, indices: Sequence[int] | IntArray) -> Dataset:
        """The samples at `indices`, in that order, with their people."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        return dataclasses.replace(
            self,
            ids=[self.ids[i] for i in chosen],
            sizes=self.sizes[chosen],
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            people=self.people[np.concatenate(rows) if rows else np.zeros(0, np.int64)],
            images=Chosen(self.images, chosen),
            cameras=None if self.cameras is None else Chosen(self.cameras, chosen),
            ignore={new: self.ignore[int(old)] for new, old in enumerate(chosen) if int(old) in self.ignore},
        )


@dataclass(frozen=True)
class Example:
    """One network input, made in a worker. `undo` maps input pixels back to image pixels."""

    inputs: dict[str, Array]  # e.g. image (H, W, 3) uint8 RGB
    targets: dict[str, Array]  # e.g. keypoints (K, 2) input pixels, visible (K,)
    sample: Sample  # without pixels: `image` is a path, a callable or an empty array
    undo: FloatArray  # (2, 3)


@dataclass(frozen=True)
class Prediction:
    """What was found for one unit, in image pixels or camera millimetres again."""

    id: SampleId
    people: People
