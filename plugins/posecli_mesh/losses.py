"""What a body mesh is trained with: reprojected keypoints, 3D keypoints, vertices, parameters, and a discriminator."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GanKind = Literal["vanilla", "lsgan", "wgan", "hinge"]


def translation(camera: Tensor, focal: float, size: int) -> Tensor:
    """Where a body stands before a pinhole camera, (B, 3) metres, from weak perspective (B, 3): scale and shift.

    At the body's depth a scale of 1 lets two metres fill the input, `size` pixels wide.
    """
    depth = 2 * focal / (size * camera[:, 0] + 1e-9)
    return torch.stack([camera[:, 1], camera[:, 2], depth], dim=-1)


def project(points: Tensor, camera: Tensor, focal: float, size: int) -> Tensor:
    """Points (B, N, 3) in metres as pixels (B, N, 2) from the input's centre, for `camera` (B, 3) as above."""
    placed = points + translation(camera, focal, size)[:, None]
    return focal * placed[..., :2] / placed[..., 2:]


class MeshLoss(nn.Module):
    """HMR's losses with their weights; each is off where its labels are missing, and a mean over the whole batch."""

    def __init__(
        self, weights: dict[str, float], root: tuple[int, ...], size: tuple[int, int], focal: float = 5000.0
    ) -> None:
        """`weights` by the loss's name; keypoints in 3D are taken from the middle of those numbered in `root`.

        `size` is width and height of the input in pixels, `focal` that of the camera in the same.
        """
        super().__init__()
        self.weights, self.root, self.size, self.focal = weights, root, size, focal

    def keypoints_2d(self, joints: Tensor, camera: Tensor, keypoints: Tensor, visible: Tensor) -> Tensor:
        """Joints (B, K, 3) in metres, projected, against `keypoints` (B, K, 2) in input pixels where `visible` (B, K).

        Smooth L1 in units of half the input, from its centre.
        """
        last = torch.tensor(self.size, dtype=joints.dtype, device=joints.device) - 1
        projected = project(joints, camera, self.focal, self.size[0])
        errors = F.smooth_l1_loss(2 * projected / last, 2 * keypoints / last - 1, reduction="none")
        return (errors * visible[..., None]).mean()

    def keypoints_3d(self, joints: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Joints (B, K, 3) against `truth` in metres, both from their root, where `known` (B, K): smooth L1."""
        errors = F.smooth_l1_loss(self._rooted(joints), self._rooted(truth), reduction="none")
        return (errors * known[..., None]).mean()

    def vertices(self, vertices: Tensor, truth: Tensor, has_body: Tensor) -> Tensor:
        """Vertices (B, V, 3) in metres where `has_body` (B,): L1."""
        return ((vertices - truth).abs() * has_body[:, None, None]).mean()

    def rotations(self, rotations: Tensor, truth: Tensor, has_body: Tensor) -> Tensor:
        """Rotations (B, P, 3, 3) where `has_body` (B,): squared error of the matrices."""
        return ((rotations - truth).square() * has_body[:, None, None, None]).mean()

    def shape(self, shape: Tensor, truth: Tensor, has_body: Tensor) -> Tensor:
        """Shapes (B, S) where `has_body` (B,): squared error."""
        return ((shape - truth).square() * has_body[:, None]).mean()

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each loss times its weight; what weighs nothing is left out."""
        return {name: loss * self.weights[name] for name, loss in losses.items() if self.weights[name]}

    def _rooted(self, points: Tensor) -> Tensor:
        middle = torch.stack([points[:, index] for index in self.root]).mean(dim=0)
        return points - middle[:, None]


class GANLoss(nn.Module):
    """How far scores are from what they should be.

    vanilla: cross-entropy (Goodfellow et al., 2014); lsgan: squares (Mao et al., 2017); wgan: the plain difference
    (Arjovsky et al., 2017); hinge: differences up to a margin for the discriminator (Miyato et al., 2018).
    """

    def __init__(self, kind: GanKind, weight: float = 1.0) -> None:
        """`weight` is that of the generator's side; the discriminator's own loss has weight 1."""
        super().__init__()
        self.kind, self.weight = kind, weight

    def judged(self, scores: Tensor, real: bool, counts: Tensor | None = None) -> Tensor:
        """The discriminator's loss for scores (B, N) of what is real or made; rows weigh as `counts` (B,) says."""
        sign = 1.0 if real else -1.0
        if self.kind == "hinge":
            return _mean(F.relu(1 - sign * scores), counts)
        return _mean(self._plain(scores, real), counts)

    def fooling(self, scores: Tensor, real: bool = True) -> Tensor:
        """The generator's weighted loss: its scores (B, N) should be those of the real."""
        if self.kind == "hinge":
            return -scores.mean() * self.weight
        return self._plain(scores, real).mean() * self.weight

    def _plain(self, scores: Tensor, real: bool) -> Tensor:
        sign = 1.0 if real else -1.0
        if self.kind == "vanilla":
            return F.softplus(-sign * scores)
        if self.kind == "lsgan":
            return (scores - float(real)).square()
        return -sign * scores


def _mean(values: Tensor, counts: Tensor | None) -> Tensor:
    return values.mean() if counts is None else (values * counts[:, None]).mean()
