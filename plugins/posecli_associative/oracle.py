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
NEARER = 1e-3  # a cell's tag differs from its person's by this much a pixel of distance, at most 1 % of APART


def true_tags(batch: Batch, map_size: tuple[int, int]) -> Tensor:
    """Tags (B, K, h, w, 1) of maps (height, width) that cover the inputs: every cell is of the person whose same
    keypoint is labelled nearest to it.

    Where a keypoint is labelled for nobody, its cells are of nobody. Raises PosecliError where there is no truth.
    """
    height, width = batch.inputs["image"].shape[1:3]
    steps = width / map_size[1], height / map_size[0]  # input pixels a cell
    down, across = (torch.arange(cells, dtype=torch.float64) for cells in map_size)
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
    return geometry.apply(geometry.invert(undo), points.astype(np.float64))


def _nearest(points: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(K, h, w) for points (N, K, 2), NaN for unknown; cells stand at `across` (w,) and `down` (h,)."""
    joints = points.shape[1]
    nobody = torch.full((1, joints, len(down), len(across)), 1e6, dtype=torch.float64)
    gaps = points[:, :, 0, None] - across, points[:, :, 1, None] - down
    distances = torch.hypot(gaps[0][:, :, None], gaps[1][..., None])  # (N, K, h, w)
    nearest, person = torch.cat([distances.nan_to_num(nan=2e6), nobody]).min(dim=0)
    return person * APART + (nearest * NEARER).clamp(max=APART / 100)
