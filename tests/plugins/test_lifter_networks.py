"""Lifting networks: three ways through the temporal one, causality, whole clips in pieces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from posecli_lifter.benchmark import by_windows, measure_clip
from posecli_lifter.dstformer import DSTFormer
from posecli_lifter.temporal import Stretch, TemporalNetwork


def network(kernels: tuple[int, ...], causal: bool = False) -> TemporalNetwork:
    """A net whose normalisation layers have something to do."""
    torch.manual_seed(0)
    made = TemporalNetwork(6, 16, kernels, causal=causal)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return made.eval()


NETS = [  # kernels, causal
    ((1, 1, 1), False),
    ((3, 3, 3), False),
    ((3, 3, 3), True),
    ((5, 3), False),
    ((3, 5, 3), True),
]


@pytest.fixture(params=[True, False], ids=["inference", "training"])
def learning(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where nothing is learnt, normalisation is within the convolutions, and repeated ends are computed once."""
    with torch.set_grad_enabled(not request.param):
        yield


@pytest.mark.usefixtures("learning")
@pytest.mark.parametrize(("kernels", "causal"), NETS)
@pytest.mark.parametrize("frames", [1, 7, 100])
def test_three_ways_are_one(kernels: tuple[int, ...], causal: bool, frames: int) -> None:
    """Every frame's window by itself, the padded clip, and the clip as it is; also clips shorter than a window."""
    net = network(kernels, causal)
    clips = torch.randn(2, 6, frames, generator=torch.Generator().manual_seed(1))
    full = net.full(clips)
    assert full.shape == (2, 16, frames)
    padded = torch.nn.functional.pad(clips, (net.before, net.after), mode="replicate")
    torch.testing.assert_close(net.dilated(padded), full)
    for clip, features in zip(clips, full, strict=True):
        torch.testing.assert_close(by_windows(net, clip[None], frames)[0], features, rtol=1e-4, atol=1e-5)


def test_the_window_decides_which_way() -> None:
    """A window of the receptive field gives one frame, strided; the numbers of a keypoint lie side by side."""
    net = network((3, 3))
    keypoints = torch.randn(4, 9, 3, 2)
    torch.testing.assert_close(net(keypoints), net.strided(keypoints.reshape(4, 9, 6).transpose(1, 2)))
    assert net(torch.randn(4, 12, 3, 2)).shape == (4, 16, 4)


@pytest.mark.parametrize("causal", [True, False])
def test_what_comes_later_is_not_seen(causal: bool) -> None:
    """A causal net says of a frame what it said before more frames came; another one does not."""
    net = network((3, 3, 3), causal)
    clip = torch.randn(1, 6, 60)
    longer = torch.cat([clip, torch.randn(1, 6, 30)], dim=2)
    same = torch.allclose(net.full(longer)[:, :, :60], net.full(clip), atol=1e-5)
    assert same == causal


@pytest.mark.parametrize(
    ("clip", "before", "after"),
    [
        ([1, 2, 3], 0, 0),
        ([1, 1, 1, 2, 3, 3], 2, 1),
        ([1, 1, 1], 2, 0),
        ([1], 0, 0),
        ([1, 2, 1, 1], 0, 1),
    ],
)
def test_stretch_leaves_out_copies(clip: list[int], before: int, after: int) -> None:
    frames = torch.tensor(clip, dtype=torch.float32).repeat(3, 2, 1)
    stretch = Stretch.of(frames)
    assert (stretch.before, stretch.after) == (before, after)
    assert torch.equal(stretch.whole(), frames)


@pytest.mark.parametrize("copies", [3, 200])
def test_a_person_who_stands_still(copies: int) -> None:
    """A clip of nothing but copies."""
    net = network((3, 3, 3))
    clip = torch.randn(1, 6, 1).repeat(1, 1, copies)
    with torch.inference_mode():
        torch.testing.assert_close(net.full(clip), by_windows(net, clip, copies))


def test_dstformer_takes_fewer_frames() -> None:
    torch.manual_seed(0)
    former = DSTFormer(3, 5, 16, depth=1, heads=2, mlp_ratio=2, frames=8).eval()
    assert former(torch.randn(2, 8, 5, 3)).shape == (2, 8, 5, 16)
    assert former(torch.randn(2, 3, 5, 3)).shape == (2, 3, 5, 16)


def test_dstformer_sees_all_joints_and_frames() -> None:
    """A joint in one frame moves every other joint in every other frame."""
    torch.manual_seed(0)
    former = DSTFormer(3, 5, 16, depth=2, heads=2, mlp_ratio=2, frames=4).eval()
    keypoints = torch.randn(1, 4, 5, 3)
    moved: Tensor = keypoints.clone()
    moved[0, 0, 0] += 1
    assert ((former(keypoints) - former(moved)).abs().amax(dim=-1) > 0).all()


def test_benchmark_measures_both_ways() -> None:
    measure = measure_clip(frames=40, repeats=1, channels=8)
    assert measure.ours > 0
    assert measure.limit > 0
    assert "243 frames seen" in measure.note
