"""A network of codes in training: weights, biases and every step learn, while all that becomes codes is rounded as it will be.

References: Esser et al. 2020, Learned step size quantization, arXiv 1902.08153; Jacob et al. 2018, arXiv 1712.05877, section 3.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from convsmith.graph import Graph, Node, with_weights
from convsmith.interop import pytorch
from convsmith.precision.affine_range import sum_codes
from convsmith.precision.code_layers import code_layers
from convsmith.precision.pseudo_gradients import LearnedStep

LEAST: Final = float(np.finfo(np.float32).tiny)


class CodeTraining(nn.Module):
    """The float32 network that a graph of codes was made from, rounding what that rounds; ``to_codes`` gives the graph as it is now.

    Rounding passes gradients straight through within the range of the codes; steps have those of LSQ. Zero points stay.
    """

    def __init__(self, codes: Graph, graph: Graph) -> None:
        super().__init__()
        self.codes = codes
        self.network = pytorch.write(graph)
        self.layers = {graph.node(layer.node.name).inputs[1]: layer for layer in code_layers(codes)}
        self.steps = nn.ParameterDict()
        self._limits: dict[str, tuple[float, float]] = {}
        self._stored = {node.inputs[0]: node for node in codes if node.op == "QuantizeLinear" and node.inputs[0] not in codes.weights}
        self._input = graph.inputs[0].name
        for name, layer in self.layers.items():
            most = float(max(1, np.abs(codes.weights[layer.codes].astype(np.int64)).max()))
            self._begin(name, layer.steps(codes), (-most, most))
            with torch.no_grad():  # begin at the codes, which may have been rounded other than to nearest
                numbers = codes.weights[layer.codes].astype(np.float32) * layer.steps(codes)
                self.network.weight(name).copy_(torch.from_numpy(numbers))
        for value, node in self._stored.items():
            zero = codes.weights[node.inputs[2]]
            limits = np.iinfo(zero.dtype)
            self._begin(value, codes.weights[node.inputs[1]], (float(limits.min - int(zero)), float(limits.max - int(zero))))
        self.network.on_weight, self.network.on_output = self._weight, self._output

    def forward(self, x: Tensor) -> Any:
        return self.network(self._rounded(self._input, x) if self._input in self._stored else x)

    def to_codes(self) -> Graph:
        """Return the graph of codes with the weights, steps and biases that were learned."""
        changed: dict[str, Any] = {}
        for value, node in self._stored.items():
            changed[node.inputs[1]] = self._step(value).detach().numpy().reshape(self.codes.weights[node.inputs[1]].shape)
        for name, layer in self.layers.items():
            low, high = self._limits[name]
            step = self._step(name).detach()
            whole = (self.network.weight(name).detach() / step).clamp(low, high).round()
            changed[layer.codes] = whole.numpy().astype(self.codes.weights[layer.codes].dtype)
            changed[layer.scale] = step.numpy().reshape(self.codes.weights[layer.scale].shape)
        codes = with_weights(self.codes, changed)
        return with_weights(codes, self._biases(codes))

    def _biases(self, codes: Graph) -> dict[str, Any]:
        """Return the biases in units of the new sums."""
        made = {node.outputs[0]: node for node in codes if node.op == "DequantizeLinear"}
        changed: dict[str, Any] = {}
        for layer in self.layers.values():
            original = self.network.graph.node(layer.node.name)
            if not layer.bias:
                continue
            numbers = self.network.weight(original.inputs[2]).detach().numpy()
            if layer.bias_step is None:
                changed[layer.bias] = numbers
                continue
            x_step = codes.weights[made[layer.node.inputs[0]].inputs[1]]
            units = made[layer.node.inputs[2]].inputs[1]
            changed[layer.bias], changed[units] = sum_codes(numbers, x_step, codes.weights[layer.scale])
        return changed

    def _begin(self, name: str, step: Any, limits: tuple[float, float]) -> None:
        self.steps[_key(name)] = nn.Parameter(torch.from_numpy(np.array(step, np.float32)))
        self._limits[name] = limits

    def _step(self, name: str) -> Tensor:
        step: Tensor = self.steps[_key(name)].abs().clamp(min=LEAST)
        return step

    def _rounded(self, name: str, x: Tensor) -> Tensor:
        result: Tensor = LearnedStep.apply(x, self._step(name), *self._limits[name])  # type: ignore[no-untyped-call]
        return result

    def _weight(self, node: Node, name: str, weight: Tensor) -> Tensor:
        return self._rounded(name, weight) if name in self.layers and name == node.inputs[1] else weight

    def _output(self, node: Node, output: Tensor) -> Tensor:
        return self._rounded(node.outputs[0], output) if node.outputs[0] in self._stored else output


def _key(name: str) -> str:
    """Return a name that a torch module can have."""
    return name.replace(".", "/")
