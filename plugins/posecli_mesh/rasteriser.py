"""Triangles as pixels: which face is seen at each pixel, and where on it; exact depth by a buffer. numpy only.

Pixel centres lie at integers. A pixel belongs to a face when its centre lies in the face or on its edge; of several
faces the nearest is seen, and depth is that of the perspective, not of the plane picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.types import Array, FloatArray, IntArray

CHUNK = 1 << 19  # pixels of bounding boxes that are looked at together
ON_EDGE = 1e-9  # how far outside an edge still counts, as a fraction of the face: no cracks between neighbours


@dataclass(frozen=True)
class Raster:
    """What is seen of a mesh: M covered pixels of a picture, each once, sorted."""

    size: tuple[int, int]  # width, height
    pixels: IntArray  # (M,): row * width + column
    faces: IntArray  # (M,)
    weights: FloatArray  # (M, 3) of the face's corners, sum 1, as the perspective has it
    depth: FloatArray  # (M,) in the unit of the vertices

    def image(self, values: Array, empty: float = 0.0) -> Array:
        """Values of the covered pixels (M, ...) as a picture (H, W, ...); `empty` elsewhere."""
        width, height = self.size
        picture = np.full((height * width, *values.shape[1:]), empty, dtype=values.dtype)
        picture[self.pixels] = values
        return picture.reshape(height, width, *values.shape[1:])


def rasterise(pixels: FloatArray, depth: FloatArray, faces: IntArray, size: tuple[int, int]) -> Raster:
    """The mesh with vertices at `pixels` (V, 2) and `depth` (V,) as seen in a picture of `size` (width, height).

    `faces` (F, 3) are seen from both sides; leave out those turned away (`facing`) to save half the time. Faces with a
    vertex that is not in front of the camera are not drawn.
    """
    width, height = size
    corners = [pixels.astype(np.float64)[faces[:, corner]] for corner in range(3)]  # 3 x (F, 2)
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    first = np.maximum(np.ceil(low), 0).astype(np.int64)  # (F, 2): columns and rows of the pixels that may be covered
    last = np.minimum(np.floor(high), np.array([width - 1, height - 1])).astype(np.int64)
    sides = np.maximum(last - first + 1, 0)
    behind = depth <= 0
    counts = sides[:, 0] * sides[:, 1] * ~(behind[faces[:, 0]] | behind[faces[:, 1]] | behind[faces[:, 2]])
    nearness = np.zeros(width * height)  # 1 / depth of what is seen so far
    owner = np.full(width * height, -1, dtype=np.int64)
    inverse = (1 / np.where(behind, np.inf, depth).astype(np.float64))[faces.T]  # (3, F); even across the picture
    edges = _edges(corners)
    there = np.flatnonzero(counts)
    for part in _parts(counts[there]):
        rows = there[part]
        row, place = _candidates(rows, counts[rows], sides[rows, 0], first[rows], width)
        weights = _weights(edges[:, row], place % width, place // width)
        inside = np.flatnonzero(np.minimum(np.minimum(weights[0], weights[1]), weights[2]) >= -ON_EDGE)
        row, place = row[inside], place[inside]
        near = (weights[:, inside] * inverse[:, row]).sum(axis=0)
        np.maximum.at(nearness, place, near)
        seen = near == nearness[place]
        owner[place[seen]] = row[seen]
    covered = np.flatnonzero(owner >= 0)
    face = owner[covered]
    flat = _weights(edges[:, face], covered % width, covered // width) * inverse[:, face]
    return Raster(size, covered, face, (flat / nearness[covered]).T, 1 / nearness[covered])


def facing(pixels: FloatArray, faces: IntArray) -> IntArray:
    """The numbers of those faces (F, 3) that turn their counter-clockwise outside to the camera."""
    a, b, c = (pixels[faces[:, corner]] for corner in range(3))
    first, second = b - a, c - a  # rows grow downward, so counter-clockwise turns the other way round
    return np.flatnonzero(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0)


def vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """Unit normals (V, 3) that point outward, means of the faces around a vertex by their area."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    corners = faces.reshape(-1)
    sums = [np.bincount(corners, np.repeat(across[:, axis], 3), minlength=len(vertices)) for axis in range(3)]
    normals = np.stack(sums, axis=-1)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def _edges(corners: Sequence[FloatArray]) -> FloatArray:
    """(3, F, 3): numbers a, b, c of each corner with a x + b y + c = 1 at that corner and 0 on the edge across.

    NaN for faces of no area, which cover nothing. `corners` are three times (F, 2).
    """
    lines = []
    for corner in range(3):
        start, end = corners[corner - 2], corners[corner - 1]
        slopes = start[:, 1] - end[:, 1], end[:, 0] - start[:, 0]
        lines.append(np.stack([*slopes, start[:, 0] * end[:, 1] - end[:, 0] * start[:, 1]], axis=-1))
    edges = np.stack(lines)
    area = edges[..., 2].sum(axis=0)
    return np.asarray(edges / np.where(area != 0, area, np.nan)[:, None])


def _weights(edges: FloatArray, x: IntArray, y: IntArray) -> FloatArray:
    """(3, N) weights of the corners at pixels, from the edges (3, N, 3) of the face of each."""
    return np.asarray(edges[..., 0] * x + edges[..., 1] * y + edges[..., 2])


def _parts(counts: IntArray) -> list[slice]:
    """Stretches of faces that have about CHUNK pixels together."""
    ends = np.cumsum(counts)
    if not len(ends):
        return []
    cuts = np.searchsorted(ends, np.arange(CHUNK, int(ends[-1]), CHUNK)) + 1
    edges = [0, *np.unique(cuts).tolist(), len(counts)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]


def _candidates(
    rows: IntArray, counts: IntArray, widths: IntArray, first: IntArray, width: int
) -> tuple[IntArray, IntArray]:
    """Every pixel of every face's bounding box: the face's number and the pixel, both (N,)."""
    which = np.repeat(np.arange(len(rows)), counts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    down, across = np.divmod(number, widths[which])
    return rows[which], (first[which, 1] + down) * width + first[which, 0] + across
