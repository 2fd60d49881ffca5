"""How much memory a network's tensors take at once: followed without computing anything."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Ledger(TorchDispatchMode):
    """Counts the bytes of the storages that operators make within the block, and the most that were alive at once.

    Views share a storage and count once; a storage counts until nothing refers to it, the graph of derivatives included. ``given``: tensors
    that are there before and do not count, nor do views of them. ``reorders``: whether convolutions hold their operands a second time
    while they run, as oneDNN does for images in NCHW.
    """

    def __init__(self, given: Iterable[torch.Tensor] = (), reorders: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reorders = reorders
        self.live_bytes = self.peak_bytes = 0
        self._known: set[int] = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors(result):
            self._enter(tensor)
        passing = 0
        if self.reorders and func in CONVOLUTIONS:
            passing = sum(copy_bytes(tensor) for tensor in (*tensors(args[:3]), *tensors(result)) if tensor.ndim > 1)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + passing)
        return result

    def _enter(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        address, count_bytes = storage._cdata, storage.nbytes()
        if address not in self._known:
            self._known.add(address)
            self.live_bytes += count_bytes
            weakref.finalize(storage, self._leave, address, count_bytes)

    def _leave(self, address: int, count_bytes: int) -> None:
        self._known.discard(address)
        self.live_bytes -= count_bytes


CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def tensors(result: Any) -> list[torch.Tensor]:
    """Return the tensors among what an operator takes or gives."""
    items = result if isinstance(result, (list, tuple)) else (result,)
    return [item for item in items if isinstance(item, torch.Tensor)]


def copy_bytes(tensor: torch.Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()
