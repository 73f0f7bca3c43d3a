"""How long a training step of pairs of hands takes, against what nobody can do without."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posecli.batch import Batch, collate
from posecli.config import load_experiment
from posecli.console import PosecliError
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.measures import Measure, interleave
from posecli_interhand.model import InterHand


def measure_steps(config: str, batch_size: int = 4, repeats: int = 5, device: str = "cpu") -> list[Measure]:
    """Steps from uint8 pictures and keypoints to moved weights, against steps from normalised pictures and full
    volumes; in float32, pictures in memory. Raises PosecliError for a config of another family."""
    samples = synthetic_hands(batch_size)
    algorithm = load_experiment(config).model.build(samples.skeleton)
    if not isinstance(algorithm, InterHand):
        raise PosecliError(f"{config} is no model of pairs of hands")
    transform, units = algorithm.transform(train=False), algorithm.units(samples, train=True)
    batch = collate([transform(unit, np.random.default_rng(0)) for unit in units]).to(device)
    algorithm = algorithm.to(device).train()
    ours, bare = interleave([_own_step(algorithm, batch), _bare_step(algorithm, batch)], repeats + 1)
    note = f"{config}, batch {batch_size}, {device}, fp32"
    what = "training step of pairs of hands ÷ bare loop, targets made before"
    return [Measure(what, batch_size / ours, batch_size / bare, "images/s", 0.9, note=note)]


def _own_step(algorithm: InterHand, batch: Batch) -> Callable[[], None]:
    """Normalising, the network, targets, losses, backward, optimizer."""
    optimizer = torch.optim.Adam(algorithm.parameters(), lr=1e-4)
    return lambda: _step(optimizer, lambda: torch.stack(list(algorithm.losses(batch).values())).sum())


def _bare_step(algorithm: InterHand, batch: Batch) -> Callable[[], None]:
    """The network, torch's losses, backward, optimizer; all targets are there already."""
    network = copy.deepcopy(algorithm.network())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images = algorithm.normalize(batch.inputs["image"])
    targets = batch.targets
    points = torch.cat([targets["keypoints"], targets["depth"][..., None]], dim=-1)
    volumes = algorithm.volume.encode(points, targets["visible"]).full()
    places, _ = algorithm.bins.encode(targets["root_depth"], targets["root_valid"])
    return lambda: _step(optimizer, lambda: _bare_loss(network, images, volumes, places, targets["hand_type"]))


def _bare_loss(network: nn.Module, images: Tensor, volumes: Tensor, places: Tensor, hand_type: Tensor) -> Tensor:
    outputs = network(images)
    types = F.binary_cross_entropy_with_logits(outputs.hand_type, hand_type)
    return F.mse_loss(outputs.volumes, volumes) + F.l1_loss(outputs.root, places) + types


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    optimizer.zero_grad(set_to_none=True)
    value = loss()
    torch.autograd.backward(value)
    optimizer.step()
    if value.is_cuda:
        torch.cuda.synchronize()
