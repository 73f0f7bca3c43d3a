"""What an ideal network would say of a scene, made on the device from keypoints: heatmaps and where to read tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Cells = Literal["floor", "nearest"]
"""Which cell a keypoint lies in: the one it falls into, as in MMPose 0.x, or the nearest one, as in 1.x."""


@dataclass(frozen=True)
class SceneTargets:
    """What one resolution is compared with."""

    heatmaps: Tensor  # (B, K, h, w) the highest of all people's Gaussians
    cells: Tensor  # (B, P, K) int64: y * w + x of every keypoint, 0 where there is none
    visible: Tensor  # (B, P, K) bool: labelled, and inside the map


def encode_scene(
    keypoints: Tensor,
    visible: Tensor,
    input_size: tuple[int, int],
    map_size: tuple[int, int],
    sigma: float = 2.0,
    unbiased: bool = False,
    cells: Cells = "floor",
) -> SceneTargets:
    """The targets of maps of `map_size` for inputs of `input_size`, both (width, height).

    Keypoints (B, P, K, 2) are input pixels, `visible` (B, P, K) is positive where they are labelled. `sigma` is in
    cells. A Gaussian stands on its keypoint's cell, with `unbiased` on the keypoint itself (UDP, Huang et al., CVPR
    2020), and reaches 3 sigma around it, one cell farther with `floor`. With `nearest` one that stands outside the map
    still reaches into it, with `floor` it is left out.
    """
    width, height = map_size
    points = to_cells(keypoints, input_size, map_size, unbiased)
    corners = (points if cells == "floor" else points + 0.5).long()  # towards 0: a fraction outside is still inside
    limits = torch.tensor([width, height], device=points.device)
    inside = ((corners >= 0) & (corners < limits)).all(dim=-1)
    shown = inside & (visible > 0)
    radius = round(3 * sigma) + (cells == "floor")
    centers = points if unbiased else corners.to(points.dtype)
    drawn = shown if cells == "floor" else visible > 0
    heatmaps = _highest_gaussians(centers, corners, drawn, map_size, sigma, radius)
    flat = corners[..., 1] * width + corners[..., 0]
    return SceneTargets(heatmaps, torch.where(inside, flat, 0), shown)


def to_cells(
    keypoints: Tensor, input_size: tuple[int, int], map_size: tuple[int, int], unbiased: bool = False
) -> Tensor:
    """Input pixels (..., 2) as fractional cells; with `unbiased` the centres of the corner pixels stay in place."""
    less = 1 if unbiased else 0
    factors = [(cells - less) / (pixels - less) for cells, pixels in zip(map_size, input_size, strict=True)]
    return keypoints.float() * torch.tensor(factors, device=keypoints.device)


def _highest_gaussians(
    centers: Tensor, corners: Tensor, drawn: Tensor, map_size: tuple[int, int], sigma: float, radius: int
) -> Tensor:
    """(B, K, h, w): only the cells around each keypoint are computed, and of several people's the highest is kept."""
    width, height = map_size
    batch, _, joints = drawn.shape
    steps = torch.arange(-radius, radius + 1, device=centers.device)
    columns, rows = (corners[..., axis, None] + steps for axis in (0, 1))  # (B, P, K, S)
    across, down = (
        torch.exp(-(cells - centers[..., axis, None]).square() / (2 * sigma**2))
        for axis, cells in ((0, columns), (1, rows))
    )
    values = down[..., :, None] * across[..., None, :]  # (B, P, K, S, S)
    within = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[..., None, :]
    within = within & drawn[..., None, None]
    flat = (rows.clamp(0, height - 1) * width)[..., :, None] + columns.clamp(0, width - 1)[..., None, :]
    heatmaps = torch.zeros(batch, joints, height * width, device=centers.device)
    heatmaps.scatter_reduce_(
        2, flat.transpose(1, 2).flatten(2), (values * within).transpose(1, 2).flatten(2), reduce="amax"
    )
    return heatmaps.view(batch, joints, height, width)


def resize_mask(mask: Tensor, map_size: tuple[int, int]) -> Tensor:
    """A mask (B, H, W) at the size (width, height) of a map, (B, h, w): 1 where at least half of a cell counts."""
    width, height = map_size
    shares = F.interpolate(mask[:, None].float(), size=(height, width), mode="area")[:, 0]
    return (shares >= 0.5).float()
