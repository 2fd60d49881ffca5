"""Norms, variances and average pools of torch written out as single operations, beside those of `operations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.precision.operations import moments, normalised
from convsmith.precision.steps import Steps


def instance_norm(
    steps: Steps, x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """``F.instance_norm``: a mean and a variance for each map of each image; running statistics are their means over the images."""
    view = (1, -1, *(1,) * (x.ndim - 2))
    if use_input_stats or running_mean is None or running_var is None:
        mean, centred, variance, n = moments(steps, x, tuple(range(2, x.ndim)))
        if running_mean is not None and running_var is not None:
            _follow(steps, running_mean, mean, momentum)
            _follow(steps, running_var, variance * (n / max(1, n - 1)), momentum)
    else:
        variance = running_var.reshape(view)
        centred = steps(x - steps.spread(running_mean.reshape(view), x.shape))
    return normalised(steps, centred, variance, eps, *(None if p is None else p.reshape(view) for p in (weight, bias)))


@torch.no_grad()
def _follow(steps: Steps, running: Tensor, now: Tensor, momentum: float) -> None:
    over_images = now.detach().mean(0).reshape(-1)
    running.copy_(steps.statistic(running * (1 - momentum) + over_images * momentum))


def rms_norm(steps: Steps, x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """``F.rms_norm``: no mean is subtracted."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    n = 1
    for axis in axes:
        n *= x.shape[axis]
    square = steps(steps.total(steps(x * x), axes) / n)
    return normalised(steps, x, square, torch.finfo(x.dtype).eps if eps is None else eps, weight, None)


def local_response_norm(steps: Steps, x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """``F.local_response_norm``: the mean of squares over ``size`` neighbouring channels, zeros beyond the first and last."""
    padded = F.pad(steps(x * x).movedim(1, -1), (size // 2, (size - 1) // 2))
    mean = steps(steps.total(padded.unfold(-1, size, 1), (-1,)).squeeze(-1) / size).movedim(-1, 1)
    return steps(x / steps(steps(steps(mean * alpha) + k).pow(beta)))


def variance(
    steps: Steps, x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: float | None = None
) -> Tensor:
    """``torch.var``: the mean first, then the mean of squared distances from it."""
    return _variance(steps, x, dim, unbiased, keepdim, correction)[0]


def deviation(
    steps: Steps, x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: float | None = None
) -> Tensor:
    """``torch.std``."""
    return steps(_variance(steps, x, dim, unbiased, keepdim, correction)[0].sqrt())


def variance_and_mean(
    steps: Steps, x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """``torch.var_mean``."""
    return _variance(steps, x, dim, unbiased, keepdim, correction)


def deviation_and_mean(
    steps: Steps, x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """``torch.std_mean``."""
    found, mean = _variance(steps, x, dim, unbiased, keepdim, correction)
    return steps(found.sqrt()), mean


def _variance(steps: Steps, x: Tensor, dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None) -> tuple[Tensor, Tensor]:
    if isinstance(dim, bool):  # torch.var(x, unbiased)
        dim, unbiased = None, dim
    axes = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    mean, _, found, n = moments(steps, x, axes)
    less = correction if correction is not None else float(unbiased is None or unbiased)
    if less:
        found = steps(found * (n / (n - less)))
    return (found, mean) if keepdim else (found.squeeze(axes), mean.squeeze(axes))


def average_pool_1d(
    steps: Steps, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """``F.avg_pool1d``."""
    (kernel,), (pad,) = _each(kernel_size, 1), _each(padding, 1)
    if ceil_mode or (pad and not count_include_pad):
        return steps(F.avg_pool1d(x, kernel_size, stride, padding, ceil_mode, count_include_pad))
    return _pool(steps, x, (kernel,), _each(stride or kernel_size, 1), (pad,), kernel)


def average_pool_3d(
    steps: Steps, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """``F.avg_pool3d``."""
    kernel, pads = _each(kernel_size, 3), _each(padding, 3)
    if ceil_mode or (any(pads) and not count_include_pad):
        return steps(F.avg_pool3d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override))
    return _pool(steps, x, kernel, _each(stride or kernel_size, 3), pads, divisor_override or kernel[0] * kernel[1] * kernel[2])


def adaptive_average_pool_1d(steps: Steps, x: Tensor, output_size: Any) -> Tensor:
    """``F.adaptive_avg_pool1d``."""
    return _adaptive(steps, x, output_size, 1)


def adaptive_average_pool_3d(steps: Steps, x: Tensor, output_size: Any) -> Tensor:
    """``F.adaptive_avg_pool3d``."""
    return _adaptive(steps, x, output_size, 3)


def _adaptive(steps: Steps, x: Tensor, output_size: Any, axes: int) -> Tensor:
    """Pool onto sizes that divide those of the maps; otherwise the result is rounded once."""
    asked = (output_size,) * axes if isinstance(output_size, int) else tuple(output_size)
    sides = x.shape[-axes:]
    wanted = [whole if side is None else side for side, whole in zip(asked, sides, strict=True)]
    if any(whole % side for side, whole in zip(wanted, sides, strict=True)):
        return steps((F.adaptive_avg_pool1d if axes == 1 else F.adaptive_avg_pool3d)(x, output_size))
    kernel = tuple(whole // side for side, whole in zip(wanted, sides, strict=True))
    n = 1
    for side in kernel:
        n *= side
    return _pool(steps, x, kernel, kernel, (0,) * axes, n)


def _pool(steps: Steps, x: Tensor, kernel: tuple[int, ...], hops: tuple[int, ...], pads: tuple[int, ...], divisor: int) -> Tensor:
    """Add the values of each window in C order, then divide."""
    axes = len(kernel)
    windows = F.pad(x, [pad for pad in reversed(pads) for _ in range(2)]) if any(pads) else x
    for axis, (side, hop) in enumerate(zip(kernel, hops, strict=True)):
        windows = windows.unfold(x.ndim - axes + axis, side, hop)
    last = tuple(range(x.ndim, x.ndim + axes))
    return steps(steps.total(windows, last).squeeze(last) / divisor)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * axes if len(numbers) == 1 else numbers
