"""Emulation in several processes that train together: what they must agree on, and how."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from convsmith.errors import UsageError


def check_process(process: tuple[int, int]) -> None:
    """Refuse a process that cannot be, and several of them without a group that joins them."""
    number, count = process
    if not 0 <= number < count:
        raise UsageError(f"process is (number, how many), the number from 0 up; got {process}")
    if count > 1 and not (dist.is_available() and dist.is_initialized()):
        raise UsageError(f"{count} processes need a group to agree on ranges: call torch.distributed.init_process_group first")


def summed(values: Tensor) -> Tensor:
    """Return the sums over all processes."""
    dist.all_reduce(values)
    return values
