"""What a plan makes of a network for a proof: the rounded weights, where values are stored, how sums are formed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph.network import Graph, Node
from convsmith.graph.shapes import infer_shapes
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.precision.affine_range import activation_range
from convsmith.precision.assignment import EMULATED, Assignment, resolve, tensors
from convsmith.precision.calibration import Ranges, calibrate
from convsmith.precision.certificate.roundoff import FLOAT32, Roundoff, roundoff
from convsmith.precision.matching import decide, require_exempt, require_matches
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.redesign import fold_batch_norm

PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})
AVERAGES: Final = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
MOVES: Final = frozenset({"Flatten", "Reshape", "Identity", "Dropout", "Concat", "Pad", "Squeeze", "Unsqueeze", "Transpose"})
POINTWISE: Final = frozenset({"Relu", "LeakyRelu", "Clip"})
MAXIMA: Final = frozenset({"MaxPool", "GlobalMaxPool"})
SUPPORTED: Final = PRODUCTS | AVERAGES | MOVES | POINTWISE | MAXIMA | {"Add"}

Floats = NDArray[Any]


@dataclass(frozen=True)
class Store:
    """How a value is stored: ``nearest(x)`` as the plan does it; ``down`` and ``up`` bound what it can become.

    ``roundoff`` bounds its error between ``low`` and ``high``; with ``binades`` it is relative to the power of two below the value.
    """

    assigned: Assignment
    plain: Callable[[Floats, int], Floats]
    down: Callable[[Floats], Floats]
    up: Callable[[Floats], Floats]
    roundoff: Roundoff
    low: float
    high: float
    wraps: bool
    binades: bool


@dataclass(frozen=True)
class Sums:
    """How a layer adds up its products. ``rule`` None: in float32, products rounded or fused."""

    rule: Rule | None
    product: Roundoff
    addition: Roundoff
    exact: bool

    @property
    def limit(self) -> float:
        return min(self.product.limit, self.addition.limit)

    @property
    def arithmetic(self) -> Arithmetic:
        """The arithmetic of the rule, sequential float32 without one."""
        from convsmith.precision.products import arithmetic_of

        return Arithmetic(formats.CATALOGUE["fp32"], overflow="infinity") if self.rule is None else arithmetic_of(self.rule)


@dataclass(frozen=True)
class Setting:
    """A network, batch norm folded, as it is (``exact``) and as the plan has it."""

    exact: Graph
    rounded: Graph
    stores: Mapping[str, Store]
    sums: Mapping[str, Sums]
    assignments: tuple[Assignment, ...]
    plan: Plan


def describe(graph: Graph, plan: Plan, images: Any = None, *, seed: int = 0) -> Setting:
    """Return what the plan makes of the network.

    ``images``: calibration images or their `Ranges`, needed only where a rule scales activations.
    Raises: UnsupportedError naming every node that no bound is known for; UsageError for a plan of another network.
    """
    from convsmith.precision.emulation import round_weights

    folded = fold_batch_norm(graph)
    require_supported(folded)
    assignments = decided(plan, folded)
    ranges = images if images is None or isinstance(images, Ranges) else calibrate(folded, images)
    stores = {
        assigned.tensor: store_of(assigned, ranges, seed, index)
        for index, assigned in enumerate(assignments)
        if assigned.role == "activation" and assigned.rule is not None and not assigned.rule.is_float32
    }
    by_layer = {assigned.layer: assigned.rule for assigned in assignments if assigned.role == "accumulator"}
    sums = {node.name: sums_of(by_layer[node.name]) for node in folded if node.op in PRODUCTS | AVERAGES}
    kept = tuple(assigned for assigned in assignments if assigned.role != "accumulator")
    return Setting(folded, round_weights(folded, kept, seed), stores, sums, assignments, plan)


def decided(plan: Plan, folded: Graph) -> tuple[Assignment, ...]:
    """Return every tensor of the network, accumulators included, with the rule that decides it."""
    added = tuple(Assignment(node.name, node.op, "accumulator", "sums", None) for node in folded if node.op in PRODUCTS | AVERAGES)
    found = (*tensors(folded), *added)
    for number, rule in enumerate(plan.rules, 1):
        if rule.role not in (*EMULATED, "accumulator"):
            raise UnsupportedError(
                f"rule {number} ({rule.layer!r}, {rule.role}): role {rule.role!r} belongs to training; a certificate is for inference: "
                f"{', '.join(EMULATED)}, accumulator"
            )
    require_matches(plan.rules, found)
    require_exempt(plan.exempt, found)
    stored = replace(plan, rules=tuple(rule for rule in plan.rules if rule.role != "accumulator"), exempt=())
    for assigned in resolve(stored, folded):
        _check_format(assigned)
    return tuple(decide(plan.rules, plan.exempt, assigned) for assigned in found)


def _check_format(assigned: Assignment) -> None:
    rule = assigned.rule
    if assigned.role == "activation" and rule is not None and rule.format is not None and rule.format.kind in ("binary", "block"):
        raise UnsupportedError(
            f"layer {assigned.layer!r}: no certificate for activations in {rule.format}; floats, fixed point and integers have one"
        )


def require_supported(graph: Graph) -> None:
    """Raise ``UnsupportedError`` naming every node that has no bound, before anything runs."""
    unknown = [f"{node.op} (node {node.name!r})" for node in graph if not _supported(graph, node)]
    if unknown:
        raise UnsupportedError(f"no certificate for {', '.join(unknown)}; there is one for {', '.join(sorted(SUPPORTED))}")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        given = f"{len(graph.inputs)} and {len(graph.outputs)}"
        raise UnsupportedError(f"a certificate is for one input and one output; {graph.name!r} has {given}")
    shape = infer_shapes(graph)[graph.outputs[0].name]
    if len(shape) != 2 or shape[1] < 2:
        raise UnsupportedError(f"a certificate is for scores (n, classes) of at least two classes; the output has shape {shape}")


def _supported(graph: Graph, node: Node) -> bool:
    constant = [name in graph.weights for name in node.inputs[1:] if name]
    match node.op:
        case "Gemm":
            plain = all(node.attributes.get(key, 1) == 1 for key in ("alpha", "beta")) and not node.attributes.get("transA", 0)
            return plain and all(constant)
        case "Conv" | "MatMul" | "Clip" | "Reshape" | "Squeeze" | "Unsqueeze" | "ReduceMean":
            return all(constant) and node.inputs[0] not in graph.weights
        case "Pad":
            zero = len(node.inputs) < 3 or not node.inputs[2] or not graph.weights[node.inputs[2]].any() if all(constant) else False
            return zero and node.attributes.get("mode", "constant") == "constant"
        case "LeakyRelu":
            return 0 <= float(node.attributes.get("alpha", 0.01)) <= 1  # type: ignore[arg-type]
        case _:
            return node.op in SUPPORTED


def store_of(assigned: Assignment, ranges: Ranges | None, seed: int, stream: int) -> Store:
    """Return how an activation is stored."""
    from convsmith.precision.emulation import activation_round

    rule = assigned.rule
    assert rule is not None and rule.format is not None
    ways: tuple[formats.Rounding, ...] = ("down", "up") if rule.rounding == "stochastic" else (rule.rounding, rule.rounding)
    outward = [activation_round(assigned, replace(rule, rounding=way), ranges, seed) for way in ways]
    plain = activation_round(assigned, rule, ranges, seed)
    fmt = rule.format
    low, high, bound = formats.min_value(fmt), formats.max_value(fmt), roundoff(fmt, rule.rounding, rule.random_bits)
    if rule.scale != "none":
        step, least, most = activation_range(assigned, rule, ranges)
        low, high = float(np.float32(least) * step), float(np.float32(most) * step)
        part = 0.5 if rule.rounding in ("nearest_even", "nearest_away") else 1.0
        # quotient and product are rounded to float32: a unit of each, of at most 2^25 steps
        bound = Roundoff(2.0**-22, part * float(step) * (1 + 2.0**-20), math.inf, bound.drift)
    return Store(
        assigned,
        lambda x, call: plain(_carried(x), stream + call),
        lambda x: outward[0](_toward(x, -np.inf) if rule.scale != "none" else x, 0),
        lambda x: outward[1](_toward(x, np.inf) if rule.scale != "none" else x, 0),
        bound,
        low,
        high,
        rule.overflow == "wrap",
        fmt.kind == "float" and rule.scale == "none",
    )


def _carried(x: Floats) -> Floats:
    return np.ascontiguousarray(x, np.float32)


def _toward(x: Floats, direction: float) -> Floats:
    """Return float32 numbers not inside of the given ones: what a step size divides is float32."""
    narrow = x.astype(np.float32)
    wrong = narrow > x if direction < 0 else narrow < x
    return np.where(wrong, np.nextafter(narrow, np.float32(direction)), narrow).astype(np.float32)


def sums_of(rule: Rule | None) -> Sums:
    """Return how a layer adds under its accumulator rule; blocks of float32 sums are always allowed for."""
    if rule is None or rule.format is None:
        return Sums(None, FLOAT32, FLOAT32, False)
    from convsmith.precision.products import arithmetic_of

    arithmetic = arithmetic_of(rule)
    addition = roundoff(rule.format, rule.rounding, rule.random_bits)
    fmt = arithmetic.product_format
    # a fused product is exact, but a tree of additions has none to fuse: rounded to the sums' format there
    product = roundoff(fmt or rule.format, rule.rounding, rule.random_bits)
    if addition.limit == 0:
        raise UsageError(f"rule ({rule.layer!r}, accumulator): sums go below zero, and {rule.format} does not; take a signed format")
    whole = fmt is not None and fmt.kind != "float" and rule.format.kind != "float"
    exact = whole and _fits(fmt, rule.format)
    if not exact:
        addition = replace(addition.wider(replace(FLOAT32, drift=addition.drift)), limit=addition.limit)
    return Sums(rule, product, addition, exact)


def _fits(product: formats.Format | None, total: formats.Format) -> bool:
    """Tell whether sums of products are multiples of the sums' step, and exact in float32 while they are in range."""
    assert product is not None
    step = formats.smallest_positive(product)
    return step >= formats.smallest_positive(total) and formats.max_value(total) / step <= 2.0**24
