"""The integer form of one layer: factors, limits and tables from the scales and zero points around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Node
from convsmith.kernels import integers, reference

Array = np.ndarray[Any, Any]

LIMITING: Final = frozenset({"Relu", "Clip"})
TABLED: Final = LIMITING | frozenset(
    "Sigmoid HardSigmoid HardSwish Silu Tanh Elu LeakyRelu Gelu Mish Softplus Erf Exp Abs Neg Sqrt Floor Ceil Round Sign Identity".split()
)
"""Functions of single numbers with constant parameters: 256 codes go into a table."""

GEOMETRY: Final = ("strides", "dilations", "pads", "group", "auto_pad", "kernel_shape", "ceil_mode", "count_include_pad")


@dataclass(frozen=True)
class Codes:
    """A value of uint8 codes that stand for ``(code - zero) * scale``."""

    name: str
    scale: np.float32
    zero: int


@dataclass(frozen=True)
class Chain:
    """A layer and the functions of its results that follow it; ``output`` is what the last gives."""

    nodes: tuple[Node, ...]
    output: str


class Weights:
    """Constant codes with their scales."""

    def __init__(self, node: Node, weights: Mapping[str, Array]) -> None:
        self.node = node
        self.inputs = [weights.get(name) if name else None for name in node.inputs]

    def numbers(self) -> Array:
        return reference.run("DequantizeLinear", self.inputs, self.node.attributes)[0]

    def int8(self) -> Array | None:
        """Return the codes as int8 with zero point 0, or None where they have another one."""
        codes, zero = self.inputs[0], self.inputs[2] if len(self.inputs) > 2 else None
        assert codes is not None
        middle = 0 if codes.dtype == np.int8 else 128
        if codes.dtype not in (np.int8, np.uint8) or not np.all((0 if zero is None else zero) == np.asarray(middle)):
            return None
        return (codes.astype(np.int16) - middle).astype(np.int8)

    def scales(self, axis: int, count: int, rank: int) -> Array | None:
        """Return one scale for each of ``count`` output channels, which lie along an axis; None for scales along another."""
        scale = self.inputs[1]
        assert scale is not None
        given = int(self.node.attributes.get("axis", 1)) % rank  # type: ignore[arg-type]
        if scale.size == 1:
            return np.full(count, scale.reshape(-1)[0], np.float32)
        return scale.reshape(-1).astype(np.float32) if given == axis and scale.size == count else None


class KnownValue(Protocol):
    @property
    def codes(self) -> Codes | None: ...
    @property
    def weights(self) -> Weights | None: ...


class Surroundings(Protocol):
    """What a layer needs of the walk: the constants there are, and a place for new ones."""

    weights: dict[str, Array]

    def constant(self, name: str, value: Any) -> str: ...


def integer_layer(chain: Chain, target: Codes | None, known: Mapping[str, Any], around: Surroundings) -> Node | None:
    """Return a chain as one operator on codes, or None where there is none; without a target it gives float32 numbers."""
    first, rest = chain.nodes[0], chain.nodes[1:]
    codes = [known[name].codes if name in known else None for name in first.inputs]
    if first.op in ("Conv", "Gemm", "MatMul") and codes[0] is not None:
        limits = code_limits(rest, target, around) if target is not None else (0, 255)
        return layer_node(chain, codes[0], target, limits, known, around) if limits is not None else None
    if target is None or codes[0] is None:
        return None
    if first.op in TABLED and constant_parameters(first, around):
        return table_node(first.name, codes[0], target, chain.nodes, around) if all(constant_parameters(n, around) for n in rest) else None
    limits = code_limits(rest, target, around)
    if limits is None:
        return None
    if first.op == "Add" and codes[1] is not None:
        return sum_node(first.name, codes[0], codes[1], target, limits)
    if first.op in ("AveragePool", "GlobalAveragePool") and limits == (0, 255):
        geometry = {key: value for key, value in first.attributes.items() if key in GEOMETRY}
        more = {"x_zero": codes[0].zero, "factor": float(codes[0].scale / target.scale), "zero": target.zero}
        return Node(first.name, "IntegerAveragePool", (codes[0].name,), (target.name,), {**geometry, **more})
    return None


def sum_node(name: str, a: Codes, b: Codes, target: Codes, limits: tuple[int, int]) -> Node:
    attributes: dict[str, Any] = {
        "a_zero": a.zero, "a_factor": float(a.scale / target.scale), "b_zero": b.zero, "b_factor": float(b.scale / target.scale),
        "zero": target.zero, "low": limits[0], "high": limits[1],
    }  # fmt: skip
    return Node(name, "IntegerAdd", (a.name, b.name), (target.name,), attributes)


def layer_node(
    chain: Chain, x: Codes, target: Codes | None, limits: tuple[int, int], known: Mapping[str, Any], around: Surroundings
) -> Node | None:
    """Return a convolution or matrix product, the weights as int8 with the output channels first."""
    node = chain.nodes[0]
    found = known[node.inputs[1]].weights if node.inputs[1] in known else None
    w = None if found is None else found.int8()
    if found is None or w is None or w.ndim not in (2, 4) or (w.ndim == 4) != (node.op == "Conv"):
        return None
    if node.op == "Gemm" and (node.attributes.get("transA", 0) or any(node.attributes.get(key, 1) != 1 for key in ("alpha", "beta"))):
        return None
    axis = 0 if node.op == "Conv" or node.attributes.get("transB", 0) else 1
    scales = found.scales(axis, w.shape[axis], w.ndim)
    if axis == 1:
        w = np.ascontiguousarray(w.T)
    if scales is None or w[0].size > integers.MOST_PRODUCTS:
        return None
    together = (x.scale * scales).astype(np.float32)
    bias = bias_codes(node, together, known, around)
    if bias is None:
        return None
    factor = together if target is None else (together / target.scale).astype(np.float32)
    inputs = (
        x.name, around.constant(f"{node.name}.weight", w), around.constant(f"{node.name}.bias", bias),
        around.constant(f"{node.name}.factor", factor),
    )  # fmt: skip
    attributes: dict[str, Any] = {key: value for key, value in node.attributes.items() if key in GEOMETRY and node.op == "Conv"}
    attributes |= {"x_zero": x.zero, "result": "numbers" if target is None else "codes"}
    if target is not None:
        attributes |= {"zero": target.zero, "low": limits[0], "high": limits[1], "scale": float(target.scale)}
    return Node(node.name, "IntegerConv", inputs, (chain.output if target is None else target.name,), attributes)


def bias_codes(node: Node, scales: Array, known: Mapping[str, Any], around: Surroundings) -> Array | None:
    """Return the bias in units of the sums, int32; a float32 one is rounded to them, an error of half a unit. None when it varies."""
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    if not name:
        return np.zeros(len(scales), np.int32)
    found = known[name].weights if name in known else None
    if found is not None:
        codes, scale = found.inputs[0], found.inputs[1]
        if codes is not None and codes.dtype == np.int32 and np.array_equal(np.broadcast_to(scale, scales.shape), scales):
            return np.asarray(codes.reshape(-1))
    numbers = found.numbers() if found is not None else around.weights.get(name)
    if numbers is None or numbers.size != len(scales):
        return None
    whole = np.rint(numbers.reshape(-1).astype(np.float64) / scales.astype(np.float64))
    return np.clip(whole, -(2**31), 2**31 - 1).astype(np.int32)


def code_limits(nodes: Sequence[Node], target: Codes, around: Surroundings) -> tuple[int, int] | None:
    """Return the least and the largest code that ReLUs and clips leave; None where another function follows.

    Rounding does not change the order of numbers, so that limiting numbers and limiting their codes give the same.
    """
    low, high = 0, 255
    for node in nodes:
        if node.op not in LIMITING or not constant_parameters(node, around):
            return None
        given = [around.weights[name] if name else None for name in node.inputs[1:]]
        ends = reference.run(node.op, [np.asarray([-np.inf, np.inf], np.float32), *given], node.attributes)[0]
        least, most = (int(integers.codes(end / target.scale, target.zero)) for end in ends)
        low, high = min(max(low, least), most), max(min(high, most), least)
    return low, high


def constant_parameters(node: Node, around: Surroundings) -> bool:
    return node.op in TABLED and all(not name or name in around.weights for name in node.inputs[1:])


def table_node(name: str, x: Codes, target: Codes, nodes: Sequence[Node], around: Surroundings) -> Node:
    """Return the 256 codes that functions of single numbers make of those of ``x``; without functions, the same at another scale."""
    numbers = integers.numbers(np.arange(256), float(x.scale), x.zero)
    for node in nodes:
        given = [around.weights[parameter] if parameter else None for parameter in node.inputs[1:]]
        numbers = reference.run(node.op, [numbers, *given], node.attributes)[0].astype(np.float32)
    table = around.constant(f"{target.name}.table", integers.quantise(numbers, float(target.scale), target.zero))
    return Node(name, "LookUp", (x.name, table), (target.name,))


def scale_and_zero(weights: Mapping[str, Array], node: Node) -> tuple[np.float32, int]:
    """Return scale and zero point of uint8 codes of a tensor; ``UnsupportedError`` unless they are one constant each."""
    given = [weights.get(name) if name else None for name in (*node.inputs[1:], "")]
    scale, zero = given[0], given[1]
    if scale is None or (node.inputs[2:] and zero is None):
        raise UnsupportedError(f"node {node.name!r} ({node.op}) has a scale or zero point that is computed; it must be constant")
    if scale.size != 1 or (zero is not None and zero.size != 1):
        raise UnsupportedError(f"node {node.name!r} ({node.op}) has {scale.size} scales; activations take one for the whole tensor")
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    if kind not in (np.uint8, np.int8):
        raise UnsupportedError(f"node {node.name!r} ({node.op}) has codes of type {kind}; the engine takes uint8 and int8")
    return np.float32(scale.reshape(-1)[0]), (0 if zero is None else int(zero.reshape(-1)[0])) + (128 if kind == np.int8 else 0)
