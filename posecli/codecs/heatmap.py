"""A map of cells for each keypoint with a Gaussian at its place: SimpleBaseline's, DARK's and UDP's ways."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from posecli.codecs.codec import Codec, Size, constant, finite, labelled
from posecli.codecs.refinement import maxima, refine_dark, refine_dark_udp, shift_quarter

Variant = Literal["plain", "dark", "udp"]


class Heatmap(Codec[Tensor]):
    """Outputs are heatmaps (B, K, height, width), one for each keypoint, around 1 at the keypoint and 0 elsewhere.

    `plain` (Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018): the Gaussian stands on
    the nearest cell and ends at 3 sigma; decoding takes the highest cell and shifts a quarter towards the higher
    neighbour. Resolution: half a cell along each axis.
    `dark` (Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020): the
    Gaussian stands between cells; decoding is one Taylor step on the logarithm of the blurred map.
    `udp` (Huang et al., "The Devil is in the Details: Delving into Unbiased Data Processing for Human Pose
    Estimation", CVPR 2020): lengths are counted between pixel centres, (input - 1) / (heatmap - 1) pixels a cell, the
    Gaussian stands between cells and ends at 3 sigma; decoding is one Newton step on the logarithm of the blurred map.
    Resolution of both: 0.01 cells from 4 cells inside the borders; nearer, the blur, which takes zeros from outside,
    pulls inwards: 0.1 cells at a distance of 3, half a cell (dark) or a cell (udp) at the border itself.
    """

    def __init__(
        self,
        input_size: Size,
        heatmap_size: Size | None = None,
        sigma: float = 2.0,
        variant: Variant = "plain",
        *,
        stride: int = 4,
        blur_kernel: int = 11,
    ) -> None:
        """Sizes are (width, height); `sigma` is in cells; `blur_kernel` is odd, in cells, for DARK and UDP decoding.

        Without `heatmap_size` it follows from `stride`, input pixels a cell. Raises ValueError for sizes that do not
        divide.
        """
        if variant not in ("plain", "dark", "udp"):
            raise ValueError(f"variant {variant!r}: there are plain, dark and udp")
        if blur_kernel % 2 == 0 or sigma <= 0:
            raise ValueError(f"blur_kernel must be odd and sigma positive, got {blur_kernel} and {sigma}")
        self.input_size = input_size
        self.heatmap_size = heatmap_size or _divide(input_size, stride)
        self.sigma = sigma
        self.variant: Variant = variant
        self.blur_kernel = blur_kernel

    @property
    def cell(self) -> tuple[float, float]:
        """Input pixels a cell, along x and y."""
        between = 1 if self.variant == "udp" else 0
        across, down = (
            (pixels - between) / (cells - between)
            for pixels, cells in zip(self.input_size, self.heatmap_size, strict=True)
        )
        return across, down

    def encode(self, keypoints: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """{"heatmaps": (B, K, height, width), "weights": (B, K)}; a map whose weight is 0 is all zeros.

        A keypoint has weight 0 when the square of 3 sigma around it misses the map.
        """
        points, weights = labelled(keypoints, visible)
        points = points / constant(self.cell, points)
        peaks = points if self.variant == "dark" else torch.trunc(points + 0.5)
        weights = weights * self._reaches_map(peaks)
        centers = peaks if self.variant == "plain" else points
        width, height = self.heatmap_size
        across = self._profile(centers[..., 0], peaks[..., 0], width) * (weights > 0)[..., None]  # (B, K, width)
        down = self._profile(centers[..., 1], peaks[..., 1], height)  # (B, K, height)
        return {"heatmaps": down[..., :, None] * across[..., None, :], "weights": weights}

    def perfect(self, targets: dict[str, Tensor]) -> Tensor:
        """The heatmaps."""
        return targets["heatmaps"]

    @torch.no_grad()
    def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in input pixels and the maps' maxima (B, K).

        A map without a positive cell gives the cell (-1, -1), outside the input, and its maximum, 0 or less.
        """
        heatmaps = finite(outputs)
        locations, scores = maxima(heatmaps)
        if self.variant == "plain":
            locations = shift_quarter(locations, heatmaps)
        elif self.variant == "dark":
            locations = refine_dark(locations, heatmaps, self.blur_kernel)
        else:
            locations = refine_dark_udp(locations, heatmaps, self.blur_kernel)
        return locations * constant(self.cell, locations), scores

    def flip(self, outputs: Tensor, flip_index: Tensor, shift: bool | None = None) -> Tensor:
        """Heatmaps of mirrored pictures mirrored back; a shift moves them one cell to the right.

        The mirror image of a grid whose cells are 4 pixels wide lies 3 pixels to the left, one cell more is 1 pixel
        to the right. UDP's grids have no such gap. None shifts for plain and dark.
        """
        mirrored = outputs[:, flip_index].flip(-1)
        if shift if shift is not None else self.variant != "udp":
            return torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=-1)
        return mirrored

    def output_shapes(self, keypoints: int) -> tuple[tuple[int, ...], ...]:
        """((K, height, width),)."""
        return ((keypoints, self.heatmap_size[1], self.heatmap_size[0]),)

    def _reaches_map(self, peaks: Tensor) -> Tensor:
        radius = 3 * self.sigma
        first, end = peaks - radius, peaks + radius + 1
        if self.variant != "dark":
            first, end = torch.trunc(first), torch.trunc(end)
        return ((first < constant(self.heatmap_size, peaks)) & (end >= 0)).all(dim=-1)

    def _profile(self, center: Tensor, peak: Tensor, length: int) -> Tensor:
        """A Gaussian (B, K, length) along one axis; for plain and udp it ends 3 sigma from the cell `peak`."""
        cells = torch.arange(length, device=center.device, dtype=center.dtype)
        bell = torch.exp(-((cells - center[..., None]) ** 2) / (2 * self.sigma**2))
        if self.variant == "dark":
            return bell
        return bell * ((cells - peak[..., None]).abs() <= 3 * self.sigma)


def _divide(input_size: Size, stride: int) -> Size:
    width, height = input_size
    if width % stride or height % stride:
        raise ValueError(f"a stride of {stride} does not divide the input size {width} x {height}")
    return width // stride, height // stride
