"""Every graph operator as a torch function: ``OPERATORS[op](inputs, attributes) -> outputs``.

Whole numbers that are constants of the graph arrive as NumPy arrays, everything else as tensors; absent inputs are ``None``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.errors import UnsupportedError
from convsmith.interop import torch_integers
from convsmith.kernels.windows import Windows, resolve

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Inputs, Attributes], Any]


def integers(value: Any) -> list[int]:
    """Return a constant or computed vector as Python integers."""
    return (
        [int(n) for n in np.asarray(value).reshape(-1)] if not isinstance(value, Tensor) else [int(n) for n in value.reshape(-1).tolist()]
    )


def tensor(value: Any, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value)).to(like.device)


def optional(inputs: Inputs, index: int) -> Any:
    return inputs[index] if len(inputs) > index else None


def pad_windows(x: Tensor, a: Attributes, value: float) -> tuple[Tensor, list[int]]:
    """Return the input and the symmetric padding left to the operator; uneven padding is added here."""
    rank = x.dim() - 2
    pads = list(a.get("pads", (0,) * 2 * rank))
    before, after = pads[:rank], pads[rank:]
    if before == after:
        return x, before
    amounts = [n for axis in reversed(range(rank)) for n in (before[axis], after[axis])]
    return F.pad(x, amounts, value=value), [0] * rank


def whole(a: Attributes, key: str, rank: int) -> list[int]:
    return list(a.get(key, (1,) * rank))


def explicit(a: Attributes) -> None:
    if a.get("auto_pad", "NOTSET") != "NOTSET" or a.get("ceil_mode", 0):
        raise UnsupportedError("auto_pad and ceil_mode in torch; use explicit pads")


def conv(inputs: Inputs, a: Attributes) -> Tensor:
    explicit(a)
    x, padding = pad_windows(inputs[0], a, 0.0)
    rank = x.dim() - 2
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    return function(x, inputs[1], optional(inputs, 2), whole(a, "strides", rank), padding, whole(a, "dilations", rank), a.get("group", 1))


def conv_transpose(inputs: Inputs, a: Attributes) -> Tensor:
    explicit(a)
    pads = a.get("pads", (0, 0, 0, 0))
    if tuple(pads[:2]) != tuple(pads[2:]):
        raise UnsupportedError(f"ConvTranspose with uneven pads {tuple(pads)}")
    strides, dilations, extra = whole(a, "strides", 2), whole(a, "dilations", 2), list(a.get("output_padding", (0, 0)))
    return F.conv_transpose2d(inputs[0], inputs[1], optional(inputs, 2), strides, list(pads[:2]), extra, a.get("group", 1), dilations)


def pooled(x: Tensor, a: Attributes) -> tuple[Windows, tuple[int, int, int, int]]:
    """Return the windows over an image, ``auto_pad`` and ``ceil_mode`` resolved, and all padding in the order of `F.pad`."""
    windows = resolve(a, tuple(x.shape[2:]), tuple(a["kernel_shape"]))
    top, left = windows.before
    bottom, right = (n + more for n, more in zip(windows.after, windows.beyond, strict=True))
    return windows, (left, right, top, bottom)


def max_pool(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    if not x.is_floating_point():  # torch has no maxima of bytes; float32 holds all codes
        return max_pool([x.float()], a).to(x.dtype)
    windows, (left, right, top, bottom) = pooled(x, a)
    padding = [top, left]
    if (top, left) != (bottom, right) or any(2 * p > k for p, k in zip(padding, windows.kernel, strict=True)):
        x, padding = F.pad(x, (left, right, top, bottom), value=float("-inf")), [0, 0]
    return F.max_pool2d(x, windows.kernel, windows.strides, padding, windows.dilations)


def average_pool(inputs: Inputs, a: Attributes) -> Tensor:
    """Average; the padding counts when ``count_include_pad``, what ``ceil_mode`` adds beyond it never does."""
    x: Tensor = inputs[0]
    counted = bool(a.get("count_include_pad", 0))
    windows, amounts = pooled(x, a)
    kernel, strides = list(windows.kernel), list(windows.strides)
    if windows.before == windows.after and not any(windows.beyond):
        return F.avg_pool2d(x, kernel, strides, list(windows.before), count_include_pad=counted)
    mean = F.avg_pool2d(F.pad(x, amounts), kernel, strides)
    if counted and not any(windows.beyond):
        return mean
    left, right, top, bottom = amounts
    ones, (down, across) = torch.ones_like(x[:1, :1]), windows.beyond
    if counted:
        ones = F.pad(ones, (left, right - across, top, bottom - down), value=1.0)
        left, right, top, bottom = 0, across, 0, down
    return mean / F.avg_pool2d(F.pad(ones, (left, right, top, bottom)), kernel, strides)


def batch_norm(inputs: Inputs, a: Attributes) -> Tensor:
    x, scale, shift, mean, variance = inputs[:5]
    return F.batch_norm(x, mean, variance, scale, shift, training=False, eps=a.get("epsilon", 1e-5))


def layer_norm(inputs: Inputs, a: Attributes) -> Tensor:
    axis = a.get("axis", -1)
    return F.layer_norm(inputs[0], list(inputs[0].shape)[axis:], inputs[1], optional(inputs, 2), a.get("epsilon", 1e-5))


def local_response_norm(inputs: Inputs, a: Attributes) -> Tensor:
    return F.local_response_norm(inputs[0], a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0))


def gemm(inputs: Inputs, a: Attributes) -> Tensor:
    x, weight, bias = inputs[0], inputs[1], optional(inputs, 2)
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    x = x.t() if a.get("transA", 0) else x
    if alpha == 1 and beta == 1 and a.get("transB", 0) and (bias is None or bias.dim() == 1):
        return F.linear(x, weight, bias)
    product: Tensor = alpha * (x @ (weight.t() if a.get("transB", 0) else weight))
    return product if bias is None else product + beta * bias


def clip(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    low, high = optional(inputs, 1), optional(inputs, 2)
    return x if low is None and high is None else torch.clamp(x, low, high)


def flatten(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    axis = a.get("axis", 1)
    if axis == 1:
        return torch.flatten(x, 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def reshape(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    target = [x.shape[axis] if n == 0 and not a.get("allowzero", 0) else n for axis, n in enumerate(integers(inputs[1]))]
    return x.reshape(target)


def reduce(function: Callable[..., Tensor]) -> Operator:
    def handle(inputs: Inputs, a: Attributes) -> Tensor:
        x: Tensor = inputs[0]
        axes, keep = optional(inputs, 1), bool(a.get("keepdims", 1))
        if axes is None and a.get("noop_with_empty_axes", 0):
            return x
        return function(x, list(range(x.dim())) if axes is None else integers(axes), keepdim=keep)

    return handle


def arg_max(inputs: Inputs, a: Attributes) -> Tensor:
    return torch.argmax(inputs[0], a.get("axis", 0), keepdim=bool(a.get("keepdims", 1)))


def slice_axes(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    starts, ends = integers(inputs[1]), integers(inputs[2])
    axes = integers(inputs[3]) if optional(inputs, 3) is not None else list(range(len(starts)))
    steps = integers(inputs[4]) if optional(inputs, 4) is not None else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0:
            positions = range(x.shape[axis])[start : None if end < -x.shape[axis] else end : step]
            x = x.index_select(axis, torch.tensor(list(positions), device=x.device))
        else:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
    return x


def gather(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    axis = a.get("axis", 0)
    if isinstance(inputs[1], np.ndarray) and inputs[1].ndim == 0:
        return x.select(axis, int(inputs[1]))
    index = tensor(inputs[1], x)
    index = torch.where(index < 0, index + x.shape[axis], index)
    axis = axis % x.dim()
    return x.index_select(axis, index.reshape(-1)).reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def pad(inputs: Inputs, a: Attributes) -> Tensor:
    x, amounts = inputs[0], integers(inputs[1])
    axes = integers(inputs[3]) if optional(inputs, 3) is not None else list(range(x.dim()))
    value = 0.0 if optional(inputs, 2) is None else float(inputs[2])
    before, after = [0] * x.dim(), [0] * x.dim()
    for position, axis in enumerate(axes):
        before[axis], after[axis] = amounts[position], amounts[len(axes) + position]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[a.get("mode", "constant")]
    last = x.dim() if mode == "constant" else 2
    flat = [n for axis in reversed(range(x.dim())) for n in (before[axis], after[axis])][: 2 * last]
    return F.pad(x, flat, mode=mode, value=value) if mode == "constant" else F.pad(x, flat, mode=mode)


def split(inputs: Inputs, a: Attributes) -> list[Tensor]:
    axis = a.get("axis", 0)
    if optional(inputs, 1) is not None:
        return list(torch.split(inputs[0], integers(inputs[1]), axis))
    return list(torch.chunk(inputs[0], a["num_outputs"], axis))


def squeeze(inputs: Inputs, a: Attributes) -> Tensor:
    return inputs[0].squeeze() if optional(inputs, 1) is None else torch.squeeze(inputs[0], tuple(integers(inputs[1])))


def unsqueeze(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    axes = integers(inputs[1])
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def expand(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    target = integers(inputs[1])
    target = [1] * (x.dim() - len(target)) + target
    sizes = [1] * (len(target) - x.dim()) + list(x.shape)
    return x.expand([size if size != 1 else wanted for size, wanted in zip(sizes, target, strict=True)])


def resize(inputs: Inputs, a: Attributes) -> Tensor:
    scales = optional(inputs, 2)
    exact = a.get("coordinate_transformation_mode") == "asymmetric" and a.get("nearest_mode") == "floor"
    if a.get("mode", "nearest") != "nearest" or scales is None or not exact:
        raise UnsupportedError("Resize other than nearest, asymmetric, floor, by scales")
    return F.interpolate(inputs[0], scale_factor=[float(s) for s in scales.reshape(-1).tolist()[2:]], mode="nearest")


def depth_to_space(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    block, (n, c, h, w) = a["blocksize"], x.shape
    if a.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


def cast(inputs: Inputs, a: Attributes) -> Tensor:
    if a["to"] not in DTYPES:
        raise UnsupportedError(f"Cast to ONNX type {a['to']}; allowed are {sorted(DTYPES)}")
    return inputs[0].to(DTYPES[a["to"]]) if isinstance(inputs[0], Tensor) else torch.from_numpy(inputs[0]).to(DTYPES[a["to"]])


def fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def handle(inputs: Inputs, a: Attributes) -> Tensor:
        result: Tensor = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return handle


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, a: function(inputs[0])


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def handle(inputs: Inputs, a: Attributes) -> Tensor:
        like = next(value for value in inputs if isinstance(value, Tensor))
        return function(tensor(inputs[0], like), tensor(inputs[1], like))

    return handle


def hard_sigmoid(inputs: Inputs, a: Attributes) -> Tensor:
    alpha, beta = a.get("alpha", 0.2), a.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(inputs[0])
    return torch.clamp(alpha * inputs[0] + beta, 0, 1)


def where(inputs: Inputs, a: Attributes) -> Tensor:
    condition, *values = inputs
    # numbers chosen by a comparison of float32 values, as signs are
    like = next((value for value in values if isinstance(value, Tensor)), torch.zeros((), device=condition.device))
    return torch.where(condition, tensor(values[0], like), tensor(values[1], like))


OPERATORS: dict[str, Operator] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": binary(torch.matmul),
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "LRN": local_response_norm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda inputs, a: inputs[0].mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda inputs, a: inputs[0].amax((2, 3), keepdim=True),
    "Relu": unary(F.relu),
    "Sigmoid": unary(torch.sigmoid),
    "Tanh": unary(torch.tanh),
    "HardSwish": unary(F.hardswish),
    "HardSigmoid": hard_sigmoid,
    "Softplus": unary(F.softplus),
    "Mish": unary(F.mish),
    "Gelu": lambda inputs, a: F.gelu(inputs[0], approximate=a.get("approximate", "none")),
    "LeakyRelu": lambda inputs, a: F.leaky_relu(inputs[0], a.get("alpha", 0.01)),
    "Elu": lambda inputs, a: F.elu(inputs[0], a.get("alpha", 1.0)),
    "PRelu": lambda inputs, a: torch.where(inputs[0] >= 0, inputs[0], inputs[0] * inputs[1]),
    "Clip": clip,
    "Softmax": lambda inputs, a: F.softmax(inputs[0], a.get("axis", -1)),
    "LogSoftmax": lambda inputs, a: F.log_softmax(inputs[0], a.get("axis", -1)),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Log": unary(torch.log),
    "Sqrt": unary(torch.sqrt),
    "Abs": unary(torch.abs),
    "Neg": unary(torch.neg),
    "Floor": unary(torch.floor),
    "Ceil": unary(torch.ceil),
    "Round": unary(torch.round),
    "Sign": unary(torch.sign),
    "Reciprocal": unary(torch.reciprocal),
    "Add": binary(torch.add),
    "Sub": binary(torch.sub),
    "Mul": binary(torch.mul),
    "Div": binary(torch.div),
    "Pow": binary(torch.pow),
    "Less": binary(torch.lt),
    "Where": where,
    "Min": fold(torch.minimum),
    "Max": fold(torch.maximum),
    "ReduceMean": reduce(torch.mean),
    "ReduceSum": reduce(torch.sum),
    "ReduceMax": reduce(torch.amax),
    "ReduceMin": reduce(torch.amin),
    "ArgMax": arg_max,
    "Identity": lambda inputs, a: inputs[0],
    "Dropout": lambda inputs, a: inputs[0],
    "Cast": cast,
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": lambda inputs, a: inputs[0].permute(a.get("perm", tuple(range(inputs[0].dim()))[::-1])),
    "Concat": lambda inputs, a: torch.cat(list(inputs), a["axis"]),
    "Slice": slice_axes,
    "Gather": gather,
    "Pad": pad,
    "Split": split,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Resize": resize,
    "DepthToSpace": depth_to_space,
    **torch_integers.OPERATORS,
}
