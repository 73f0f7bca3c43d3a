"""Losses of associative embedding: squared error of heatmaps under a mask, tags pulled together and pushed apart.

Newell, Huang and Deng, Associative Embedding, NeurIPS 2017; with two resolutions Cheng et al., HigherHRNet, CVPR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from posecli_associative.targets import SceneTargets

Push = Literal["exp", "max", "exp-diagonal"]
"""How people's mean tags repel each other: exp(-d²), max(0, 1 - |d|), or exp(-d²) with each person's own 1 counted."""


def heatmap_loss(
    heatmaps: Tensor, targets: Tensor, mask: Tensor, supervise_empty: bool = True, foreground: float = 0.0
) -> Tensor:
    """The mean squared error of every picture's maps (B, K, h, w), (B,); cells where `mask` (B, h, w) is 0 count as
    no error. Without `supervise_empty` the maps of keypoints that nobody in the picture shows count as no error too.
    A cell counts 1 + `foreground` times its target: the few cells at keypoints else drown among all the others.
    """
    errors = (heatmaps.float() - targets).square() * mask[:, None].float()
    if foreground:
        errors = errors * (1 + foreground * targets)
    if not supervise_empty:
        errors = errors * (targets.sum(dim=(-2, -1), keepdim=True) > 0)
    return errors.mean(dim=(1, 2, 3))


def tags_at(tags: Tensor, cells: Tensor) -> Tensor:
    """The tags (B, P, K) that maps (B, K, h, w) hold at flat cells y * w + x (B, P, K), in float32."""
    columns = cells.transpose(1, 2)  # (B, K, P)
    return tags.flatten(2).gather(2, columns).transpose(1, 2).float()


def pull_and_push(tags: Tensor, visible: Tensor, kind: Push = "exp") -> tuple[Tensor, Tensor]:
    """How far tags (B, P, K) lie from their person's mean, and how near the means lie to each other, each (B,).

    `visible` (B, P, K) says which tags there are; a person without any is nobody. Pull is the mean over people of the
    mean squared distance. Push is half the mean over ordered pairs of different people; `exp-diagonal` adds every
    person's own 1 to the sum, a constant without effect on the gradient, as MMPose 1.x does. Nobody: both are 0; one
    person: push is 0.
    """
    weights = visible.to(tags.dtype)
    shown = weights.sum(dim=2)  # (B, P)
    exists = (shown > 0).to(tags.dtype)
    people = exists.sum(dim=1)  # (B,)
    means = (tags * weights).sum(dim=2) / shown.clamp(min=1)  # (B, P)
    spread = ((tags - means[..., None]).square() * weights).sum(dim=2) / shown.clamp(min=1)
    pull = spread.sum(dim=1) / people.clamp(min=1)
    distances = means[:, :, None] - means[:, None]  # (B, P, P)
    closeness = (1 - distances.abs()).clamp(min=0) if kind == "max" else torch.exp(-distances.square())
    closeness = closeness * exists[:, :, None] * exists[:, None]
    own = 0 if kind == "exp-diagonal" else people
    push = (closeness.sum(dim=(1, 2)) - own) / (people * (people - 1)).clamp(min=1)
    return pull, 0.5 * push * (people > 1)


@dataclass(frozen=True)
class StageLoss:
    """The weighted losses of one stage: MultiLossFactory in MMPose 0.x."""

    heatmap: float = 1.0
    pull: float = 1e-3
    push: float = 1e-3
    kind: Push = "exp"
    supervise_empty: bool = True
    foreground: float = 0.0

    def __call__(self, heatmaps: Tensor, tags: Tensor | None, targets: SceneTargets, mask: Tensor) -> dict[str, Tensor]:
        """Scalars `heatmap`, and `pull` and `push` where the stage has tags: means over the pictures."""
        error = heatmap_loss(heatmaps, targets.heatmaps, mask, self.supervise_empty, self.foreground)
        losses = {"heatmap": self.heatmap * error.mean()}
        if tags is not None:
            pull, push = pull_and_push(tags_at(tags, targets.cells), targets.visible, self.kind)
            losses |= {"pull": self.pull * pull.mean(), "push": self.push * push.mean()}
        return losses
