"""How weights move: optimizers, the learning rate over the steps, an average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from posecli.algorithm import Algorithm
from posecli.config import OptimizerConfig, ScheduleConfig
from posecli.console import PosecliError

Optimizers = dict[str, Optimizer]
"""One for each of the algorithm's parameter groups."""


def build_optimizers(algorithm: Algorithm, config: OptimizerConfig) -> Optimizers:
    """An optimizer for each parameter group. Biases and normalisation layers are not decayed.

    Raises PosecliError when the config names a group that the algorithm has not.
    """
    groups = algorithm.parameter_groups()
    unknown = set(config.factors) - set(groups)
    if unknown:
        raise PosecliError(
            f"train.optimizer.factors: no group of parameters is named {sorted(unknown)[0]!r}; "
            f"this model has {', '.join(groups)}"
        )
    return {
        name: _build(parameters, config, config.factors.get(name, 1.0))
        for name, parameters in groups.items()
        if parameters
    }


def _build(parameters: list[nn.Parameter], config: OptimizerConfig, factor: float) -> Optimizer:
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": some, "weight_decay": decay, "factor": factor}
        for some, decay in ((decayed, config.weight_decay), (others, 0.0))
        if some
    ]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)  # one kernel for all weights
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    kind = AdamW if config.name == "adamw" else Adam
    return kind(groups, lr=config.lr, betas=config.betas, fused=fused)


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Go on from a saved state with the settings that the optimizer was built with. Raises ValueError or KeyError."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def set_rate(optimizers: Optimizers, rate: float) -> None:
    """Give every optimizer the learning rate of the coming step, times its group's factor."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]


def rate_factor(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`, as a fraction of the full one.

    The warm-up rises in equal parts from `warmup_ratio` to 1 and takes at most a tenth of the steps.
    """
    warmup = min(schedule.warmup_steps, steps // 10)
    factor = _after_warmup(schedule, step, steps)
    if step < warmup:
        factor *= schedule.warmup_ratio + (1 - schedule.warmup_ratio) * step / max(1, warmup - 1)
    return factor


def _after_warmup(schedule: ScheduleConfig, step: int, steps: int) -> float:
    if schedule.name == "step":
        passed = sum(step >= round(milestone * steps) for milestone in schedule.milestones)
        return float(schedule.gamma**passed)
    if schedule.name == "cosine":
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * step / steps)) / 2
    if schedule.name == "exponential":
        return float(schedule.final ** (step / steps))
    return 1.0


class Average:
    """An exponential moving average of all weights and buffers, used in their place to predict."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.updates = 0
        current = {name: value.detach() for name, value in module.state_dict().items()}  # views: they stay current
        self.values = {name: value.clone() for name, value in current.items()}
        floating = [name for name, value in current.items() if value.is_floating_point()]
        self._averaged = [self.values[name] for name in floating], [current[name] for name in floating]
        counters = current.keys() - floating
        self._copied = [(self.values[name], current[name]) for name in counters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now. The first updates weigh more, so that the start is forgotten."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(*self._averaged, 1 - decay)
        for value, current in self._copied:
            value.copy_(current)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the module has the averaged weights."""
        own = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        _fill(self.module, self.values)
        try:
            yield
        finally:
            _fill(self.module, own)

    def state(self) -> dict[str, object]:
        """All that `restore` needs: tensors and plain values."""
        return {"updates": self.updates, "values": self.values}

    def restore(self, updates: int, values: Mapping[str, Tensor]) -> None:
        """Go on from a saved state."""
        self.updates = updates
        for name, value in values.items():
            self.values[name].copy_(value)


@torch.no_grad()
def _fill(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, value in module.state_dict().items():
        value.copy_(values[name])
