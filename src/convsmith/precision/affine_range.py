"""Step and zero point of integers over a range that was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith import formats


def affine_range(low: float, high: float, fmt: formats.Format) -> tuple[np.float32, int, int]:
    """Return the step of an integer format over a range that includes zero, and the least and largest multiple of it.

    A format that is not symmetric has a zero point: the multiples are ``-zero_point`` to ``2^bits - 1 - zero_point``. Zero is exact.
    """
    if fmt.symmetric:
        most = round(formats.max_value(fmt))
        return np.float32(step_size(max(-low, high), most)), -most, most
    steps = (1 << fmt.bits) - 1
    step = np.float32(step_size(high - low, steps))
    zero_point = min(steps, max(0, round(-low / float(step))))
    return step, -zero_point, steps - zero_point


def step_size(largest: Any, count: float) -> NDArray[np.float32]:
    """The step such that ``count`` of them reach ``largest``; 1 where that is zero or too small for float32."""
    step = np.asarray(np.asarray(largest, np.float64) / count, np.float32)
    return np.where(step >= np.finfo(np.float32).tiny, step, np.float32(1)).astype(np.float32)
