"""torchvision's classification networks as backbones: its own modules, so its weights fit by name."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
import torchvision.models as networks
from torch import Tensor, nn
from torchvision.models.vgg import cfgs as vgg_layouts
from torchvision.models.vgg import make_layers

from posecli.console import PosecliError
from posecli.nn.backbone import Backbone
from posecli.nn.pretrained import load_published

Network = TypeVar("Network", bound=Backbone)


class ResNet(Backbone):
    """The four stages of a ResNet or ResNeXt, or the first of them."""

    def __init__(self, network: networks.ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = network.conv1, network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        widest = network.fc.in_features
        self.channels = (widest // 8, widest // 4, widest // 2, widest)
        self.strides = (4, 8, 16, 32)

    def keep(self, stages: int) -> None:
        """Leave out the stages after the first so many, with their weights."""
        for stage in range(stages, len(self.channels)):
            delattr(self, f"layer{stage + 1}")
        self.channels, self.strides = self.channels[:stages], self.strides[:stages]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16 and 32."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in range(len(self.channels)):
            layer = getattr(self, f"layer{stage + 1}")
            features = layer(features)
            maps.append(features)
        return maps


class Stages(Backbone):
    """A plain sequence of blocks; a stage ends with the last block before its resolution falls."""

    def __init__(self, features: nn.Sequential, finest: int = 4) -> None:
        super().__init__()
        self.features = features
        ends = _stage_ends(features, finest)
        self.ends = tuple(ends)
        self.channels = tuple(channels for channels, _ in ends.values())
        self.strides = tuple(stride for _, stride in ends.values())

    def forward(self, images: Tensor) -> list[Tensor]:
        """The last map of every stage."""
        maps = []
        for index, block in enumerate(self.features):
            images = block(images)
            if index in self.ends:
                maps.append(images)
        return maps


def _stage_ends(features: nn.Sequential, finest: int) -> dict[int, tuple[int, int]]:
    """For the last block of every stage at stride `finest` or coarser: its index, channels and stride."""
    size = 64
    last: dict[int, tuple[int, int]] = {}  # stride -> block index, channels
    features.eval()  # so that the running statistics stay as they are
    with torch.no_grad():
        maps = torch.zeros(1, 3, size, size)
        for index, block in enumerate(features):
            maps = block(maps)
            last[size // maps.shape[-1]] = (index, maps.shape[1])
    features.train()
    return {index: (channels, stride) for stride, (index, channels) in last.items() if stride >= finest}


class ViT(Backbone):
    """A vision transformer whose tokens are laid out as a map again; takes any size its patches tile."""

    def __init__(self, network: networks.VisionTransformer) -> None:
        super().__init__()
        self.conv_proj, self.class_token, self.encoder = network.conv_proj, network.class_token, network.encoder
        self.channels = (network.hidden_dim,)
        self.strides = (network.patch_size,)

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map at the stride of the patches."""
        height, width = images.shape[-2:]
        stride = self.strides[0]
        if height % stride or width % stride:
            raise PosecliError(f"vit: the input size {width}x{height} must be a multiple of the patch, {stride} pixels")
        tokens = self.conv_proj(images).flatten(2).transpose(1, 2)  # (B, N, C)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        rows, columns = height // stride, width // stride
        tokens = self.encoder.dropout(tokens + self.position(rows, columns))
        tokens = self.encoder.ln(self.encoder.layers(tokens))
        return [tokens[:, 1:].transpose(1, 2).reshape(len(images), -1, rows, columns)]

    def position(self, rows: int, columns: int) -> Tensor:
        """The position embedding for a grid of patches, (1, 1 + rows * columns, C), interpolated where need be."""
        embedding: Tensor = self.encoder.pos_embedding
        side = math.isqrt(embedding.shape[1] - 1)
        if (rows, columns) == (side, side):
            return embedding
        grid = embedding[:, 1:].transpose(1, 2).reshape(1, -1, side, side)  # (1, C, side, side)
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def resnet(depth: int, pretrained: bool = False, stages: int = 4) -> ResNet:
    """ResNet-18, 34, 50, 101 or 152, or its first stages."""
    backbone = _resnet(f"resnet{depth}", pretrained)
    backbone.keep(stages)
    return backbone


def resnext(depth: int, pretrained: bool = False) -> ResNet:
    """ResNeXt-50 (32x4d) or ResNeXt-101 (32x8d)."""
    return _resnet({50: "resnext50_32x4d", 101: "resnext101_32x8d"}[depth], pretrained)


def _resnet(name: str, pretrained: bool) -> ResNet:
    backbone = ResNet(networks.get_model(name, weights=None))
    return _published(backbone, name, pretrained)


def mobilenet_v2(pretrained: bool = False) -> Stages:
    """MobileNetV2 at width 1."""
    return _stages("mobilenet_v2", pretrained)


def mobilenet_v3(size: Literal["small", "large"], pretrained: bool = False) -> Stages:
    """MobileNetV3, small or large."""
    return _stages(f"mobilenet_v3_{size}", pretrained)


def _stages(name: str, pretrained: bool) -> Stages:
    backbone = Stages(networks.get_model(name, weights=None).features)
    return _published(backbone, name, pretrained)


def vgg(depth: int, batch_norm: bool, pretrained: bool = False) -> Stages:
    """VGG-11, 13, 16 or 19; the last map lies behind the last pooling."""
    layout = vgg_layouts[{11: "A", 13: "B", 16: "D", 19: "E"}[depth]]
    features = make_layers(layout, batch_norm=batch_norm)  # the whole VGG would fill 120 million weights for nothing
    for module in features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # VGG's convolutions have a bias
    return _published(Stages(features), f"vgg{depth}{'_bn' if batch_norm else ''}", pretrained)


def vit(variant: str, pretrained: bool = False) -> ViT:
    """ViT b_16, b_32 or l_16, made for 224x224 and taking other sizes too."""
    return _published(ViT(networks.get_model(f"vit_{variant}", weights=None)), f"vit_{variant}", pretrained)


def _published(backbone: Network, name: str, pretrained: bool) -> Network:
    if pretrained:
        load_published(backbone, networks.get_model_weights(name)["IMAGENET1K_V1"].url)
    return backbone
