"""Dynamic fixed point: one range for a tensor, moved by how often numbers overflow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError
from convsmith.formats.carrier import as_carrier
from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value

_CHUNK = 1 << 20


@dataclass(frozen=True)
class DynamicRange:
    """The range of one tensor and what was counted since it last moved; a value, changed by `observe` and `adapt`.

    ``bits`` and ``integer_bits`` are those of `Format.fixed`, the sign counted; ``overflows`` counts numbers beyond the range and
    ``overflows_below`` those beyond the next smaller one.
    References: Courbariaux, Bengio and David 2014, arXiv 1412.7024, section 5 and algorithm 1: a range for each tensor, doubled when its
    overflow rate exceeds ``max_rate`` and halved when that of half the range does not, every ``every`` batches.
    """

    bits: int
    integer_bits: int
    max_rate: float = 1e-4
    every: int = 100
    batches: int = 0
    seen: int = 0
    overflows: int = 0
    overflows_below: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_rate < 1:
            raise UsageError(f"max_rate must be at least 0 and below 1; got {self.max_rate:g}.")
        if self.every < 1:
            raise UsageError(f"every must be at least 1 batch; got {self.every}.")
        _ = self.format

    @property
    def format(self) -> Format:
        """The fixed-point format of the range, symmetric as in the paper."""
        return Format.fixed(self.integer_bits, self.bits - self.integer_bits, symmetric=True)

    @property
    def rate(self) -> float:
        """The share of numbers seen since the range last moved that were beyond it; 0 when none was seen."""
        return self.overflows / self.seen if self.seen else 0.0


def count_overflows(x: ArrayLike, *formats: Format) -> tuple[int, ...]:
    """Return how many numbers are beyond the range of each format, in one pass; infinities are, NaN is not."""
    flat = as_carrier(x).reshape(-1)
    limits = [(np.asarray(min_value(f), flat.dtype), np.asarray(max_value(f), flat.dtype)) for f in formats]
    totals = [0] * len(limits)
    for start in range(0, flat.size, _CHUNK):
        part: NDArray[Any] = flat[start : start + _CHUNK]
        least, most = part.min(), part.max()
        for index, (low, high) in enumerate(limits):
            if np.isnan(least) or least < low or most > high:
                totals[index] += int(np.count_nonzero(part > high) + np.count_nonzero(part < low))
    return tuple(totals)


def observe(state: DynamicRange, x: ArrayLike) -> DynamicRange:
    """Return the state after one more batch of the tensor."""
    below = Format.fixed(state.integer_bits - 1, state.bits - state.integer_bits + 1, symmetric=True)
    over, over_below = count_overflows(x, state.format, below)
    return replace(
        state,
        batches=state.batches + 1,
        seen=state.seen + int(np.size(x)),
        overflows=state.overflows + over,
        overflows_below=state.overflows_below + over_below,
    )


def adapt(state: DynamicRange) -> DynamicRange:
    """Return the state with its range moved, and the counts begun anew, once ``every`` batches were seen; else the state itself.

    The range grows by one bit when its overflow rate exceeds ``max_rate``; else it shrinks by one when the rate of the next smaller range
    does not.
    """
    if state.batches < state.every:
        return state
    move = 0
    if state.seen:
        move = 1 if state.rate > state.max_rate else -1 if state.overflows_below / state.seen <= state.max_rate else 0
    return replace(state, integer_bits=state.integer_bits + move, batches=0, seen=0, overflows=0, overflows_below=0)
