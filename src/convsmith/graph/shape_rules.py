"""One rule an operator: from input shapes, the numbers that are known, and the node, to output shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph.network import Node, Shape
from convsmith.kernels import reference
from convsmith.kernels.geometry import convolution_shape
from convsmith.kernels.pointwise import POINTWISE
from convsmith.kernels.windows import resolve

Shapes = Sequence[Any]
Known = Sequence[Any]
Rule = Callable[[Shapes, Known, Node], list[Shape]]


def broadcast(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    return [np.broadcast_shapes(*(shape for shape in shapes if shape is not None))]


def same(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    return [shapes[0]]


def conv(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    x, w = shapes[0], shapes[1]
    if len(x) not in (3, 4) or len(w) != len(x):
        raise UsageError(f"convolution takes 1 or 2 spatial axes, input and weights alike; got {len(x) - 2} and {len(w) - 2}")
    declared = node.attributes.get("kernel_shape", w[2:])
    if declared != w[2:]:
        raise UsageError(f"kernel_shape is {declared}, the weights have {w[2:]}")
    channels(shapes, 2, w[0])
    shape = convolution_shape(x, w, node.attributes)
    return [(x[0], w[0], *shape.windows.output)]


def integer_conv(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    """Return the shape of a convolution, or of rows times weights ``(out, in)``."""
    x, w = shapes[0], shapes[1]
    if len(x) == 2:
        if x[1] != w[1]:
            raise UsageError(f"rows of {x[1]} numbers, weights for {w[1]}")
        return [(x[0], w[0])]
    return conv(shapes[:2], known, node)


def binary_conv(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    """Return the shape of a convolution of signs, or of rows of signs times weights."""
    x, bits, a = shapes[0], shapes[1], node.attributes
    if a["rows"]:
        return [(x[0], bits[0])]
    shape = convolution_shape(x, (bits[0], int(a["channels"]), *bits[1:3]), a)  # type: ignore[arg-type]
    return [(x[0], bits[0], *shape.windows.output)]


def channels(shapes: Shapes, index: int, expected: int) -> None:
    """Raise unless an optional per-channel input has one number a channel."""
    if len(shapes) > index and shapes[index] is not None and shapes[index] != (expected,):
        raise UsageError(f"input {index} has shape {shapes[index]}; {expected} channels need ({expected},)")


def conv_transpose(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    x, w, a = shapes[0], shapes[1], node.attributes
    if x[1] != w[0]:
        raise UsageError(f"input has {x[1]} channels, weights take {w[0]}")
    strides, dilations, pads = a.get("strides", (1, 1)), a.get("dilations", (1, 1)), a.get("pads", (0, 0, 0, 0))
    extra: Any = a.get("output_padding", (0, 0))
    sides = [
        (x[2 + i] - 1) * strides[i] + dilations[i] * (w[2 + i] - 1) + 1 + extra[i] - pads[i] - pads[2 + i]  # type: ignore[index]
        for i in range(2)
    ]
    return [(x[0], w[1] * a.get("group", 1), *sides)]


def pool(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    x = shapes[0]
    if len(x) != 4:
        raise UsageError(f"pooling takes NCHW, got {len(x)} axes")
    return [(*x[:2], *resolve(node.attributes, x[2:], node.attributes["kernel_shape"]).output)]  # type: ignore[arg-type]


def global_pool(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    return [(*shapes[0][:2], *(1,) * (len(shapes[0]) - 2))]


def batch_norm(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    for index in range(1, 5):
        channels(shapes, index, shapes[0][1])
    return [shapes[0]]


def gemm(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    a, b = shapes[0], shapes[1]
    if len(a) != 2 or len(b) != 2:
        raise UsageError("Gemm takes two matrices")
    a = a[::-1] if node.attributes.get("transA", 0) else a
    b = b[::-1] if node.attributes.get("transB", 0) else b
    if a[1] != b[0]:
        raise UsageError(f"inner sizes {a[1]} and {b[0]} differ")
    if len(shapes) > 2 and shapes[2] is not None and np.broadcast_shapes(shapes[2], (a[0], b[1])) != (a[0], b[1]):
        raise UsageError(f"bias {shapes[2]} does not broadcast to {(a[0], b[1])}")
    return [(a[0], b[1])]


def matmul(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    a, b = shapes[0], shapes[1]
    left, right = (a if len(a) > 1 else (1, *a)), (b if len(b) > 1 else (*b, 1))
    if left[-1] != right[-2]:
        raise UsageError(f"inner sizes {left[-1]} and {right[-2]} differ")
    result = (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    result = result if len(a) > 1 else (*result[:-2], result[-1])
    return [result if len(b) > 1 else result[:-1]]


def by_view(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    """Apply the operator's own kernel to an array without memory of the first shape: only for kernels that return views."""
    if any(value is None and shape is not None for shape, value in zip(shapes[1:], known[1:], strict=True)):
        raise UnsupportedError("the second and later inputs must be constants")
    empty = np.broadcast_to(np.int8(0), shapes[0])
    return [array.shape for array in reference.run(node.op, [empty, *known[1:]], node.attributes)]


def reshape(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    if known[1] is None:
        raise UnsupportedError("the target shape must be known")
    x, wanted = shapes[0], [int(n) for n in np.asarray(known[1]).reshape(-1)]
    target = [x[i] if n == 0 and not node.attributes.get("allowzero", 0) else n for i, n in enumerate(wanted)]
    total, rest = int(np.prod(x)), int(np.prod([n for n in target if n != -1]))
    if target.count(-1) > 1 or (-1 not in target and rest != total) or (-1 in target and (rest == 0 or total % rest)):
        raise UsageError(f"{total} numbers do not fill {tuple(target)}")
    return [tuple(total // rest if n == -1 else n for n in target)]


def flatten(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    x, axis = shapes[0], int(node.attributes.get("axis", 1))  # type: ignore[arg-type]
    axis = axis + len(x) if axis < 0 else axis
    return [(int(np.prod(x[:axis])), int(np.prod(x[axis:])))]


def concat(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    axis = int(node.attributes["axis"]) % len(shapes[0])  # type: ignore[arg-type]
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) > 1:
        raise UsageError(f"all sizes but axis {axis} must agree")
    first = shapes[0]
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


def gather(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    axis = int(node.attributes.get("axis", 0)) % len(shapes[0])  # type: ignore[arg-type]
    return [(*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])]


def pad(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    if known[1] is None:
        raise UnsupportedError("the pads must be known")
    amounts = np.asarray(known[1]).reshape(2, -1)
    axes = range(len(shapes[0])) if len(known) < 4 or known[3] is None else [int(n) for n in known[3]]
    result = list(shapes[0])
    for position, axis in enumerate(axes):
        result[axis] += int(amounts[:, position].sum())
    return [tuple(result)]


def reduction(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    x, keep = shapes[0], bool(node.attributes.get("keepdims", 1))
    if len(shapes) > 1 and shapes[1] is not None:
        if known[1] is None:
            raise UnsupportedError("the axes must be known")
        axes = {int(n) % len(x) for n in np.asarray(known[1]).reshape(-1)}
    elif node.attributes.get("noop_with_empty_axes", 0):
        return [x]
    else:
        axes = set(range(len(x)))
    return [tuple(1 if axis in axes else n for axis, n in enumerate(x) if keep or axis not in axes)]


def arg_max(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    x, axis = shapes[0], int(node.attributes.get("axis", 0))  # type: ignore[arg-type]
    keep = bool(node.attributes.get("keepdims", 1))
    return [tuple(1 if i == axis % len(x) else n for i, n in enumerate(x) if keep or i != axis % len(x))]


def resize(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    if len(known) < 3 or known[2] is None:
        raise UnsupportedError("Resize needs constant scales")
    return [tuple(int(np.floor(n * s)) for n, s in zip(shapes[0], known[2], strict=True))]


def tile(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    if known[1] is None:
        raise UnsupportedError("the repeats must be known")
    return [tuple(n * int(r) for n, r in zip(shapes[0], known[1], strict=True))]


def from_numbers(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    raise UnsupportedError("its output's size depends on numbers that are not known")


def depth_to_space(shapes: Shapes, known: Known, node: Node) -> list[Shape]:
    (n, c, h, w), block = shapes[0], int(node.attributes["blocksize"])  # type: ignore[arg-type]
    if c % block**2:
        raise UsageError(f"{c} channels do not divide by {block}^2")
    return [(n, c // block**2, h * block, w * block)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, broadcast),
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "BatchNormalization": batch_norm,
    "LayerNormalization": same,
    "LRN": same,
    "Clip": same,
    "Dropout": same,
    "Cast": same,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": by_view,
    "Slice": by_view,
    "Squeeze": by_view,
    "Unsqueeze": by_view,
    "Expand": by_view,
    "Split": by_view,
    "Concat": concat,
    "Gather": gather,
    "Pad": pad,
    "Tile": tile,
    "Shape": from_numbers,
    "Range": from_numbers,
    "ConstantOfShape": from_numbers,
    "ReduceMean": reduction,
    "ReduceSum": reduction,
    "ReduceMax": reduction,
    "ReduceMin": reduction,
    "ArgMax": arg_max,
    "Resize": resize,
    "DepthToSpace": depth_to_space,
    "QuantizeLinear": same,
    "DequantizeLinear": same,
    "LookUp": same,
    "PackSigns": same,
    "UnpackSigns": same,
    "SignPool": pool,
    "BinaryConv": binary_conv,
    "IntegerConv": integer_conv,
    "IntegerAdd": lambda shapes, known, node: broadcast(shapes[:2], known, node),
    "IntegerAveragePool": lambda shapes, known, node: (pool if "kernel_shape" in node.attributes else global_pool)(shapes, known, node),
}
