"""What edits of a network would lose, all of them from one backward pass; and the gradients that say what channels are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith.errors import DataError
from convsmith.graph import Graph, Node
from convsmith.interop import pytorch
from convsmith.interop.torch_operators import OPERATORS
from convsmith.redesign import Edit

BATCH: Final = 64


class EditLosses:
    """The loss of an edit to first order: call it with an edit and the network with that edit alone, as ``redesign.weigh`` does.

    One forward and one backward pass of the margin between the best class and the second remember every value and what it weighs. An edit
    is then computed on the remembered inputs of the layers it changes, up to the first values of the old shape; what it adds to them
    times what they weigh is its effect d on the margin m, and its loss the mean of d^2 / (m^2 + d^2), about the probability of another
    answer. Losses of several edits add up, as long as they are small.

    References: Sakr, Kim, Shanbhag 2017, ICML, equation 3; Molchanov et al. 2017, arXiv:1611.06440 (Taylor expansion).
    """

    def __init__(self, graph: Graph, x_nchw: NDArray[np.float32]) -> None:
        if x_nchw.ndim != 4 or not len(x_nchw):
            raise DataError(f"losses need images (n, channels, height, width), at least one; got shape {x_nchw.shape}")
        self.graph = graph
        self.nodes = {node.name: node for node in graph}
        self.parts = [self._look(torch.from_numpy(x_nchw[start : start + BATCH])) for start in range(0, len(x_nchw), BATCH)]

    def _look(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return the values of a batch, the gradient of the margin by each, and the margins."""
        module = pytorch.write(self.graph).eval()
        values: dict[str, Tensor] = {}

        def keep(node: Node, output: Tensor) -> Tensor:
            if output.dtype.is_floating_point:
                output = output if output.requires_grad else output.detach().requires_grad_()
                values[node.outputs[0]] = output
            return output

        module.on_output = keep
        first = x.detach().clone().requires_grad_()
        logits = module(first).flatten(1)
        if logits.shape[1] < 2:
            raise DataError(f"the network gives {logits.shape[1]} score an image; a loss needs at least two classes")
        values[self.graph.inputs[0].name] = first
        best = logits.topk(2, 1).values
        margin = best[:, 0] - best[:, 1]
        found = torch.autograd.grad(margin.sum(), list(values.values()), allow_unused=True)
        gradients = {name: gradient for name, gradient in zip(values, found, strict=True) if gradient is not None}
        return {name: value.detach() for name, value in values.items()}, gradients, margin.detach().double()

    def __call__(self, edit: Edit, edited: Graph) -> float:
        total, count = 0.0, 0
        with torch.no_grad():
            for values, gradients, margin in self.parts:
                shift = self._shift(edited, values, gradients, len(margin)).double().square()
                total += float((shift / (margin.square() + shift).clamp_min(1e-300)).sum())
                count += len(margin)
        return total / count

    def _shift(self, edited: Graph, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], count: int) -> Tensor:
        """Return what the edit changes of the margin of each image, to first order."""
        moved: dict[str, Any] = {}
        shift = torch.zeros(count)
        for node in edited:
            if self._same(edited, node) and not any(name in moved for name in node.inputs):
                continue
            outputs = OPERATORS[node.op]([self._given(edited, name, moved, values) for name in node.inputs], node.attributes)
            items = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            for name, item in zip(node.outputs, items, strict=False):
                old = values.get(name)
                if old is not None and old.shape == item.shape:
                    if name in gradients:
                        shift += (gradients[name] * (item - old)).flatten(1).sum(1)
                else:
                    moved[name] = item
        return shift

    def _given(self, edited: Graph, name: str, moved: Mapping[str, Any], values: Mapping[str, Tensor]) -> Any:
        if not name or name in moved or name in values:
            return moved.get(name, values.get(name)) if name else None
        array = edited.weights[name]
        return torch.from_numpy(array.copy()) if array.dtype.kind == "f" else array

    def _same(self, edited: Graph, node: Node) -> bool:
        """Tell whether a node is as it was, reading the same weights."""
        if self.nodes.get(node.name) != node:
            return False
        return all(np.may_share_memory(edited.weights[name], self.graph.weights[name]) for name in node.inputs if name in edited.weights)


def weight_gradients(graph: Graph, x_nchw: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Return the gradient of the mean cross-entropy by each weight of the graph that is learned."""
    module = pytorch.write(graph).eval()
    names = [name for name in graph.weights if isinstance(module.weight(name), torch.nn.Parameter)]
    for start in range(0, len(x_nchw), BATCH):
        x, y = torch.from_numpy(x_nchw[start : start + BATCH]), torch.from_numpy(labels[start : start + BATCH])
        loss = torch.nn.functional.cross_entropy(module(x).flatten(1), y, reduction="sum") / len(x_nchw)
        torch.autograd.backward(loss)
    gradients = {name: module.weight(name).grad for name in names}
    return {name: gradient.numpy() for name, gradient in gradients.items() if gradient is not None}
