"""Two vectors for each keypoint, one along x and one along y, with bins finer than pixels: SimCC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from posecli.codecs.codec import Codec, Size, constant, finite, labelled
from posecli.codecs.refinement import refine_vector

Labels = Literal["gaussian", "one-hot"]


class SimCC(Codec[tuple[Tensor, Tensor]]):
    """Outputs are (x, y): (B, K, width * split) and (B, K, height * split) bins, `split` bins an input pixel.

    Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022; RTMPose
    (Jiang et al., 2023) uses the same with other sigmas and no normalisation. Resolution: the keypoint within half a
    bin on each axis.
    """

    def __init__(
        self,
        input_size: Size,
        sigma: float | tuple[float, float] = 6.0,
        split: float = 2.0,
        *,
        normalize: bool = True,
        labels: Labels = "gaussian",
        smoothing: float = 0.0,
        dark: bool = False,
    ) -> None:
        """`sigma` is in bins, one for both axes or (x, y).

        `normalize` divides Gaussian labels by sigma sqrt(2 pi); `smoothing` spreads that much of a one-hot label over
        the other bins; `dark` refines decoding by a Taylor step on the blurred vectors. Raises ValueError for wrong
        numbers.
        """
        if labels not in ("gaussian", "one-hot"):
            raise ValueError(f"labels {labels!r}: there are gaussian and one-hot")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and less than 1, got {smoothing}")
        self.input_size = input_size
        self.sigma = (float(sigma[0]), float(sigma[1])) if isinstance(sigma, Sequence) else (float(sigma), float(sigma))
        if min(self.sigma) <= 0 or split <= 0:
            raise ValueError(f"sigma and split must be positive, got {sigma} and {split}")
        self.split = split
        self.normalize = normalize
        self.labels: Labels = labels
        self.smoothing = smoothing
        self.dark = dark

    @property
    def bins(self) -> Size:
        """The number of bins along x and along y."""
        width, height = self.input_size
        return round(width * self.split), round(height * self.split)

    def encode(self, keypoints: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """{"x": (B, K, bins), "y": (B, K, bins), "weights": (B, K)}; vectors whose weight is 0 are all zeros.

        Labels stand on the nearest bin. A keypoint has weight 0 when 3 sigma around it miss the vectors or, with
        one-hot labels, when its own bin is outside.
        """
        points, weights = labelled(keypoints, visible)
        peaks = torch.round(points * self.split)
        weights = weights * self._reaches_bins(peaks)
        make = self._bell if self.labels == "gaussian" else self._one_hot
        used = (weights > 0)[..., None]
        x, y = (make(peaks[..., axis], self.bins[axis], self.sigma[axis]) * used for axis in (0, 1))
        return {"x": x, "y": y, "weights": weights}

    def perfect(self, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(x, y)."""
        return targets["x"], targets["y"]

    @torch.no_grad()
    def decode(self, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in input pixels and the lesser of the two vectors' maxima (B, K), as they are.

        Where that is not above 0 the keypoint is at bin (-1, -1), outside the input.
        """
        vectors = [finite(vector) for vector in outputs]
        (value_x, bin_x), (value_y, bin_y) = (vector.max(dim=-1) for vector in vectors)
        scores = torch.minimum(value_x, value_y)
        found = torch.stack([bin_x, bin_y], dim=-1).to(scores.dtype)
        locations = torch.where(scores[..., None] > 0, found, -1)
        if self.dark:
            refined = [
                refine_vector(locations[..., axis], vectors[axis], _dark_kernel(self.sigma[axis])) for axis in (0, 1)
            ]
            locations = torch.stack(refined, dim=-1)
        return locations / self.split, scores

    def flip(
        self, outputs: tuple[Tensor, Tensor], flip_index: Tensor, shift: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vectors of mirrored pictures mirrored back; a shift moves x by split - 1 bins to the left.

        The bin of pixel x is x * split, its mirror's in the reversed vector (x + 1) * split - 1. None does not shift.
        """
        x, y = outputs[0][:, flip_index].flip(-1), outputs[1][:, flip_index]
        gap = round(self.split - 1) if shift else 0
        if gap > 0:
            x = torch.cat([x[..., gap:], x[..., -1:].expand(*x.shape[:-1], gap)], dim=-1)
        return x, y

    def output_shapes(self, keypoints: int) -> tuple[tuple[int, ...], ...]:
        """((K, bins along x), (K, bins along y))."""
        return (keypoints, self.bins[0]), (keypoints, self.bins[1])

    def _reaches_bins(self, peaks: Tensor) -> Tensor:
        bins = constant(self.bins, peaks)
        if self.labels == "one-hot":
            return ((peaks >= 0) & (peaks < bins)).all(dim=-1)
        radius = 3 * constant(self.sigma, peaks)
        return ((peaks - radius < bins) & (peaks + radius + 1 >= 0)).all(dim=-1)

    def _bell(self, peaks: Tensor, length: int, sigma: float) -> Tensor:
        distance = torch.arange(length, device=peaks.device, dtype=peaks.dtype) - peaks[..., None]
        height = 1 / (sigma * math.sqrt(2 * math.pi)) if self.normalize else 1.0
        return torch.exp(-(distance**2) / (2 * sigma**2)) * height

    def _one_hot(self, peaks: Tensor, length: int, sigma: float) -> Tensor:
        hit = torch.arange(length, device=peaks.device, dtype=peaks.dtype) == peaks[..., None]
        rest = self.smoothing / (length - 1)
        return torch.where(hit, 1 - self.smoothing, rest).to(peaks.dtype)


def _dark_kernel(sigma: float) -> int:
    """The odd width in bins of the blur for labels of `sigma` bins, as the reference derives it: 37 for 6."""
    width = int((sigma * 20 - 7) // 3)
    return max(1, width - (width % 2 == 0))
