"""From the 2D people of a film to 3D poses, and how both are shown beside each other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from posecli.algorithm import Algorithm
from posecli.batch import alike, collate
from posecli.console import PosecliError
from posecli.datasets.pictures import NoPictures
from posecli.devices import autocast
from posecli.drawing import PAPER
from posecli.drawing3d import Scene, draw_scene, draw_views, scene_of
from posecli.films import Film
from posecli.mapping import map_skeleton
from posecli.results import ResultsHeader
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, FloatArray, ImageArray, People, Prediction

SLOW_TURN = 45.0
"""Degrees a second that the view of a film turns."""
LEAST_EXTENT = 1.0
"""Pixels that a person reaches across at least: one of whom a single keypoint is known says nothing of its size."""
LONG_LENS = 1.2
"""The focal length of an unknown camera, in longer sides of its pictures."""


class Lifting:
    """A lifter on films: 2D people in, 3D people in camera millimetres out, in the same order with the same numbers."""

    def __init__(
        self,
        algorithm: Algorithm,
        skeleton: Skeleton,
        device: torch.device | str = "cpu",
        *,
        batch_size: int = 8,
        precision: str = "fp32",
        header: ResultsHeader | None = None,
    ) -> None:
        """`skeleton` is that of the 2D people. Raises PosecliError when the lifter's joints cannot be had from it."""
        self.device = torch.device(device)
        self.algorithm = algorithm.to(self.device).eval()
        self.mapping = map_skeleton(skeleton, algorithm.skeleton)
        self.batch_size = batch_size
        self.precision = precision
        self.header = header or ResultsHeader(algorithm.skeleton)
        self._transform = algorithm.transform(train=False)

    def __call__(self, film: Film) -> Film:
        """The film in 3D. A person who is not seen in some frames is unknown there, not elsewhere."""
        samples = self.dataset(film)
        found = {prediction.id: prediction.people for prediction in self._predict(samples)}
        nobody = People.empty(len(self.algorithm.skeleton), 3)
        people = [found.get(sample_id, nobody) for sample_id in samples.ids]
        return film.with_people([_as_seen(own, seen) for own, seen in zip(people, film.people, strict=True)])

    def dataset(self, film: Film) -> Dataset:
        """The film's people in the lifter's joints, as a dataset without pictures.

        Raises PosecliError for 3D people, and where nothing says how large the pictures are.
        """
        sizes = [line.size for line in film.lines]
        if None in sizes:
            raise PosecliError(
                f"{film.name}: the results do not say how large the picture is, which a lifter needs to know; `posecli "
                f"infer` writes it"
            )
        counts = [len(people) for people in film.people]
        seen = [people for people in film.people if len(people)] or [People.empty(len(self.mapping.source))]
        everybody = People.concatenate([_plain(people, film.name) for people in seen])
        people = self.mapping.people(everybody)
        extra: dict[str, Array] = {}
        if film.numbers is not None and "track_id" in everybody.extra:
            extra = {"track_id": everybody.extra["track_id"], "frame": np.repeat(film.numbers, counts)}
        return Dataset(
            name=film.name,
            skeleton=self.algorithm.skeleton,
            ids=[line.prediction.id for line in film.lines],
            sizes=np.array(sizes, np.int64).reshape(-1, 2),
            offsets=np.cumsum([0, *counts]),
            people=dataclasses.replace(people, extra=extra),
            images=NoPictures(len(film.lines)),
        )

    @torch.inference_mode()
    def _predict(self, samples: Dataset) -> list[Prediction]:
        units = self.algorithm.units(samples)
        generator = np.random.default_rng(0)
        predictions: list[Prediction] = []
        for start in range(0, len(units), self.batch_size):
            examples = [
                self._transform(units[index], generator)
                for index in range(start, min(start + self.batch_size, len(units)))
            ]
            for places in alike(examples, self.batch_size):
                batch = collate([examples[place] for place in places])
                with autocast(self.device, self.precision):
                    predictions += self.algorithm.predict(batch.to(self.device))
        return self.algorithm.finish(predictions)


def _plain(people: People, name: str) -> People:
    """Keypoints, scores and track of 2D people, so that those of all frames go together."""
    if people.keypoints.shape[2] != 2:
        raise PosecliError(f"{name}: these are 3D keypoints already; a lifter takes 2D ones")
    scores = people.scores.mean(axis=1) if people.instance_scores is None else people.instance_scores
    extra = {name: people.extra[name] for name in ("track_id",) if name in people.extra}
    boxes = people.boxes if people.boxes is not None else np.full((len(people), 4), np.nan, np.float32)
    return People(people.keypoints, people.scores, boxes, scores, extra)


def _as_seen(people: People, seen: People) -> People:
    """The 3D people of a frame in the order, and with the boxes, scores and numbers, of the 2D ones."""
    rows = np.asarray(people.extra["row"], np.int64) if "row" in people.extra else np.arange(len(people))
    order = np.argsort(rows, kind="stable")
    rows, extra = rows[order], {}
    if "track_id" in seen.extra:
        extra = {"track_id": seen.extra["track_id"][rows]}
    boxes = None if seen.boxes is None else seen.boxes[rows]
    scores = people.instance_scores if seen.instance_scores is None else seen.instance_scores[rows]
    return People(people.keypoints[order], people.scores[order], boxes, scores, extra)


# --- pictures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """Where the 3D people of a film stand when they are drawn: on one floor, before a view that turns."""

    skeleton: Skeleton
    film: Film
    poses: tuple[FloatArray, ...]  # (N, K, 3) mm for each frame
    scene: Scene

    @classmethod
    def of(cls, flat: Film, deep: Film, skeleton: Skeleton) -> Stage:
        """For the 2D and the 3D people of one film."""
        poses = tuple(standing(flat, deep, skeleton))
        known = [own.reshape(-1, 3) for own in poses if len(own)]
        scene = scene_of(np.concatenate(known) if known else np.zeros((0, 3)))
        return cls(skeleton, deep, poses, scene)

    def draw(self, frame: int, height: int) -> ImageArray:
        """A frame's people: from one side of a film, which changes from frame to frame; a picture's from two."""
        people = self.film.people[frame]
        numbers = people.extra["track_id"].tolist() if "track_id" in people.extra else ()
        if self.film.numbers is None:
            return draw_views(self.poses[frame], self.skeleton, height, self.scene, numbers)
        turn = SLOW_TURN * float(self.film.numbers[frame]) / self.film.rate
        return draw_scene(self.poses[frame], self.skeleton, self.scene, (height, height), turn, numbers)


def standing(flat: Film, deep: Film, skeleton: Skeleton) -> list[FloatArray]:
    """The 3D poses (N, K, 3) of each frame, where they may be shown together.

    Poses whose place is known are as they are. Those around their own root, as most lifters give them, stand with the
    lowest joint on the floor: one person in the middle, several where their place and size in the picture put them.
    """
    poses: list[FloatArray] = [  # a file does not say of how many dimensions nobody's keypoints are
        people.keypoints.astype(np.float64) if len(people) else np.zeros((0, people.keypoints.shape[1], 3))
        for people in deep.people
    ]
    if not any(_is_around_root(own, skeleton) for own in poses):
        return poses
    if max((len(own) for own in poses), default=0) > 1:
        scales = _millimetres_a_pixel(flat, deep)
        poses = [
            own + (_places(people, size, scale) - np.add(*_corners(own)) / 2)[:, None]
            for own, people, size, scale in zip(
                poses, flat.people, (line.size for line in flat.lines), scales, strict=True
            )
        ]
    return [_grounded(own) for own in poses]


def _is_around_root(poses: FloatArray, skeleton: Skeleton) -> bool:
    """Whether some joint, or the middle of the skeleton's roots, lies at 0 in every known pose (N, K, 3)."""
    known = poses[np.isfinite(poses).any(axis=(1, 2))]
    middle = known[:, list(skeleton.roots or (0,))].mean(axis=1, keepdims=True)
    places = np.concatenate([known, middle], axis=1)
    return bool(len(known) and (np.abs(places).max(axis=(0, 2)) < 1.0).any())


def _grounded(poses: FloatArray) -> FloatArray:
    """Poses (N, K, 3) moved up or down until the lowest joint is at y = 0."""
    known = np.isfinite(poses).all(axis=-1)
    lowest = np.where(known, poses[..., 1], -np.inf).max(axis=1, initial=-np.inf)
    return np.asarray(poses - np.where(np.isfinite(lowest), lowest, 0.0)[:, None, None] * np.array([0.0, 1.0, 0.0]))


def _millimetres_a_pixel(flat: Film, deep: Film) -> list[FloatArray]:
    """For each frame (N,) how many mm a pixel is at each person: one number for a track, its median."""
    scales: list[FloatArray] = [
        _extents(own.keypoints[..., :2]) / np.maximum(_extents(seen.keypoints), LEAST_EXTENT)
        for seen, own in zip(flat.people, deep.people, strict=True)
    ]
    if not deep.tracked:
        return scales
    tracks = [people.extra["track_id"] if len(people) else np.zeros(0, np.int64) for people in deep.people]
    every, values = np.concatenate(tracks), np.concatenate(scales)
    medians = {number: float(np.median(values[every == number])) for number in np.unique(every).tolist()}
    return [np.array([medians[number] for number in own.tolist()], np.float64) for own in tracks]


def _extents(points: FloatArray) -> FloatArray:
    """The longer sides (N,) of the boxes around the known points (N, K, D)."""
    low, high = _corners(points)
    return np.asarray((high - low).max(axis=1, initial=0.0))


def _corners(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The lowest and highest coordinates (N, D) of the known points (N, K, D); 0 where there are none."""
    known = np.isfinite(points).all(axis=-1, keepdims=True)
    low = np.where(known, points, np.inf).min(axis=1, initial=np.inf).astype(np.float64)
    high = np.where(known, points, -np.inf).max(axis=1, initial=-np.inf).astype(np.float64)
    return np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)


def _places(people: People, size: tuple[int, int] | None, scales: FloatArray) -> FloatArray:
    """About where 2D people stand before a camera of usual focal length, (N, 3) mm."""
    sides = np.array((0, 0) if size is None else size)
    across = (np.add(*_corners(people.keypoints)) / 2 - sides / 2) * scales[:, None]
    return np.concatenate([across, (LONG_LENS * sides.max() * scales)[:, None]], axis=1)


def beside(left: ImageArray, right: ImageArray) -> ImageArray:
    """Two pictures beside each other, the lower one in the middle of its height."""
    height = max(left.shape[0], right.shape[0])
    whole = np.full((height, left.shape[1] + right.shape[1], 3), PAPER, np.uint8)
    for picture, x in ((left, 0), (right, left.shape[1])):
        top = (height - picture.shape[0]) // 2
        whole[top : top + picture.shape[0], x : x + picture.shape[1]] = picture
    return whole
