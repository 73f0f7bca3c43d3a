"""Coordinates as they are, in units of the input size: DeepPose."""

from __future__ import annotations

import torch
from torch import Tensor

from posecli.codecs.codec import Codec, Size, constant, finite, labelled


class Regression(Codec[Tensor]):
    """Outputs are coordinates (B, K, 2): x / width and y / height of the input. Resolution: exact.

    Toshev and Szegedy, "DeepPose: Human Pose Estimation via Deep Neural Networks", CVPR 2014.
    """

    def __init__(self, input_size: Size) -> None:
        """`input_size` is (width, height)."""
        self.input_size = input_size

    def encode(self, keypoints: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """{"coordinates": (B, K, 2), "weights": (B, K)}; a keypoint outside 0 .. size - 1 has weight 0."""
        points, weights = labelled(keypoints, visible)
        size = constant(self.input_size, points)
        inside = ((points >= 0) & (points <= size - 1)).all(dim=-1)
        return {"coordinates": points / size, "weights": weights * inside}

    def perfect(self, targets: dict[str, Tensor]) -> Tensor:
        """The coordinates."""
        return targets["coordinates"]

    @torch.no_grad()
    def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in input pixels and scores (B, K): 1, for regression does not tell; 0 if not finite."""
        known = torch.isfinite(outputs).all(dim=-1)
        coordinates = finite(outputs)
        return coordinates * constant(self.input_size, coordinates), known.to(coordinates.dtype)

    def flip(self, outputs: Tensor, flip_index: Tensor, shift: bool | None = None) -> Tensor:
        """Coordinates of mirrored pictures mirrored back; a shift, also with None, moves them one pixel to the left.

        Pixel x of `width` has its mirror at width - 1 - x, and 1 - x / width stands for width - x.
        """
        x, y = outputs[:, flip_index].unbind(-1)
        edge = 1.0 if shift is False else 1.0 - 1.0 / self.input_size[0]
        return torch.stack([edge - x, y], dim=-1)

    def output_shapes(self, keypoints: int) -> tuple[tuple[int, ...], ...]:
        """((K, 2),)."""
        return ((keypoints, 2),)
