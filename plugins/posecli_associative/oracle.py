"""Tags that know the truth: what the score would be were everybody grouped as the labels say."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posecli import geometry
from posecli.batch import Batch
from posecli.console import PosecliError
from posecli.types import FloatArray, Sample

APART = 10.0  # between the tags of two people: far beyond any threshold
FAR = 1e6  # input pixels: where nobody stands
NEARER = 1e-3  # a cell's tag differs from its person's by this much a pixel of distance, at most 1 % of APART


def true_tags(batch: Batch, map_size: tuple[int, int]) -> Tensor:
    """Tags (B, K, h, w, 1) of maps (height, width) that cover the inputs: every cell is of the person whose same
    keypoint is labelled nearest to it.

    Where a keypoint is labelled for nobody, its cells are of nobody. Raises PosecliError where there is no truth.
    """
    height, width = batch.inputs["image"].shape[1:3]
    steps = width / map_size[1], height / map_size[0]  # input pixels a cell
    down, across = (torch.arange(cells, dtype=torch.float32) for cells in map_size)
    maps = []
    for sample, undo in zip(batch.samples, batch.undo.numpy(), strict=True):
        points = torch.from_numpy(_truth(sample, undo))  # (N, K, 2) input pixels
        maps.append(_nearest(points, (across + 0.5) * steps[0] - 0.5, (down + 0.5) * steps[1] - 0.5))
    return torch.stack(maps)[..., None].float().to(batch.inputs["image"].device)


def _truth(sample: Sample, undo: FloatArray) -> FloatArray:
    people = sample.people
    if people.instance_scores is not None:
        raise PosecliError("model.decode.tags=oracle needs labelled pictures: score with `posecli eval`")
    points = np.where(people.labelled[..., None], people.keypoints, np.nan)[~people.crowd]
    return geometry.apply(geometry.invert(undo), points.astype(np.float64)).astype(np.float32)


def _nearest(points: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(K, h, w) for points (N, K, 2), NaN for unknown; cells stand at `across` (w,) and `down` (h,)."""
    nobody = points.new_full((1, points.shape[1], 2), FAR)
    known = torch.cat([points.nan_to_num(nan=2 * FAR), nobody])  # (N + 1, K, 2)
    columns = (known[..., 0, None] - across).square()
    rows = (known[..., 1, None] - down).square()
    nearest, person = (columns[:, :, None] + rows[..., None]).min(dim=0)  # (K, h, w)
    return person * APART + (nearest.sqrt() * NEARER).clamp(max=APART / 100)
