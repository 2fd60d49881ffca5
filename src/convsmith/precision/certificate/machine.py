"""A network computed as the plan's machine computes it, every product and sum rounded, in an order of additions of one's choice.

It shares nothing with the proof but the rounded weights and the stores, so that the one can be tested with the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError, near
from convsmith.graph.network import Node
from convsmith.kernels import reference, rounded, rounded_convolution
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.geometry import convolution_shape
from convsmith.kernels.rounded_elementwise import add
from convsmith.kernels.windows import resolve, view
from convsmith.precision.certificate.setting import AVERAGES, Setting

F32 = NDArray[np.float32]
MachineOrder = Literal["sequential", "pairwise", "blocked", "kahan", "shuffled"]
MACHINE_ORDERS: Final[tuple[MachineOrder, ...]] = get_args(MachineOrder)
#: Of the blocks of float32 sums where no rule names one.
BLOCK: Final = 16


def compute(setting: Setting, x: F32, order: MachineOrder = "sequential", *, seed: int = 0) -> F32:
    """Return the scores of a batch; ``shuffled`` adds in a random order drawn from ``seed``, the same for all images.

    Raises: UsageError for an unknown order.
    """
    if order not in MACHINE_ORDERS:
        raise UsageError(f"there is no order {order!r}; there are {', '.join(MACHINE_ORDERS)}.{near(order, MACHINE_ORDERS)}")
    return _Machine(setting, order, seed).run(np.ascontiguousarray(x, np.float32))


class _Machine:
    def __init__(self, setting: Setting, order: MachineOrder, seed: int) -> None:
        self.setting, self.order, self.seed = setting, order, seed
        self.weights = setting.rounded.weights

    def run(self, x: F32) -> F32:
        graph = self.setting.rounded
        name = graph.inputs[0].name
        values: dict[str, Any] = {name: self.stored(name, x)}
        for number, node in enumerate(graph):
            given = [values.get(source, self.weights.get(source)) if source else None for source in node.inputs]
            values[node.outputs[0]] = self.stored(node.outputs[0], self.step(node, given, number))
        found: F32 = values[graph.outputs[0].name]
        return found

    def stored(self, name: str, x: F32) -> F32:
        store = self.setting.stores.get(name)
        return x if store is None else np.asarray(store.plain(x, self.seed * len(self.setting.assignments)), np.float32)

    def step(self, node: Node, given: list[Any], number: int) -> F32:
        arithmetic = self.arithmetic(node)
        if node.op == "Conv":
            y = self.convolve(node, given[0], given[1], arithmetic, number)
            return y if len(given) < 3 or given[2] is None else self.plus(y, given[2].reshape(-1, 1, 1), arithmetic, number)
        if node.op in ("Gemm", "MatMul"):
            w = given[1].T if node.attributes.get("transB", 0) else given[1]
            rows = given[0].reshape(-1, given[0].shape[-1])
            y = self.multiply(rows, w, arithmetic, number).reshape(*given[0].shape[:-1], w.shape[1])
            return y if len(given) < 3 or given[2] is None else self.plus(y, given[2], arithmetic, number)
        if node.op in AVERAGES:
            return self.average(node, given, arithmetic, number)
        if node.op == "Add":
            return given[0] + given[1]  # type: ignore[no-any-return]
        if node.op == "Dropout":
            return given[0]  # type: ignore[no-any-return]
        result = reference.run(node.op, given, node.attributes)[0]
        return np.ascontiguousarray(result, np.float32)

    def arithmetic(self, node: Node) -> Arithmetic | None:
        """Return the arithmetic of a layer's sums in this order; a tree has no multiply-add to fuse, so that products are rounded there."""
        sums = self.setting.sums.get(node.name)
        if sums is None:
            return None
        found = sums.arithmetic
        order = "sequential" if self.order == "shuffled" else self.order
        if order == "pairwise" and found.product is None:
            found = replace(found, product="same")
        return replace(found, order=order, block=BLOCK if order == "blocked" and sums.rule is None else found.block)

    def convolve(self, node: Node, x: F32, w: F32, arithmetic: Arithmetic | None, number: int) -> F32:
        assert arithmetic is not None
        shape = convolution_shape(x.shape, w.shape, node.attributes)
        if self.order != "shuffled":
            return rounded_convolution.convolve(x, np.ascontiguousarray(w), shape, arithmetic, seed=self.seed, stream=number)
        patches = view(x, shape.windows, 0.0).transpose(0, 2, 3, 1, 4, 5)
        n, rows, columns = patches.shape[:3]
        grouped = patches.reshape(n * rows * columns, shape.groups, -1)
        kernels = w.reshape(shape.groups, w.shape[0] // shape.groups, -1)
        parts = [self.multiply(np.ascontiguousarray(grouped[:, g]), kernels[g].T, arithmetic, number) for g in range(shape.groups)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1).reshape(n, rows, columns, -1).transpose(0, 3, 1, 2))

    def multiply(self, a: F32, b: F32, arithmetic: Arithmetic | None, number: int) -> F32:
        assert arithmetic is not None
        if self.order == "shuffled":
            terms = np.random.default_rng((self.seed, number)).permutation(a.shape[1])
            a, b = a[:, terms], b[terms]
        return rounded.matmul(np.ascontiguousarray(a), np.ascontiguousarray(b), arithmetic, seed=self.seed, stream=number)

    def plus(self, y: F32, bias: F32, arithmetic: Arithmetic | None, number: int) -> F32:
        assert arithmetic is not None
        return add(y, np.broadcast_to(bias, y.shape).astype(np.float32), arithmetic, seed=self.seed + 1, stream=number)

    def average(self, node: Node, given: list[Any], arithmetic: Arithmetic | None, number: int) -> F32:
        """Add up in the accumulator, then divide in float32."""
        x: F32 = given[0]
        if node.op == "AveragePool":
            windows = resolve(node.attributes, x.shape[2:], tuple(node.attributes["kernel_shape"]))  # type: ignore[arg-type]
            terms = view(x, windows, 0.0)
            exact = reference.run(node.op, [np.ones((1, 1, *x.shape[2:]), np.float64)], node.attributes)[0]
            counted = np.rint(view(np.ones((1, 1, *x.shape[2:])), windows, 0.0).sum(axis=(4, 5)) / exact)
            flat, shape = terms.reshape(-1, terms.shape[4] * terms.shape[5]), terms.shape[:4]
        else:
            axes = (2, 3) if node.op == "GlobalAveragePool" else tuple(int(axis) % x.ndim for axis in given[1].reshape(-1))
            kept = [axis for axis in range(x.ndim) if axis not in axes]
            flat = x.transpose(*kept, *axes).reshape(int(np.prod([x.shape[axis] for axis in kept])), -1)
            counted = np.asarray(float(flat.shape[1]))
            keep = node.op == "GlobalAveragePool" or node.attributes.get("keepdims", 1)
            shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes)
        total = self.multiply(np.ascontiguousarray(flat), np.ones((flat.shape[1], 1), np.float32), arithmetic, number)
        return np.asarray(total.reshape(shape) / counted.astype(np.float32), np.float32)
