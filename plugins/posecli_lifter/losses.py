"""What unlabelled clips teach: poses must project to their 2D, bones must be as long as those of labelled ones.

VideoPose3D, Pavllo et al., CVPR 2019.

Every loss is a scalar in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posecli.losses.pose3d import BoneLength, length


class Projection(nn.Module):
    """The mean distance between projected poses and the 2D keypoints they were lifted from."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, poses: Tensor, pixels: Tensor, intrinsics: Tensor, weights: Tensor | None = None) -> Tensor:
        """poses (B, ..., K, 3) in the camera frame, pixels (B, ..., K, 2), intrinsics as `project` takes them."""
        distances = length(project(poses.float(), intrinsics.float()) - pixels.float())
        if weights is None:
            return self.factor * distances.mean()
        return self.factor * (distances * weights).sum() / weights.sum().clamp(min=1)


class BoneMean(nn.Module):
    """The difference of the mean bone lengths of two sets of poses, mean over the bones.

    The labelled poses are those the network gave where truth is known; a set without a pose is no fault.
    """

    def __init__(self, bones: BoneLength, factor: float = 1.0) -> None:
        super().__init__()
        self.bones = bones
        self.factor = factor

    def forward(self, poses: Tensor, labelled: Tensor) -> Tensor:
        """poses (B, ..., K, 3); labelled (B,) bool says of which set each is."""
        lengths = self.bones.lengths(poses).flatten(1, -2).mean(dim=1)  # (B, bones)
        share = labelled.float()
        if not (labelled.any() and (~labelled).any()):
            return 0.0 * lengths.sum()
        known = (lengths * share[:, None]).sum(dim=0) / share.sum()
        unknown = (lengths * (1 - share)[:, None]).sum(dim=0) / (1 - share).sum()
        return self.factor * (known - unknown).abs().mean()


def project(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Where a camera sees points (B, ..., K, 3), (B, ..., K, 2), in the units of its focal length.

    intrinsics (B, 4) or (B, 9): focal lengths, centre, and k1 k2 k3 p1 p2 of Brown's lens. Directions are kept within
    45 degrees of the axis, so that a pose near the camera, or behind it, has a place and a gradient.
    """
    shape = (len(points), *(1 for _ in points.shape[1:-1]), -1)
    focal, center, lens = (part.reshape(shape) for part in (intrinsics[:, :2], intrinsics[:, 2:4], intrinsics[:, 4:]))
    plane = (points[..., :2] / points[..., 2:]).clamp(-1, 1)
    if lens.shape[-1]:
        square = plane.square().sum(dim=-1, keepdim=True)
        powers = torch.cat([square, square**2, square**3], dim=-1)
        radial = 1 + (lens[..., :3] * powers).sum(dim=-1, keepdim=True)
        tangential = (lens[..., 3:] * plane).sum(dim=-1, keepdim=True)
        plane = plane * (radial + tangential) + lens[..., 3:] * square
    return focal * plane + center
