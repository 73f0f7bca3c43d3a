"""Rotations in their usual forms: matrices, six numbers, axis times angle, quaternions. All differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from posecli.nn.precise import precise

SMALL = 1e-6  # squared angle below which series stand in for the closed forms


def from_six(values: Tensor) -> Tensor:
    """Matrices (..., 3, 3) from six numbers each (..., 6), the first two columns row by row, made orthogonal.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019.
    """
    columns = values.view(*values.shape[:-1], 3, 2)
    first = torch.nn.functional.normalize(columns[..., 0], dim=-1)
    second = columns[..., 1] - (first * columns[..., 1]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], dim=-1)


def to_six(matrices: Tensor) -> Tensor:
    """The six numbers (..., 6) that `from_six` makes the matrices (..., 3, 3) of."""
    return matrices[..., :2].flatten(-2)


@precise
def from_axis_angle(vectors: Tensor) -> Tensor:
    """Matrices (..., 3, 3) from axes times angles in radians (..., 3): Rodrigues' formula, smooth at zero too."""
    squared = vectors.square().sum(-1)
    small = squared < SMALL
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    versine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle.square())
    cross = _cross_matrices(vectors)
    unit = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return unit + sine[..., None, None] * cross + versine[..., None, None] * (cross @ cross)


def to_axis_angle(matrices: Tensor) -> Tensor:
    """Axes times angles (..., 3) in radians, at most pi, from matrices (..., 3, 3)."""
    quaternions = to_quaternion(matrices)
    sine = torch.linalg.vector_norm(quaternions[..., 1:], dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternions[..., :1])
    factor = torch.where(sine < SMALL, 2.0, angle / sine.clamp_min(SMALL))
    return quaternions[..., 1:] * factor


def from_quaternion(quaternions: Tensor) -> Tensor:
    """Matrices (..., 3, 3) from quaternions (..., 4) of any length, the real part first."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def to_quaternion(matrices: Tensor) -> Tensor:
    """Unit quaternions (..., 4), the real part first and not negative, from matrices (..., 3, 3).

    Of four ways to take the square root the best conditioned is used: the one whose component is the largest.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrices.unbind(-2))
    candidates = torch.stack(
        [
            torch.stack([1 + a + e + i, h - f, c - g, d - b], dim=-1),
            torch.stack([h - f, 1 + a - e - i, b + d, c + g], dim=-1),
            torch.stack([c - g, b + d, 1 - a + e - i, f + h], dim=-1),
            torch.stack([d - b, c + g, f + h, 1 - a - e + i], dim=-1),
        ],
        dim=-2,
    )  # (..., 4, 4): row k is 4 q_k q
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    chosen = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternions = torch.nn.functional.normalize(chosen, dim=-1)
    return torch.where(quaternions[..., :1] < 0, -quaternions, quaternions)


def mirrored(rotations: Tensor, index: Tensor) -> Tensor:
    """The pose (..., P, 3, 3) as a mirror across the plane between left and right shows it.

    `index` (P,) says where each rotation's partner on the other side stands; x points from right to left or back.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=rotations.dtype, device=rotations.device)
    return rotations[..., index, :, :] * flip[:, None] * flip


def _cross_matrices(vectors: Tensor) -> Tensor:
    """The matrices (..., 3, 3) that multiply like the cross product with each vector (..., 3)."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
