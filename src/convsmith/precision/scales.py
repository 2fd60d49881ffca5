"""Rounding by steps taken from the values themselves: one for a tensor, a channel, a group, or a power of two for a block."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith import formats
from convsmith.precision.affine_range import step_size
from convsmith.precision.rule import Rule

F32 = NDArray[np.float32]


def round_scaled(x: Tensor, fmt: formats.Format, rule: Rule, axis: int | None, how: dict[str, Any], out: Tensor | None) -> Tensor:
    """Round to multiples of steps that make the largest magnitude of a part the largest value of the format.

    Parts are the tensor, the indices of ``axis``, or ``rule.block`` consecutive values in C order, the last perhaps fewer. A part of
    zeros, or one whose step float32 cannot hold, has step 1; NaN and infinities do not count for the step.
    """
    array = x.contiguous().numpy(force=True)
    if rule.scale == "tensor":
        rows, along = array.reshape(1, -1), None
    elif rule.scale == "channel":
        rows, along = np.moveaxis(array, axis or 0, 0).reshape(array.shape[axis or 0], -1), axis or 0
    else:
        rows, along = _blocks(array, rule.block), 0
    if rule.range == "mse":
        steps = formats.fit_mse(rows, fmt, axis=0, symmetric=True).scale
    else:
        steps = step_sizes(_largest(rows, rule), fmt, power_of_two=rule.scale == "block")
    source = rows if rule.scale in ("group", "block") else array
    scale = steps if along is not None else steps[0]
    result = formats.round_array(source, fmt, rule.rounding, rule.overflow, scale=scale, axis=along, **how)
    found = torch.from_numpy(result.reshape(-1)[: array.size].reshape(array.shape))
    return found.to(x.device) if out is None else out.copy_(found)


def step_sizes(largest: NDArray[np.float64], fmt: formats.Format, *, power_of_two: bool) -> F32:
    """Return the step for which ``largest`` is the largest value of the format; of powers of two the smallest that holds it.

    Of floats a power of two aligns the exponents instead, as the OCP microscaling formats do: the largest values of a block may saturate.
    """
    top = formats.max_value(fmt)
    if not power_of_two:
        return step_size(largest, top)
    if fmt.kind == "float":
        steps = np.ldexp(1.0, np.frexp(largest)[1] - int(np.frexp(top)[1]))
    else:
        fraction, exponent = np.frexp(largest / top)
        steps = np.ldexp(1.0, exponent - (fraction == 0.5))
    usable = (largest > 0) & (steps >= np.finfo(np.float32).tiny) & (steps <= np.finfo(np.float32).max)
    return np.where(usable, steps, 1.0).astype(np.float32)


def _largest(rows: F32, rule: Rule) -> NDArray[np.float64]:
    size = np.abs(rows)
    if not np.isfinite(size).all():
        size = np.where(np.isfinite(size), size, 0)
    if not size.size:
        return np.zeros(len(rows))
    found = np.percentile(size, rule.percentile, axis=1) if rule.range == "percentile" else size.max(axis=1)
    return np.asarray(found, np.float64)


def _blocks(array: F32, block: int) -> F32:
    padded = np.zeros(-(-array.size // block) * block, np.float32)
    padded[: array.size] = array.reshape(-1)
    return padded.reshape(-1, block)
