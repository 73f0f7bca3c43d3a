"""Full precision within mixed precision: for what is measured in pixels or millimetres."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def precise(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function in float32 whatever the forward pass around it is computed in: its half precision arguments are
    converted, and its products of matrices stay what they are.

    Eight bits are enough for features. Of a coordinate they leave a pixel in 256, or a centimetre in three metres.
    """

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Result:
        with contextlib.ExitStack() as plain:
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    plain.enter_context(torch.autocast(kind, enabled=False))
            return function(*map(_full, arguments), **{name: _full(value) for name, value in named.items()})

    return run


def _full(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value
