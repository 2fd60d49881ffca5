"""From torch's aten operators to ONNX nodes: convolution, pooling, normalisation and linear layers.

A handler reads the arguments of one call by their schema names (tensors are value names) and returns the output's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.interop.recorder import Recorder

Arguments = Mapping[str, Any]
Handler = Callable[[Recorder, Arguments], str]


def pair(value: Any) -> tuple[int, int]:
    """Return rows and columns of an argument that torch lets one number, one-item list or empty list stand for."""
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))


def convolution(recorder: Recorder, a: Arguments) -> str:
    padding = a["padding"]
    rank = len(recorder.shapes[a["weight"]]) - 2
    kernel = recorder.shapes[a["weight"]][2:]
    dilation = tuple(int(d) for d in list(a["dilation"]) * (rank // len(a["dilation"])))
    stride = tuple(int(s) for s in list(a["stride"]) * (rank // len(a["stride"])))
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before, after = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    else:
        sides = [0] if padding == "valid" else list(padding)
        before = after = tuple(int(p) for p in sides * (rank // len(sides)))
    inputs = (a["input"], a["weight"]) + ((a["bias"],) if a["bias"] is not None else ())
    return recorder.emit(
        "Conv", *inputs, kernel_shape=kernel, strides=stride, pads=before + after, dilations=dilation, group=int(a["groups"])
    )


def transposed_convolution(recorder: Recorder, a: Arguments) -> str:
    kernel = recorder.shapes[a["weight"]][2:]
    inputs = (a["input"], a["weight"]) + ((a["bias"],) if a["bias"] is not None else ())
    return recorder.emit(
        "ConvTranspose",
        *inputs,
        kernel_shape=kernel,
        strides=pair(a["stride"]),
        pads=pair(a["padding"]) * 2,
        output_padding=pair(a["output_padding"]),
        dilations=pair(a["dilation"]),
        group=int(a["groups"]),
    )


def batch_norm(recorder: Recorder, a: Arguments) -> str:
    channels = recorder.shapes[a["input"]][1]
    if a["training"] or a["running_mean"] is None:
        raise UnsupportedError("batch normalisation by the batch's own statistics; call eval() and keep running statistics")
    scale = a["weight"] or recorder.constant("weight", np.ones(channels), "float32")
    shift = a["bias"] or recorder.constant("bias", np.zeros(channels), "float32")
    return recorder.emit("BatchNormalization", a["input"], scale, shift, a["running_mean"], a["running_var"], epsilon=float(a["eps"]))


def layer_norm(recorder: Recorder, a: Arguments) -> str:
    shape = tuple(int(n) for n in a["normalized_shape"])
    scale = a["weight"] or recorder.constant("weight", np.ones(shape), "float32")
    inputs = (a["input"], scale) + ((a["bias"],) if a["bias"] is not None else ())
    return recorder.emit("LayerNormalization", *inputs, axis=-len(shape), epsilon=float(a["eps"]))


def linear(recorder: Recorder, a: Arguments) -> str:
    if len(recorder.shapes[a["input"]]) == 2:
        inputs = (a["input"], a["weight"]) + ((a["bias"],) if a["bias"] is not None else ())
        return recorder.emit("Gemm", *inputs, transB=1)
    weight = recorder.constant("weight.T", recorder.weights[a["weight"]].T, "float32")
    if a["bias"] is None:
        return recorder.emit("MatMul", a["input"], weight)
    return recorder.emit("Add", recorder.emit("MatMul", a["input"], weight, part="matmul"), a["bias"])


def addmm(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("Gemm", a["mat1"], a["mat2"], a["self"], alpha=float(a["alpha"]), beta=float(a["beta"]))


def matmul(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("MatMul", a["self"], a.get("other") or a["mat2"])


def window_pads(recorder: Recorder, a: Arguments, kernel: Sequence[int], stride: Sequence[int]) -> tuple[tuple[int, ...], bool]:
    """Return explicit ``pads`` that give torch's output size, and whether the ceiling made them larger than torch's padding.

    The ceiling mode of ONNX was specified late and runtimes disagree on it; larger end padding says the same exactly.
    """
    padding = pair(a["padding"])
    if not a["ceil_mode"]:
        return padding * 2, False
    dilation = pair(a.get("dilation", 1))
    source, target = recorder.shapes[a["self"]][2:], (recorder.out_shape or ())[2:]
    after = []
    for axis in range(2):
        reach = (target[axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        after.append(max(padding[axis], reach - source[axis] - padding[axis]))
    return padding + tuple(after), tuple(after) != padding


def max_pool(recorder: Recorder, a: Arguments) -> str:
    kernel = pair(a["kernel_size"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    pads, _ = window_pads(recorder, a, kernel, stride)
    return recorder.emit("MaxPool", a["self"], kernel_shape=kernel, strides=stride, pads=pads, dilations=pair(a["dilation"]))


def average_pool(recorder: Recorder, a: Arguments) -> str:
    kernel = pair(a["kernel_size"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    pads, larger = window_pads(recorder, a, kernel, stride)
    include = bool(a["count_include_pad"]) and any(pads)
    if a["divisor_override"] is not None:
        raise UnsupportedError("average pooling with divisor_override")
    if larger and include:
        if any(pair(a["padding"])):
            raise UnsupportedError("average pooling with padding that counts, and ceil_mode beyond it; set count_include_pad=False")
        include = False
    return recorder.emit("AveragePool", a["self"], kernel_shape=kernel, strides=stride, pads=pads, count_include_pad=int(include))


def averaging_matrix(size: int, target: int) -> np.ndarray[Any, Any]:
    """Return the ``(target, size)`` weights of torch's adaptive average: bin i covers floor(i n/t) to ceil((i+1) n/t)."""
    matrix = np.zeros((target, size), np.float32)
    for row in range(target):
        start, stop = row * size // target, -(-(row + 1) * size // target)
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


def adaptive_average_pool(recorder: Recorder, a: Arguments) -> str:
    """Use a global or plain pooling where the sizes divide, else two products with averaging matrices."""
    source, target = recorder.shapes[a["self"]][2:], (recorder.out_shape or ())[2:]
    if target == source:
        return str(a["self"])
    if target == (1, 1):
        return recorder.emit("GlobalAveragePool", a["self"])
    if all(s % t == 0 for s, t in zip(source, target, strict=True)):
        kernel = tuple(s // t for s, t in zip(source, target, strict=True))
        return recorder.emit("AveragePool", a["self"], kernel_shape=kernel, strides=kernel, pads=(0, 0, 0, 0), count_include_pad=0)
    rows = recorder.constant("rows", averaging_matrix(source[0], target[0])[None, None], "float32")
    columns = recorder.constant("columns", averaging_matrix(source[1], target[1]).T[None, None], "float32")
    return recorder.emit("MatMul", recorder.emit("MatMul", rows, a["self"], part="over_rows"), columns)


def adaptive_max_pool(recorder: Recorder, a: Arguments) -> str:
    source, target = recorder.shapes[a["self"]][2:], (recorder.out_shape or ())[2:]
    if target == (1, 1):
        return recorder.emit("GlobalMaxPool", a["self"])
    if any(s % t for s, t in zip(source, target, strict=True)):
        raise UnsupportedError(f"adaptive max pooling from {source} to {target}, which do not divide")
    kernel = tuple(s // t for s, t in zip(source, target, strict=True))
    return recorder.emit("MaxPool", a["self"], kernel_shape=kernel, strides=kernel, pads=(0, 0, 0, 0), dilations=(1, 1))


HANDLERS: dict[str, Handler] = {
    "conv1d": convolution,
    "conv2d": convolution,
    "conv_transpose2d": transposed_convolution,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "linear": linear,
    "addmm": addmm,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_average_pool,
    "adaptive_max_pool2d": adaptive_max_pool,
}
