"""Layers of products and averages as linear functions, and how many terms their sums have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from convsmith.graph.network import Graph, Node
from convsmith.interop.torch_operators import OPERATORS, pad_windows, whole
from convsmith.precision.certificate.setting import PRODUCTS

#: Terms of one part of a sum: parts are summed apart, so that the sum of the parts is off by less.
PART: Final = 64


class Layer:
    """The linear function of one node of products or averages, and its magnitudes."""

    def __init__(self, graph: Graph, node: Node, dtype: torch.dtype) -> None:
        self._node, self._operator = node, OPERATORS[node.op]
        self._attributes: Mapping[str, Any] = node.attributes
        given = [graph.weights[name] if name else None for name in node.inputs[1:]]
        self._weights: list[Any] = [torch.from_numpy(np.array(w)).to(dtype) if w is not None and w.dtype.kind == "f" else w for w in given]
        self._sizes = [item.abs() if isinstance(item, Tensor) else item for item in self._weights]
        self._pure = list(self._sizes)
        if node.op in PRODUCTS and len(self._sizes) > 1:
            self._pure[1] = None

    def __call__(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the layer's output without rounding, and how many terms its longest sum has; 0 where that is all."""
        weight = self._weights[0] if self._weights else None
        if self._node.op == "Conv" and self._attributes.get("group", 1) == 1 and isinstance(weight, Tensor):
            taps = weight[0, 0].numel()
            return self._in_parts(x, 1, max(1, PART // taps), taps)
        if self._node.op == "Gemm":
            return self._in_parts(x, 1 if self._attributes.get("transB", 0) else 0, PART * 2, 1)
        return self._operator((x, *self._weights), self._attributes), 0

    def _in_parts(self, x: Tensor, axis: int, channels: int, taps: int) -> tuple[Tensor, int]:
        w = self._weights[0]
        whole = w.shape[axis]
        if whole <= channels:
            return self._operator((x, *self._weights), self._attributes), 0
        total, parts = None, 0
        for start in range(0, whole, channels):
            part = slice(start, min(start + channels, whole))
            piece = w[:, part] if axis == 1 else w[part]
            rest = self._weights[1:] if start == 0 else [None] * len(self._weights[1:])
            y = self._operator((x[:, part], piece, *rest), self._attributes)
            total, parts = y if total is None else total + y, parts + 1
        assert total is not None
        return total, channels * taps + parts + 1

    def back(self, g: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the weights of an input of the given shape, the batch left out, that the weights ``g`` of the output come to."""
        weight = self._weights[0] if self._weights else None
        if self._node.op == "Gemm" and isinstance(weight, Tensor):
            return g @ (weight if self._attributes.get("transB", 0) else weight.T)
        if self._node.op == "Conv" and isinstance(weight, Tensor):
            x = g.new_empty(len(g), *shape)  # its size alone is used; a stretched scalar would be copied
            padded, padding = pad_windows(x, self._attributes, 0.0)
            if padded is x:
                rank = len(shape) - 1
                strides, dilations = (whole(self._attributes, name, rank) for name in ("strides", "dilations"))
                groups, none = int(self._attributes.get("group", 1)), [0] * rank
                found = torch.ops.aten.convolution_backward(
                    g, x, weight, None, strides, padding, dilations, False, none, groups, [True, False, False]
                )
                return found[0]  # type: ignore[no-any-return]
        return adjoint(lambda x: self._operator((x, *self._weights), self._attributes), g, shape)

    def size(self, x: Tensor) -> Tensor:
        """Return the sums of magnitudes of products and bias, for magnitudes ``x``."""
        return self._operator((x, *self._sizes), self._attributes)  # type: ignore[no-any-return]

    def spread(self, x: Tensor) -> Tensor:
        """Return the same without the bias."""
        return self._operator((x, *self._pure), self._attributes)  # type: ignore[no-any-return]

    def count(self, used: Tensor) -> Tensor:
        """Return how many of each output's terms are ``used``."""
        x = used.to(self._sizes[0].dtype)
        if self._node.op != "Conv":
            return x.sum(-1, keepdim=True)
        w = self._sizes[0]
        groups = int(self._attributes.get("group", 1))
        found: Tensor = self._operator((x, torch.ones_like(w[:groups]), None), self._attributes)
        return found if groups == 1 else found.repeat_interleave(w.shape[0] // groups, 1)


def terms_of(graph: Graph, node: Node, x: Tensor) -> int:
    """Return how many products one output of a node sums up."""
    match node.op:
        case "Conv":
            return int(np.prod(graph.weights[node.inputs[1]].shape[1:]))
        case "Gemm" | "MatMul":
            w = graph.weights[node.inputs[1]]
            return int(w.shape[1] if node.attributes.get("transB", 0) else w.shape[0])
        case "AveragePool":
            return int(np.prod(np.asarray(node.attributes["kernel_shape"])))
        case "GlobalAveragePool":
            return int(np.prod(x.shape[2:]))
        case _:
            axes = graph.weights[node.inputs[1]].reshape(-1).tolist() if len(node.inputs) > 1 and node.inputs[1] else range(x.dim())
            return int(np.prod([x.shape[axis] for axis in axes]))


def terms_back(graph: Graph, node: Node) -> int:
    """Return how many products one input of a node takes part in, at most."""
    if node.op not in PRODUCTS:
        return 4096
    w = graph.weights[node.inputs[1]]
    return int(w.size // w.shape[1]) if node.op == "Conv" else int(max(w.shape))


def adjoint(function: Callable[[Tensor], Tensor], g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return what weights ``g`` of a linear function's output come to for its input; that does not depend on the input."""
    with torch.enable_grad():
        x = g.new_zeros(len(g), *shape).requires_grad_()
        return torch.autograd.grad(function(x), x, g)[0]
