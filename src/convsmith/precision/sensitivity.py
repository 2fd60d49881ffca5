"""What each tensor's format would cost in accuracy, all at once, from one backward pass of the margin between two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import DataError
from convsmith.formats import Format
from convsmith.graph.network import Graph, Node
from convsmith.precision.choices import Choices, Group

if TYPE_CHECKING:
    from torch import Tensor

    from convsmith.precision.calibration import Ranges

BATCH: Final = 64

Key = tuple[str, Format]
"""A tensor and a format it may have."""


@dataclass(frozen=True)
class Sensitivity:
    """How much each tensor in each format moves the decision, and what part of its numbers the format cannot hold.

    ``noise``: the mean over images of d^2 / (m^2 + d^2), where m is the margin between the best class and the second and d what the
    rounding of this tensor changes of it: about the probability that the answer changes (Sakr et al. 2017, eq. 3, with the error that
    rounding really makes in place of its variance). The error is carried through the layer that reads the tensor and the functions behind
    it, and to first order from there: a derivative alone does not see what coarse steps do before a tanh that is saturated. Noise of
    several tensors adds up. ``saturated``: the part of the numbers beyond the range of an unscaled format. ``images``: how many there were.
    References: Sakr, Kim, Shanbhag 2017, Analytical guarantees on numerical precision of deep neural networks, ICML.
    """

    noise: Mapping[Key, float]
    saturated: Mapping[Key, float]
    images: int
    margins: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def of(self, chosen: Mapping[str, Format | None]) -> float:
        """Return the noise of an assignment, by tensor."""
        return sum(self.noise[tensor, fmt] for tensor, fmt in chosen.items() if fmt is not None)


def measure(graph: Graph, options: Choices, x_nchw: Any, ranges: Ranges | None) -> Sensitivity:
    """Score every tensor in every format with one forward and one backward pass over the images.

    ``graph``: batch norm folded, as the choices and the ranges saw it.

    Raises: ``DataError`` without images or for a network of fewer than two classes.
    """
    import torch

    x = torch.as_tensor(x_nchw)
    if x.ndim != 4 or not len(x):
        raise DataError(f"a sensitivity needs images (n, channels, height, width), at least one; got shape {tuple(x.shape)}")
    probe = _Probe(graph, options, ranges)
    shifts: dict[Key, list[Tensor]] = {}
    margins = []
    for start in range(0, len(x), BATCH):
        margins.append(probe.look(x[start : start + BATCH], shifts))
    margin = torch.cat(margins).double()
    noise = {}
    for key, parts in shifts.items():
        d2 = torch.cat(parts).double().square()
        noise[key] = float((d2 / (margin.square() + d2).clamp_min(1e-300)).mean())
    return Sensitivity(noise, {key: count / total for key, (count, total) in probe.beyond.items()}, len(x), margin.numpy())


class _Probe:
    """The network with what rounding does to each tensor beside it."""

    def __init__(self, graph: Graph, options: Choices, ranges: Ranges | None) -> None:
        from convsmith.interop import pytorch
        from convsmith.precision.assignment import resolve
        from convsmith.precision.emulation import activation_round, round_weights

        self.graph, self.options = graph, options
        self.module = pytorch.write(graph).eval()
        self.beyond: dict[Key, tuple[int, int]] = {}
        self.weights: dict[Format, Graph] = {}
        self.rounders: dict[Key, Any] = {}
        for fmt in options.formats:
            assignments = resolve(options.plan({group.tensor: fmt for group in options.groups}), graph)
            self.weights[fmt] = round_weights(graph, assignments)
            for assigned in assignments:
                if assigned.role == "activation" and assigned.rule is not None:
                    self.rounders[assigned.tensor, fmt] = activation_round(assigned, assigned.rule, ranges, 0)
        self.groups = {group.tensor: group for group in options.groups}
        self.behind: dict[str, list[Node]] = {}
        for node in graph:
            for name in dict.fromkeys(node.inputs):
                self.behind.setdefault(name, []).append(node)
        self.readers: dict[str, list[str]] = {}
        for group in options.groups:
            if group.role == "weight":
                for layer in group.layers:
                    self.readers.setdefault(layer, []).append(group.tensor)
                self._count_weights(group)

    def look(self, x: Tensor, shifts: dict[Key, list[Tensor]]) -> Tensor:
        """Add what each tensor in each format changes of the margin of each image, and return the margins."""
        import torch

        values: dict[str, Tensor] = {}
        inputs: dict[str, tuple[Any, ...]] = {}

        def keep(node: Any, output: Tensor) -> Tensor:
            if output.is_floating_point():
                output = output if output.requires_grad else output.detach().requires_grad_()
                values[node.outputs[0]] = output
            return output

        hooks = [
            module.register_forward_pre_hook(lambda _, given, name=name: inputs.__setitem__(name, given))
            for name, module in self.module.node_modules.items()
        ]
        self.module.on_output = keep
        first = x.detach().clone().requires_grad_()
        values[self.graph.inputs[0].name] = first
        try:
            logits = self.module(first).flatten(1)
        finally:
            for hook in hooks:
                hook.remove()
        if logits.shape[1] < 2:
            raise DataError(f"the network gives {logits.shape[1]} score an image; a sensitivity needs at least two classes")
        best = logits.topk(2, 1).values
        margin: Tensor = best[:, 0] - best[:, 1]
        names = list(values)
        gradients = dict(zip(names, torch.autograd.grad(margin.sum(), [values[name] for name in names], allow_unused=True), strict=True))
        with torch.no_grad():
            onward = _Onward(self.graph, self.behind, set(self.readers), inputs, values, gradients)
            self._activations(values, onward, shifts)
            self._weights(inputs, onward, shifts)
        return margin.detach()

    def _activations(self, values: dict[str, Tensor], onward: _Onward, shifts: dict[Key, list[Tensor]]) -> None:
        import torch

        for group in self.options.groups:
            if group.role != "activation":
                continue
            array = values[group.tensor].detach().contiguous().numpy()
            for fmt in self.options.formats:
                rounded = torch.from_numpy(self.rounders[group.tensor, fmt](array, 0))
                shifts.setdefault((group.tensor, fmt), []).append(onward.shift(group.tensor, rounded, layers=1))
                self._count(group, fmt, array)

    def _weights(self, inputs: dict[str, tuple[Any, ...]], onward: _Onward, shifts: dict[Key, list[Tensor]]) -> None:
        from convsmith.interop.torch_operators import OPERATORS

        changed: dict[Key, Any] = {}
        for layer, tensors in self.readers.items():
            node = self.graph.node(layer)
            for tensor in tensors:
                for fmt in self.options.formats:
                    output = OPERATORS[node.op](self._given(node, inputs[layer], tensor, fmt), node.attributes)
                    changed[tensor, fmt] = changed.get((tensor, fmt), 0) + onward.shift(node.outputs[0], output, layers=0)
        for key, shift in changed.items():
            shifts.setdefault(key, []).append(shift)

    def _given(self, node: Any, inputs: tuple[Any, ...], tensor: str, fmt: Format) -> list[Any]:
        """Return a layer's inputs with one weight rounded, and its biases with it where the format rounds them."""
        import torch

        rounded = self.weights[fmt].weights
        given = list(inputs)
        for place, name in enumerate(node.inputs):
            alone = name == tensor or (name in rounded and name not in self.groups and fmt.kind != "integer")
            if name in rounded and alone and rounded[name].dtype.kind == "f":
                given[place] = torch.from_numpy(np.array(rounded[name]))
        return given

    def _count_weights(self, group: Group) -> None:
        for fmt in self.options.formats:
            self._count(group, fmt, self.graph.weights[group.tensor])

    def _count(self, group: Group, fmt: Format, array: NDArray[Any]) -> None:
        """Count the numbers beyond the range of an unscaled format; scaled integers have the range of their tensor."""
        beyond = 0
        if fmt.kind != "integer":
            beyond = int(((array > formats.max_value(fmt)) | (array < formats.min_value(fmt))).sum())
        count, total = self.beyond.get((group.tensor, fmt), (0, 0))
        self.beyond[group.tensor, fmt] = count + beyond, total + array.size


@dataclass(frozen=True)
class _Onward:
    """What a changed value does to the margin: really as far as one chain of nodes reads it, to first order behind that."""

    graph: Graph
    behind: Mapping[str, Sequence[Node]]
    layers: Set[str]
    inputs: Mapping[str, tuple[Any, ...]]
    values: Mapping[str, Tensor]
    gradients: Mapping[str, Any]

    def shift(self, name: str, changed: Tensor, *, layers: int) -> Tensor:
        """Return the change of each image's margin; the value is carried through at most so many layers with weights."""
        from convsmith.interop.torch_operators import OPERATORS

        while (node := self._next(name)) is not None:
            layers -= node.name in self.layers
            if layers < 0:
                break
            given = [changed if source == name else value for source, value in zip(node.inputs, self.inputs[node.name], strict=True)]
            name, changed = node.outputs[0], OPERATORS[node.op](given, node.attributes)
        gradient, error = self.gradients[name], changed - self.values[name].detach()
        return _dot(gradient, error) if gradient is not None else error.flatten(1).sum(1) * 0

    def _next(self, name: str) -> Node | None:
        """Return the one node that reads a value and nothing else that was computed; None for a place where branches part or meet."""
        nodes = self.behind.get(name, ())
        if len(nodes) != 1 or name == self.graph.outputs[0].name:
            return None
        alone = all(source == name or source in self.graph.weights or not source for source in nodes[0].inputs)
        return nodes[0] if alone and nodes[0].outputs[0] in self.values else None


def _dot(gradient: Tensor, error: Tensor) -> Tensor:
    """Return the product of gradient and error of each image."""
    return (gradient * error).flatten(1).sum(1)
