"""A network's work on a GPU, recorded once and replayed as a whole: nothing is launched kernel by kernel any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from posecli.console import PosecliError


def record(
    module: nn.Module, whole: nn.Module, run: Callable[[], object], autocast: AbstractContextManager[Any]
) -> None:
    """Let `module`, which takes one tensor, replay its forward and backward pass from now on, in training mode.

    `run` is a training step's forward pass of `whole`, which calls its part `module` once; inputs of another shape, and
    those in evaluation mode, go the plain way. A gradient is valid until the next backward pass: gradients of several
    must not be summed. `autocast` must not cache. The buffers of `whole` and random numbers stay as they are. Raises
    PosecliError when `module` is called more than once, for then a call would overwrite what the one before keeps for
    the backward pass.
    """
    with _unchanged(whole):
        example = _input(module, run)
        plain = module.forward
        with autocast:
            torch.cuda.make_graphed_callables(module, (example,), allow_unused_input=True)
    replay = module.forward

    def forward(images: Tensor) -> Any:
        return replay(images) if images.shape == example.shape else plain(images)

    module.forward = forward


def _input(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """A copy of what `module` is given by `run`."""
    given: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0].detach().clone()))
    try:
        with torch.no_grad():
            run()
    finally:
        hook.remove()
    if len(given) != 1:
        raise PosecliError(
            f"train.cuda_graphs: this model's training step calls its backbone {len(given)} times, and only what is "
            "called once can be recorded: --set train.cuda_graphs=false"
        )
    return given[0]


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """After the block the module's buffers and the GPU's random numbers are what they were before it."""
    device = next(module.parameters()).device
    state, buffers = torch.cuda.get_rng_state(device), {id(value): value.clone() for value in module.buffers()}
    yield
    torch.cuda.set_rng_state(state, device)
    for value in module.buffers():
        value.copy_(buffers[id(value)])
