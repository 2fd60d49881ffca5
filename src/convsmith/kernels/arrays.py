"""Shapes, slices and reductions in NumPy, as ONNX defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.kernels.windows import Array

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Function = Callable[[Inputs, Attributes], Any]

DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64
}  # fmt: skip
"""ONNX's numbers of the types NumPy has."""


def optional(inputs: Inputs, index: int) -> Any:
    return inputs[index] if len(inputs) > index else None


def integers(value: Array) -> tuple[int, ...]:
    return tuple(int(n) for n in np.asarray(value).reshape(-1))


def reshape(inputs: Inputs, a: Attributes) -> Array:
    x = inputs[0]
    target = [x.shape[i] if n == 0 and not a.get("allowzero", 0) else n for i, n in enumerate(integers(inputs[1]))]
    return np.asarray(x.reshape(target))


def flatten(inputs: Inputs, a: Attributes) -> Array:
    x, axis = inputs[0], a.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return np.asarray(x.reshape(int(np.prod(x.shape[:axis])), -1))


def transpose(inputs: Inputs, a: Attributes) -> Array:
    return np.asarray(inputs[0].transpose(a.get("perm")))


def slice_axes(inputs: Inputs, a: Attributes) -> Array:
    x, starts, ends = inputs[0], integers(inputs[1]), integers(inputs[2])
    axes = range(len(starts)) if optional(inputs, 3) is None else integers(inputs[3])
    steps = (1,) * len(starts) if optional(inputs, 4) is None else integers(inputs[4])
    where = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # a negative step runs to the front when the end lies before it
        where[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return np.asarray(x[tuple(where)])


def pad(inputs: Inputs, a: Attributes) -> Array:
    x, amounts = inputs[0], integers(inputs[1])
    axes = range(x.ndim) if optional(inputs, 3) is None else integers(inputs[3])
    widths = [(0, 0)] * x.ndim
    for position, axis in enumerate(axes):
        widths[axis] = amounts[position], amounts[len(amounts) // 2 + position]
    cut = tuple(slice(max(0, -b), n - max(0, -e)) for (b, e), n in zip(widths, x.shape, strict=True))
    widths = [(max(0, b), max(0, e)) for b, e in widths]
    mode, value = a.get("mode", "constant"), optional(inputs, 2)
    if mode == "constant":
        return np.pad(x[cut], widths, constant_values=0 if value is None else value)
    return np.pad(x[cut], widths, mode=mode)


def split(inputs: Inputs, a: Attributes) -> tuple[Array, ...]:
    x, axis = inputs[0], a.get("axis", 0)
    if optional(inputs, 1) is not None:
        sizes = integers(inputs[1])
    else:
        piece = -(-x.shape[axis] // a["num_outputs"])
        sizes = tuple(min(piece, x.shape[axis] - start) for start in range(0, x.shape[axis], piece))
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


def squeeze(inputs: Inputs, a: Attributes) -> Array:
    return np.asarray(np.squeeze(inputs[0], None if optional(inputs, 1) is None else integers(inputs[1])))


def unsqueeze(inputs: Inputs, a: Attributes) -> Array:
    return np.expand_dims(inputs[0], integers(inputs[1]))


def expand(inputs: Inputs, a: Attributes) -> Array:
    x, target = inputs[0], integers(inputs[1])
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, target))


def shape_of(inputs: Inputs, a: Attributes) -> Array:
    return np.asarray(inputs[0].shape[a.get("start", 0) : a.get("end")], np.int64)


def cast(inputs: Inputs, a: Attributes) -> Array:
    if a["to"] not in DTYPES:
        raise UnsupportedError(f"Cast to ONNX type {a['to']}; allowed are {sorted(DTYPES)}")
    return np.asarray(inputs[0]).astype(DTYPES[a["to"]])


def constant_of_shape(inputs: Inputs, a: Attributes) -> Array:
    """Fill with ``value``; a float32 zero without it, int64 for whole numbers."""
    value = a.get("value", 0.0)
    return np.full(integers(inputs[0]), value, np.int64 if isinstance(value, int) else np.float32)


def reduce(function: Callable[..., Any]) -> Function:
    def handle(inputs: Inputs, a: Attributes) -> Array:
        axes = optional(inputs, 1)
        if axes is None and a.get("noop_with_empty_axes", 0):
            return np.asarray(inputs[0])
        return np.asarray(function(inputs[0], axis=None if axes is None else integers(axes), keepdims=bool(a.get("keepdims", 1))))

    return handle


def reduce_sum(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype))


def arg_max(inputs: Inputs, a: Attributes) -> Array:
    return np.asarray(np.argmax(inputs[0], axis=a.get("axis", 0), keepdims=bool(a.get("keepdims", 1))))


def depth_to_space(inputs: Inputs, a: Attributes) -> Array:
    block, (n, c, h, w) = a["blocksize"], inputs[0].shape
    depth = c // block**2
    if a.get("mode", "DCR") == "CRD":
        parts = inputs[0].reshape(n, depth, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        parts = inputs[0].reshape(n, block, block, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    return np.asarray(parts.reshape(n, depth, h * block, w * block))


ARRAYS: dict[str, Function] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Concat": lambda inputs, a: np.concatenate(list(inputs), axis=a["axis"]),
    "Slice": slice_axes,
    "Gather": lambda inputs, a: np.asarray(np.take(inputs[0], inputs[1], axis=a.get("axis", 0))),
    "Pad": pad,
    "Split": split,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": lambda inputs, a: np.tile(inputs[0], integers(inputs[1])),
    "Shape": shape_of,
    "Range": lambda inputs, a: np.arange(inputs[0], inputs[1], inputs[2], dtype=inputs[0].dtype),
    "ConstantOfShape": constant_of_shape,
    "Cast": cast,
    "ReduceMean": reduce(np.mean),
    "ReduceSum": reduce(reduce_sum),
    "ReduceMax": reduce(np.max),
    "ReduceMin": reduce(np.min),
    "ArgMax": arg_max,
    "DepthToSpace": depth_to_space,
}
