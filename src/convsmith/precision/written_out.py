"""Which functions of torch are written out as single operations, and how their arguments are read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from convsmith.errors import UnsupportedError
from convsmith.precision import contractions, convolutions, normalisation, operations
from convsmith.precision.products import Accumulator
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.steps import Steps


def native_batch_norm(
    steps: Steps, x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """``torch.batch_norm``, whose arguments have another order than those of ``F.batch_norm``."""
    return operations.batch_norm(steps, x, running_mean, running_var, weight, bias, training, momentum, eps)


def native_layer_norm(
    steps: Steps, x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:  # fmt: skip
    """``torch.layer_norm``."""
    return operations.layer_norm(steps, x, normalized_shape, weight, bias, eps)


def native_group_norm(
    steps: Steps, x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """``torch.group_norm``."""
    return operations.group_norm(steps, x, num_groups, weight, bias, eps)


def plain_softmax(steps: Steps, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``torch.softmax`` and the method, which have no ``_stacklevel``."""
    return operations.softmax(steps, x, dim, dtype=dtype)


def plain_log_softmax(steps: Steps, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``torch.log_softmax`` and the method."""
    return operations.log_softmax(steps, x, dim, dtype=dtype)


def native_instance_norm(
    steps: Steps, x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """``torch.instance_norm``."""
    return normalisation.instance_norm(steps, x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


WRITTEN_OUT: Final[dict[str, Callable[..., Any]]] = {
    "conv1d": convolutions.convolution_1d,
    "conv2d": convolutions.convolution,
    "conv3d": convolutions.convolution_3d,
    "conv_transpose1d": convolutions.transposed_1d,
    "conv_transpose2d": convolutions.transposed,
    "conv_transpose3d": convolutions.transposed_3d,
    "linear": operations.linear,
    "matmul": operations.matmul,
    "mm": operations.matmul,
    "bmm": operations.matmul,
    "addmm": operations.addmm,
    "baddbmm": contractions.baddbmm,
    "mv": contractions.vectors,
    "dot": contractions.vectors,
    "inner": contractions.inner,
    "outer": contractions.outer,
    "einsum": contractions.einsum,
    "scaled_dot_product_attention": contractions.attention,
    "batch_norm": operations.batch_norm,
    "instance_norm": normalisation.instance_norm,
    "rms_norm": normalisation.rms_norm,
    "local_response_norm": normalisation.local_response_norm,
    "var": normalisation.variance,
    "std": normalisation.deviation,
    "var_mean": normalisation.variance_and_mean,
    "std_mean": normalisation.deviation_and_mean,
    "layer_norm": operations.layer_norm,
    "group_norm": operations.group_norm,
    "softmax": operations.softmax,
    "log_softmax": operations.log_softmax,
    "cross_entropy": operations.cross_entropy,
    "mean": operations.mean,
    "sum": operations.total,
    "avg_pool1d": normalisation.average_pool_1d,
    "avg_pool3d": normalisation.average_pool_3d,
    "adaptive_avg_pool1d": normalisation.adaptive_average_pool_1d,
    "adaptive_avg_pool3d": normalisation.adaptive_average_pool_3d,
    "avg_pool2d": operations.average_pool,
    "adaptive_avg_pool2d": operations.adaptive_average_pool,
}
"""The functions of torch that are written out, by name; every other one is a single operation, rounded once."""

NATIVE: Final[dict[Any, Callable[..., Tensor]]] = {
    torch.batch_norm: native_batch_norm,
    torch.layer_norm: native_layer_norm,
    torch.instance_norm: native_instance_norm,
    torch.group_norm: native_group_norm,
    torch.softmax: plain_softmax,
    Tensor.softmax: plain_softmax,
    torch.log_softmax: plain_log_softmax,
    Tensor.log_softmax: plain_log_softmax,
}
"""Those that take their arguments otherwise than the function of that name in ``torch.nn.functional``."""


def written_out(
    operator: str, activation: Quantizer | None, error: Quantizer | None, accumulator: Quantizer | None, statistics: Quantizer | None
) -> Callable[..., Any] | None:
    """Return the operator by single operations, called as torch calls it; None where the plan asks for nothing inside of it."""
    activation, error = (q if q is not None and q.rule.moment == "operation" else None for q in (activation, error))
    if operator not in WRITTEN_OUT or all(q is None for q in (activation, error, accumulator, statistics)):
        return None
    named, sums = WRITTEN_OUT[operator], None if accumulator is None else Accumulator(accumulator)

    def run(called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        function: Callable[..., Any] = NATIVE.get(called, named)
        dtype = kwargs.get("dtype")
        if dtype not in (None, torch.float32):
            raise UnsupportedError(f"{operator} to {dtype} is not emulated operation by operation, which is float32; leave dtype out")
        given = kwargs if "dtype" in _signature(function).parameters else {name: x for name, x in kwargs.items() if name != "dtype"}
        steps = Steps(activation, error, sums, statistics)
        try:
            bound = _signature(function).bind(steps, *args, **given)
        except TypeError as found:
            raise UnsupportedError(f"{operator} is not emulated operation by operation with these arguments: {found}") from None
        result: Any = function(*bound.args, **bound.kwargs)
        return result

    return run


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
