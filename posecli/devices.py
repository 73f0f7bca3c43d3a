"""Where and how a network computes: the device, its precision and memory format, its random numbers."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from posecli import distributed
from posecli.algorithm import Algorithm
from posecli.console import PosecliError
from posecli.nn.normalize import Normalize


def choose_device(name: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; each rank of several gets its own GPU.

    Raises PosecliError when it is not there.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if gpus else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PosecliError(f"--device {name}: write auto, cpu, cuda, cuda:NUMBER or mps") from error
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise PosecliError(
            "--device mps: this machine, or its torch, has none; leave --device out to use what is there"
        )
    if device.type != "cuda":
        return device
    index = distributed.local_rank() if device.index is None else device.index
    if index >= gpus:
        raise PosecliError(f"--device {name}: GPU {index} was asked for, and torch sees {gpus} here; try --device cpu")
    return torch.device("cuda", index)


def autocast(device: torch.device, precision: str, *, cache: bool = True) -> AbstractContextManager[Any]:
    """The context for forward passes in fp32, bf16 or fp16; auto is bf16 where that is quick, else fp32.

    `cache` keeps converted weights for the rest of the block.
    """
    if precision == "fp32" or (precision == "auto" and not has_bf16(device)):
        return nullcontext()
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, cache_enabled=cache)


@functools.cache
def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 in hardware; elsewhere bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def device_name(device: torch.device) -> str:
    """What people call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def place(algorithm: Algorithm, device: torch.device, channels_last: bool) -> None:
    """Move the algorithm, with pictures and weights of convolutions in the wanted memory format."""
    algorithm.to(device)
    for module in algorithm.modules():
        if isinstance(module, Normalize):
            module.channels_last = channels_last
    for parameter in algorithm.parameters() if channels_last else ():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Within the block cuDNN looks once for its fastest algorithm; inputs keep their size."""
    former = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = former


# --- random numbers ---


def seed_all(seed: int) -> None:
    """Start all global generators anew."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of all global generators, as JSON can hold them."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    inner = numpy_state["state"]
    return {
        "torch": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.get_rng_state(device).tolist() if device.type == "cuda" else None,
        "python": list(random.getstate()),
        "numpy": {**numpy_state, "state": {"key": inner["key"].tolist(), "pos": inner["pos"]}},
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put all global generators where `random_state` found them."""
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8), device)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {"key": key, "pos": inner["pos"]}})
