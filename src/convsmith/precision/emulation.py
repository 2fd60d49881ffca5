"""A network that computes under a plan: weights rounded once, stored activations rounded as they are produced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.graph.network import Graph, Node
from convsmith.interop import pytorch
from convsmith.precision.affine_range import activation_range, weight_steps
from convsmith.precision.assignment import Assignment, resolve
from convsmith.precision.calibration import Ranges, calibrate
from convsmith.precision.emulated_module import EmulatedModule
from convsmith.precision.graph_sums import replace_sums
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.precision.survey import Loss
from convsmith.redesign import fold_batch_norm

Round = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""Rounds an array; the second argument is the stream of random bits."""

Images = NDArray[np.float32] | Tensor

WIDE: Final = formats.Format.integer(25)
"""Every integer that float32 holds: rounding to a multiple of the step before a range that has a zero point is applied."""


class Emulated(nn.Module):
    """A network under a plan, for inference. ``assignments`` says what each tensor became; sums inside a layer are float32 without a
    rule for them.

    Random bits of stochastic rounding are keyed by (seed, tensor, call, index), so a fresh module repeats itself.
    """

    def __init__(self, graph: Graph, plan: Plan, ranges: Ranges | None, seed: int = 0) -> None:
        super().__init__()
        self.plan = plan
        self.assignments = resolve(plan, graph)
        self._seed = seed
        self._calls = 0
        self._rounders: dict[str, tuple[int, Round]] = {}
        for index, assigned in enumerate(self.assignments):
            if assigned.role == "activation" and assigned.rule is not None and assigned.rule.format is not None:
                self._rounders[assigned.tensor] = index, activation_round(assigned, assigned.rule, ranges, seed)
        self._inputs = tuple(value.name for value in graph.inputs)
        self.network = pytorch.write(round_weights(graph, self.assignments, seed)).eval()
        self.network.on_output = self._on_output
        replace_sums(self.network, graph, self.assignments, ranges)

    def forward(self, *inputs: Tensor) -> Any:
        with torch.no_grad():
            rounded = [self._rounded(name, x) for name, x in zip(self._inputs, inputs, strict=True)]
            result = self.network(*rounded)
        self._calls += 1
        return result

    def train(self, mode: bool = True) -> Emulated:
        """Refuse training mode, which this version does not emulate."""
        if mode:
            raise UsageError("a graph is emulated for inference: call eval(); to train under a plan, emulate the torch module")
        return super().train(mode)

    def _on_output(self, node: Node, output: Tensor) -> Tensor:
        return self._rounded(node.outputs[0], output)

    def _rounded(self, name: str, x: Tensor) -> Tensor:
        if name not in self._rounders:
            return x
        index, rounder = self._rounders[name]
        return torch.from_numpy(rounder(x.detach().contiguous().numpy(), self._calls * len(self.assignments) + index))


@overload
def emulate(source: Graph, plan: Plan, images: Ranges | Images | None = None, *, seed: int = 0) -> Emulated: ...


@overload
def emulate(
    source: nn.Module,
    plan: Plan,
    images: Images | tuple[Any, ...],
    *,
    seed: int = 0,
    loss: Loss | None = None,
    count_every: int = 0,
    process: tuple[int, int] = (0, 1),
) -> EmulatedModule: ...


def emulate(
    source: Graph | nn.Module,
    plan: Plan,
    images: Any = None,
    *,
    seed: int = 0,
    loss: Loss | None = None,
    count_every: int = 0,
    process: tuple[int, int] = (0, 1),
) -> Emulated | EmulatedModule:
    """Return a module that computes as the network would with the plan's formats.

    A graph is emulated for inference, batch norm folded first. ``images`` are then calibration images ``(n, c, h, w)`` or the ``Ranges``
    of them, needed only where a rule scales activations.

    A torch module is emulated for training and inference, its source unchanged: see ``EmulatedModule``. ``images`` are then an example
    of its input (a tuple for several inputs), which a dry run takes to list all tensors. ``loss``: what is computed of its output inside
    ``EmulatedModule.loss``, so that rules can speak of it. ``count_every``: updates between counts of overflow and stagnation, 0 for none.
    ``process``: the number of this process and how many train together, as in ``torch.distributed``.

    Raises: ``UsageError`` for a rule that matches nothing or lacks its calibration.
    """
    if isinstance(source, nn.Module):
        if images is None:
            raise UsageError("emulating a torch module needs an example of its input, to list its tensors: give images (n, c, h, w)")
        return EmulatedModule(source, plan, images, seed=seed, loss=loss, count_every=count_every, process=process)
    graph = fold_batch_norm(source)
    ranges = images if images is None or isinstance(images, Ranges) else calibrate(graph, images)
    return Emulated(graph, plan, ranges, seed)


def round_weights(graph: Graph, assignments: tuple[Assignment, ...], seed: int = 0) -> Graph:
    """Return the graph with its weights and biases rounded as the assignments say."""
    weights: dict[str, NDArray[Any]] = dict(graph.weights)
    decided: dict[str, Assignment] = {}
    for index, assigned in enumerate(assignments):
        rule = assigned.rule
        if assigned.role not in ("weight", "bias"):
            continue
        first = decided.setdefault(assigned.tensor, assigned)
        if first.rule != rule:
            raise UsageError(f"layers {first.layer!r} and {assigned.layer!r} share a weight but the plan gives them two formats")
        if first is assigned and rule is not None and rule.format is not None:
            weights[assigned.tensor] = _round_weight(graph.weights[assigned.tensor], rule, assigned.axis, seed, index)
    return Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, weights)


def _round_weight(w: NDArray[Any], rule: Rule, axis: int | None, seed: int, stream: int) -> NDArray[np.float32]:
    assert rule.format is not None
    scale, along = weight_steps(w, rule, axis)
    return formats.round_array(w, rule.format, rule.rounding, rule.overflow, seed=seed, stream=stream, scale=scale, axis=along)


def activation_round(assigned: Assignment, rule: Rule, ranges: Ranges | None, seed: int) -> Round:
    """Return what rounds an activation as it is stored under a rule, whose rounding may be another than the assignment's."""
    fmt = rule.format
    assert fmt is not None
    if rule.scale == "none":
        return lambda x, stream: formats.round_array(x, fmt, rule.rounding, rule.overflow, seed=seed, stream=stream)
    size, least, most = activation_range(assigned, rule, ranges)

    def quantise(x: NDArray[np.float32], stream: int) -> NDArray[np.float32]:
        y = formats.round_array(x, WIDE, rule.rounding, seed=seed, stream=stream, scale=size)
        return np.clip(y, np.float32(least) * size, np.float32(most) * size, out=y)

    return quantise
