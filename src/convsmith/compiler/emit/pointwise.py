"""Functions of single elements and of pairs, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from convsmith.compiler.emit.convolutions import emit_binary, optional
from convsmith.compiler.planner import Planner
from convsmith.compiler.views import View
from convsmith.errors import UnsupportedError
from convsmith.graph import Node

Emit = Callable[[Planner, Node], None]


def one(function: str, alpha: tuple[str, float] | None = None, beta: tuple[str, float] | None = None) -> Emit:
    """Return what emits a function of one operand; ``alpha`` and ``beta`` are attributes and their defaults."""

    def emit(planner: Planner, node: Node) -> None:
        numbers = [0.0 if given is None else float(node.attributes.get(*given)) for given in (alpha, beta)]  # type: ignore[arg-type]
        source = planner.value(node.inputs[0])
        planner.unary(node, function, source, planner.target_over(node.outputs[0], node.inputs[0]), *numbers)

    return emit


def gelu(planner: Planner, node: Node) -> None:
    tanh = node.attributes.get("approximate", "none") == "tanh"
    one("gelu_tanh" if tanh else "gelu")(planner, node)


def clip(planner: Planner, node: Node) -> None:
    """Emit a clip; its limits may be computed, since they are single numbers."""
    limits = [limit(planner, optional(node, index), default) for index, default in ((1, -math.inf), (2, math.inf))]
    if all(isinstance(value, float) for value in limits):
        source = planner.value(node.inputs[0])
        planner.unary(node, "clip", source, planner.target_over(node.outputs[0], node.inputs[0]), *limits)  # type: ignore[arg-type]
        return
    y = planner.target(node.outputs[0])
    source = planner.value(node.inputs[0])
    for index, function in ((1, "max"), (2, "min")):
        if optional(node, index):
            emit_binary(planner, node, function, source, planner.value(node.inputs[index]), y)
            source = y


def limit(planner: Planner, name: str, default: float) -> float | None:
    """Return a constant limit, the default where there is none, None where it is computed."""
    if not name:
        return default
    array = planner.constant_array(name)
    return None if array is None else float(np.asarray(array).reshape(-1)[0])


def two(function: str) -> Emit:
    """Return what emits a function of two operands."""

    def emit(planner: Planner, node: Node) -> None:
        sources = [planner.value(name) for name in node.inputs[:2]]
        emit_binary(planner, node, function, sources[0], sources[1], pair_target(planner, node, sources))

    return emit


def pair_target(planner: Planner, node: Node, sources: list[View]) -> View:
    """Return where a function of two operands writes: over the first of full shape, or in its order of axes."""
    shape = planner.shapes[node.outputs[0]]
    for name, source in zip(node.inputs, sources, strict=False):
        if source.shape == shape and source.space != "constant":
            return planner.target_over(node.outputs[0], name)
    return planner.target(node.outputs[0])


def many(function: str) -> Emit:
    """Return what emits a function of any number of operands, two at a time."""

    def emit(planner: Planner, node: Node) -> None:
        sources, y = [planner.value(name) for name in node.inputs], planner.target(node.outputs[0])
        result = sources[0]
        for other in sources[1:]:
            emit_binary(planner, node, function, result, other, y)
            result = y
        if len(sources) == 1:
            planner.copy(node, result, y)

    return emit


def batch_norm(planner: Planner, node: Node) -> None:
    """Emit ``x scale + shift`` for each channel; the statistics must be constants, as they are after training."""
    arrays = [planner.constant_array(name) for name in node.inputs[1:5]]
    if any(array is None for array in arrays):
        raise UnsupportedError("its statistics are computed; only constant ones are supported")
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    scale = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))  # type: ignore[arg-type]
    x, y = planner.value(node.inputs[0]), planner.target(node.outputs[0])
    for function, vector in (("mul", scale), ("add", beta - mean * scale)):
        along = vector.astype(np.float32).reshape(-1, *(1,) * (len(x.shape) - 2))
        emit_binary(planner, node, function, x, planner.constant(f"{node.name}:{function}", along), y)
        x = y


def power(planner: Planner, node: Node) -> None:
    """Emit a power; that by 2 is a product."""
    exponent = planner.constant_array(node.inputs[1])
    if exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2:
        source = planner.value(node.inputs[0])
        emit_binary(planner, node, "mul", source, source, planner.target(node.outputs[0]))
    else:
        two("pow")(planner, node)


def alias(planner: Planner, node: Node) -> None:
    """Give the same place another name."""
    planner.bind(node.outputs[0], planner.value(node.inputs[0]))


POINTWISE: dict[str, Emit] = {
    "Relu": one("relu"),
    "Sigmoid": one("sigmoid"),
    "Tanh": one("tanh"),
    "HardSwish": one("hard_swish"),
    "HardSigmoid": one("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "Softplus": one("softplus"),
    "Mish": one("mish"),
    "Silu": one("silu"),
    "Gelu": gelu,
    "LeakyRelu": one("leaky_relu", ("alpha", 0.01)),
    "Elu": one("elu", ("alpha", 1.0)),
    "Clip": clip,
    **{op: one(op.lower()) for op in ("Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Reciprocal")},
    "PRelu": two("prelu"),
    "Add": two("add"),
    "Sub": two("sub"),
    "Mul": two("mul"),
    "Div": two("div"),
    "Pow": power,
    "Min": many("min"),
    "Max": many("max"),
    "BatchNormalization": batch_norm,
    "Identity": alias,
    "Dropout": alias,
}
