"""HRNet: branches at several resolutions, kept side by side and mixed again and again.

Sun et al., Deep High-Resolution Representation Learning for Human Pose Estimation, CVPR 2019; with all four maps and
bilinear enlarging the network of HRNetV2, Wang et al., TPAMI 2020. Modules carry the published names, so published
weights fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from posecli.console import PosecliError
from posecli.nn.backbone import Backbone

MODULES = (1, 4, 3)  # exchanges in stages 2, 3 and 4, with 2, 3 and 4 branches
BLOCKS = 4  # residual blocks of every branch between two exchanges
Enlarging = Literal["nearest", "bilinear"]


class Exchange(nn.Module):
    """Every branch runs its residual blocks, then each output sums all branches at its own resolution."""

    def __init__(self, channels: Sequence[int], outputs: int, enlarging: Enlarging = "nearest") -> None:
        super().__init__()
        self.enlarging = enlarging
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(BLOCKS))) for width in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_path(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map for each of the first `outputs` branches."""
        maps = [branch(features) for branch, features in zip(self.branches, maps, strict=True)]
        return [
            self._mix(paths, maps, maps[target].shape[-2:])  # type: ignore[arg-type]
            for target, paths in enumerate(self.fuse_layers)
        ]

    def _mix(self, paths: nn.ModuleList, maps: Sequence[Tensor], size: torch.Size) -> Tensor:
        parts = [path(features) for path, features in zip(paths, maps, strict=True)]
        mixed = self._enlarged(parts[0], size)
        for part in parts[1:]:
            mixed = mixed + self._enlarged(part, size)
        return F.relu(mixed)

    def _enlarged(self, features: Tensor, size: torch.Size) -> Tensor:
        if features.shape[-2:] == size:
            return features
        corners = None if self.enlarging == "nearest" else False
        return F.interpolate(features, size, mode=self.enlarging, align_corners=corners)


def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch to another: a 1x1 convolution upwards (enlarged afterwards), strided 3x3 ones downwards."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(channels[source], channels[target], 1, bias=False), nn.BatchNorm2d(channels[target])
        )
    steps = [_downwards(channels[source], channels[source]) for _ in range(target - source - 1)]
    last = _downwards(channels[source], channels[target])[:-1]  # the sum is rectified, not its terms
    return nn.Sequential(*steps, last)


def _downwards(inputs: int, outputs: int) -> nn.Sequential:
    return _convolution(inputs, outputs, stride=2)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class HRNet(Backbone):
    """Four stages; `width` channels at stride 4, doubled at each coarser branch."""

    def __init__(self, width: int, maps: Literal["finest", "all"] = "finest", enlarging: Enlarging = "nearest") -> None:
        super().__init__()
        channels = [width << branch for branch in range(4)]
        outputs = 4 if maps == "all" else 1
        self.channels = tuple(channels[:outputs])
        self.strides = (4, 8, 16, 32)[:outputs]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64)
        self.layer1 = _bottlenecks()
        self.transition1 = nn.ModuleList(
            [_convolution(256, channels[0], stride=1), nn.Sequential(_downwards(256, channels[1]))]
        )
        self.stage2 = _stage(channels[:2], MODULES[0], 2, enlarging)
        self.transition2 = _transition(channels[:3])
        self.stage3 = _stage(channels[:3], MODULES[1], 3, enlarging)
        self.transition3 = _transition(channels)
        self.stage4 = _stage(channels, MODULES[2], outputs, enlarging)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The finest map, or all four."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer1(F.relu(self.bn2(self.conv2(features))))
        maps = self.stage2([transition(features) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        result: list[Tensor] = self.stage4([*maps, self.transition3[-1](maps[-1])])
        return result


def _bottlenecks() -> nn.Sequential:
    widen = nn.Sequential(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256))
    return nn.Sequential(Bottleneck(64, 64, downsample=widen), *(Bottleneck(256, 64) for _ in range(3)))


def _transition(channels: Sequence[int]) -> nn.ModuleList:
    """One more branch, made from the coarsest one so far; the others go on as they are."""
    kept = [nn.Identity() for _ in channels[:-1]]
    return nn.ModuleList([*kept, nn.Sequential(_downwards(channels[-2], channels[-1]))])


def _stage(channels: Sequence[int], modules: int, outputs: int, enlarging: Enlarging) -> nn.Sequential:
    """`modules` exchanges in a row, of which only the last may leave branches out."""
    return nn.Sequential(
        *(Exchange(channels, outputs if index == modules - 1 else len(channels), enlarging) for index in range(modules))
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def hrnet(
    width: int,
    maps: Literal["finest", "all"] = "finest",
    enlarging: Enlarging = "nearest",
    pretrained: bool = False,
) -> HRNet:
    """HRNet-w18, w32 or w48. Raises PosecliError for `pretrained`: no weights are published with a hash."""
    if pretrained:
        raise PosecliError(
            "hrnet: no weights are published with a hash, so pretrained=true cannot be had; "
            "bring a checkpoint with `posecli import mmpose` and start from it with --init"
        )
    return HRNet(width, maps, enlarging)
