"""Operators on 8-bit codes, and between codes and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convsmith.compiler.emit.convolutions import description, matrix_image, optional, product_shape, rows_of
from convsmith.compiler.planner import Array, Planner, Weights
from convsmith.compiler.steps import Step
from convsmith.compiler.views import View, lies_as, memory_order, merged, pixel_pitch
from convsmith.errors import UnsupportedError
from convsmith.graph import Node
from convsmith.kernels import ConvolutionShape, convolution_shape, integer_native, native
from convsmith.kernels.integer_operators import pool_windows
from convsmith.kernels.integers import RESULTS


def number(planner: Planner, name: str) -> Any:
    array = planner.constant_array(name)
    if array is None or array.size != 1:
        raise UnsupportedError(f"{name!r} must be one constant number")
    return array.reshape(-1)[0]


def quantise(planner: Planner, node: Node) -> None:
    """Emit codes of numbers; they lie as the numbers do, and are then moved into the usual order, a quarter of the bytes."""
    x = planner.dense(node, planner.value(node.inputs[0]))
    scale, zero = float(number(planner, node.inputs[1])), int(number(planner, node.inputs[2]))
    y = planner.target(node.outputs[0], dtype="uint8")
    same = y if lies_as(y, x.strides) else planner.scratch(x.shape, memory_order(x), dtype="uint8")
    threads = planner.threads_for(x.size)
    planner.emit(Step("quantise", node.name, same, (x,), (x.size, zero), (scale,), "", threads, work=x.size, detail="to codes"))
    if same is not y:
        planner.copy(node, same, y)


def dequantise(planner: Planner, node: Node) -> None:
    """Emit numbers of codes, in the order in which the codes lie where nothing else decides."""
    x = planner.value(node.inputs[0])
    if x.dtype != "uint8":
        raise UnsupportedError(f"{node.inputs[0]!r} is no value of codes")
    x = planner.dense(node, x)
    scale, zero = float(number(planner, node.inputs[1])), int(number(planner, node.inputs[2]))
    y = planner.target(node.outputs[0], memory_order(x))
    same = y if lies_as(y, x.strides) else planner.scratch(x.shape, memory_order(x))
    threads = planner.threads_for(x.size)
    planner.emit(Step("dequantise", node.name, same, (x,), (x.size, zero), (scale,), "", threads, work=x.size, detail="to numbers"))
    if same is not y:
        planner.copy(node, same, y)


def look_up(planner: Planner, node: Node) -> None:
    x, table = planner.dense(node, planner.value(node.inputs[0])), planner.constant_array(node.inputs[1])
    if table is None:
        raise UnsupportedError("its table is computed")
    y = planner.scratch(x.shape, memory_order(x), dtype="uint8")
    planner.bind(node.outputs[0], y)
    threads = planner.threads_for(x.size)
    operands = (x, planner.raw(node.inputs[1], table))
    planner.emit(Step("look_up", node.name, y, operands, (x.size,), (), "", threads, work=x.size, detail="table"))


def add(planner: Planner, node: Node) -> None:
    """Emit a sum of two values of one shape."""
    a, b = (planner.value(name) for name in node.inputs)
    if a.shape != b.shape:
        raise UnsupportedError("codes of different shapes are not added")
    order = memory_order(a)
    a, b = planner.dense(node, a, order), planner.dense(node, b, order)
    y = planner.scratch(a.shape, order, dtype="uint8")
    planner.bind(node.outputs[0], y)
    given = node.attributes
    sizes = (a.size, *(int(given[key]) for key in ("a_zero", "b_zero", "zero", "low", "high")))  # type: ignore[arg-type]
    factors = float(given["a_factor"]), float(given["b_factor"])  # type: ignore[arg-type]
    threads = planner.threads_for(a.size)
    planner.emit(Step("integer_add", node.name, y, (a, b), sizes, factors, "", threads, work=a.size, detail="add codes"))


def pooling(planner: Planner, node: Node, x: View) -> None:
    """Emit the largest or the average code of windows."""
    if len(node.outputs) > 1:
        raise UnsupportedError("it also returns indices")
    x, a = planner.pixels(node, x), node.attributes
    windows = pool_windows(a, x.shape[2:])
    y = planner.target(node.outputs[0], dtype="uint8")
    whole = y if pixel_pitch(y) is not None else planner.scratch(y.shape, (0, 2, 3, 1), dtype="uint8")
    average = node.op != "MaxPool"
    codes = [int(a[key]) for key in ("x_zero", "zero")] if average else [0, 0]  # type: ignore[arg-type]
    sizes = (
        *x.shape, *windows.kernel, *windows.strides, *windows.dilations, *windows.before, *windows.after, *windows.output,
        pixel_pitch(x) or 0, pixel_pitch(whole) or 0, int(not average), int(bool(a.get("count_include_pad", 0))), *codes, 0, 255,
    )  # fmt: skip
    factor = float(a["factor"]) if average else 0.0  # type: ignore[arg-type]
    work = y.size * windows.kernel[0] * windows.kernel[1]
    detail = f"{node.op} {'x'.join(map(str, windows.kernel))} stride {'x'.join(map(str, windows.strides))}"
    planner.emit(Step("integer_pooling", node.name, whole, (x,), sizes, (factor,), "", planner.threads_for(work), work=work, detail=detail))
    if whole is not y:
        planner.copy(node, whole, y)


def average(planner: Planner, node: Node) -> None:
    pooling(planner, node, planner.value(node.inputs[0]))


def convolution(planner: Planner, node: Node) -> None:
    """Emit a convolution of codes, or a product of rows of codes."""
    w, x = planner.constant_array(node.inputs[1]), planner.value(node.inputs[0])
    if w is None or x.dtype != "uint8":
        raise UnsupportedError("it needs codes and constant weights")
    kind = "uint8" if node.attributes["result"] == "codes" else "float32"
    rank = len(x.shape)
    y = planner.target(node.outputs[0], (0, 1) if rank == 2 else None, dtype=kind)
    residual = planner.value(node.inputs[4]) if optional(node, 4) else None
    if rank == 2:
        x, rows = rows_of(planner, node, x)
        shape = replace(product_shape(rows[0], w.shape[1], w.shape[0]), dtype="uint8")
        pitch = merged(y, (0,)) or (1, 1)
        whole = y if y.shape[1] == 1 or y.strides[1] == 1 else planner.scratch(y.shape, (0, 1), dtype=kind)
        image = matrix_image(whole, (rows[0], pitch[1] if rows[0] > 1 and whole is y else w.shape[0]))
        emit_convolution(planner, node, w[:, :, None, None], shape, matrix_image(x, rows), image, None)
    else:
        shape = convolution_shape(x.shape, w.shape, node.attributes, "uint8")
        whole = y if pixel_pitch(y) is not None else planner.scratch(y.shape, (0, 2, 3, 1), dtype=kind)
        emit_convolution(planner, node, w, shape, x, whole, residual)
    if whole is not y:
        planner.copy(node, whole, y)


def emit_convolution(planner: Planner, node: Node, w: Array, shape: ConvolutionShape, x: View, y: View, residual: View | None) -> None:
    """Emit one convolution of NCHW views; the algorithm is chosen here."""
    choice, a = planner.choose(shape), node.attributes
    x = planner.pixels(node, x)
    residual = None if residual is None else planner.pixels(node, residual)
    weights = planner.prepared(Weights(node.inputs[1], w, shape, choice.algorithm))
    bias, factor = (constant(planner, name) for name in node.inputs[2:4])
    workspace = planner.scratch((integer_native.workspace_bytes(choice.algorithm, shape, choice.threads),), dtype="uint8")
    pitch = 0 if residual is None else pixel_pitch(residual) or 0
    numbers = [int(a.get(key, default)) for key, default in (("zero", 0), ("low", 0), ("high", 255))]  # type: ignore[arg-type]
    more = [int(a.get(key, 0)) for key in ("residual_zero", "middle_low", "middle_high")]  # type: ignore[arg-type]
    sizes = (
        *native.sizes(shape, pixel_pitch(x), pixel_pitch(y)), int(a["x_zero"]), RESULTS.index(a["result"]), *numbers, pitch, *more,  # type: ignore[arg-type]
    )  # fmt: skip
    factors = tuple(float(a.get(key, 0.0)) for key in ("residual_factor", "middle_factor"))  # type: ignore[arg-type]
    operands = (x, weights, bias, factor, residual)
    work, detail = 2 * int(np.prod(shape.output)) * shape.products, f"int8 {description(shape, True, residual is not None, 'none')}"
    planner.emit(
        Step("integer_convolution", node.name, y, operands, sizes, factors, choice.algorithm, choice.threads, (workspace,), work, detail)
    )


def constant(planner: Planner, name: str) -> View:
    array = planner.constant_array(name)
    if array is None:
        raise UnsupportedError(f"{name!r} is computed; only constants are supported")
    return planner.raw(name, array)


INTEGERS: dict[str, Callable[[Planner, Node], None]] = {
    "QuantizeLinear": quantise,
    "DequantizeLinear": dequantise,
    "LookUp": look_up,
    "IntegerAdd": add,
    "IntegerAveragePool": average,
    "IntegerConv": convolution,
}
