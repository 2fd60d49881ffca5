"""Operators on packed signs, and between signs and numbers. A packed value is a view of words, 64 channels each, that lies as NHWC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convsmith.compiler.emit.convolutions import description
from convsmith.compiler.emit.integers import constant
from convsmith.compiler.planner import Planner, Weights
from convsmith.compiler.steps import Step
from convsmith.compiler.views import View, merged, pixel_pitch
from convsmith.errors import UnsupportedError
from convsmith.graph import Node
from convsmith.kernels import ConvolutionShape, binary_convolution, convolution_shape, native
from convsmith.kernels.binary import PLANES, word_count
from convsmith.kernels.sign_operators import weights_of
from convsmith.kernels.windows import resolve

WORD = "uint64"


def packed(planner: Planner, name: str, channels: int, pixels: tuple[int, ...]) -> View:
    """Return where packed signs are written: batch, rows and columns of pixels."""
    batch, *size = pixels
    view = planner.scratch((batch, word_count(channels), *size), (0, 2, 3, 1), WORD)
    planner.bind(name, view)
    return view


def rows_of_numbers(view: View) -> tuple[int, int] | None:
    """Return how many rows of channels lie in a matrix or an image, and the floats from one to the next; None when unevenly spaced."""
    if len(view.shape) == 4:
        pitch = pixel_pitch(view)
        return None if pitch is None else (view.size // view.shape[1] if view.shape[1] else 0, pitch)
    rows = merged(view, (0,)) or (1, 1)
    return (rows[0], rows[1] if rows[0] > 1 else view.shape[1]) if view.shape[1] == 1 or view.strides[1] == 1 else None


def pack(planner: Planner, node: Node) -> None:
    x = planner.value(node.inputs[0])
    x = planner.pixels(node, x) if len(x.shape) == 4 else planner.dense(node, x, (0, 1))
    channels, (count, pitch) = x.shape[1], rows_of_numbers(x) or (0, 0)
    y = packed(planner, node.outputs[0], channels, (x.shape[0], *(x.shape[2:] or (1, 1))))
    threads = planner.threads_for(x.size)
    planner.emit(Step("pack_signs", node.name, y, (x,), (count, channels, pitch), (), "", threads, work=x.size, detail="to signs"))


def unpack(planner: Planner, node: Node) -> None:
    x, y = planner.value(node.inputs[0]), planner.target(node.outputs[0])
    place = rows_of_numbers(y)
    order = (0, 2, 3, 1) if len(y.shape) == 4 else (0, 1)
    whole = y if place is not None else planner.scratch(y.shape, order)
    count, pitch = rows_of_numbers(whole) or (0, 0)
    sizes, threads = (count, y.shape[1], pitch), planner.threads_for(y.size)
    planner.emit(Step("unpack_signs", node.name, whole, (x,), sizes, (), "", threads, work=y.size, detail="to numbers"))
    if whole is not y:
        planner.copy(node, whole, y)


def pooling(planner: Planner, node: Node) -> None:
    """Emit the largest sign of windows, the smallest in the channels that the second input marks."""
    x, a, turned = planner.value(node.inputs[0]), node.attributes, planner.constant_array(node.inputs[1])
    if turned is None:
        raise UnsupportedError("which channels are turned is computed")
    windows = resolve(a, x.shape[2:], tuple(a["kernel_shape"]))  # type: ignore[arg-type]
    y = packed(planner, node.outputs[0], len(turned), (x.shape[0], *windows.output))
    words = np.zeros(8 * word_count(len(turned)), np.uint8)
    bits = np.packbits(turned != 0, bitorder="little")
    words[: len(bits)] = bits
    sizes = (
        *x.shape, *windows.kernel, *windows.strides, *windows.dilations, *windows.before, *windows.after, *windows.output,
        x.shape[1], y.shape[1], 1, 0,
    )  # fmt: skip
    work = y.size * windows.kernel[0] * windows.kernel[1]
    detail = f"signs MaxPool {'x'.join(map(str, windows.kernel))} stride {'x'.join(map(str, windows.strides))}"
    operands = (x, planner.raw(f"{node.inputs[1]} as words", words))
    planner.emit(Step("sign_pooling", node.name, y, operands, sizes, (), "", planner.threads_for(work), work=work, detail=detail))


def convolution(planner: Planner, node: Node) -> None:
    """Emit a convolution of signs, or a product of rows of signs, which is one over an image of one line."""
    bits, x, a = planner.constant_array(node.inputs[1]), planner.value(node.inputs[0]), node.attributes
    if bits is None or x.dtype != WORD:
        raise UnsupportedError("it needs packed signs and constant weights")
    shape = sizes_of(x, bits.shape, node)
    ternary, k = bits.shape[4] > 1, shape.out_channels
    w = weights_of(bits, int(a["channels"]))  # type: ignore[arg-type]
    weights = planner.prepared(Weights(node.inputs[1], w, shape, "ternary" if ternary else "binary"))
    base = np.count_nonzero(w.reshape(k, -1), axis=1).astype(np.int32)
    taps = np.ascontiguousarray(w.sum(axis=1).transpose(1, 2, 0), np.int32)
    signs = a["result"] == "signs"
    y = packed(planner, node.outputs[0], k, (shape.batch, *shape.output[2:])) if signs else planner.target(node.outputs[0])
    dense = signs or rows_of_numbers(y) == (shape.batch * int(np.prod(shape.output[2:])), k)
    whole = y if dense else planner.scratch(y.shape, (0, 1) if a["rows"] else (0, 2, 3, 1))
    work = 2 * int(np.prod(shape.output)) * shape.products
    threads = planner.threads_for(work // 64)
    planes = PLANES.index("ternary_right" if ternary else "binary")
    workspace = planner.scratch((binary_convolution.workspace_bytes(shape, planes, threads),), dtype="uint8")
    operands = (
        x, weights, planner.raw(f"{node.inputs[1]} base", base), planner.raw(f"{node.inputs[1]} taps", taps),
        *(constant(planner, name) for name in node.inputs[2:4]),
    )  # fmt: skip
    numbers = (*native.sizes(shape), planes, 2 if signs else 1, int(a.get("border") == "one"))
    detail = f"{'ternary' if ternary else 'signs'} {description(shape, False, False, 'none')}{' +sign' if signs else ''}"
    detail += ", a border of ones" if a.get("border") == "one" else ""
    planner.emit(Step("binary_convolution", node.name, whole, operands, numbers, (), "", threads, (workspace,), work, detail))
    if whole is not y:
        planner.copy(node, whole, y)


def sizes_of(x: View, bits: tuple[int, ...], node: Node) -> ConvolutionShape:
    """Return the sizes of a convolution of packed images; of rows, those over an image of one line of all their pixels."""
    a, (k, *kernel) = node.attributes, bits[:3]
    channels = int(a["channels"])  # type: ignore[arg-type]
    size = (1, x.shape[2] * x.shape[3]) if a["rows"] else x.shape[2:]
    return convolution_shape((x.shape[0], channels * int(a.get("group", 1)), *size), (k, channels, *kernel), a, "binary")  # type: ignore[arg-type]


SIGNS: dict[str, Callable[[Planner, Node], None]] = {
    "PackSigns": pack,
    "UnpackSigns": unpack,
    "SignPool": pooling,
    "BinaryConv": convolution,
}
