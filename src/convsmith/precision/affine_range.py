"""Steps of integers: with a zero point over a range that was seen, and those that a plan gives weights and activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.precision.matching import Assignment
from convsmith.precision.rule import Rule

if TYPE_CHECKING:
    from convsmith.precision.calibration import Ranges


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
    """The step such that ``count`` of them reach ``largest``; 1 where float32 cannot hold that: of zero, too small or too large."""
    step = np.asarray(largest, np.float64) / count
    usable = (step >= np.finfo(np.float32).tiny) & (step <= np.finfo(np.float32).max)
    return np.where(usable, step, 1.0).astype(np.float32)


def activation_range(assigned: Assignment, rule: Rule, ranges: Ranges | None) -> tuple[np.float32, int, int]:
    """Return the `affine_range` of an activation under a rule with a scale, over what was seen of it.

    Raises: UsageError where nothing was seen.
    """
    assert rule.format is not None
    if ranges is None:
        raise UsageError(f"layer {assigned.layer!r}: {rule.format} activations need ranges; give calibration images")
    seen = ranges[assigned.tensor]
    if rule.range == "mse":
        low, high = seen.least_error(rule.format)
    else:
        low, high = (seen.low, seen.high) if rule.range == "max" else seen.inner(rule.percentile)
    return affine_range(low, high, rule.format)


def weight_steps(w: NDArray[Any], rule: Rule, axis: int | None) -> tuple[NDArray[np.float32] | None, int | None]:
    """Return the step sizes of a weight, and the axis along which there are several; None and None where a rule has no scale."""
    if rule.scale == "none" or rule.format is None:
        return None, None
    along = axis if rule.scale == "channel" and axis is not None and w.ndim > 1 else None
    others = tuple(index for index in range(w.ndim) if index != along) if along is not None else None
    if rule.range == "mse":
        return formats.fit_mse(w, rule.format, axis=along, symmetric=True).scale, along
    size = np.abs(w)
    largest = np.percentile(size, rule.percentile, axis=others) if rule.range == "percentile" else size.max(axis=others)
    return step_size(largest, formats.max_value(rule.format)), along


def along_axis(steps: NDArray[np.float32], axis: int | None, rank: int) -> NDArray[np.float32]:
    """Return steps in a shape that spreads over a weight of so many axes."""
    return steps if axis is None else steps.reshape([-1 if index == axis else 1 for index in range(rank)])


def sum_codes(
    bias: NDArray[Any], x_step: NDArray[np.float32], w_steps: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return a bias in whole units of the sums of codes that it is added to, and these units, one a channel."""
    units = np.broadcast_to((x_step * w_steps).astype(np.float32).reshape(-1), bias.shape)
    whole = np.rint(bias.astype(np.float64) / units.astype(np.float64))
    return np.clip(whole, -(2**31), 2**31 - 1).astype(np.int32), np.ascontiguousarray(units)


def weight_codes(w: NDArray[Any], assigned: Assignment) -> NDArray[np.int64]:
    """Return a weight, rounded to its integer or fixed-point format, in whole steps."""
    rule = assigned.rule
    assert rule is not None and rule.format is not None
    steps, axis = weight_steps(w, rule, assigned.axis)
    rounded = formats.round_array(w, rule.format, rule.rounding, rule.overflow, scale=steps, axis=axis).astype(np.float64)
    unit = formats.smallest_positive(rule.format) if steps is None else along_axis(steps, axis, w.ndim)
    return np.rint(rounded / unit).astype(np.int64)
