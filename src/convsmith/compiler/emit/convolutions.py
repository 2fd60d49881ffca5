"""Convolutions and matrix products; a product with constant weights is a 1x1 convolution of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convsmith.compiler.planner import Array, Planner, Weights
from convsmith.compiler.steps import BINARY, Step, loop_nest
from convsmith.compiler.views import View, expanded, is_dense, merged, pixel_pitch
from convsmith.errors import UnsupportedError
from convsmith.graph import Node
from convsmith.kernels import ConvolutionShape, convolution_shape, native
from convsmith.kernels.windows import Windows


def optional(node: Node, index: int) -> str:
    return node.inputs[index] if len(node.inputs) > index else ""


def convolution(planner: Planner, node: Node) -> None:
    """Emit a two-dimensional convolution, or a one-dimensional one as an image of one row."""
    w = constant_weights(planner, node)
    x, y, attributes = planner.value(node.inputs[0]), planner.target(node.outputs[0]), node.attributes
    if w.ndim == 3:
        x, y, w, attributes = image_row(x), image_row(y), w[:, :, None], row_attributes(attributes)
    shape = convolution_shape(x.shape, w.shape, attributes)
    residual = planner.value(node.inputs[3]) if optional(node, 3) else None
    whole = y if pixel_pitch(y) is not None else planner.scratch(y.shape, (0, 2, 3, 1))
    emit_convolution(planner, node, Weights(node.inputs[1], w, shape, ""), x, whole, optional(node, 2), residual)
    if whole is not y:
        planner.copy(node, whole, y)


def constant_weights(planner: Planner, node: Node) -> Array:
    w = planner.constant_array(node.inputs[1])
    if w is None:
        raise UnsupportedError("its weights are computed; only constant ones are supported")
    if w.dtype.kind != "f":
        raise UnsupportedError(f"its weights have type {w.dtype}")
    return w


def image_row(view: View) -> View:
    """Return ``(n, c, length)`` as ``(n, c, 1, length)``."""
    return replace(view, shape=(*view.shape[:2], 1, view.shape[2]), strides=(*view.strides[:2], 1, view.strides[2]))


def row_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    raised = {key: (1, *value) if key in ("strides", "dilations", "kernel_shape") else value for key, value in attributes.items()}
    if "pads" in attributes:
        before, after = attributes["pads"]
        raised["pads"] = (0, before, 0, after)
    return raised


def emit_convolution(
    planner: Planner, node: Node, weights: Weights, x: View, y: View, bias: str | View, residual: View | None = None
) -> None:
    """Emit one convolution of NCHW views with what follows it; the algorithm is chosen here."""
    shape = weights.shape
    choice = planner.choose(shape)
    x = planner.pixels(node, x)
    residual = None if residual is None else planner.pixels(node, residual)
    weights = replace(weights, algorithm=choice.algorithm)
    if isinstance(bias, str):
        bias_view = planner.value(bias) if bias else None
    else:
        bias_view = bias
    activation = str(node.attributes.get("activation", "none"))
    sizes = native.sizes(shape, pixel_pitch(x), pixel_pitch(y))
    workspace = planner.scratch((-(-native.workspace_bytes(choice.algorithm, shape, choice.threads) // 4),))
    planner.emit(
        Step(
            "convolution",
            node.name,
            y,
            (x, planner.prepared(weights), bias_view, residual),
            (*sizes, (residual and pixel_pitch(residual)) or 0, native.ACTIVATIONS.index(activation)),
            (float(node.attributes.get("low", 0.0)), float(node.attributes.get("high", 0.0))),  # type: ignore[arg-type]
            choice.algorithm,
            choice.threads,
            (workspace,),
            2 * int(np.prod(shape.output)) * shape.products,
            description(shape, bias_view is not None, residual is not None, activation),
        )
    )


def description(shape: ConvolutionShape, bias: bool, residual: bool, activation: str) -> str:
    w = shape.windows
    parts = [f"{shape.in_channels}-{shape.out_channels} {'x'.join(map(str, w.kernel))}"]
    parts += [f"stride {'x'.join(map(str, w.strides))}"] if set(w.strides) != {1} else []
    parts += [f"dilation {'x'.join(map(str, w.dilations))}"] if set(w.dilations) != {1} else []
    parts += [f"{shape.groups} groups"] if shape.groups > 1 else []
    extras = [name for name, there in (("bias", bias), ("residual", residual), (activation, activation != "none")) if there]
    return " ".join(parts) + "".join(f" +{extra}" for extra in extras)


def product_shape(rows: int, depth: int, columns: int) -> ConvolutionShape:
    """Return the sizes of the 1x1 convolution that multiplies a row-major matrix."""
    one, none = (1, 1), (0, 0)
    return ConvolutionShape(1, depth, (1, rows), columns, 1, Windows(one, one, one, none, none, none, (1, rows)))


def matrix_image(view: View, rows: tuple[int, int]) -> View:
    """Return a matrix, whose last axis is the depth, as an image of one row of pixels."""
    size, stride = rows
    return replace(view, shape=(1, view.shape[-1], 1, size), strides=(1, view.strides[-1], 1, stride))


def rows_of(planner: Planner, node: Node, view: View) -> tuple[View, tuple[int, int]]:
    """Return the view, copied if need be, with adjacent columns, and the size and stride of all axes before as one."""
    rows = merged(view, range(len(view.shape) - 1))
    adjacent = view.shape[-1] == 1 or view.strides[-1] == 1
    if rows is None or not adjacent or (rows[0] > 1 and rows[1] < view.shape[-1]):
        view = planner.copy(node, view, planner.scratch(view.shape, tuple(range(len(view.shape))), view.dtype))
        rows = merged(view, range(len(view.shape) - 1)) or (1, 1)
    return view, (rows[0], rows[1] if rows[0] > 1 else view.shape[-1])


def gemm(planner: Planner, node: Node) -> None:
    """Emit ``alpha A B + beta C``; a constant vector C becomes the bias, another one is added."""
    a = node.attributes
    w, x = constant_weights(planner, node), planner.value(node.inputs[0])
    if a.get("transA", 0):
        x = replace(x, shape=x.shape[::-1], strides=x.strides[::-1])
    w_kc = w if a.get("transB", 0) else w.T
    alpha, beta = float(a.get("alpha", 1.0)), float(a.get("beta", 1.0))  # type: ignore[arg-type]
    scaled = w_kc if alpha == 1 else (alpha * w_kc.astype(np.float64)).astype(w.dtype)
    c = optional(node, 2)
    c_array = planner.constant_array(c) if c else None
    vector = c_array is not None and c_array.size == w_kc.shape[0] and c_array.shape[-1:] == (w_kc.shape[0],)
    bias: View | None = None
    if c_array is not None and vector:
        flat = c_array.reshape(-1)
        bias = planner.constant(f"{node.name}:{c}", flat if beta == 1 else (beta * flat.astype(np.float64)).astype(flat.dtype))
    name = f"{node.inputs[1]}:{a.get('transB', 0)}:{alpha}"
    y = planner.target(node.outputs[0], (0, 1))
    if c and not vector and "activation" in a:
        raise UnsupportedError("an activation after a computed third matrix")
    emit_product(planner, node, name, scaled, x, y, bias)
    if c and not vector:
        add_matrix(planner, node, y, planner.value(c), beta)


def add_matrix(planner: Planner, node: Node, y: View, c: View, beta: float) -> None:
    """Emit ``y += beta c`` with ``c`` broadcast."""
    if beta != 1:
        scale = planner.constant(f"{node.name}:beta", np.asarray(beta, np.float32))
        scaled = planner.scratch(c.shape)
        emit_binary(planner, node, "mul", c, scale, scaled)
        c = scaled
    emit_binary(planner, node, "add", y, c, y)


def emit_binary(planner: Planner, node: Node, function: str, a: View, b: View, y: View) -> None:
    """Emit a function of two views, broadcast to the target's shape."""
    operands = expanded(a, y.shape), expanded(b, y.shape)
    sizes = (*loop_nest(y, operands), BINARY.index(function))
    threads = planner.threads_for(y.size)
    planner.emit(Step("binary", node.name, y, operands, sizes, (0.0, 0.0), threads=threads, work=y.size, detail=function))


def emit_product(planner: Planner, node: Node, name: str, w_kc: Array, x: View, y: View, bias: View | None) -> None:
    x, rows = rows_of(planner, node, x)
    shape = product_shape(rows[0], w_kc.shape[1], w_kc.shape[0])
    y_rows = merged(y, range(len(y.shape) - 1))
    whole = y if y_rows is not None and (y.shape[-1] == 1 or y.strides[-1] == 1) else planner.scratch(y.shape, tuple(range(len(y.shape))))
    pitch = merged(whole, range(len(y.shape) - 1)) or (1, 1)
    image = matrix_image(whole, (rows[0], pitch[1] if rows[0] > 1 else w_kc.shape[0]))
    weights = Weights(name, w_kc[:, :, None, None], shape, "")
    emit_convolution(planner, node, weights, matrix_image(x, rows), image, bias or "")
    if whole is not y:
        planner.copy(node, whole, y)


def matmul(planner: Planner, node: Node) -> None:
    """Emit a matrix product, or one for each leading index; constant matrices on the right are prepared beforehand."""
    x, w, y_shape = planner.value(node.inputs[0]), planner.constant_array(node.inputs[1]), planner.shapes[node.outputs[0]]
    if w is not None and w.ndim == 2 and w.dtype.kind == "f" and len(x.shape) > 1:
        y = planner.target(node.outputs[0], tuple(range(len(y_shape))))
        emit_product(planner, node, f"{node.inputs[1]}:matmul", w.T, x, y, None)
        return
    b = planner.value(node.inputs[1])
    if len(x.shape) < 2 or len(b.shape) < 2:
        raise UnsupportedError("the engine multiplies matrices, not vectors")
    batch = y_shape[:-2]
    (rows, depth), columns = x.shape[-2:], b.shape[-1]
    transposed = replace(b, shape=(*b.shape[:-2], columns, depth), strides=(*b.strides[:-2], b.strides[-1], b.strides[-2]))
    left, left_step = batched(planner, node, x, batch)
    right, right_step = batched(planner, node, transposed, batch)
    shape = product_shape(rows, depth, columns)
    choice = planner.choose(shape)
    y = planner.target(node.outputs[0], tuple(range(len(y_shape))))
    rows_first = tuple(range(len(y_shape)))
    whole = y if is_dense(y, rows_first) else planner.scratch(y_shape, rows_first)
    count = int(np.prod(batch, dtype=np.int64))
    scratch = (
        planner.scratch((native.prepared_floats(choice.algorithm, shape),)),
        planner.scratch((-(-native.workspace_bytes(choice.algorithm, shape, choice.threads) // 4),)),
    )
    work, detail = 2 * count * rows * depth * columns, f"{count} of {rows}x{depth} times {depth}x{columns}"
    sizes = (count, rows, depth, columns, left_step, right_step)
    planner.emit(Step("product", node.name, whole, (left, right), sizes, (), choice.algorithm, choice.threads, scratch, work, detail))
    if whole is not y:
        planner.copy(node, whole, y)


def batched(planner: Planner, node: Node, view: View, batch: tuple[int, ...]) -> tuple[View, int]:
    """Return row-major matrices and the floats from one to the next, 0 when the same serves all."""
    plain = tuple(range(len(view.shape)))
    if int(np.prod(view.shape[:-2], dtype=np.int64)) == 1:
        return planner.dense(node, view, plain), 0
    if view.shape[:-2] != batch:
        view = expanded(view, (*batch, *view.shape[-2:]))
        plain = tuple(range(len(view.shape)))
        view = planner.copy(node, view, planner.scratch(view.shape, plain))
    return planner.dense(node, view, plain), view.shape[-2] * view.shape[-1]


def conv_transpose(planner: Planner, node: Node) -> None:
    """Emit a transposed convolution: one product for each input pixel, tap and channel, gathered into the result."""
    w, a, x = constant_weights(planner, node), node.attributes, planner.value(node.inputs[0])
    if a.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in a:
        raise UnsupportedError("auto_pad or output_shape; give pads")
    (n, c, h, width), groups = x.shape, int(a.get("group", 1))  # type: ignore[arg-type]
    _, breadth, r, s = w.shape
    strides, dilations, pads = a.get("strides", (1, 1)), a.get("dilations", (1, 1)), a.get("pads", (0, 0, 0, 0))
    # out channels in the order group, tap, channel of the group
    w_kc = w.reshape(groups, c // groups, breadth, r * s).transpose(0, 3, 2, 1).reshape(groups * r * s * breadth, c // groups)
    taps = w_kc[:, :, None, None]
    shape = convolution_shape(x.shape, taps.shape, {"group": groups})
    columns = planner.scratch((n, taps.shape[0], h, width), (0, 2, 3, 1))
    bare = replace(node, attributes={})
    emit_convolution(planner, bare, Weights(f"{node.inputs[1]}:taps", taps, shape, ""), x, columns, "")
    y = planner.target(node.outputs[0])
    whole = y if pixel_pitch(y) is not None else planner.scratch(y.shape, (0, 2, 3, 1))
    out_h, out_w = y.shape[2:]
    sizes = (n, h, width, breadth * groups, groups, r, s, *strides, *dilations, *pads[:2], out_h, out_w, pixel_pitch(whole) or 0)  # type: ignore[misc,index]
    bias = planner.value(node.inputs[2]) if optional(node, 2) else None
    threads = planner.threads_for(columns.size)
    planner.emit(Step("scatter", node.name, whole, (columns, bias), sizes, (), "", threads, work=columns.size, detail="gather taps"))
    if whole is not y:
        planner.copy(node, whole, y)


CONVOLUTIONS: dict[str, Callable[[Planner, Node], None]] = {
    "Conv": convolution,
    "FusedConv": convolution,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "FusedGemm": gemm,
    "MatMul": matmul,
}
