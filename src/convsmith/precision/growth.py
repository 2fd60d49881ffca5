"""How rounding errors grow along a network: each layer's output under a plan against the same network in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convsmith.errors import DataError
from convsmith.formats import Format
from convsmith.graph.network import Graph, Node
from convsmith.precision.calibration import Ranges
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.redesign import fold_batch_norm


@dataclass(frozen=True)
class LayerError:
    """The accumulated error of one layer's output: root mean square of the difference to float64, as a part of that of float64."""

    layer: str
    depth: int
    error: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def error_growth(graph: Graph, plan: Plan | None, x_nchw: Any, ranges: Ranges | None = None) -> list[LayerError]:
    """Return the error of each layer that multiplies, in the order of computation, accumulated over all layers before it.

    Both networks have batch norm folded, so that only rounding differs. ``plan`` None is plain float32.

    Raises: ``DataError`` without images.
    """
    import torch

    from convsmith.interop import pytorch
    from convsmith.precision.assignment import SUMS
    from convsmith.precision.emulation import Emulated

    x = torch.as_tensor(x_nchw)
    if not len(x):
        raise DataError("an error needs images, at least one")
    folded = fold_batch_norm(graph)
    exact: dict[str, Any] = {}
    reference = pytorch.write(folded).eval().double()
    reference.on_output = lambda node, output: exact.setdefault(node.name, output)
    with torch.no_grad():
        reference(x.double())
    rounded: dict[str, Any] = {}
    module = Emulated(folded, plan or Plan(), ranges)
    inner: Callable[[Node, Any], Any] | None = module.network.on_output

    def keep(node: Node, output: Any) -> Any:
        rounded[node.name] = output if inner is None else inner(node, output)
        return rounded[node.name]

    module.network.on_output = keep
    module(x)
    found: list[LayerError] = []
    for node in folded:
        if node.op in SUMS and node.name in exact:
            right = exact[node.name]
            scale = float(right.square().mean().sqrt())
            error = float((rounded[node.name].double() - right).square().mean().sqrt())
            found.append(LayerError(node.name, len(found) + 1, error / scale if scale else 0.0))
    return found


def stored_and_summed(fmt: Format) -> Plan:
    """Return the plan that stores weights and activations, and adds sums, in one float format."""
    rules = [Rule("*", "weight", fmt), Rule("*", "activation", fmt), Rule("*", "accumulator", fmt, "operation")]
    return Plan(tuple(rules), str(fmt))


def depth_and_width(
    depths: Sequence[int], widths: Sequence[int], bits: Sequence[int], *, inputs: int = 64, images: int = 32, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the error at the output of multilayer perceptrons by depth, width and significand bits; weights as they are drawn.

    ReLU between layers, weights of variance 2 / inputs, so that activations neither grow nor vanish with depth (He et al. 2015). Every
    stored value and every addition is rounded.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, inputs, 1, 1)).astype(np.float32)
    rows = []
    for width in widths:
        for depth in depths:
            graph = _perceptron(rng, inputs, width, depth)
            for significand in bits:
                found = error_growth(graph, stored_and_summed(Format.float(8, significand)), x)
                rows.append({"depth": depth, "width": width, "bits": significand, "error": found[-1].error})
    return rows


def _perceptron(rng: Any, inputs: int, width: int, depth: int) -> Graph:
    from convsmith.graph.network import Value

    nodes = [Node("flatten", "Flatten", ("x",), ("flat",), {"axis": 1})]
    weights: dict[str, Any] = {}
    source, size = "flat", inputs
    for layer in range(1, depth + 1):
        name = f"fc{layer}"
        weights[f"{name}.weight"] = (rng.standard_normal((width, size)) * (2 / size) ** 0.5).astype("float32")
        nodes.append(Node(name, "Gemm", (source, f"{name}.weight"), (name,), {"transB": 1}))
        source, size = name, width
        if layer < depth:
            nodes.append(Node(f"relu{layer}", "Relu", (name,), (f"relu{layer}",)))
            source = f"relu{layer}"
    return Graph("perceptron", (Value("x", (-1, inputs, 1, 1)),), (Value(source, (-1, width)),), tuple(nodes), weights)
