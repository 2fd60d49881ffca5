"""How a torch tensor lies in memory: whether it can be rounded where it is, and which factor of a scale an element meets there."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats.carrier import as_scale

#: Integers whose every value is a float32 value.
_SHORT: Final = (torch.int8, torch.uint8, torch.int16, torch.uint16, torch.bool)


class TensorScale(NamedTuple):
    """Positive factors: one for all elements, or one for each index of ``axis``."""

    factors: Tensor
    axis: int | None

    def inner(self, like: Tensor) -> int:
        """Return n such that element i of a dense tensor, counted in the order of memory, meets factor i // n % len(factors)."""
        return 1 if self.axis is None else like.stride(self.axis)


def is_plain(x: Tensor) -> bool:
    """Tell whether a tensor is float32 numbers on a processor, one after the other in C order."""
    return (
        isinstance(x, Tensor)
        and x.dtype is torch.float32
        and x.is_cpu
        and x.layout is torch.strided
        and x.is_contiguous()
        and not x.is_neg()
    )


def is_dense(x: Tensor) -> bool:
    """Tell whether the elements fill a piece of memory without gaps and overlaps, in any order of the axes."""
    return bool(torch.ops.aten.is_non_overlapping_and_dense.default(x))


def as_columns(x: Tensor) -> tuple[int, int, int] | None:
    """Return (n, channels, places) of maps that lie in channels_last order, None for other tensors."""
    order = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if order is None or not x.is_contiguous(memory_format=order):
        return None
    return x.shape[0], x.shape[1], x.shape[2:].numel()


def are_apart(x: Tensor, y: Tensor) -> bool:
    """Tell whether two dense tensors of the same size share no memory."""
    return abs(x.data_ptr() - y.data_ptr()) >= x.numel() * max(x.element_size(), y.element_size())


def check_tensor(x: Tensor) -> None:
    """Refuse what has no numbers to round here: other types, devices and layouts.

    Raises: UsageError for what is not a tensor of real numbers; UnsupportedError for devices and layouts without a kernel.
    """
    if not isinstance(x, Tensor):
        raise UsageError(f"round_tensor takes a torch tensor; got {type(x).__name__}: use formats.round_array for arrays and numbers.")
    if x.layout is not torch.strided:
        raise UnsupportedError(f"Only dense tensors can be rounded; got layout {x.layout}: round its values, or call to_dense() first.")
    if x.is_complex() or x.is_quantized or not (x.is_floating_point() or x.dtype in (*_SHORT, torch.int32, torch.int64)):
        raise UsageError(f"Only tensors of real numbers can be rounded (floating point, integers, bool); got {x.dtype}.")
    if x.device.type == "meta":
        raise UsageError("A tensor on the meta device has a shape and no numbers; make one on cpu or cuda with to_empty and fill it first.")
    if x.device.type not in ("cpu", "cuda"):
        raise UnsupportedError(f"Tensors can be rounded on cpu and cuda; this one is on {x.device}: move it with x.cpu().")


def check_out(out: Tensor, x: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Refuse a result tensor of another type, shape or device, or one that autograd guards."""
    if out.dtype is not dtype or out.shape != x.shape or out.device != x.device or out.layout is not torch.strided:
        raise UsageError(
            f"out must be a {str(dtype).removeprefix('torch.')} tensor of shape {tuple(x.shape)} on {x.device}; "
            f"got {out.dtype} of shape {tuple(out.shape)} on {out.device}."
        )
    if out.requires_grad and torch.is_grad_enabled():
        raise UsageError("out requires a gradient, and rounding in place has none; call it under torch.no_grad() or give out.detach().")
    if out.is_neg():
        raise UsageError("out is a view that negates what it shows; give its resolve_neg().")


def as_tensor_scale(scale: ArrayLike | Tensor | None, axis: int | None, x: Tensor) -> TensorScale | None:
    """Return the checked factors of a scale as a float32 tensor on the device of ``x``.

    Raises: UsageError for a scale that is not positive and finite, or whose length is not that of the axis.
    """
    if scale is None:
        return None
    array = scale.detach().to(torch.float32).numpy(force=True) if isinstance(scale, Tensor) else scale
    found = as_scale(array, axis, tuple(x.shape))
    assert found is not None
    factors = torch.from_numpy(np.ascontiguousarray(found.factors)).to(x.device)
    return TensorScale(factors, axis % x.ndim if factors.numel() > 1 and axis is not None else None)


def as_float32(x: Tensor) -> Tensor | None:
    """Return the exact values as float32, or None where that type may not hold them; a float32 tensor comes back itself."""
    if x.dtype is torch.float32:
        return x
    if (x.is_floating_point() and x.element_size() <= 2) or x.dtype in _SHORT:
        return x.to(torch.float32)
    return None
