"""Pooling and normalisation over near channels: steps over the pixels of an NHWC image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from convsmith.compiler.emit import integers
from convsmith.compiler.planner import Planner
from convsmith.compiler.steps import Step
from convsmith.compiler.views import View, merged, pixel_pitch
from convsmith.errors import UnsupportedError
from convsmith.graph import Node
from convsmith.kernels.windows import resolve


def written(planner: Planner, node: Node) -> tuple[View, View]:
    """Return where the result goes and where a step over pixels writes it first, which is the same where it can be."""
    y = planner.target(node.outputs[0])
    return y, y if pixel_pitch(y) is not None else planner.scratch(y.shape, (0, 2, 3, 1))


def pooling(planner: Planner, node: Node) -> None:
    """Emit the maximum or the average over windows."""
    if len(node.outputs) > 1:
        raise UnsupportedError("it also returns indices")
    x = planner.value(node.inputs[0])
    if x.dtype == "uint8":
        integers.pooling(planner, node, x)
        return
    x = planner.pixels(node, x)
    (n, c, h, w), a = x.shape, node.attributes
    windows = resolve(a, (h, w), tuple(a["kernel_shape"]))  # type: ignore[arg-type]
    y, whole = written(planner, node)
    sizes = (
        n, c, h, w, *windows.kernel, *windows.strides, *windows.dilations, *windows.before, *windows.after, *windows.output,
        pixel_pitch(x) or 0, pixel_pitch(whole) or 0, int(node.op == "MaxPool"), int(bool(a.get("count_include_pad", 0))),
    )  # fmt: skip
    work = y.size * windows.kernel[0] * windows.kernel[1]
    detail = f"{node.op} {'x'.join(map(str, windows.kernel))} stride {'x'.join(map(str, windows.strides))}"
    planner.emit(Step("pooling", node.name, whole, (x,), sizes, (), "", planner.threads_for(work), work=work, detail=detail))
    if whole is not y:
        planner.copy(node, whole, y)


def response_norm(planner: Planner, node: Node) -> None:
    """Emit local response normalisation."""
    x, a = planner.value(node.inputs[0]), node.attributes
    if len(x.shape) != 4:
        raise UnsupportedError("only images are supported")
    x = planner.pixels(node, x)
    y, whole = written(planner, node)
    pixels = merged(replace(x, shape=(x.shape[0], 1, *x.shape[2:])), (0, 2, 3)) or (1, 1)
    sizes = (pixels[0], x.shape[1], int(a["size"]), pixel_pitch(x) or 0, pixel_pitch(whole) or 0)  # type: ignore[arg-type]
    numbers = float(a.get("alpha", 1e-4)), float(a.get("beta", 0.75)), float(a.get("bias", 1.0))  # type: ignore[arg-type]
    work = x.size * sizes[2]
    planner.emit(
        Step("response_norm", node.name, whole, (x,), sizes, numbers, "", planner.threads_for(work), work=work, detail="normalise")
    )
    if whole is not y:
        planner.copy(node, whole, y)


WINDOWS: dict[str, Callable[[Planner, Node], None]] = {
    "MaxPool": pooling,
    "AveragePool": pooling,
    "LRN": response_norm,
}
