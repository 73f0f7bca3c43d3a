"""All of timm's networks that give feature maps, as one backbone."""

from __future__ import annotations

import difflib
from typing import Any

from torch import Tensor, nn

from posecli.console import PosecliError
from posecli.nn.backbone import Backbone


class TimmBackbone(Backbone):
    """A network of timm made with `features_only=True`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        information: Any = network.feature_info
        self.channels = tuple(information.channels())
        self.strides = tuple(information.reduction())

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps timm gives, from fine to coarse."""
        maps: list[Tensor] = self.network(images)
        return [
            features if features.shape[1] == channels else features.permute(0, 3, 1, 2)  # Swin and others: (B, H, W, C)
            for features, channels in zip(maps, self.channels, strict=True)
        ]


def timm_backbone(model: str, pretrained: bool = False) -> TimmBackbone:
    """The network timm calls `model`. Raises PosecliError when timm, the name or its feature maps are missing."""
    if pretrained:
        raise PosecliError(
            f"timm {model}: timm's weights are published without a hash in their name, so pretrained=true "
            "cannot be checked; start from one of your own checkpoints with --init"
        )
    try:
        import timm
    except ImportError as error:
        raise PosecliError("the backbone 'timm' needs the timm library: pip install 'posecli[timm]'") from error
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        raise PosecliError(f"timm has no network {model!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    try:
        network = timm.create_model(model, features_only=True, pretrained=False)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise PosecliError(f"timm {model}: gives no feature maps ({error}); choose another network") from error
    return TimmBackbone(network)
