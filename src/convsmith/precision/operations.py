"""Functions of torch written out as single operations, each of them rounded, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.precision.products import Product
from convsmith.precision.steps import Steps


def linear(steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` of any number of leading axes."""
    if steps.sums is None:
        return steps(F.linear(x, weight, bias))
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = Product.apply(rows, weight, True, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
    return steps((y if bias is None else steps.add_bias(y, bias)).reshape(*x.shape[:-1], -1))


def matmul(steps: Steps, a: Tensor, b: Tensor) -> Tensor:
    """``torch.matmul``: batches of matrices are multiplied one by one."""
    if steps.sums is None:
        return steps(torch.matmul(a, b))
    if a.ndim == 2 and b.ndim == 2:
        y: Tensor = Product.apply(a, b, False, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
        return steps(y)
    if b.ndim <= 2 and a.ndim > 2:
        return matmul(steps, a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    if a.ndim == 1 or b.ndim == 1:
        first, last = a.ndim == 1, b.ndim == 1
        y = matmul(steps, a[None] if first else a, b[:, None] if last else b)
        return y.reshape([size for axis, size in enumerate(y.shape) if not (first and axis == 0) and not (last and axis == y.ndim - 1)])
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    many, more = (x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (a, b))
    return torch.stack([matmul(steps, one, two) for one, two in zip(many, more, strict=True)]).reshape(*lead, a.shape[-2], b.shape[-1])


def addmm(steps: Steps, added: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``torch.addmm`` without factors."""
    if steps.sums is None:
        return steps(torch.addmm(added, a, b))
    y: Tensor = Product.apply(a, b, False, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
    return steps(steps.add_bias(y, added))


def batch_norm(
    steps: Steps,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm``: sums of all values of a channel, in C order; the running statistics are stored as norm statistics."""
    axes = (0, *range(2, x.ndim))
    view = (1, -1, *(1,) * (x.ndim - 2))
    if training or running_mean is None or running_var is None:
        mean, centred, variance, n = moments(steps, x, axes)
        if running_mean is not None and running_var is not None:
            _follow(steps, running_mean, mean, momentum)
            _follow(steps, running_var, variance * (n / max(1, n - 1)), momentum)
    else:
        variance = running_var.reshape(view)
        centred = steps(x - steps.spread(running_mean.reshape(view), x.shape))
    return normalised(steps, centred, variance, eps, *(None if p is None else p.reshape(view) for p in (weight, bias)))


def layer_norm(
    steps: Steps, x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``F.layer_norm``."""
    _, centred, variance, _ = moments(steps, x, tuple(range(x.ndim - len(normalized_shape), x.ndim)))
    return normalised(steps, centred, variance, eps, weight, bias)


def group_norm(
    steps: Steps, x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``F.group_norm``."""
    grouped = x.reshape(len(x), num_groups, -1)
    _, centred, variance, _ = moments(steps, grouped, (2,))
    y = _scaled(steps, centred, variance, eps).reshape(x.shape)
    view = (1, -1, *(1,) * (x.ndim - 2))
    return _affine(steps, y, *(None if p is None else p.reshape(view) for p in (weight, bias)))


def softmax(steps: Steps, x: Tensor, dim: int, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """``F.softmax``: the largest is subtracted first."""
    e = steps(steps(x - x.detach().amax(dim, keepdim=True)).exp())
    return steps(e / steps.spread(steps.total(e, (dim,)), e.shape))


def log_softmax(steps: Steps, x: Tensor, dim: int, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """``F.log_softmax``: the largest is subtracted first."""
    z = steps(x - x.detach().amax(dim, keepdim=True))
    return steps(z - steps.spread(steps(steps.total(steps(z.exp()), (dim,)).log()), z.shape))


def cross_entropy(
    steps: Steps,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``F.cross_entropy`` of class numbers, the log-softmax by single operations and what follows it in float32."""
    logs = log_softmax(steps, input, 1)
    if label_smoothing:
        smooth = F.one_hot(target, input.shape[1]).to(logs.dtype) * (1 - label_smoothing) + label_smoothing / input.shape[1]
        return F.cross_entropy(logs, smooth, weight, reduction=reduction)
    return F.nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)


def mean(steps: Steps, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """``torch.mean``: a sum and a division."""
    axes = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    n = 1
    for axis in axes:
        n *= x.shape[axis]
    y = steps(steps.total(x, axes) / n)
    return y if keepdim else y.squeeze(axes)


def total(steps: Steps, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """``torch.sum``."""
    axes = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    y = steps(steps.total(x, axes))
    return y if keepdim else y.squeeze(axes)


def average_pool(
    steps: Steps, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """``F.avg_pool2d``: the values of a window are added in C order, then divided."""
    kernel, pads = _pair(kernel_size), _pair(padding)
    if ceil_mode or (any(pads) and not count_include_pad):
        return steps(F.avg_pool2d(x, kernel, stride, pads, ceil_mode, count_include_pad, divisor_override))
    hop = kernel if stride is None or stride == [] else _pair(stride)
    padded = F.pad(x, (pads[1], pads[1], pads[0], pads[0])) if any(pads) else x
    windows = padded.unfold(2, kernel[0], hop[0]).unfold(3, kernel[1], hop[1])
    return steps(steps.total(windows, (4, 5)).squeeze((4, 5)) / (divisor_override or kernel[0] * kernel[1]))


def adaptive_average_pool(steps: Steps, x: Tensor, output_size: Any) -> Tensor:
    """``F.adaptive_avg_pool2d`` onto sizes that divide those of the maps; otherwise the result is rounded once."""
    size = output_size if isinstance(output_size, int) else tuple(output_size)
    wanted = [
        side if side is not None else whole
        for side, whole in zip((size, size) if isinstance(size, int) else size, x.shape[-2:], strict=True)
    ]
    if any(whole % side for side, whole in zip(wanted, x.shape[-2:], strict=True)):
        return steps(F.adaptive_avg_pool2d(x, output_size))
    return average_pool(steps, x, tuple(whole // side for side, whole in zip(wanted, x.shape[-2:], strict=True)))


def moments(steps: Steps, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return mean, centred values, variance and the number of values of each."""
    n = 1
    for axis in axes:
        n *= x.shape[axis]
    mean = steps.statistic(steps(steps.total(x, axes) / n))
    centred = steps(x - steps.spread(mean, x.shape))
    return mean, centred, steps.statistic(steps(steps.total(steps(centred * centred), axes) / n)), n


def normalised(steps: Steps, centred: Tensor, variance: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Divide by the root of the variance, scale and shift."""
    return _affine(steps, _scaled(steps, centred, variance, eps), weight, bias)


def _scaled(steps: Steps, centred: Tensor, variance: Tensor, eps: float) -> Tensor:
    inverse = steps(1 / steps(torch.sqrt(steps(variance + eps))))
    return steps(centred * steps.spread(inverse, centred.shape))


def _affine(steps: Steps, y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        y = steps(y * steps.spread(weight, y.shape))
    return y if bias is None else steps(y + steps.spread(bias, y.shape))


@torch.no_grad()
def _follow(steps: Steps, running: Tensor, now: Tensor, momentum: float) -> None:
    running.copy_(steps.statistic(running * (1 - momentum) + now.detach().reshape(-1) * momentum))


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, second = value if len(value) == 2 else (value[0], value[0])
    return int(first), int(second)
