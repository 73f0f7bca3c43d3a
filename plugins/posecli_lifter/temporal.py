"""Temporal convolution nets: VideoPose3D (Pavllo et al., CVPR 2019), and with kernels of one frame SimpleBaseline3D.

One set of weights, three ways through it, with the same results: `strided` gives the one frame of a window and nothing
else, `dilated` gives every frame of a clip that has its whole receptive field, `full` every frame of a clip, the ends
repeated. SimpleBaseline3D is Martinez et al., ICCV 2017.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_PRODUCT = 64  # frames below which a plain convolution is quicker than matrix products


class Step(nn.Module):
    """Convolution over time without bias, batch normalisation, rectifier: (B, C, T) -> (B, D, T')."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, bias=False)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, frames: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        frames = functional.conv1d(frames, self.conv.weight, stride=stride, dilation=dilation)
        normalized: Tensor = self.bn(frames)
        return normalized.relu()

    def products(self, frames: Tensor, dilation: int = 1) -> Tensor:
        """The same in evaluation mode, (T, C) -> (T', D): one matrix product for each place of the kernel.

        A dilated convolution copies its input for each place of the kernel; products of shifted views copy nothing.
        """
        weight, bias = self._folded()
        reach = (len(weight) - 1) * dilation
        count = len(frames) - reach
        total = torch.addmm(bias, frames[:count], weight[0].T)
        for place in range(1, len(weight)):
            total.addmm_(frames[place * dilation : place * dilation + count], weight[place].T)
        return total.relu_()

    def _folded(self) -> tuple[Tensor, Tensor]:
        """The kernel (k, D, C) and bias (D,) that do convolution and normalisation at once."""
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        scale = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        weight = (self.conv.weight * scale[:, None, None]).permute(2, 0, 1).contiguous()
        return weight, self.bn.bias - self.bn.running_mean * scale


@dataclass(frozen=True)
class Stretch:
    """A clip (T, C) whose first and last frames go on for a while, which need no computing: they are all alike."""

    frames: Tensor  # (T, C)
    before: int  # copies of the first frame that stand before it
    after: int  # copies of the last frame that stand after it

    @classmethod
    def of(cls, clip: Tensor) -> Stretch:
        """A clip (T, C) without the copies at its ends."""
        other = (clip != clip[0]).any(dim=1).nonzero()
        if not len(other):
            return cls(clip[:1], len(clip) - 1, 0)
        before = int(other[0]) - 1
        after = len(clip) - 2 - int((clip != clip[-1]).any(dim=1).nonzero()[-1])
        return cls(clip[before : len(clip) - after], before, after)

    def through(self, layer: Callable[[Tensor], Tensor], reach: int) -> Stretch:
        """After a layer that makes T - reach frames of T: as many copies as it sees at once are put back."""
        before, after = min(self.before, reach), min(self.after, reach)
        ends = [self.frames[:1].expand(before, -1), self.frames, self.frames[-1:].expand(after, -1)]
        if len(self.frames) + before + after <= reach:  # a clip of copies, mostly
            return Stretch(layer(self.whole()), 0, 0)
        return Stretch(layer(torch.cat(ends)), self.before - before, self.after - after)

    def whole(self) -> Tensor:
        """All frames, the copies too."""
        ends = [self.frames[:1].expand(self.before, -1), self.frames, self.frames[-1:].expand(self.after, -1)]
        return torch.cat(ends)


class Block(nn.Module):
    """A convolution with gaps and one without kernel, beside a shortcut to the middle frames (causal: the last)."""

    def __init__(self, channels: int, kernel: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.place = kernel - 1 if causal else kernel // 2  # of the kernel that stands over the shortcut's frame
        self.conv1 = nn.Sequential(Step(channels, channels, kernel), nn.Dropout(dropout))
        self.conv2 = nn.Sequential(Step(channels, channels, 1), nn.Dropout(dropout))

    def strided(self, frames: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T / kernel)."""
        shortcut = frames[:, :, self.place :: self.kernel]
        return shortcut + self._rest(self.conv1[0](frames, stride=self.kernel))

    def dilated(self, frames: Tensor, dilation: int) -> Tensor:
        """(B, C, T) -> (B, C, T - (kernel - 1) dilation)."""
        start = self.place * dilation
        shortcut = frames[:, :, start : start + frames.shape[2] - (self.kernel - 1) * dilation]
        return shortcut + self._rest(self.conv1[0](frames, dilation=dilation))

    def products(self, frames: Tensor, dilation: int) -> Tensor:
        """`dilated` in evaluation mode, for one clip (T, C)."""
        first, second = self.conv1[0], self.conv2[0]
        assert isinstance(first, Step)
        assert isinstance(second, Step)
        inner = second.products(first.products(frames, dilation))
        start = self.place * dilation
        return inner.add_(frames[start : start + len(inner)])

    def _rest(self, frames: Tensor) -> Tensor:
        rest: Tensor = self.conv2(self.conv1[1](frames))
        return rest


class TemporalNetwork(nn.Module):
    """Features (B, D, T') of keypoints (B, T, K, C). `kernels`: of the first convolution and of each block, all odd.

    `inputs` is K C. The three ways through take the numbers of each frame as channels, (B, K C, T).
    """

    def __init__(
        self, inputs: int, channels: int, kernels: Sequence[int], dropout: float = 0.25, causal: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        self.kernels = tuple(kernels)
        self.frames = math.prod(self.kernels)  # the receptive field
        self.before = self.frames - 1 if causal else self.frames // 2  # frames it sees before the one it speaks of
        self.after = self.frames - 1 - self.before
        self.expand_conv = Step(inputs, channels, self.kernels[0])
        self.dropout = nn.Dropout(dropout)
        self.tcn_blocks = nn.ModuleList(Block(channels, kernel, dropout, causal) for kernel in self.kernels[1:])

    def forward(self, keypoints: Tensor) -> Tensor:
        """A window of the receptive field gives its one frame, a longer clip all frames it tells enough of."""
        frames = keypoints.flatten(2).transpose(1, 2)
        return self.strided(frames) if frames.shape[2] == self.frames else self.dilated(frames)

    def strided(self, frames: Tensor) -> Tensor:
        """(B, C, frames) -> (B, D, 1): no feature is made that the one frame does not need."""
        features: Tensor = self.dropout(self.expand_conv(frames, stride=self.kernels[0]))
        for block in self._blocks():
            features = block.strided(features)
        return features

    def dilated(self, frames: Tensor) -> Tensor:
        """(B, C, T) -> (B, D, T - frames + 1): every frame's features are made once, for all that look at them."""
        if self._by_products(frames):
            return torch.stack([self._products(clip) for clip in frames.transpose(1, 2)]).transpose(1, 2)
        features: Tensor = self.dropout(self.expand_conv(frames))
        dilation = self.kernels[0]
        for block in self._blocks():
            features = block.dilated(features, dilation)
            dilation *= block.kernel
        return features

    def full(self, frames: Tensor) -> Tensor:
        """(B, C, T) -> (B, D, T): what lies before the first frame and after the last is taken to be like them."""
        return self.dilated(functional.pad(frames, (self.before, self.after), mode="replicate"))

    def _by_products(self, frames: Tensor) -> bool:
        """Whether clips go one by one through matrix products: on a CPU, when nothing is learnt."""
        learning = self.training or torch.is_grad_enabled()
        plain = frames.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        return plain and not learning and frames.shape[2] - self.frames >= SMALLEST_PRODUCT

    def _products(self, clip: Tensor) -> Tensor:
        """`dilated` for one clip (T, C) -> (T', D)."""
        dilation = self.kernels[0]
        stretch = Stretch.of(clip).through(self.expand_conv.products, dilation - 1)
        for block in self._blocks():
            layer = functools.partial(block.products, dilation=dilation)
            stretch = stretch.through(layer, (block.kernel - 1) * dilation)
            dilation *= block.kernel
        return stretch.whole()

    def _blocks(self) -> list[Block]:
        return [block for block in self.tcn_blocks if isinstance(block, Block)]
