"""What part of the image a value sees.

References: Araujo, Norris, Sim 2019, Computing Receptive Fields of Convolutional Neural Networks, Distill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convsmith.graph import Graph, Node, Shape
from convsmith.kernels.windows import resolve

Pair = tuple[int, int]


@dataclass(frozen=True)
class Field:
    """Rows and columns of the image that one value can depend on, padding included (it may exceed the image).

    ``size``: pixels. ``stride``: pixels from one value to the next. ``offset``: where the field of the first value
    starts; -1 is one pixel of padding. ``axes``: where rows and columns lie in the value, empty once they are gone.
    """

    size: Pair
    stride: Pair
    offset: Pair
    axes: tuple[int, ...] = (2, 3)


POINT = Field((1, 1), (1, 1), (0, 0))
WINDOWED = frozenset({"Conv", "MaxPool", "AveragePool"})
COLLAPSING = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ArgMax"})
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze", "Gemm", "MatMul"})
UNTRACED = frozenset({"ConvTranspose", "Resize", "DepthToSpace", "Expand", "Tile", "Unsqueeze", "Gather"})


def receptive_fields(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Field | None]:
    """Return the field of every input and node output; None where it is not a box that slides evenly (after upsampling)."""
    fields: dict[str, Field | None] = {v.name: POINT if len(v.shape) == 4 else None for v in graph.inputs}
    for node in graph:
        sources = [name for name in node.inputs if name in fields]
        field = None if not sources or any(fields[s] is None for s in sources) else trace(graph, node, fields, shapes)
        for name in node.outputs:
            fields[name] = field
    return fields


def trace(graph: Graph, node: Node, fields: Mapping[str, Field | None], shapes: Mapping[str, Shape]) -> Field | None:
    """Return the field of one node's outputs, all of whose inputs have one."""
    sources = [name for name in node.inputs if name in fields]
    parts = [field for name in sources if (field := fields[name]) is not None]
    shape = shapes[sources[0]]
    if len(parts) > 1:
        return union(parts, [shapes[name] for name in sources])
    field = parts[0]
    if not field.axes:
        return field
    if node.op in WINDOWED:
        return slide(node, field, shapes, shape) if field.axes == (2, 3) and len(shape) == 4 else None
    if node.op in COLLAPSING:
        return collapse(field, shape, reduced_axes(graph, node, shape))
    if node.op in FLATTENING:
        kept = node.op == "MatMul" and field.axes[-1] < len(shape) - 1 and node.inputs[0] == sources[0]
        return field if kept else dataclasses.replace(collapse(field, shape, field.axes), axes=())
    if node.op == "Split":
        return field if int(node.attributes.get("axis", 0)) % len(shape) not in field.axes else None  # type: ignore[arg-type]
    if node.op in UNTRACED:
        return None
    if node.op == "Transpose":
        order: tuple[int, ...] = node.attributes["perm"]  # type: ignore[assignment]
        return dataclasses.replace(field, axes=tuple(order.index(axis) for axis in field.axes))
    if node.op in ("Pad", "Slice"):
        return move(graph, node, field, shape)
    if node.op == "LayerNormalization":
        first = int(node.attributes.get("axis", -1)) % len(shape)  # type: ignore[arg-type]
        return None if any(axis >= first for axis in field.axes) else field
    return field


def slide(node: Node, field: Field, shapes: Mapping[str, Shape], shape: Shape) -> Field:
    """Widen by a window: size + (reach - 1) stride, stride times stride, offset - padding stride."""
    kernel = shapes[node.inputs[1]][2:] if node.op == "Conv" else node.attributes["kernel_shape"]
    windows = resolve(node.attributes, shape[2:], kernel)  # type: ignore[arg-type]
    size, stride, offset = [], [], []
    for axis in range(2):
        reach = windows.dilations[axis] * (windows.kernel[axis] - 1) + 1
        size.append(field.size[axis] + (reach - 1) * field.stride[axis])
        stride.append(field.stride[axis] * windows.strides[axis])
        offset.append(field.offset[axis] - windows.before[axis] * field.stride[axis])
    return Field((size[0], size[1]), (stride[0], stride[1]), (offset[0], offset[1]))


def collapse(field: Field, shape: Shape, axes: tuple[int, ...]) -> Field:
    """Take all positions along some axes together."""
    size, stride = list(field.size), list(field.stride)
    for index, axis in enumerate(field.axes):
        if axis in axes:
            size[index] += (shape[axis] - 1) * stride[index]
            stride[index] *= shape[axis]
    return dataclasses.replace(field, size=(size[0], size[1]), stride=(stride[0], stride[1]))


def reduced_axes(graph: Graph, node: Node, shape: Shape) -> tuple[int, ...]:
    if node.op.startswith("Global"):
        return tuple(range(2, len(shape)))
    if node.op == "ArgMax":
        return (int(node.attributes.get("axis", 0)) % len(shape),)  # type: ignore[arg-type]
    axes = graph.weights.get(node.inputs[1]) if len(node.inputs) > 1 else None
    return tuple(range(len(shape))) if axes is None else tuple(int(n) % len(shape) for n in np.asarray(axes).reshape(-1))


def move(graph: Graph, node: Node, field: Field, shape: Shape) -> Field | None:
    """Shift by the padding or the first kept row, and widen the stride by the step."""
    constants = [graph.weights.get(name) for name in node.inputs[1:]]
    if any(array is None for array, name in zip(constants, node.inputs[1:], strict=True) if name):
        return None
    offset, stride = list(field.offset), list(field.stride)
    numbers = [None if array is None else [int(n) for n in np.asarray(array).reshape(-1)] for array in constants]
    if node.op == "Pad":
        axes = numbers[2] if len(numbers) > 2 and numbers[2] is not None else list(range(len(shape)))
        starts, steps = [-n for n in (numbers[0] or [])[: len(axes)]], [1] * len(axes)
    else:
        starts = numbers[0] or []
        axes = numbers[2] if len(numbers) > 2 and numbers[2] is not None else list(range(len(starts)))
        steps = numbers[3] if len(numbers) > 3 and numbers[3] is not None else [1] * len(starts)
    for axis, start, step in zip(axes, starts, steps, strict=True):
        if axis % len(shape) in field.axes:
            index, first = field.axes.index(axis % len(shape)), start
            if node.op == "Slice":
                first = range(shape[axis])[slice(start, None, step)].start
            if step < 1:
                return None
            offset[index] += first * stride[index]
            stride[index] *= step
    return dataclasses.replace(field, offset=(offset[0], offset[1]), stride=(stride[0], stride[1]))


def union(parts: list[Field], shapes: list[Shape]) -> Field | None:
    """Return the smallest box around the fields that meet in one value.

    A value without rows and columns of its own (a gate of squeeze-and-excite) adds all it sees; then the stride is that of the other.
    """
    spatial = [f for f, shape in zip(parts, shapes, strict=True) if f.axes and any(shape[axis] > 1 for axis in f.axes)]
    if len({(f.stride, f.axes) for f in spatial}) > 1:
        return None
    leader = spatial[0] if spatial else parts[0]
    start = [min(f.offset[axis] for f in parts) for axis in range(2)]
    stop = [max(f.offset[axis] + f.size[axis] for f in parts) for axis in range(2)]
    return dataclasses.replace(leader, size=(stop[0] - start[0], stop[1] - start[1]), offset=(start[0], start[1]))
