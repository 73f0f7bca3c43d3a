"""Losses against the reference's values and gradients, and by what must hold for any loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posecli.losses.heatmap import HardKeypointMSE, JointsMSE
from posecli.losses.regression import L1, SmoothL1, SquaredError, Wing
from posecli.losses.simcc import DiscreteKL


@pytest.fixture(scope="module")
def functional(golden: Path) -> dict[str, Tensor]:
    """The losses of functional.npz, computed by MMPose 1.3.2."""
    with np.load(golden / "functional.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith("loss/")}


REFERENCE = [
    # entry of functional.npz, loss, the weights' name
    ("KeypointMSE", JointsMSE(), None),
    ("KeypointMSE_w", JointsMSE(), "target_weights"),
    ("KeypointOHKMMSE", HardKeypointMSE(8), "target_weights"),
    ("SmoothL1", SmoothL1(), "target_weight"),
    ("L1", L1(), "target_weight"),
    ("MSE", SquaredError(), "target_weight"),
    ("Wing", Wing(), "target_weight"),
    ("Wing_small", Wing(0.5, 0.1), "target_weight"),
]


@pytest.mark.parametrize(("entry", "loss", "weights"), REFERENCE)
def test_values_and_gradients_are_the_references(
    functional: dict[str, Tensor], entry: str, loss: nn.Module, weights: str | None
) -> None:
    source = f"loss/{entry}"
    output = functional[f"{source}/in/output"].clone().requires_grad_()
    value = loss(
        output, functional[f"{source}/in/target"], None if weights is None else functional[f"{source}/in/{weights}"]
    )
    value.backward()
    torch.testing.assert_close(value.detach(), functional[f"{source}/out/loss"].float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(output.grad, functional[f"{source}/out/grad"], rtol=1e-6, atol=1e-9)


VECTORS = [
    # entry of functional.npz, loss, with weights
    ("KLDiscret", DiscreteKL(), True),
    ("KLDiscret_rtm", DiscreteKL(10.0, label_softmax=True), True),
    ("KLDiscret_ls", DiscreteKL(2.0, label_softmax=True, label_beta=5.0), False),
]


@pytest.mark.parametrize(("entry", "loss", "weighted"), VECTORS)
def test_divergences_are_the_references(
    functional: dict[str, Tensor], entry: str, loss: DiscreteKL, weighted: bool
) -> None:
    inputs = {key: functional[f"loss/{entry}/in/{key}"] for key in ("pred_x", "pred_y", "target_x", "target_y")}
    output = inputs["pred_x"].clone().requires_grad_()
    weights = functional[f"loss/{entry}/in/target_weight"] if weighted else None
    value = loss((output, inputs["pred_y"]), (inputs["target_x"], inputs["target_y"]), weights)
    value.backward()
    torch.testing.assert_close(value.detach(), functional[f"loss/{entry}/out/loss"].float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(output.grad, functional[f"loss/{entry}/out/grad_x"], rtol=1e-6, atol=1e-9)


# --- what must hold for any loss ------------------------------------------------------------

MAPS, POINTS, BINS = (3, 17, 16, 12), (3, 17, 2), (3, 17, 48)


def vectors_alone(loss: DiscreteKL) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The loss of one tensor used as x and as y."""
    return lambda output, target, weights=None: loss((output, output), (target, target), weights)


LOSSES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "joints-mse": (JointsMSE(), MAPS),
    "hard-keypoints": (HardKeypointMSE(8), MAPS),
    "smooth-l1": (SmoothL1(), POINTS),
    "l1": (L1(), POINTS),
    "squared": (SquaredError(), POINTS),
    "wing": (Wing(), POINTS),
    "kl": (vectors_alone(DiscreteKL()), BINS),
    "kl-rtmpose": (vectors_alone(DiscreteKL(10.0, label_softmax=True)), BINS),
    "kl-average": (vectors_alone(DiscreteKL(average=True)), BINS),
}


def pair(name: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """An output and a target, which for vectors sums to 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = LOSSES[name][1]
    output, target = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    return output, target.softmax(dim=-1) if name.startswith("kl") else target


@pytest.mark.parametrize("name", LOSSES)
def test_perfection_costs_nothing(name: str) -> None:
    loss, _ = LOSSES[name]
    _, target = pair(name)
    perfect = target.log() if name in ("kl", "kl-average") else target  # RTMPose: the same softmax on both
    output = perfect.clone().requires_grad_()
    value = loss(output, target, torch.ones(3, 17))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    worse = loss(perfect + torch.randn(perfect.shape, generator=torch.Generator().manual_seed(1)), target, None)
    assert worse.item() > 1e-4


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_keypoints_get_no_gradient(name: str) -> None:
    loss, _ = LOSSES[name]
    output, target = pair(name)
    output.requires_grad_()
    weights = torch.ones(3, 17)
    weights[1, 4:9] = 0
    loss(output, target, weights).backward()
    assert output.grad is not None
    moved = output.grad.flatten(2).abs().sum(dim=-1) > 0  # (B, K)
    assert not moved[1, 4:9].any()
    assert moved.any(dim=1).all()


@pytest.mark.parametrize("name", LOSSES)
def test_no_labelled_keypoint_at_all(name: str) -> None:
    loss, _ = LOSSES[name]
    output, target = pair(name)
    output.requires_grad_()
    value = loss(output, target, torch.zeros(3, 17))
    value.backward()
    assert value.item() == 0
    assert output.grad is not None
    assert (output.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_change_nothing(name: str) -> None:
    loss, _ = LOSSES[name]
    output, target = pair(name)
    torch.testing.assert_close(loss(output, target, torch.ones(3, 17)), loss(output, target, None))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("kl", "kl-rtmpose")])
def test_the_loss_of_a_batch_is_the_mean_of_its_instances(name: str) -> None:
    loss, _ = LOSSES[name]
    output, target = pair(name)
    weights = torch.rand(3, 17, generator=torch.Generator().manual_seed(2)).round()
    singles = [loss(output[i : i + 1], target[i : i + 1], weights[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(output, target, weights), torch.stack(singles).mean())


def test_the_references_divergence_sums_over_the_batch() -> None:
    output, target = pair("kl")
    summed, averaged = LOSSES["kl"][0](output, target, None), LOSSES["kl-average"][0](output, target, None)
    torch.testing.assert_close(summed, 3 * averaged)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_compared_in_float32(name: str, dtype: torch.dtype) -> None:
    loss, _ = LOSSES[name]
    output, target = pair(name)
    half = (100 * output).to(dtype)  # squares beyond float16's largest number
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, target, torch.ones(3, 17))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), target, torch.ones(3, 17)), rtol=0, atol=0)
    assert torch.isfinite(value)


@pytest.mark.parametrize("name", ["smooth-l1", "l1", "squared", "wing"])
def test_weights_of_keypoints_or_of_coordinates(name: str) -> None:
    loss, _ = LOSSES[name]
    output, target = pair(name)
    weights = torch.rand(3, 17, generator=torch.Generator().manual_seed(3))
    assert torch.equal(loss(output, target, weights), loss(output, target, weights[..., None].expand(3, 17, 2)))


def test_only_the_hardest_keypoints_get_a_gradient() -> None:
    output, target = torch.zeros(2, 5, 4, 4), torch.zeros(2, 5, 4, 4)
    output += torch.tensor([[1.0, 5.0, 3.0, 2.0, 4.0], [9.0, 1.0, 2.0, 8.0, 3.0]])[..., None, None]
    output.requires_grad_()
    value = HardKeypointMSE(2)(output, target)
    value.backward()
    assert value.item() == (25 + 16 + 81 + 64) / 4
    assert output.grad is not None
    assert (output.grad.flatten(2).sum(dim=-1) > 0).tolist() == [
        [False, True, False, False, True],
        [True, False, False, True, False],
    ]


def test_fewer_keypoints_than_are_mined() -> None:
    output, target = pair("joints-mse")
    torch.testing.assert_close(HardKeypointMSE(100)(output, target), JointsMSE()(output, target))


def test_wing_is_continuous_and_changes_its_slope_at_omega() -> None:
    loss = Wing(omega=1.0, epsilon=0.5)
    zero = torch.zeros(1, 1, 1)
    below, above = (loss(torch.full((1, 1, 1), x), zero).item() for x in (1 - 1e-5, 1 + 1e-5))
    assert below == pytest.approx(above, abs=5e-5)
    assert loss(torch.full((1, 1, 1), 3.0), zero).item() - above == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("loss", [JointsMSE, HardKeypointMSE, SmoothL1, L1, SquaredError, Wing])
def test_factor_scales_the_loss(loss: Callable[..., nn.Module]) -> None:
    output, target = pair("joints-mse")
    torch.testing.assert_close(loss(factor=0.25)(output, target), 0.25 * loss()(output, target))
