"""What is measured in pixels or millimetres is the same under mixed precision; only features have eight bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from posecli.nn.heads import RegressionHead
from posecli.nn.precise import precise
from posecli_interhand.losses import volume_entropy, volume_error
from posecli_interhand.volume import Volume
from posecli_lifter.heads import MotionHead, TemporalHead
from posecli_lifter.normalization import Person, View
from posecli_mesh.bodies import open_body
from posecli_mesh.guide import Guide
from posecli_mesh.rotations import from_axis_angle

VOLUME = Volume((256, 256), (64, 64), 64, sigma=2.5)
CROP = 256.0


def turned_body() -> Tensor:
    body = open_body("capsules")
    found = body(from_axis_angle(torch.randn(2, 24, 3) * 0.3), torch.randn(2, body.shapes))
    return torch.cat([found.vertices, found.joints], dim=1)  # metres


def hand_volumes(loss: Callable[..., Tensor]) -> Tensor:
    points = torch.rand(1, 42, 3) * 100 + torch.tensor([60.0, 60.0, -50.0])
    blobs = VOLUME.encode(points, torch.ones(1, 42))
    return loss(0.99 * blobs.full(), blobs)


def hand_means() -> Tensor:
    points = torch.rand(1, 42, 3) * 100 + torch.tensor([60.0, 60.0, -50.0])
    return VOLUME.decode(VOLUME.encode(points, torch.ones(1, 42)).full(), "mean")[0]  # pixels and millimetres


def person(what: str) -> Tensor:
    keypoints = torch.rand(2, 3, 17, 2) * 400 + torch.tensor([700.0, 200.0])
    lens = torch.tensor([[1500.0, 1500.0]] * 2), torch.tensor([[960.0, 540.0]] * 2)
    view = View(keypoints, torch.ones(2, 3, 17), torch.tensor([[1920.0, 1080.0]] * 2), *lens)
    normalization = Person([0], place=True)
    if what == "inputs":
        return normalization.inputs(view)
    targets = normalization.targets(torch.randn(2, 3, 17, 3) * 400, view)
    return targets if what == "targets" else normalization.poses(targets, view)


def head(make: Callable[[], torch.nn.Module], *features: int) -> Tensor:
    layer = make()
    outputs: Tensor = layer(torch.rand(features).bfloat16().float())  # features as a network gives them
    return outputs


@pytest.mark.parametrize(
    ("make", "limit", "note"),
    [
        (turned_body, 1e-6, "a body in metres"),
        (partial(hand_volumes, volume_error), 1e-7, "which would come out below 0"),
        (partial(hand_volumes, volume_entropy), 1e-5, "products of volumes"),
        (hand_means, 1e-3, "places in pixels and millimetres"),
        (partial(person, "inputs"), 1e-5, "rays"),
        (partial(person, "targets"), 1e-5, "metres"),
        (partial(person, "poses"), 1e-2, "millimetres"),
        (lambda: Guide.places(3 * torch.randn(2, 24, 64, 64)), 1e-5, "places from -1 to 1"),
        (partial(head, lambda: TemporalHead(256, 1), 2, 256, 9), 1e-5, "a trajectory in metres"),
        (partial(head, lambda: RegressionHead(256, 17), 2, 256, 4, 4), 1e-5, "fractions of the input"),
    ],
)
def test_mixed_precision_changes_nothing(make: Callable[[], Tensor], limit: float, note: str) -> None:
    torch.manual_seed(0)
    exact = make()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = make()
    assert mixed.dtype == torch.float32, note
    assert (mixed - exact).abs().max() <= limit, note


def test_the_last_layer_of_motionbert_is_precise() -> None:
    layer, features = MotionHead(64, 64), torch.rand(2, 9, 17, 64)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(features)
        hidden = torch.tanh(layer.pre_logits["fc"](features)).float()
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, layer.fc(hidden))


def test_precise_computes_gradients_and_leaves_other_arguments_alone() -> None:
    @precise
    def product(values: Tensor, matrix: Tensor, *, count: int, index: Tensor) -> Tensor:
        assert values.dtype == torch.float32
        assert index.dtype == torch.int64
        return (values @ matrix)[index] * count

    values, matrix = torch.rand(4, 8, requires_grad=True), torch.rand(8, 3)
    index = torch.tensor([2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        result = product((values @ torch.eye(8)), matrix, count=3, index=index)
    assert result.dtype == torch.float32
    result.sum().backward()
    assert values.grad is not None
    assert torch.allclose(values.grad[0], 3 * matrix.sum(dim=1), rtol=1e-2)
    assert (values.grad[1] == 0).all()
