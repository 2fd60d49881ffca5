"""Operators that only move numbers: another view where one will do, else a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convsmith.compiler.emit.convolutions import optional
from convsmith.compiler.planner import Array, Planner
from convsmith.compiler.views import View, changed, expanded, reshaped, split_axis
from convsmith.errors import UnsupportedError
from convsmith.graph import Node
from convsmith.kernels import reference

MOST_INDICES = 64
"""Indices that a Gather may have: each is a copy of its own."""


def moved(planner: Planner, node: Node) -> None:
    """Emit nothing: the operator's own NumPy function tells where the result lies in its operand."""
    numbers = [constant(planner, name) if name else None for name in node.inputs[1:]]
    source = planner.value(node.inputs[0])
    for index, name in enumerate(node.outputs):

        def function(array: Array, index: int = index) -> Array:
            return reference.run(node.op, [array, *numbers], node.attributes)[index]

        planner.bind(name, changed(source, function))


def constant(planner: Planner, name: str) -> Array:
    array = planner.constant_array(name)
    if array is None:
        raise UnsupportedError(f"{name!r} is computed; only constants are supported")
    return array


def reshape(planner: Planner, node: Node) -> None:
    """Give the numbers another shape; those not in row-major order are copied first."""
    source, shape = planner.value(node.inputs[0]), planner.shapes[node.outputs[0]]
    view = reshaped(source, shape)
    if view is None:
        rows_first = tuple(range(len(source.shape)))
        view = reshaped(planner.copy(node, source, planner.scratch(source.shape, rows_first, source.dtype)), shape)
    if view is None:
        raise UnsupportedError("it cannot be reshaped")
    planner.bind(node.outputs[0], view)


def concat(planner: Planner, node: Node) -> None:
    """Copy what is not in its place already."""
    whole = planner.concatenation(node.outputs[0], planner.value(node.inputs[0]).dtype)
    axis, first = int(node.attributes["axis"]) % len(whole.shape), 0  # type: ignore[arg-type]
    for name in node.inputs:
        source = planner.value(name)
        part = replace(whole, shape=source.shape, offset=whole.offset + first * whole.strides[axis])
        if source != part:
            planner.copy(node, source, part)
        first += source.shape[axis]


def gather(planner: Planner, node: Node) -> None:
    """Take some indices of one axis: a slice for one, a copy each for several."""
    source, indices = planner.value(node.inputs[0]), constant(planner, node.inputs[1])
    axis = int(node.attributes.get("axis", 0)) % len(source.shape)  # type: ignore[arg-type]
    numbers = [int(n) % source.shape[axis] for n in np.asarray(indices).reshape(-1)]

    def one(number: int) -> View:
        return changed(source, lambda array: array[(slice(None),) * axis + (number,)])

    if indices.ndim == 0:
        planner.bind(node.outputs[0], one(numbers[0]))
        return
    if indices.ndim > 1 or len(numbers) > MOST_INDICES:
        raise UnsupportedError(f"{indices.size} indices of {indices.ndim} axes; at most {MOST_INDICES} of one axis")
    whole = planner.target(node.outputs[0])
    for position, number in enumerate(numbers):
        planner.copy(node, one(number), changed(whole, lambda array, position=position: array[(slice(None),) * axis + (position,)]))  # type: ignore[misc]


def pad(planner: Planner, node: Node) -> None:
    """Fill a larger array: the constant first, or each axis from the one before it."""
    source, amounts = planner.value(node.inputs[0]), constant(planner, node.inputs[1]).reshape(2, -1)
    rank = len(source.shape)
    axes = list(range(rank)) if not optional(node, 3) else [int(n) % rank for n in constant(planner, node.inputs[3])]
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = int(amounts[0, position]), int(amounts[1, position])
    inside = tuple(slice(max(0, -b), n - max(0, -a)) for b, a, n in zip(before, after, source.shape, strict=True))
    source = changed(source, lambda array: array[inside])
    before, after = [max(0, b) for b in before], [max(0, a) for a in after]
    if not any(before) and not any(after):
        planner.bind(node.outputs[0], source)
        return
    whole, mode = planner.target(node.outputs[0], dtype=source.dtype), str(node.attributes.get("mode", "constant"))
    if mode == "constant":
        value = constant(planner, node.inputs[2]) if optional(node, 2) else np.zeros((), source.dtype)
        bits = planner.raw(f"{node.name}:value", np.asarray(value, source.dtype))
        filling = replace(bits, shape=(), strides=(), dtype=source.dtype)
        planner.copy(node, expanded(filling, whole.shape), whole)
    middle = tuple(slice(b, b + n) for b, n in zip(before, source.shape, strict=True))
    planner.copy(node, source, changed(whole, lambda array: array[middle]))
    if mode != "constant":
        mirror(planner, node, whole, mode, list(middle), before, after)


def mirror(planner: Planner, node: Node, whole: View, mode: str, filled: list[slice], before: Sequence[int], after: Sequence[int]) -> None:
    """Copy borders axis by axis from what is filled already."""
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        first, last = filled[axis].start, filled[axis].stop
        for count, start, outwards in ((b, first - 1, -1), (a, last, 1)):
            for step in range(count):
                places = {"edge": first if outwards < 0 else last - 1, "reflect": start - outwards * (step + 2), "wrap": 0}
                places["wrap"] = last - 1 - step if outwards < 0 else first + step
                if mode not in places:
                    raise UnsupportedError(f"mode {mode!r}; there are constant, {', '.join(places)}")
                copy_slice(planner, node, whole, filled, axis, places[mode], start + outwards * step)
        filled[axis] = slice(first - b, last + a)


def copy_slice(planner: Planner, node: Node, whole: View, filled: Sequence[slice], axis: int, source: int, target: int) -> None:
    def at(index: int) -> View:
        where = [*filled[:axis], slice(index, index + 1), *filled[axis + 1 :]]
        return changed(whole, lambda array: array[tuple(where)])

    planner.copy(node, at(source), at(target))


def repeated(planner: Planner, node: Node, inner: Sequence[int], outer: Sequence[int]) -> None:
    """Copy each element ``inner`` times, and the whole ``outer`` times, along each axis."""
    source, whole = planner.value(node.inputs[0]), planner.target(node.outputs[0])
    shape: list[int] = []
    target = whole
    for axis, (n, i, o) in enumerate(zip(source.shape, inner, outer, strict=True)):
        target = split_axis(target, 3 * axis, (o, n, i))
        shape += (o, n, i)
    strides = [s for stride in source.strides for s in (0, stride, 0)]
    planner.copy(node, replace(source, shape=tuple(shape), strides=tuple(strides)), target)


def resize(planner: Planner, node: Node) -> None:
    """Repeat pixels; what the reference refuses is refused here."""
    a, scales = node.attributes, constant(planner, optional(node, 2)) if optional(node, 2) else None
    exact = a.get("coordinate_transformation_mode") == "asymmetric" and a.get("nearest_mode") == "floor"
    if a.get("mode", "nearest") != "nearest" or scales is None or not exact or any(s != int(s) for s in scales):
        raise UnsupportedError("Resize other than nearest, asymmetric, floor, by whole scales")
    repeated(planner, node, [int(s) for s in scales], [1] * len(scales))


def tile(planner: Planner, node: Node) -> None:
    repeats = [int(n) for n in constant(planner, node.inputs[1])]
    repeated(planner, node, [1] * len(repeats), repeats)


def depth_to_space(planner: Planner, node: Node) -> None:
    """Copy blocks of channels to where their pixels are."""
    source, whole, b = planner.value(node.inputs[0]), planner.target(node.outputs[0]), int(node.attributes["blocksize"])  # type: ignore[arg-type]
    depth = source.shape[1] // b**2
    target = split_axis(split_axis(whole, 3, (source.shape[3], b)), 2, (source.shape[2], b))  # n d h b w b
    if node.attributes.get("mode", "DCR") == "CRD":
        parts, order = split_axis(source, 1, (depth, b, b)), (0, 1, 4, 2, 5, 3)
    else:
        parts, order = split_axis(source, 1, (b, b, depth)), (0, 3, 4, 1, 5, 2)
    planner.copy(node, changed(parts, lambda array: array.transpose(order)), target)


def cast(planner: Planner, node: Node) -> None:
    if node.attributes["to"] != 1:
        raise UnsupportedError(f"Cast to ONNX type {node.attributes['to']}; the engine computes in float32")
    planner.bind(node.outputs[0], planner.value(node.inputs[0]))


SHAPING: dict[str, Callable[[Planner, Node], Any]] = {
    **dict.fromkeys(("Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand"), moved),
    "Reshape": reshape,
    "Flatten": reshape,
    "Concat": concat,
    "Gather": gather,
    "Pad": pad,
    "Resize": resize,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "Cast": cast,
}
