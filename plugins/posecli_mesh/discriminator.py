"""Whether a pose and a shape are a person's: HMR's discriminator (Kanazawa et al., CVPR 2018)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

JOINT_CHANNELS = 32
POSE_HIDDEN = 1024
SHAPE_HIDDEN = 5


class PoseDiscriminator(nn.Module):
    """Each rotation on its own: the same two layers on all, without a nonlinearity, as published; a judge for each."""

    def __init__(self, rotations: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, width in enumerate((9, JOINT_CHANNELS)):
            layers[f"conv_{index}"] = nn.Conv2d(width, JOINT_CHANNELS, kernel_size=1)
        self.conv_blocks = nn.Sequential(layers)
        self.fc_layer = nn.ModuleList(nn.Linear(JOINT_CHANNELS, 1) for _ in range(rotations))

    def forward(self, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, R) and features (B, 32, 1, R) for `rotations` (B, R, 9)."""
        features = self.conv_blocks(rotations.transpose(1, 2).unsqueeze(2))
        scores = [judge(features[:, :, 0, index]) for index, judge in enumerate(self.fc_layer)]
        return torch.cat(scores, dim=1), features


class Judge(nn.Module):
    """Linear layers with rectifiers between them, down to one score."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (width, after) in enumerate(zip(widths, (*widths[1:], 1), strict=True)):
            layers[f"regressor_fc_{index}"] = nn.Linear(width, after)
            if after != 1:
                layers[f"relu_{index}"] = nn.ReLU()
        self.fc_blocks = nn.Sequential(layers)

    def forward(self, values: Tensor) -> Tensor:
        scores: Tensor = self.fc_blocks(values)
        return scores


class BodyDiscriminator(nn.Module):
    """Scores for each rotation but the root's, for all of them together, and for the shape."""

    def __init__(self, poses: int, shapes: int) -> None:
        """For bodies with `poses` rotations, the root's included, and `shapes` numbers of shape."""
        super().__init__()
        self.pose_discriminator = PoseDiscriminator(poses - 1)
        self.full_pose_discriminator = Judge((JOINT_CHANNELS * (poses - 1), POSE_HIDDEN, POSE_HIDDEN))
        self.shape_discriminator = Judge((shapes, SHAPE_HIDDEN))

    def forward(self, rotations: Tensor, shape: Tensor) -> Tensor:
        """Scores (B, P + 1) for `rotations` (B, P, 3, 3) and `shape` (B, S)."""
        each, features = self.pose_discriminator(rotations[:, 1:].flatten(2))
        together = self.full_pose_discriminator(features.flatten(1))
        return torch.cat([each, together, self.shape_discriminator(shape)], dim=1)
