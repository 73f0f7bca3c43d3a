"""Several processes on one job: torchrun's environment, and what ranks tell each other, never by pickle."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as ranks

from posecli.console import STOPPED, PosecliError, RunFailed

GRACE = 3.0  # seconds that a rank which lost another stays, and the one that failed may end before it


def launched() -> bool:
    """Whether torchrun started this process, as one of several."""
    return expected() > 1


def expected() -> int:
    """How many processes torchrun started, 1 when it did not; also known before `join`."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def local_rank() -> int:
    """The number of this process on its machine: which GPU is its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def first_process() -> bool:
    """Whether this process is the one that prints and writes; also known before `join`."""
    return not launched() or os.environ["RANK"] == "0"


def join(device: torch.device) -> None:
    """Meet the other ranks, where torchrun started several; nothing otherwise, and nothing the second time."""
    if not launched() or joined():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        ranks.init_process_group("nccl", device_id=device)
    else:
        ranks.init_process_group("gloo")


def leave() -> None:
    """Part from the other ranks before the process ends."""
    if joined():
        ranks.destroy_process_group()


@contextmanager
def parting() -> Iterator[None]:
    """Part from the other ranks when the block ends, however it ends.

    Raises RunFailed where this rank waited for another that has gone, and that has said itself why; a little later, so
    that its exit code is not taken for that of the job.
    """
    try:
        yield
    except RuntimeError as error:
        if not (joined() and _tells_of_a_lost_rank(error)):
            raise
        time.sleep(GRACE)
        raise RunFailed("another process of this job has stopped, so this one does too") from error
    finally:
        leave()


def _tells_of_a_lost_rank(error: RuntimeError) -> bool:
    """Whether the connection to another one broke: gloo, NCCL and torch's store have only words for it."""
    return any(words in str(error) for words in ("by peer", "pair closure", "remote process", "remote server"))


def joined() -> bool:
    """Whether there is a group of ranks, if only of one."""
    return ranks.is_available() and ranks.is_initialized()


def rank() -> int:
    """The number of this process, 0 when it is alone."""
    return ranks.get_rank() if joined() else 0


def world() -> int:
    """How many processes share the job, 1 when alone."""
    return ranks.get_world_size() if joined() else 1


def barrier() -> None:
    """Wait until every rank is here."""
    totals([0])


def totals(values: Sequence[int]) -> list[int]:
    """The sums of every rank's `values`, on every rank."""
    if not joined():
        return list(values)
    tensor = torch.tensor(values, device=_device())
    ranks.all_reduce(tensor)
    return [int(value) for value in tensor.tolist()]


def gather_json(items: Sequence[Any]) -> list[Any]:
    """The items of all ranks, in the order of the ranks, on every rank. Items are what JSON can hold."""
    if not joined():
        return list(items)
    mine = torch.frombuffer(bytearray(json.dumps(list(items)).encode()), dtype=torch.uint8).to(_device())
    size = torch.tensor([len(mine)], device=mine.device)
    sizes = [torch.zeros_like(size) for _ in range(world())]
    ranks.all_gather(sizes, size)
    padded = mine.new_zeros(max(int(size) for size in sizes))
    padded[: len(mine)] = mine
    texts = [torch.empty_like(padded) for _ in sizes]
    ranks.all_gather(texts, padded)
    return [item for text, size in zip(texts, sizes, strict=True) for item in _decode(text[: int(size)])]


def _decode(text: Tensor) -> list[Any]:
    items: list[Any] = json.loads(text.cpu().numpy().tobytes())
    return items


def share_buffers(module: nn.Module) -> None:
    """Give every rank the first one's buffers: each has seen other batches, and normalisation remembers them."""
    if joined():
        for buffer in module.buffers():
            ranks.broadcast(buffer, src=0)


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if ranks.get_backend() == "nccl" else torch.device("cpu")


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(nproc: int, argv: Sequence[str]) -> int:
    """Run `posecli ARGV` in `nproc` processes on this machine, as torchrun does, and return the exit code.

    Several machines: run torchrun on each of them, `torchrun --nnodes 2 ... -m posecli train ...`.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if nproc > 1 and launched():
        raise PosecliError("--nproc starts processes itself: leave it out under torchrun")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // nproc)))  # else every rank takes every core
    logging.disable(logging.CRITICAL)  # the ranks say themselves what is wrong
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "posecli", *argv)
    except ChildFailedError as error:
        return _exit_code([failure.exitcode for failure in error.failures.values()])
    except (SignalException, KeyboardInterrupt):
        return STOPPED
    return 0


def _exit_code(codes: Sequence[int]) -> int:
    """The most telling of several: a rank's own code before that of a rank which was killed for another's fault."""
    own = [code for code in codes if code > 0]
    return max(own) if own else 1
