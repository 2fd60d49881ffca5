"""A graph under a plan of signs, in operators that every runtime has: thresholds of whole numbers, and -1 or 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UnsupportedError
from convsmith.graph import prune, reads
from convsmith.graph.network import Graph, Node
from convsmith.kernels.binary_convolution import fold_thresholds
from convsmith.precision.affine_range import along_axis, weight_steps
from convsmith.precision.assignment import Assignment, resolve
from convsmith.precision.plan import Plan

Array = NDArray[Any]

FOLLOWING: Final = ("BatchNormalization", "Clip", "MaxPool", "Identity")
"""What may stand between the sums of signs and the next sign: of single numbers, or a choice among them."""


def binarise(graph: Graph, plan: Plan) -> Graph:
    """Return the graph with what the plan makes binary: weights of -1 and 1, and activations that are signs; 0 is positive.

    Batch norm must not be folded yet: between a layer of signs and the next sign it becomes one threshold a channel, found with its own
    arithmetic in float32 (``fold_thresholds``), so that a runtime which sums whole numbers exactly gives the same signs. A plan without
    binary formats leaves the graph as it is.

    Raises: ``UnsupportedError`` for binary tensors other than weights and activations, or weights drawn at random.
    References: Umuroglu et al. 2017, FINN, arXiv 1612.07119, section 4.2.2.
    """
    binary = [a for a in resolve(plan, graph) if a.rule is not None and a.rule.format is not None and a.rule.format.kind == "binary"]
    binary = [a for a in binary if a.rule is not None and not a.rule.training_only]
    if not binary:
        return graph
    for assigned in binary:
        _check(assigned)
    scales: dict[str, Array] = {a.tensor: _scale(graph.weights[a.tensor], a) for a in binary if a.role == "weight"}
    return Signs(graph, scales, [a.tensor for a in binary if a.role == "activation"]).written()


def _scale(w: Array, assigned: Assignment) -> Array:
    """Return the magnitude of binary weights, spread over them: 1, or what the rule's scale makes it."""
    assert assigned.rule is not None
    steps, axis = weight_steps(w, assigned.rule, assigned.axis)
    return np.ones((), np.float32) if steps is None else along_axis(steps, axis, w.ndim)


def _check(assigned: Assignment) -> None:
    assert assigned.rule is not None
    where = f"layer {assigned.layer!r}, {assigned.role}"
    if assigned.role not in ("weight", "activation"):
        raise UnsupportedError(f"{where} is binary; only weights and activations can be on a graph. precision.emulate runs every plan")
    if assigned.rule.rounding == "stochastic":
        raise UnsupportedError(f"{where} is binary at random; a graph has one sign a weight: round to nearest, or use training_only")


class Signs:
    """A graph whose binary tensors are replaced, in order."""

    def __init__(self, graph: Graph, scales: Mapping[str, Array], activations: Sequence[str]) -> None:
        self.graph, self.activations = graph, set(activations)
        self.weights: dict[str, Array] = dict(graph.weights)
        self.producers = {output: node for node in graph for output in node.outputs}
        self.scales = scales
        for name, scale in scales.items():
            self.weights[name] = np.where(graph.weights[name] < 0, -scale, scale).astype(np.float32)

    def written(self) -> Graph:
        """Return the graph with signs after every binary activation, and its readers reading them."""
        nodes, read_as = list[Node](), dict[str, str]()
        for value in self.graph.inputs:
            if value.name in self.activations:
                nodes += self._sign(value.name, value.name, read_as)
        for node in self.graph:
            nodes.append(dataclasses.replace(node, inputs=tuple(read_as.get(name, name) for name in node.inputs)))
            for name in node.outputs:
                if name in self.activations:
                    nodes += self._signs_of(name, read_as)
        outputs = tuple(dataclasses.replace(v, name=read_as.get(v.name, v.name)) for v in self.graph.outputs)
        return prune(dataclasses.replace(self.graph, nodes=tuple(nodes), weights=self.weights, outputs=outputs))

    def _signs_of(self, name: str, read_as: dict[str, str]) -> list[Node]:
        """Return the nodes that take the sign of a value: from the sums of signs that it is made of, else from its numbers."""
        chain = self._chain(name)
        if chain is None:
            return self._sign(name, name, read_as)
        layer, following = chain
        pools = [node for node in following if node.op == "MaxPool"]
        source = pools[-1].outputs[0] if pools else layer.outputs[0]
        w, scale = self.weights[layer.inputs[1]], self.scales[layer.inputs[1]]
        k = w.shape[0]
        sizes = np.broadcast_to(scale.reshape(-1), (k,))
        functions = [node for node in following if node.op != "MaxPool"]
        bias = self.weights[layer.inputs[2]].reshape(-1) if len(layer.inputs) > 2 and layer.inputs[2] else np.zeros(1, np.float32)

        def before_sign(numbers: Array) -> Array:
            for node in functions:
                numbers = _apply(node, numbers, self.weights)
            return numbers

        found = fold_thresholds(lambda sums: before_sign((sums * sizes + bias).astype(np.float32)), int(np.prod(w.shape[1:])), k)
        spread = (-1, 1, 1) if layer.op == "Conv" else (-1,)
        direction, threshold = (array.astype(np.float32).reshape(spread) for array in (found.direction_k, found.threshold_k))
        if not bias.any() and np.all(sizes == 1):
            return self._sign(name, source, read_as, direction, threshold)
        # what is compared are whole sums: without the bias and the scale, which are in the thresholds now
        signs = f"{layer.inputs[1]}.signs"
        self.weights[signs] = np.sign(w)
        bare = (read_as.get(layer.inputs[0], layer.inputs[0]), signs)
        moved, value = [dataclasses.replace(layer, name=f"{layer.name}.sums", inputs=bare, outputs=(f"{name}.sums",))], f"{name}.sums"
        for index, pool in enumerate(pools):
            moved.append(dataclasses.replace(pool, name=f"{pool.name}.sums", inputs=(value,), outputs=(f"{name}.sums.{index}",)))
            value = f"{name}.sums.{index}"
        return moved + self._sign(name, value, read_as, direction, threshold)

    def _chain(self, name: str) -> tuple[Node, list[Node]] | None:
        """Return the layer of signs and what follows it up to the value, in order; None where there is no such layer."""
        following, value = list[Node](), name
        while (node := self.producers.get(value)) is not None:
            if node.op in ("Conv", "Gemm"):
                signs = self._is_signs(node.inputs[0]) and node.inputs[1] in self.scales and self._plain(node)
                return (node, following) if signs else None
            readable = all(not source or source in self.graph.weights for source in node.inputs[1:])
            if node.op not in FOLLOWING or not readable or len(node.outputs) > 1 or (value != name and not self._alone(value)):
                return None
            following.insert(0, node)
            value = node.inputs[0]
        return None

    def _is_signs(self, value: str) -> bool:
        """Tell whether a value is made of signs and nothing else."""
        if value in self.activations:
            return True
        node = self.producers.get(value)
        return node is not None and node.op in ("MaxPool", "Flatten", "Reshape", "Identity") and self._is_signs(node.inputs[0])

    def _alone(self, value: str) -> bool:
        return len(reads(self.graph, value)) == 1 and value not in {output.name for output in self.graph.outputs}

    @staticmethod
    def _plain(node: Node) -> bool:
        a = node.attributes
        return node.op == "Conv" or bool(a.get("transB", 0) and a.get("alpha", 1) == 1 and a.get("beta", 1) == 1)

    def _sign(
        self, name: str, source: str, read_as: dict[str, str], direction: Array | None = None, threshold: Array | None = None
    ) -> list[Node]:
        """Return -1 where ``direction * source < threshold``, 1 and 0 where they are not given, else 1, as nodes."""
        names = {what: f"{name}.{what}" for what in ("direction", "threshold", "minus", "plus", "turned", "less", "sign")}
        made = list[Node]()
        if direction is not None and np.any(direction != 1):
            self.weights[names["direction"]] = direction
            made.append(Node(names["turned"], "Mul", (source, names["direction"]), (names["turned"],)))
            source = names["turned"]
        limit = np.zeros((), np.float32) if threshold is None else threshold
        self.weights |= {names["threshold"]: limit, names["minus"]: np.asarray(-1, np.float32), names["plus"]: np.asarray(1, np.float32)}
        made.append(Node(names["less"], "Less", (source, names["threshold"]), (names["less"],)))
        made.append(Node(names["sign"], "Where", (names["less"], names["minus"], names["plus"]), (names["sign"],)))
        read_as[name] = names["sign"]
        return made


def _apply(node: Node, numbers: Array, weights: dict[str, Array]) -> Array:
    """Return what a node makes of sums ``(count, channels)``; batch norm as PyTorch computes it in evaluation."""
    if node.op == "BatchNormalization":
        gamma, beta, mean, variance = (weights[name].astype(np.float32) for name in node.inputs[1:5])
        epsilon = np.asarray(node.attributes.get("epsilon", 1e-5), np.float32)
        factor = gamma * (np.float32(1) / np.sqrt(variance + epsilon))
        return np.asarray(numbers * factor + (beta - mean * factor))
    if node.op == "Clip":
        low, high = (weights[name] if name else None for name in (*node.inputs[1:3], "", "")[:2])
        return np.asarray(np.clip(numbers, low, high))
    return numbers
