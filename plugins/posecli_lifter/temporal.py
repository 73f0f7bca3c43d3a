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


class Step(nn.Module):
    """Convolution over time without bias, batch normalisation, rectifier: (B, C, T) -> (B, D, T')."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, bias=False)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, frames: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        """One frame of one clip has no spread to train with: it is normalised as in evaluation, and counted."""
        frames = functional.conv1d(frames, self.conv.weight, stride=stride, dilation=dilation)
        if self.training and frames.shape[0] * frames.shape[2] == 1:
            return self._alone(frames).relu()
        normalized: Tensor = self.bn(frames)
        return normalized.relu()

    def _alone(self, frames: Tensor) -> Tensor:
        norm = self.bn
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
        return functional.batch_norm(frames, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)

    def inferred(self, frames: Tensor, dilation: int = 1) -> Tensor:
        """The same in evaluation mode, in one convolution."""
        weight, bias = self._folded()
        if weight.shape[2] == 1:
            dilation = 2  # which changes nothing but the kernel that torch takes: on a CPU one of twice the speed
        return functional.conv1d(frames, weight, bias, dilation=dilation).relu_()

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Weights (D, C, k) and bias (D,) that convolve and normalise at once."""
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        scale = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        return self.conv.weight * scale[:, None, None], self.bn.bias - self.bn.running_mean * scale


@dataclass(frozen=True)
class Stretch:
    """Clips (B, C, T) whose first and last frames go on for a while: all alike, they need to be computed once."""

    frames: Tensor  # (B, C, T)
    before: int  # copies of the first frame that stand before it
    after: int  # copies of the last frame that stand after it

    @classmethod
    def of(cls, clips: Tensor) -> Stretch:
        """Clips (B, C, T) without the copies at their ends, as far as all have them."""
        count = clips.shape[2]
        first, last = ((clips != clips[:, :, [end]]).any(dim=1).any(dim=0).nonzero() for end in (0, count - 1))
        if not len(first):
            return cls(clips[:, :, :1], count - 1, 0)
        before, after = int(first[0]) - 1, count - 2 - int(last[-1])
        return cls(clips[:, :, before : count - after], before, after)

    def through(self, layer: Callable[[Tensor], Tensor], reach: int) -> Stretch:
        """After a layer that makes T - reach frames of T: it is given as many of the copies as it sees at once."""
        before, after = min(self.before, reach), min(self.after, reach)
        if self.frames.shape[2] + before + after <= reach:  # shorter than that, copies and all
            return Stretch(layer(self.whole()), 0, 0)
        given = functional.pad(self.frames, (before, after), mode="replicate")
        return Stretch(layer(given), self.before - before, self.after - after)

    def whole(self) -> Tensor:
        """All frames, the copies too."""
        return functional.pad(self.frames, (self.before, self.after), mode="replicate")


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

    def inferred(self, frames: Tensor, dilation: int) -> Tensor:
        """`dilated` in evaluation mode."""
        first, second = self.conv1[0], self.conv2[0]
        assert isinstance(first, Step)
        assert isinstance(second, Step)
        inner = second.inferred(first.inferred(frames, dilation))
        start = self.place * dilation
        return inner.add_(frames[:, :, start : start + inner.shape[2]])

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
        if not self.training and not torch.is_grad_enabled():
            return self._inferred(frames)
        features: Tensor = self.dropout(self.expand_conv(frames))
        dilation = self.kernels[0]
        for block in self._blocks():
            features = block.dilated(features, dilation)
            dilation *= block.kernel
        return features

    def full(self, frames: Tensor) -> Tensor:
        """(B, C, T) -> (B, D, T): what lies before the first frame and after the last is taken to be like them."""
        return self.dilated(functional.pad(frames, (self.before, self.after), mode="replicate"))

    def _inferred(self, frames: Tensor) -> Tensor:
        """`dilated` in evaluation mode: normalisation within the convolutions, repeated ends computed once."""
        dilation = self.kernels[0]
        stretch = Stretch.of(frames).through(self.expand_conv.inferred, dilation - 1)
        for block in self._blocks():
            layer = functools.partial(block.inferred, dilation=dilation)
            stretch = stretch.through(layer, (block.kernel - 1) * dilation)
            dilation *= block.kernel
        return stretch.whole()

    def _blocks(self) -> list[Block]:
        return [block for block in self.tcn_blocks if isinstance(block, Block)]
