"""HMR's head (Kanazawa et al., CVPR 2018): from the mean body, corrections in a few rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posecli.nn.precise import precise
from posecli_mesh.guide import Guide
from posecli_mesh.rotations import from_six, to_six


@dataclass(frozen=True)
class Estimate:
    """What the head says of B bodies."""

    rotations: Tensor  # (B, P, 3, 3)
    shape: Tensor  # (B, S)
    camera: Tensor  # (B, 3): scale, and the shift in x and y in metres; see `losses.project`
    heatmaps: Tensor | None = None  # (B, K, h, w) logits of a guide


class RegressionHead(nn.Module):
    """Pooled features and the last estimate in, a better one out; six numbers a rotation (Zhou et al., CVPR 2019).

    Two layers without a nonlinearity between them, as published. A guide adds the places of keypoints to the features.
    """

    init_pose: Tensor  # (1, 6 P)
    init_shape: Tensor  # (1, S)
    init_cam: Tensor  # (1, 3)

    def __init__(
        self,
        channels: int,
        pose: Tensor,
        shape: Tensor,
        camera: Tensor,
        *,
        hidden: int = 1024,
        rounds: int = 3,
        dropout: float = 0.5,
        guide: Guide | None = None,
    ) -> None:
        """`pose` (6 P,), `shape` (S,) and `camera` (3,) are where the first round begins."""
        super().__init__()
        self.rounds = rounds
        self.guide = guide
        inputs = channels if guide is None else channels + 2 * guide.keypoints
        self.fc1 = nn.Linear(inputs + len(pose) + len(shape) + len(camera), hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.decpose = nn.Linear(hidden, len(pose))
        self.decshape = nn.Linear(hidden, len(shape))
        self.deccam = nn.Linear(hidden, len(camera))
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)  # the first estimates are near the mean body
        self.register_buffer("init_pose", pose[None].float())
        self.register_buffer("init_shape", shape[None].float())
        self.register_buffer("init_cam", camera[None].float())

    def forward(self, maps: Sequence[Tensor]) -> Estimate:
        """The estimate for a backbone's maps (B, C, H, W), from fine to coarse; only a guide looks at more than one."""
        pooled = maps[-1].mean(dim=(2, 3))
        heatmaps = None
        if self.guide is not None:
            heatmaps = self.guide(maps)
            pooled = torch.cat([pooled, self.guide.places(heatmaps).flatten(1)], dim=1)
        pose, shape, camera = (
            start.expand(len(pooled), -1) for start in (self.init_pose, self.init_shape, self.init_cam)
        )
        for _ in range(self.rounds):
            hidden = self.dropout(self.fc1(torch.cat([pooled, pose, shape, camera], dim=1)))
            hidden = self.dropout(self.fc2(hidden))
            more = self._corrections(hidden)
            pose, shape, camera = pose + more[0], shape + more[1], camera + more[2]
        return Estimate(from_six(pose.view(len(pose), -1, 6)), shape, camera, heatmaps)

    @precise
    def _corrections(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of pose, shape and camera."""
        return self.decpose(hidden), self.decshape(hidden), self.deccam(hidden)


def facing_the_camera(poses: int) -> Tensor:
    """The rest pose (6 P,) turned about x, so that a body whose y points up stands upright before the camera."""
    rotations = torch.eye(3).repeat(poses, 1, 1)
    rotations[0] = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
    return to_six(rotations).flatten()
