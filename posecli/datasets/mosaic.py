"""Mosaics: people cut out of labelled photos and set beside and before each other, so that photos test grouping.

A person is cut out along the convex hull of the labelled keypoints, grown and with a soft edge, so that no frame tells
whom a limb belongs to. Everything about mosaic i depends on the photos, (seed, i), the size and the numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from posecli import geometry
from posecli.console import PosecliError
from posecli.images import read_image, warp
from posecli.types import (
    BoolArray,
    Dataset,
    FloatArray,
    ImageArray,
    ImageSource,
    IntArray,
    Made,
    People,
)

FEWEST_POINTS = 4  # labelled keypoints of whoever is cut out: fewer have no hull worth the name
MARGIN = 0.1  # by which hulls grow on every side, a fraction of the person's longer side
SIDES = (0.35, 0.75)  # the person's longer side, as a fraction of the mosaic's shorter one
OVERLAP = 0.15  # at most that share of the smaller box lies in another
TRIES = 40  # places drawn for a person; whoever fits at none of them is left out
COARSE = 12  # cells along each side of the background


@dataclass(frozen=True)
class Plan:
    """What is asked of mosaics."""

    count: int
    seed: int
    size: tuple[int, int]  # width, height
    people: tuple[int, int]  # fewest and most in a mosaic


@dataclass(frozen=True)
class Cut:
    """One person of a mosaic."""

    image: ImageSource
    matrix: FloatArray  # (2, 3) photo -> mosaic
    hull: FloatArray  # (P, 2) in mosaic pixels, not grown
    margin: float  # pixels by which the hull is grown


@dataclass(frozen=True)
class MosaicPicture:
    """One mosaic, put together when called: RGB uint8 (H, W, 3). People later in `cuts` stand before the others."""

    background: ImageSource
    cuts: tuple[Cut, ...]
    size: tuple[int, int]  # width, height

    def __call__(self) -> ImageArray:
        picture = _background(self.background, self.size)
        for cut in self.cuts:
            _paste(picture, cut)
        return picture


def _background(image: ImageSource, size: tuple[int, int]) -> ImageArray:
    """A photo without its details: nobody in it can be made out."""
    small = cv2.resize(read_image(image), (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _paste(picture: ImageArray, cut: Cut) -> None:
    """The person over the picture, in place."""
    height, width = picture.shape[:2]
    reach = 2 * cut.margin
    left, top = np.floor(np.maximum(cut.hull.min(axis=0) - reach, 0)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(cut.hull.max(axis=0) + reach, (width - 1, height - 1))).astype(int).tolist()
    window = picture[top : bottom + 1, left : right + 1]
    size = window.shape[1], window.shape[0]
    matrix = geometry.compose(np.array([[1.0, 0, -left], [0, 1, -top]]), cut.matrix)
    share = cv2.GaussianBlur(grown(cut.hull - (left, top), cut.margin, size), (0, 0), cut.margin / 4)[..., None]
    photo = warp(read_image(cut.image), matrix, size)
    window[:] = np.rint(share * photo + (1 - share) * window)


def grown(hull: FloatArray, margin: float, size: tuple[int, int]) -> FloatArray:
    """Where a hull (P, 2) lies, grown by `margin` pixels: (H, W) float32, 1 inside."""
    mask = np.zeros((size[1], size[0]), np.float32)
    corners = [np.rint(hull * 16).astype(np.int32)]
    cv2.fillPoly(mask, corners, 1, shift=4)
    cv2.polylines(mask, corners, True, 1, thickness=max(1, round(2 * margin)), shift=4)
    return mask


class MosaicPictures(Made[ImageSource]):
    """The pictures of mosaics, made when asked for from packed columns."""

    def __init__(self, photos: Dataset, rows: IntArray, matrices: FloatArray, offsets: IntArray, plan: Plan) -> None:
        self.photos = photos
        self.rows = rows  # (M,) whom each cut shows
        self.matrices = matrices  # (M, 2, 3)
        self.offsets = offsets
        self.plan = plan
        self._samples = photos.sample_of_row

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def item(self, index: int) -> MosaicPicture:
        span = range(int(self.offsets[index]), int(self.offsets[index + 1]))
        background = int(np.random.default_rng((self.plan.seed, index, 1)).integers(len(self.photos)))
        return MosaicPicture(self.photos.images[background], tuple(self._cut(at) for at in span), self.plan.size)

    def _cut(self, at: int) -> Cut:
        row, matrix = int(self.rows[at]), self.matrices[at]
        person = self.photos.people[row : row + 1]
        hull, margin = outline(geometry.apply(matrix, person.keypoints[person.labelled][:, :2]))
        return Cut(self.photos.images[int(self._samples[row])], matrix, hull, margin)


def mosaic_dataset(photos: Dataset, plan: Plan) -> Dataset:
    """Mosaics 0 to count - 1 of the people of `photos`; each photo's people are used alike often.

    Keypoints that somebody in front hides have score 1. Boxes are those of the photos, moved; areas too. Raises
    PosecliError for impossible numbers of people and where the photos have nobody with enough labelled keypoints.
    """
    low, high = plan.people
    if not 1 <= low <= high:
        raise PosecliError(f"mosaic: people is {low} to {high}; give at least 1, fewest first")
    usable = np.flatnonzero(_usable(photos.people))
    if not len(usable):
        raise PosecliError(f"mosaic: nobody in {photos.name!r} has {FEWEST_POINTS} labelled keypoints and a box")
    placed = _place_all(photos.people, usable, plan)
    rows = np.array([row for mosaic in placed for row, _ in mosaic], dtype=np.int64)
    matrices = np.array([matrix for mosaic in placed for _, matrix in mosaic]).reshape(-1, 2, 3)
    offsets = np.concatenate([[0], np.cumsum([len(mosaic) for mosaic in placed])]).astype(np.int64)
    few = sum(len(mosaic) < low for mosaic in placed)
    notes = (f"{few} mosaics have fewer than {low} people: the others had no room",) if few else ()
    return Dataset(
        name=f"mosaic of {photos.name}",
        skeleton=photos.skeleton,
        ids=list(range(plan.count)),
        sizes=np.tile(np.array(plan.size), (plan.count, 1)),
        offsets=offsets,
        people=_moved_people(photos.people, rows, matrices, offsets, plan.size),
        images=MosaicPictures(photos, rows, matrices, offsets, plan),
        notes=(*photos.notes, *notes),
    )


def _usable(people: People) -> BoolArray:
    """Who can be cut out, (N,): no crowd, enough labelled keypoints, and a box."""
    boxes = _boxes(people)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    return np.asarray((np.count_nonzero(people.labelled, axis=1) >= FEWEST_POINTS) & ~people.crowd & (sides > 1))


def _boxes(people: People) -> FloatArray:
    """Boxes (N, 4) that hold the labelled keypoints too."""
    tight = geometry.keypoint_boxes(np.where(people.labelled[..., None], people.keypoints[..., :2], np.nan))
    if people.boxes is None:
        return tight
    known = np.asarray(people.labelled.any(axis=1))[:, None]
    low = np.where(known, np.minimum(people.boxes[:, :2], tight[:, :2]), people.boxes[:, :2])
    high = np.where(known, np.maximum(people.boxes[:, 2:], tight[:, 2:]), people.boxes[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float64)


# --- who stands where -------------------------------------------------------------------------------------------------


def _place_all(people: People, usable: IntArray, plan: Plan) -> list[list[tuple[int, FloatArray]]]:
    """For each mosaic the rows shown, back to front, and their matrices."""
    boxes = _boxes(people)
    drawn = _Deck(usable, plan.seed)
    mosaics = []
    for index in range(plan.count):
        generator = np.random.default_rng((plan.seed, index))
        wanted = int(generator.integers(plan.people[0], plan.people[1] + 1))
        rows = drawn.take(wanted)
        places = _places(boxes[rows], plan.size, generator)
        mosaics.append([(row, matrix) for row, matrix in zip(rows, places, strict=True) if matrix is not None])
    return mosaics


class _Deck:
    """Cards drawn from a shuffled deck, shuffled anew when it is empty; none comes twice at once."""

    def __init__(self, cards: IntArray, seed: int) -> None:
        self.cards = cards
        self.generator = np.random.default_rng((seed, len(cards)))
        self.left: list[int] = []

    def take(self, count: int) -> list[int]:
        """`count` different cards, fewer where there are not as many."""
        taken: list[int] = []
        while len(taken) < min(count, len(self.cards)):
            if not self.left:
                self.left = [int(card) for card in self.generator.permutation(self.cards) if card not in taken]
            taken.append(self.left.pop())
        return taken


def _places(boxes: FloatArray, size: tuple[int, int], generator: np.random.Generator) -> list[FloatArray | None]:
    """A matrix (2, 3) for each of the people with these boxes (N, 4) in their photos, None for who finds no room."""
    taken = np.zeros((0, 4))
    matrices: list[FloatArray | None] = []
    for box in boxes:
        sides = box[2:] - box[:2]
        scale = float(generator.uniform(*SIDES)) * min(size) / float(sides.max())
        room = np.array(size) - 1 - sides * scale
        corners = generator.random((TRIES, 2)) * np.maximum(room, 0) + np.minimum(room, 0) / 2
        place = _nearest_free(np.concatenate([corners, corners + sides * scale], axis=1), taken)
        if place is None:
            matrices.append(None)
            continue
        taken = np.concatenate([taken, place[None]])
        shift = place[:2] - scale * box[:2]
        matrices.append(np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]))
    return matrices


def _nearest_free(candidates: FloatArray, taken: FloatArray) -> FloatArray | None:
    """Of the boxes (T, 4) that overlap none of the `taken` (N, 4) by too much the one nearest to one of them."""
    if not len(taken):
        return np.asarray(candidates[0])
    low = np.maximum(candidates[:, None, :2], taken[None, :, :2])
    high = np.minimum(candidates[:, None, 2:], taken[None, :, 2:])
    across, down = np.moveaxis(np.maximum(high - low, 0), -1, 0)
    shared = across * down  # (T, N)
    smaller = np.minimum(geometry.box_areas(candidates)[:, None], geometry.box_areas(taken)[None])
    free = (shared <= OVERLAP * smaller).all(axis=1)
    if not free.any():
        return None
    middles = (candidates[:, None, :2] + candidates[:, None, 2:] - taken[None, :, :2] - taken[None, :, 2:]) / 2
    distances = np.where(free, np.linalg.norm(middles, axis=-1).min(axis=1), np.inf)
    nearest: FloatArray = candidates[int(distances.argmin())]
    return nearest


# --- labels -----------------------------------------------------------------------------------------------------------


def outline(points: FloatArray) -> tuple[FloatArray, float]:
    """The hull (P, 2) of a person's labelled keypoints (N, 2), and by how many pixels it grows."""
    hull = cv2.convexHull(points.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    return hull, max(2.0, MARGIN * float(np.ptp(points, axis=0).max()))


def _moved_people(
    people: People, rows: IntArray, matrices: FloatArray, offsets: IntArray, size: tuple[int, int]
) -> People:
    """The people of all mosaics in mosaic pixels."""
    shown = people[rows]
    scale, shift = matrices[:, 0, 0], matrices[:, :, 2]
    keypoints = shown.keypoints[..., :2] * scale[:, None, None] + shift[:, None]
    inside = ((keypoints >= 0) & (keypoints <= np.array(size) - 1)).all(axis=-1) & shown.labelled
    hidden = _hidden(keypoints, shown.labelled, offsets)
    scores = np.where(inside, np.where(hidden, 1.0, shown.scores), 0.0).astype(np.float32)
    boxes = _boxes(people)[rows] * scale[:, None] + np.tile(shift, 2)
    areas = shown.extra["area"] if "area" in shown.extra else geometry.box_areas(_boxes(shown))
    return People(
        np.where(inside[..., None], keypoints, np.nan).astype(np.float32),
        scores,
        np.clip(boxes, 0, np.tile(np.array(size), 2)).astype(np.float32),
        extra={
            "area": (areas * scale**2).astype(np.float32),
            "crowd": np.zeros(len(rows), dtype=bool),
            "source_row": rows,
        },
    )


def _hidden(keypoints: FloatArray, labelled: BoolArray, offsets: IntArray) -> BoolArray:
    """Which keypoints (M, K) lie under somebody who stands further to the front."""
    hidden = np.zeros(labelled.shape, dtype=bool)
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        for front in range(first + 1, last):
            hull, margin = outline(keypoints[front, labelled[front]])
            behind = keypoints[first:front]
            hidden[first:front] |= _distances_outside(hull, behind.reshape(-1, 2)).reshape(behind.shape[:2]) < margin
    return hidden


def _distances_outside(hull: FloatArray, points: FloatArray) -> FloatArray:
    """How far points (N, 2) lie outside a convex polygon (P, 2), 0 inside, NaN for NaN."""
    following = np.roll(hull, -1, axis=0)
    edges = following - hull
    offsets = points[:, None] - hull[None]  # (N, P, 2)
    along = np.clip((offsets * edges).sum(axis=-1) / np.maximum((edges**2).sum(axis=-1), 1e-12), 0, 1)
    distances = np.linalg.norm(offsets - along[..., None] * edges, axis=-1).min(axis=1)
    sides = edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0]  # (N, P): one sign for all edges when inside
    inside = (sides >= 0).all(axis=1) | (sides <= 0).all(axis=1)
    return np.where(inside, 0.0, distances)
