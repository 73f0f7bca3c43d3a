"""InterNet's losses: volumes against Gaussians that are never made, root depths, and which hands there are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from posecli.nn.precise import precise
from posecli_interhand.volume import Blobs


@precise
def volume_error(volumes: Tensor, blobs: Blobs) -> Tensor:
    """The mean over all B K D H W voxels of weight times squared difference from the Gaussians, a scalar in float32.

    Equal to the error against `blobs.full()`: sum (P - T)^2 = sum P^2 - 2 sum P T + sum T^2, where T is a product of
    three vectors, so that the second sum is three products of matrices and vectors and the third one of three numbers.
    """
    total: Tensor = _VolumeError.apply(volumes.float(), *blobs)
    return total / volumes.numel()


class _VolumeError(torch.autograd.Function):
    """The weighted sum of squared differences. The gradient is made in one tensor of the size of the volumes."""

    @staticmethod
    def forward(ctx: FunctionCtx, volumes: Tensor, x: Tensor, y: Tensor, z: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(volumes, x, y, z, weights)
        batch, joints, depth, height, width = volumes.shape
        count = batch * joints
        rows = volumes.reshape(count, depth * height, width)
        product = torch.bmm(rows, x.reshape(count, width, 1)).view(count, depth, height)
        product = torch.bmm(product, y.reshape(count, height, 1)).view(count, depth)
        product = (product * z.reshape(count, depth)).sum(dim=1)
        flat = volumes.reshape(count, -1)
        own = torch.linalg.vector_norm(flat, dim=1) ** 2
        target = torch.stack([(factor * factor).sum(dim=-1) for factor in (x, y, z)]).prod(dim=0).reshape(count)
        total: Tensor = ((own - 2 * product + target) * weights.reshape(count)).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        volumes, x, y, z, weights = ctx.saved_tensors  # type: ignore[attr-defined]  # torch's context takes attributes
        scale = 2 * gradient * weights
        result = volumes * scale[..., None, None, None]
        plane = (scale[..., None] * z)[..., :, None] * y[..., None, :]  # (B, K, D, H)
        result.addcmul_(plane[..., None], x[..., None, None, :], value=-1)
        return result, None, None, None, None


@precise
def volume_entropy(logits: Tensor, blobs: Blobs) -> Tensor:
    """The mean over all B K joints of weight times cross entropy of a softmax over the voxels against the Gaussians.

    The Gaussians are made to sum to 1 over the voxels; one of which nothing is inside counts as no error.
    """
    batch, joints, depth, height, width = logits.shape
    count = batch * joints
    flat = logits.float().reshape(count, -1)
    x, y, z = (factor.reshape(count, -1) for factor in (blobs.x, blobs.y, blobs.z))
    rows = torch.bmm(flat.view(count, depth * height, width), x[..., None])
    planes = torch.bmm(rows.view(count, depth, height), y[..., None])[..., 0]
    mass = x.sum(dim=1) * y.sum(dim=1) * z.sum(dim=1)
    inside = mass > 0
    product = (planes * z).sum(dim=1) / torch.where(inside, mass, 1)
    errors = torch.logsumexp(flat, dim=1) - product
    return (errors * inside * blobs.weights.reshape(count)).mean()


def place_error(places: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The mean over all B K joints of weight times |difference| in x, y and z together, places (B, K, 3) in voxels."""
    return ((places - truth).abs().sum(dim=-1) * weights).mean()


def root_error(places: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The mean of |difference| times weight of places in bins (B, 1), a scalar."""
    return (((places.float() - truth) * weights).abs()).mean()


def type_error(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """The mean of binary cross entropy times weight of logits (B, 2); `valid` is (B,)."""
    errors = F.binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none")
    return (errors * valid.float()[:, None]).mean()
