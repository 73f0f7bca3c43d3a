"""The backbones that ship with posecli. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from posecli.config import BackboneConfig

if TYPE_CHECKING:
    from posecli.nn.backbone import Backbone


class ResNetConfig(BackboneConfig):
    """ResNet (He et al. 2016), torchvision's: strides 4, 8, 16, 32."""

    name: ClassVar[str] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = Field(50, description="layers: 18, 34, 50, 101 or 152")
    stages: int = Field(4, ge=1, le=4, description="how many of the four stages there are: 3 ends at stride 16")

    def build(self) -> Backbone:
        from posecli.nn.torchvision import resnet

        return resnet(self.depth, self.pretrained, self.stages)


class ResNeXtConfig(BackboneConfig):
    """ResNeXt (Xie et al. 2017), torchvision's: 50 is 32x4d, 101 is 32x8d."""

    name: ClassVar[str] = "resnext"
    depth: Literal[50, 101] = Field(50, description="layers: 50 or 101")

    def build(self) -> Backbone:
        from posecli.nn.torchvision import resnext

        return resnext(self.depth, self.pretrained)


class MobileNetV2Config(BackboneConfig):
    """MobileNetV2 (Sandler et al. 2018), torchvision's."""

    name: ClassVar[str] = "mobilenet_v2"

    def build(self) -> Backbone:
        from posecli.nn.torchvision import mobilenet_v2

        return mobilenet_v2(self.pretrained)


class MobileNetV3Config(BackboneConfig):
    """MobileNetV3 (Howard et al. 2019), torchvision's."""

    name: ClassVar[str] = "mobilenet_v3"
    size: Literal["small", "large"] = Field("large", description="small or large")

    def build(self) -> Backbone:
        from posecli.nn.torchvision import mobilenet_v3

        return mobilenet_v3(self.size, self.pretrained)


class VGGConfig(BackboneConfig):
    """VGG (Simonyan and Zisserman 2015), torchvision's, without its fully connected layers."""

    name: ClassVar[str] = "vgg"
    depth: Literal[11, 13, 16, 19] = Field(16, description="layers: 11, 13, 16 or 19")
    batch_norm: bool = Field(True, description="batch normalisation after every convolution")

    def build(self) -> Backbone:
        from posecli.nn.torchvision import vgg

        return vgg(self.depth, self.batch_norm, self.pretrained)


class ViTConfig(BackboneConfig):
    """Vision transformer (Dosovitskiy et al. 2021), torchvision's: one map at the stride of its patches."""

    name: ClassVar[str] = "vit"
    variant: Literal["b_16", "b_32", "l_16"] = Field("b_16", description="size and patch: b_16, b_32 or l_16")

    def build(self) -> Backbone:
        from posecli.nn.torchvision import vit

        return vit(self.variant, self.pretrained)


class HRNetConfig(BackboneConfig):
    """HRNet (Sun et al. 2019): keeps a map at stride 4 all the way; HRNetV2 with `maps: all, enlarging: bilinear`."""

    name: ClassVar[str] = "hrnet"
    width: Literal[18, 32, 48] = Field(32, description="channels of the finest map: 18, 32 or 48")
    maps: Literal["finest", "all"] = Field("finest", description="the map at stride 4, or those at 4, 8, 16 and 32")
    enlarging: Literal["nearest", "bilinear"] = Field("nearest", description="how coarser maps meet finer ones")

    def build(self) -> Backbone:
        from posecli.nn.hrnet import hrnet

        return hrnet(self.width, self.maps, self.enlarging, self.pretrained)


class TimmConfig(BackboneConfig):
    """Any network of the timm library that gives feature maps; needs `pip install 'posecli[timm]'`."""

    name: ClassVar[str] = "timm"
    model: str = Field("resnet50d", description="timm's name of the network, as in `timm.list_models()`")

    def build(self) -> Backbone:
        from posecli.nn.timm import timm_backbone

        return timm_backbone(self.model, self.pretrained)


BACKBONES: list[type[BackboneConfig]] = [
    ResNetConfig,
    ResNeXtConfig,
    MobileNetV2Config,
    MobileNetV3Config,
    VGGConfig,
    ViTConfig,
    HRNetConfig,
    TimmConfig,
]
