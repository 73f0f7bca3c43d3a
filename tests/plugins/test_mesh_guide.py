"""Keypoints found on the way to a body: places against loops over cells, the loss against full Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posecli.batch import collate
from posecli.config import parse_metric
from posecli_mesh.config import GuideConfig, HMRConfig
from posecli_mesh.dataset_config import SyntheticBodiesConfig
from posecli_mesh.guide import Guide
from posecli_mesh.model import MeshRecovery

SIZE = (48, 32)  # width, height of the input; maps have 12 by 8 cells of 4 pixels
CELLS = (12, 8)


@pytest.fixture(scope="module")
def logits() -> Tensor:
    return torch.randn(2, 3, CELLS[1], CELLS[0], generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def guide() -> Guide:
    return Guide(nn.Identity(), 3, sigma=0.8)


def test_places_by_going_through_the_cells(logits: Tensor) -> None:
    """Cell (0, 0) has its centre half a cell inside the edges, which are -1."""
    found = Guide.places(logits)
    for b, k in np.ndindex(2, 3):
        chances = torch.exp(logits[b, k]) / torch.exp(logits[b, k]).sum()
        x = sum(chances[i, j].item() * (-1 + (2 * j + 1) / CELLS[0]) for i, j in np.ndindex(CELLS[1], CELLS[0]))
        y = sum(chances[i, j].item() * (-1 + (2 * i + 1) / CELLS[1]) for i, j in np.ndindex(CELLS[1], CELLS[0]))
        assert found[b, k].tolist() == pytest.approx([x, y], abs=1e-6)


def test_the_loss_is_cross_entropy_against_whole_gaussians(guide: Guide, logits: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    keypoints = torch.rand(2, 3, 2, generator=generator) * torch.tensor(SIZE) - 0.5
    visible = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    total = 0.0
    for b, k in np.ndindex(2, 3):
        rows, columns = torch.meshgrid(torch.arange(CELLS[1]), torch.arange(CELLS[0]), indexing="ij")
        x, y = ((keypoints[b, k] - 1.5) / 4).tolist()  # the first cell has its centre at pixel 1.5
        bell = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 0.8**2))
        target = bell / bell.sum()
        total -= (target * torch.log_softmax(logits[b, k].flatten(), 0).view(CELLS[1], -1)).sum().item() * visible[b, k]
    assert guide.loss(logits, keypoints, visible, SIZE).item() == pytest.approx(float(total) / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("place", "visible"),
    [
        pytest.param((10.0, 10.0), 0.0, id="not labelled"),
        pytest.param((-0.6, 10.0), 1.0, id="left of the picture"),
        pytest.param((10.0, 31.6), 1.0, id="below it"),
    ],
)
def test_what_is_not_there_is_not_learnt(
    guide: Guide, logits: Tensor, place: tuple[float, float], visible: float
) -> None:
    keypoints = torch.tensor(place).expand(2, 3, 2)
    assert guide.loss(logits, keypoints, torch.full((2, 3), visible), SIZE).item() == 0


def test_a_guided_model_learns_places_and_bodies() -> None:
    """Four pictures by heart: both the guide's heatmaps and the bodies get better, and predictions can be scored."""
    torch.manual_seed(0)
    samples = SyntheticBodiesConfig(count=4, size=(64, 64), backdrop="studio").build()
    config = HMRConfig.model_validate(
        {
            "backbone": {"use": "resnet", "depth": 18, "stages": 3},
            "input_size": (64, 64),
            "hidden": 64,
            "dropout": 0.0,
            "guide": GuideConfig(filters=(16,)),
        }
    )
    model = config.build(samples.skeleton)
    assert isinstance(model, MeshRecovery)
    transform, units = model.transform(train=False), model.units(samples)
    batch = collate([transform(units[index], np.random.default_rng(0)) for index in range(4)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    history = []
    for _ in range(30):
        losses = model.losses(batch)
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert history[-1]["guide"] < 0.95 * history[0]["guide"]
    assert history[-1]["vertices"] < 0.9 * history[0]["vertices"]
    with torch.inference_mode():
        predictions = {prediction.id: prediction.people for prediction in model.eval().predict(batch)}
    assert np.isfinite(parse_metric("pve").build(samples.skeleton).compute(samples, predictions)[0].value)
