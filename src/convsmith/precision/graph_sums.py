"""Sums of products of a graph in the width that a plan gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from convsmith.errors import UnsupportedError
from convsmith.formats import Format
from convsmith.graph.network import Graph, Node
from convsmith.interop.torch_module import GraphModule, Operation
from convsmith.kernels import rounded, rounded_convolution
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.geometry import convolution_shape
from convsmith.precision.accumulators import IntegerSums, integer_sums, operands
from convsmith.precision.assignment import Assignment
from convsmith.precision.calibration import Ranges
from convsmith.precision.products import arithmetic_of
from convsmith.precision.rule import Rule

WIDEST: Final = 24
"""Whole numbers of so many bits and a sign are exact in float32, which carries them here."""


def replace_sums(module: GraphModule, graph: Graph, assignments: Sequence[Assignment], ranges: Ranges | None) -> None:
    """Let the layers that have an accumulator rule add in its width; ``graph`` has the weights before rounding.

    Sums of scaled integers that the rule's width provably holds stay as they are: they are exact. A narrower one is computed in integers
    and overflows as the rule says.
    """
    ruled = [a for a in assignments if a.role == "accumulator" and a.rule is not None and a.rule.format is not None]
    if not ruled:
        return
    whole = integer_sums(graph, assignments, ranges)
    for assigned in ruled:
        rule = assigned.rule
        assert rule is not None and rule.format is not None
        sums = whole.get(assigned.layer)
        if rule.format.kind == "integer":
            if sums is None:
                raise UnsupportedError(
                    f"layer {assigned.layer!r}: a {rule.format} accumulator adds products of scaled integers, and the plan does not make "
                    "its weights and its input such; give them integer formats, or the accumulator a float or fixed-point one"
                )
            if sums.bits <= rule.format.bits:
                continue
            if rule.format.bits > WIDEST:
                raise UnsupportedError(
                    f"layer {assigned.layer!r}: an accumulator of {rule.format.bits} bits that may overflow is not emulated, as float32 "
                    f"carries whole numbers of {WIDEST}; its sums need {sums.bits} bits"
                )
        module.node_modules[assigned.layer] = _Sums(graph, graph.node(assigned.layer), rule, sums)


class _Sums(Operation):
    """A layer whose products are added in the width of a rule, then the bias."""

    def __init__(self, graph: Graph, node: Node, rule: Rule, whole: IntegerSums | None) -> None:
        super().__init__(node)
        if node.op == "Conv" and len(graph.weights[node.inputs[1]].shape) != 4:
            raise UnsupportedError(f"layer {node.name!r}: accumulators are emulated in convolutions of two dimensions")
        if node.op == "Gemm" and (node.attributes.get("transA", 0) or node.attributes.get("alpha", 1.0) != 1.0):
            raise UnsupportedError(f"layer {node.name!r}: accumulators are not emulated in a Gemm with transA or alpha")
        self.weight_place = node.inputs.index(operands(node, graph)[0])
        self.rule, self.whole = rule, whole if rule.format is not None and rule.format.kind == "integer" else None
        self.arithmetic = arithmetic_of(rule)
        if self.whole is not None and rule.format is not None:
            self.arithmetic = Arithmetic(Format.integer(rule.format.bits), None, rounding="toward_zero", overflow=rule.overflow)

    def forward(self, *inputs: Any) -> Any:
        x, w = inputs[1 - self.weight_place], inputs[self.weight_place]
        if self.whole is not None:
            x = torch.round(x / torch.tensor(self.whole.input_step))
        y = self._products(x.detach().contiguous().numpy(), self._weights(w))
        if self.whole is not None:
            axis = 1 if self.node.op == "Conv" else -1
            shape = [1] * y.ndim
            shape[axis] = -1
            y = y * torch.from_numpy(self.whole.steps * self.whole.input_step).reshape(shape)
        bias = inputs[2] if len(inputs) > 2 else None
        if bias is None:
            return y
        return y + (bias.reshape(1, -1, 1, 1) if self.node.op == "Conv" else bias * self.node.attributes.get("beta", 1.0))

    def _weights(self, w: Tensor) -> np.ndarray[Any, Any]:
        if self.whole is None:
            return w.detach().contiguous().numpy()
        levels = self.whole.levels.astype(np.float32)
        return np.ascontiguousarray(levels if self.node.op == "Conv" or self._transposed else np.moveaxis(levels, 0, -1))

    @property
    def _transposed(self) -> bool:
        return bool(self.node.attributes.get("transB", 0))

    def _products(self, x: np.ndarray[Any, Any], w: np.ndarray[Any, Any]) -> Tensor:
        if self.node.op == "Conv":
            shape = convolution_shape(x.shape, w.shape, self.node.attributes)
            return torch.from_numpy(rounded_convolution.convolve(x, w, shape, self.arithmetic))
        if self.weight_place == 0 and self.node.op == "MatMul":
            return torch.from_numpy(rounded.matmul(w, x, self.arithmetic))
        rows = x.reshape(-1, x.shape[-1])
        return torch.from_numpy(rounded.matmul(rows, w, self.arithmetic, transpose_b=self._transposed)).reshape(*x.shape[:-1], -1)
