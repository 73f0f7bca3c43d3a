"""From the highest cell of a map to a position between cells: quarter shift, DARK, DARK-UDP; 2-D maps and 1-D vectors.

Locations are in cells of the map, x right, y down. DARK: Zhang et al., "Distribution-Aware Coordinate Representation
for Human Pose Estimation", CVPR 2020; its Newton step on the padded map: Huang et al., "The Devil is in the Details:
Delving into Unbiased Data Processing for Human Pose Estimation", CVPR 2020.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import torch
from torch import Tensor

from posecli.codecs.codec import constant
from posecli.types import FloatArray

Offsets = tuple[tuple[int, int], ...]
"""Neighbours of a cell as (right, down)."""

CROSS: Offsets = ((-1, 0), (1, 0), (0, -1), (0, 1))  # before and after, axis by axis
CORNERS: Offsets = ((-1, -1), (1, -1), (-1, 1), (1, 1))
FAR_CROSS: Offsets = ((-2, 0), (2, 0), (0, -2), (0, 2))
FLAT = 1e-12  # a determinant this small is rounding noise of a flat map; sigma = 2 cells gives 0.016


def maxima(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest cell (B, K, 2) of maps (B, K, H, W) and its value (B, K); (-1, -1) where nothing is above 0.

    The first one in reading order where several are equal.
    """
    values, index = heatmaps.flatten(2).max(dim=-1)
    width = heatmaps.shape[-1]
    cells = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return torch.where(values[..., None] > 0, cells, -1).to(heatmaps.dtype), values


def shift_quarter(locations: Tensor, heatmaps: Tensor) -> Tensor:
    """Locations (B, K, 2) moved by 0.25 cells along each axis towards the higher neighbour.

    An axis moves only where the location is at least two cells from the axis' first border, one from its last, and
    one from the other axis' first border.
    """
    height, width = heatmaps.shape[-2:]
    sides = _neighbours(heatmaps, locations, CROSS).view(*locations.shape, 2)  # (B, K, axis, before and after)
    rise = (sides[..., 1] - sides[..., 0]).sign()
    inside = (locations > 1) & (locations < constant((width - 1, height - 1), locations))
    inside &= (locations > 0).flip(-1)
    return locations.add(rise * inside, alpha=0.25)


def refine_dark(locations: Tensor, heatmaps: Tensor, kernel: int = 11) -> Tensor:
    """Locations (B, K, 2) moved by one Taylor step on the logarithm of the blurred maps (B, K, H, W).

    Derivatives span two cells, so locations within two cells of the borders stay.
    """
    blurred = blur(heatmaps, kernel)
    height, width = heatmaps.shape[-2:]
    around = _neighbours(blurred, locations, ((0, 0), *CROSS, *CORNERS, *FAR_CROSS)).clamp(min=1e-10).log()
    here, left, right, up, down, up_left, up_right, down_left, down_right, left2, right2, up2, down2 = around.unbind(-1)
    slope_x, slope_y = (right - left) / 2, (down - up) / 2
    curve_xx = (right2 - 2 * here + left2) / 4
    curve_yy = (down2 - 2 * here + up2) / 4
    curve_xy = (down_right - up_right - down_left + up_left) / 4
    step = _newton_step(slope_x, slope_y, curve_xx, curve_yy, curve_xy)
    x, y = locations.unbind(-1)
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    curved = (curve_xx * curve_yy - curve_xy**2).abs() > FLAT
    return _move(locations, step, inside & curved, (width, height))


def refine_dark_udp(locations: Tensor, heatmaps: Tensor, kernel: int = 11) -> Tensor:
    """Locations (B, K, 2) moved by one Newton step on the logarithm of the blurred maps (B, K, H, W), clipped first.

    Derivatives span one cell; beyond the borders the map goes on with its last row and column. Locations outside
    the map (nothing found) stay.
    """
    blurred = blur(heatmaps, kernel)
    around = _neighbours(blurred, locations, ((0, 0), *CROSS, (-1, -1), (1, 1))).clamp(1e-3, 50).log()
    here, left, right, up, down, up_left, down_right = around.unbind(-1)
    slope_x, slope_y = (right - left) / 2, (down - up) / 2
    damping = torch.finfo(torch.float32).eps  # keeps the step finite where the map is flat
    curve_xx = right - 2 * here + left + damping
    curve_yy = down - 2 * here + up + damping
    curve_xy = (down_right - right - down + 2 * here - left - up + up_left) / 2
    step = _newton_step(slope_x, slope_y, curve_xx, curve_yy, curve_xy)
    height, width = heatmaps.shape[-2:]
    return _move(locations, step, (locations >= 0).all(dim=-1), (width, height))


def refine_vector(locations: Tensor, vectors: Tensor, kernel: int) -> Tensor:
    """Locations (B, K) in 1-D vectors (B, K, N) moved by one Taylor step on the blurred vectors' logarithm, as DARK."""
    blurred = blur_vectors(vectors, kernel)
    last = vectors.shape[-1] - 1
    cells = (locations.long()[..., None] + torch.arange(-2, 3, device=vectors.device)).clamp(0, last)
    left2, left, here, right, right2 = blurred.gather(-1, cells).clamp(1e-3, 50).log().unbind(-1)
    step = -((right - left) / 2) / (1e-9 + (right2 - 2 * here + left2) / 4)
    return _move(locations[..., None], step[..., None], locations >= 0, (last + 1,))[..., 0]


def blur(heatmaps: Tensor, kernel: int) -> Tensor:
    """Maps (B, K, H, W) blurred by a Gaussian `kernel` cells wide, zeros outside, scaled back to each map's maximum.

    In float64 where the device has it: second derivatives of a logarithm do not bear TF32 or bf16 products.
    """
    exact = heatmaps.to(_exact_dtype(heatmaps.device))
    rows, columns = (_blur_matrix(size, kernel, exact) for size in exact.shape[-2:])
    return _restore_peak(rows @ exact @ columns, exact, dims=(-2, -1))


def blur_vectors(vectors: Tensor, kernel: int) -> Tensor:
    """The same for vectors (B, K, N)."""
    exact = vectors.to(_exact_dtype(vectors.device))
    return _restore_peak(exact @ _blur_matrix(exact.shape[-1], kernel, exact), exact, dims=(-1,))


def _restore_peak(blurred: Tensor, original: Tensor, dims: tuple[int, ...]) -> Tensor:
    peak = blurred.amax(dim=dims, keepdim=True)
    return blurred * (original.amax(dim=dims, keepdim=True) / torch.where(peak == 0, 1, peak))


def _exact_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _blur_matrix(size: int, kernel: int, like: Tensor) -> Tensor:
    return torch.from_numpy(_band(size, kernel)).to(like.device, like.dtype, non_blocking=True)


@functools.cache
def _band(size: int, kernel: int) -> FloatArray:
    """The symmetric (size, size) matrix that blurs a vector; OpenCV chooses the width of the Gaussian (2 for 11)."""
    weights = cv2.getGaussianKernel(kernel, 0, cv2.CV_64F)[:, 0]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    reach = kernel // 2
    return np.asarray(np.where(distance <= reach, weights[reach + np.minimum(distance, reach)], 0.0))


def _neighbours(maps: Tensor, locations: Tensor, offsets: Offsets) -> Tensor:
    """Values (B, K, len(offsets)) of maps (B, K, H, W) beside locations (B, K, 2); borders are repeated outwards."""
    height, width = maps.shape[-2:]
    shifts = torch.tensor(offsets).to(maps.device, non_blocking=True)  # (O, 2)
    x, y = (locations.long()[..., None, :] + shifts).unbind(-1)  # (B, K, O)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return maps.flatten(2).gather(-1, index)


def _newton_step(slope_x: Tensor, slope_y: Tensor, curve_xx: Tensor, curve_yy: Tensor, curve_xy: Tensor) -> Tensor:
    """Minus the inverse Hessian times the gradient, (..., 2)."""
    determinant = curve_xx * curve_yy - curve_xy**2
    step_x = (curve_xy * slope_y - curve_yy * slope_x) / determinant
    step_y = (curve_xy * slope_x - curve_xx * slope_y) / determinant
    return torch.stack([step_x, step_y], dim=-1)


def _move(locations: Tensor, step: Tensor, where: Tensor, size: tuple[int, ...]) -> Tensor:
    """Locations (..., D) plus steps, where allowed (...): not those that leave the map, `size` (D) cells wide and high.

    Where the map has no peak at the location, a Taylor step is of any length, or NaN.
    """
    moved = locations + step
    inside = ((moved > -1) & (moved < constant(size, moved))).all(dim=-1)
    return torch.where((where & inside)[..., None], moved.to(locations.dtype), locations)
