"""Sums, means and maxima over axes, softmax, and normalisation of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from convsmith.compiler.emit.convolutions import optional, rows_of
from convsmith.compiler.planner import Planner
from convsmith.compiler.steps import FOLDS, Step
from convsmith.compiler.views import Order, View, is_dense, lies_as, memory_order, merged
from convsmith.errors import UnsupportedError
from convsmith.graph import Node

Emit = Callable[[Planner, Node], None]
Parts = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def parted(view: View, axes: Sequence[int]) -> Parts | None:
    """Return size and stride of the axes outside, of ``axes``, and inside of them in memory; None when they do not part so."""
    order = [axis for axis in memory_order(view) if view.shape[axis] > 1]
    places = [order.index(axis) for axis in axes if view.shape[axis] > 1]
    first, last = (min(places), max(places)) if places else (len(order), len(order) - 1)
    if last - first + 1 != len(places):
        return None
    outer, middle, inner = (merged(view, part) for part in (order[:first], order[first : last + 1], order[last + 1 :]))
    if outer is None or middle is None or inner is None or (inner[0] > 1 and inner[1] != 1):
        return None
    return outer, middle, inner


def reduction(fold: str, mean: bool = False, spatial: bool = False) -> Emit:
    """Return what emits a reduction; ``spatial``: over all axes but the first two."""

    def emit(planner: Planner, node: Node) -> None:
        x = planner.value(node.inputs[0])
        rank = len(x.shape)
        axes = tuple(range(2, rank)) if spatial else axes_of(planner, node, rank)
        if not axes:
            planner.bind(node.outputs[0], x)
            return
        parts = parted(x, axes)
        if parts is None:
            rest = tuple(axis for axis in range(rank) if axis not in axes)
            x = planner.copy(node, x, planner.scratch(x.shape, (*rest, *axes)))
            parts = parted(x, axes)
        if parts is None:
            raise UnsupportedError("its axes do not part")
        emit_reduction(planner, node, fold, mean, x, axes, parts)

    return emit


def emit_reduction(planner: Planner, node: Node, fold: str, mean: bool, x: View, axes: Sequence[int], parts: Parts) -> None:
    (outer, x_outer), (middle, x_middle), (inner, _) = parts
    kept: Order = tuple(axis for axis in memory_order(x) if axis not in axes)
    keepdims = bool(node.attributes.get("keepdims", 1))
    order: Order = (*kept, *axes) if keepdims else tuple(sorted(kept).index(axis) for axis in kept)
    y = planner.target(node.outputs[0], order)
    whole = y if is_dense(y, order) else planner.scratch(y.shape, order)
    sizes = (outer, middle, inner, x_outer, x_middle, inner, FOLDS.index(fold))
    factor = 1.0 / middle if mean else 1.0
    threads, detail = planner.threads_for(x.size), "mean" if mean else fold
    planner.emit(Step("reduction", node.name, whole, (x,), sizes, (factor,), "", threads, work=x.size, detail=detail))
    if whole is not y:
        planner.copy(node, whole, y)


def axes_of(planner: Planner, node: Node, rank: int) -> tuple[int, ...]:
    """Return the axes to reduce over; none when there is nothing to do."""
    name = optional(node, 1)
    if not name:
        return () if node.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    axes = planner.constant_array(name)
    if axes is None:
        raise UnsupportedError("its axes are computed")
    return tuple(sorted({int(axis) % rank for axis in np.asarray(axes).reshape(-1)}))


def softmax(planner: Planner, node: Node) -> None:
    """Emit softmax, or its logarithm, along one axis."""
    x = planner.dense(node, planner.value(node.inputs[0]))
    axis = int(node.attributes.get("axis", -1)) % len(x.shape)  # type: ignore[arg-type]
    parts = parted(x, (axis,))
    if parts is None:
        raise UnsupportedError("its axes do not part")
    (outer, x_outer), (size, x_step), (inner, _) = parts
    y = planner.target(node.outputs[0], memory_order(x))
    whole = y if lies_as(y, x.strides) else replace(planner.scratch(x.shape), strides=x.strides)
    sizes = (outer, size, inner, x_outer, x_step, x_outer, x_step, int(node.op == "LogSoftmax"))
    planner.emit(Step("softmax", node.name, whole, (x,), sizes, (), "", planner.threads_for(4 * x.size), work=x.size, detail=node.op))
    if whole is not y:
        planner.copy(node, whole, y)


def layer_norm(planner: Planner, node: Node) -> None:
    """Emit the normalisation of rows, each all that lies from an axis on."""
    x = planner.value(node.inputs[0])
    rank = len(x.shape)
    axis = int(node.attributes.get("axis", -1)) % rank  # type: ignore[arg-type]
    if len(node.outputs) > 1:
        raise UnsupportedError("it also returns its statistics")
    size = int(np.prod(x.shape[axis:]))
    flat = merged(x, range(axis, rank))
    if axis < rank - 1 or flat is None:
        x = planner.dense(node, x, tuple(range(rank)))
    x = replace(x, shape=(*x.shape[:axis], size), strides=(*x.strides[:axis], 1 if axis < rank - 1 else x.strides[axis]))
    x, rows = rows_of(planner, node, x)
    y = planner.target(node.outputs[0], tuple(range(rank)))
    whole = y if is_dense(y, tuple(range(rank))) else planner.scratch(y.shape, tuple(range(rank)))
    operands = [planner.value(node.inputs[1]), planner.value(node.inputs[2]) if optional(node, 2) else None]
    sizes = (rows[0], size, rows[1], size)
    epsilon = float(node.attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]
    threads = planner.threads_for(x.size)
    planner.emit(Step("row_norm", node.name, whole, (x, *operands), sizes, (epsilon,), "", threads, work=x.size, detail="normalise rows"))
    if whole is not y:
        planner.copy(node, whole, y)


REDUCTIONS: dict[str, Emit] = {
    "ReduceMean": reduction("sum", mean=True),
    "ReduceSum": reduction("sum"),
    "ReduceMax": reduction("max"),
    "ReduceMin": reduction("min"),
    "GlobalAveragePool": reduction("sum", mean=True, spatial=True),
    "GlobalMaxPool": reduction("max", spatial=True),
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_norm,
}
