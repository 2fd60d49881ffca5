"""The same run in several processes under ``torchrun``: who takes which images, and what they add up.

Every process holds the whole network and computes its part of each batch; DistributedDataParallel averages the gradients. Batch norm
sees only the part of its own process (synchronised batch norm exists for GPUs only), so networks with it repeat the one-process result
in kind, not digit by digit. Under a plan the wrapper has no place: gradients are averaged here, in float32, then rounded as the plan says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from convsmith.errors import UsageError

T = TypeVar("T")
SETTLE_S = 0.2


@dataclass(frozen=True)
class Team:
    """This process among ``size``; number 0 writes the files."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, start: int, stop: int) -> tuple[int, int]:
        """Return this process's part of the places ``start`` to ``stop``; parts differ by one image at most."""
        n = stop - start
        if n < self.size:
            raise UsageError(f"a batch of {n} images cannot be divided over {self.size} processes; give batch at least {self.size}")
        return start + n * self.rank // self.size, start + n * (self.rank + 1) // self.size

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process."""
        return flag if self.size == 1 else bool(self.total(torch.tensor([float(flag)])).item())

    def first(self, value: T) -> T:
        """Return what the leading process has."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their means over all processes, in float32; every process has the same bits after it."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([x.reshape(-1) for x in tensors])
        dist.all_reduce(flat)
        start = 0
        for x in tensors:
            x.copy_(flat[start : start + x.numel()].view_as(x) / self.size)
            start += x.numel()

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the buffers of the leading one, as the wrapper does."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the network whose backward pass averages the gradients over all processes."""
        return nn.parallel.DistributedDataParallel(module) if self.size > 1 else module


@contextmanager
def team() -> Iterator[Team]:
    """Join the processes that ``torchrun`` started, over gloo; alone without it. A group that is already open is used and left open."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or not dist.is_available():
        yield Team()
        return
    opened = not dist.is_initialized()
    if opened:
        dist.init_process_group("gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    finally:
        if opened:
            # gloo's thread frees the last operation's Python objects a moment after that operation has returned. A group destroyed before
            # waits for the thread while it holds the interpreter's lock, which the thread needs: both would wait forever.
            time.sleep(SETTLE_S)
            dist.destroy_process_group()
