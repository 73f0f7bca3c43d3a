"""From joints to volumes of voxels and back, and from root depths to bins; batched torch on any device."""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from posecli.codecs.codec import Size, constant, finite, labelled
from posecli.nn.precise import precise

NEIGHBOURS = tuple(itertools.product((-1, 0, 1), repeat=3))  # (down in depth, down, right), the voxel itself included
TINY = 1e-10  # below it a voxel is no evidence and has no logarithm
Decoding = Literal["between", "highest", "mean"]


class Blobs(NamedTuple):
    """Gaussians in volumes as their three factors: the value of voxel (z, y, x) is z[z] y[y] x[x].

    Three vectors hold what a volume of D H W numbers would.
    """

    x: Tensor  # (B, K, W)
    y: Tensor  # (B, K, H)
    z: Tensor  # (B, K, D), times the peak
    weights: Tensor  # (B, K)

    def full(self) -> Tensor:
        """The volumes (B, K, D, H, W)."""
        return self.z[..., :, None, None] * self.y[..., None, :, None] * self.x[..., None, None, :]


class Volume:
    """A volume of voxels for each joint with a Gaussian at its place (Moon et al., ECCV 2020); `peak` at its top.

    Joints are (B, K, 3): input pixels x and y, and millimetres behind the own hand's wrist. Voxel (0, 0, 0) is at the
    centre of the upper left pixel, `bound` / 2 before the wrist. The Gaussian stands between voxels and ends 3 sigma
    from its top. A joint that is not visible, or outside the volume along the depth, has weight 0; one outside the
    picture has what is left of its Gaussian, which may be nothing.
    """

    def __init__(
        self, input_size: Size, map_size: Size, depth: int, bound: float = 400.0, sigma: float = 2.5, peak: float = 255
    ) -> None:
        """Sizes are (width, height) in pixels and voxels, `depth` in voxels, `bound` millimetres, `sigma` in voxels."""
        self.input_size = input_size
        self.map_size = map_size
        self.depth = depth
        self.bound = bound
        self.sigma = sigma
        self.peak = peak

    @property
    def cells(self) -> tuple[float, float, float]:
        """The sides of a voxel: input pixels along x and y, millimetres along z."""
        return (
            self.input_size[0] / self.map_size[0],
            self.input_size[1] / self.map_size[1],
            self.bound / self.depth,
        )

    def encode(self, points: Tensor, visible: Tensor) -> Blobs:
        """Gaussians of joints (B, K, 3) with visibility (B, K)."""
        points, weights = labelled(points, visible)
        places = self.voxels(points)  # (B, K, 3)
        inside = (places[..., 2] >= 0) & (places[..., 2] < self.depth)
        x, y, z = (
            self._profile(place, length)
            for place, length in zip(places.unbind(-1), (*self.map_size, self.depth), strict=True)
        )
        return Blobs(x, y, self.peak * z, weights * inside)

    @torch.no_grad()
    def decode(self, volumes: Tensor, how: Decoding = "between") -> tuple[Tensor, Tensor]:
        """Joints (B, K, 3) and scores (B, K), the highest voxel over the peak.

        highest: the voxel itself. between: the top of the parabola through the logarithms of the voxels around it,
        which for a Gaussian is its exact place; along an axis on whose border the highest voxel lies it stays there.
        mean: that of all voxels by their height, of several places a network hesitates between the one in the middle.
        """
        volumes = finite(volumes)
        if how == "mean":
            return self._points(self.means(volumes)), volumes.flatten(2).amax(dim=-1) / self.peak
        values, index = volumes.flatten(2).max(dim=-1)
        height, width = volumes.shape[-2:]
        z = torch.div(index, height * width, rounding_mode="floor")
        y = torch.div(index, width, rounding_mode="floor") % height
        voxels = torch.stack([index % width, y, z], dim=-1)  # (B, K, 3)
        places = voxels.to(volumes.dtype)
        if how == "between":
            places = places + _tops(volumes, voxels)
        return self._points(places), values / self.peak

    def of_logits(self, logits: Tensor) -> Tensor:
        """Volumes of what was learnt as a softmax over voxels, scaled so that perfect logits give the Gaussian."""
        chances = torch.softmax(logits.float().flatten(2), dim=2).view(logits.shape)
        return chances * (self.peak * (self.sigma * math.sqrt(2 * math.pi)) ** 3)

    def flip(self, volumes: Tensor, flip_index: Tensor, shift: bool = True) -> Tensor:
        """Volumes of mirrored pictures mirrored back, hands swapped; a shift moves them a voxel to the right.

        The mirror image of a grid whose voxels are 4 pixels wide lies 3 pixels to the left.
        """
        mirrored = volumes[:, flip_index].flip(-1)
        return torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=-1) if shift else mirrored

    @precise
    def means(self, volumes: Tensor) -> Tensor:
        """The mean places (B, K, 3) of volumes in voxels, weighed by their heights; what is below 0 counts as 0."""
        heights = volumes.clamp(min=0)
        profiles = [heights.sum(dim=others) for others in ((2, 3), (2, 4), (3, 4))]  # along x, y, z
        whole = profiles[0].sum(dim=-1).clamp(min=TINY)  # (B, K)
        steps = [torch.arange(profile.shape[-1], device=volumes.device, dtype=volumes.dtype) for profile in profiles]
        return torch.stack([profile @ step / whole for profile, step in zip(profiles, steps, strict=True)], dim=-1)

    def voxels(self, points: Tensor) -> Tensor:
        """Joints (B, K, 3) of pixels and millimetres in voxels, as `decode` takes them back."""
        return points / constant(self.cells, points) + constant((0, 0, self.depth / 2), points)

    def _points(self, places: Tensor) -> Tensor:
        return (places - constant((0, 0, self.depth / 2), places)) * constant(self.cells, places)

    def _profile(self, center: Tensor, length: int) -> Tensor:
        """A Gaussian (B, K, length) along one axis, between the voxels nearest to 3 sigma from its centre (B, K)."""
        center = center[..., None]
        voxels = torch.arange(length, device=center.device, dtype=center.dtype)
        first, last = torch.round(center - 3 * self.sigma), torch.round(center + 3 * self.sigma)
        bell = torch.exp(-((voxels - center) ** 2) / (2 * self.sigma**2))
        return bell * ((voxels >= first) & (voxels <= last))


def _tops(volumes: Tensor, voxels: Tensor) -> Tensor:
    """How far, at most half a voxel, the tops lie from the highest voxels (B, K, 3), (B, K, 3).

    Along each axis a parabola through three logarithms: those of the sums over the nine voxels across it.
    """
    depth, height, width = volumes.shape[-3:]
    steps = torch.tensor(NEIGHBOURS, device=voxels.device)  # (27, 3): z, y, x
    around = voxels.flip(-1)[:, :, None] + steps  # (B, K, 27, 3)
    limits = torch.tensor([depth, height, width], device=voxels.device)
    inside = ((around >= 0) & (around < limits)).all(dim=-1)
    z, y, x = around.clamp(min=torch.zeros_like(limits), max=limits - 1).unbind(-1)
    values = volumes.flatten(2).gather(2, (z * height + y) * width + x) * inside  # (B, K, 27)
    cube = values.clamp(min=0).view(*values.shape[:2], 3, 3, 3)
    moves = [_top(cube.sum(dim=others)) for others in ((2, 3), (2, 4), (3, 4))]  # along x, y, z
    found = torch.stack(moves, dim=-1)
    border = (voxels == 0) | (voxels == limits.flip(0) - 1)
    return torch.where(border, 0, found)


def _top(profile: Tensor) -> Tensor:
    """Where the parabola through the logarithms of three values (B, K, 3) has its top, (B, K), -0.5 to 0.5."""
    before, here, after = profile.clamp(min=TINY).log().unbind(-1)
    bend = 2 * here - before - after
    known = (profile > TINY).all(dim=-1) & (bend > TINY)
    return torch.where(known, (after - before) / (2 * bend.clamp(min=TINY)), 0).clamp(-0.5, 0.5)


class DepthBins:
    """How far the left wrist lies behind the right one, `bound` millimetres in `count` bins: (B,) <-> (B, 1)."""

    def __init__(self, count: int = 64, bound: float = 400.0) -> None:
        self.count = count
        self.bound = bound

    def encode(self, depth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Places (B, 1) in bins of depths (B,) in millimetres, and weights (B, 1), 0 beyond the bins."""
        places = (depth.float()[:, None] / self.bound + 0.5) * self.count
        inside = (places >= 0) & (places <= self.count)
        return places, valid.float()[:, None] * inside

    def decode(self, places: Tensor) -> Tensor:
        """Millimetres (B,)."""
        return (places.float()[:, 0] / self.count - 0.5) * self.bound

    def flip(self, places: Tensor) -> Tensor:
        """The places (B, 1) that mirrored pictures have."""
        return self.count - places
