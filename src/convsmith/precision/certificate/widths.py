"""How many bits an integer accumulator needs so that it cannot overflow, whatever the image and the order of additions.

References: Colbert, Pappalardo and Petri-Koenig 2023, "A2Q: Accumulator-aware quantization with guaranteed overflow avoidance",
arXiv:2308.13504, equations 3 to 8, for the bounds by data types and by the l1 norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.graph.network import Graph, Node
from convsmith.precision.affine_range import activation_range, weight_codes
from convsmith.precision.calibration import Ranges, calibrate
from convsmith.precision.certificate.setting import PRODUCTS, decided, require_supported
from convsmith.precision.matching import Assignment
from convsmith.precision.overflow import bits_for, sum_ends
from convsmith.precision.plan import Plan
from convsmith.redesign import fold_batch_norm

#: What leaves the codes of a stored value as they are, or chooses among them and zero.
KEEPS: Final = frozenset("MaxPool GlobalMaxPool Flatten Reshape Identity Dropout Squeeze Unsqueeze Transpose Relu".split())

Codes = NDArray[Any]


@dataclass(frozen=True)
class Widths:
    """The sums of one layer in whole steps. ``exact``, ``l1``: bits each output channel needs; ``by_type``: for any weights of that format.

    ``low`` and ``high``: the least and largest partial sum of each channel, which some image and order reach when its codes are free.
    ``weights``: the codes, one row a channel; ``inputs``: least and largest code of the layer's input.
    """

    layer: str
    terms: int
    inputs: tuple[int, int]
    low: tuple[int, ...]
    high: tuple[int, ...]
    exact: tuple[int, ...]
    l1: tuple[int, ...]
    by_type: int
    weights: Codes

    @property
    def bits(self) -> int:
        """The bits that are enough for every channel."""
        return max(self.exact)

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "terms": self.terms,
            "channels": len(self.exact),
            "input_codes": list(self.inputs),
            "bits": self.bits,
            "bits_of_channels": list(self.exact),
            "l1_bits": max(self.l1),
            "type_bits": self.by_type,
        }


def accumulator_widths(graph: Graph, plan: Plan, images: Any = None) -> tuple[Widths, ...]:
    """Return the widths of every layer whose weights and input are integers or fixed point under the plan; the bias is not counted.

    ``images``: calibration images or their `Ranges`, needed where a rule scales activations.
    """
    folded = fold_batch_norm(graph)
    require_supported(folded)
    ranges = images if images is None or isinstance(images, Ranges) else calibrate(folded, images)
    assigned = decided(plan, folded)
    by_tensor = {a.tensor: a for a in assigned if a.role == "activation"}
    weights = {(a.layer, a.tensor): a for a in assigned if a.role == "weight"}
    found = []
    for node in folded:
        if node.op not in PRODUCTS:
            continue
        weight, source = weights.get((node.name, node.inputs[1])), by_tensor.get(_stored(folded, node.inputs[0], by_tensor))
        if weight is None or source is None or not (_whole(weight) and _whole(source)):
            continue
        found.append(_widths(folded, node, weight, source, ranges))
    return tuple(found)


def _whole(assigned: Assignment) -> bool:
    return assigned.rule is not None and assigned.rule.format is not None and assigned.rule.format.kind in ("integer", "fixed")


def _stored(graph: Graph, name: str, stored: dict[str, Assignment]) -> str:
    """Return the tensor whose codes a value has: itself, or what it was moved or chosen from."""
    makers = {output: node for node in graph for output in node.outputs}
    while name in makers and not (name in stored and _whole(stored[name])) and makers[name].op in KEEPS:
        name = makers[name].inputs[0]
    return name


def _widths(graph: Graph, node: Node, weight: Assignment, source: Assignment, ranges: Ranges | None) -> Widths:
    rows = _rows(graph, node, weight)
    low_code, high_code = input_codes(source, ranges)
    low, high = sum_ends(rows, low_code, high_code)
    assert weight.rule is not None and weight.rule.format is not None and source.rule is not None and source.rule.format is not None
    # A2Q takes N-bit inputs for magnitudes up to 2^(N - 1) with a sign, 2^N without; a zero point shifts the codes beyond the first
    bits = source.rule.format.bits
    largest = 1 << (bits - 1 if -(1 << (bits - 1)) <= low_code and high_code < 1 << (bits - 1) else bits)
    sums = [int(x) * largest for x in np.abs(rows).sum(1)]
    widest = rows.shape[1] * largest << (weight.rule.format.bits - weight.rule.format.signed)
    return Widths(
        node.name,
        rows.shape[1],
        (low_code, high_code),
        tuple(low),
        tuple(high),
        tuple(bits_for(*pair) for pair in zip(low, high, strict=True)),
        tuple(x.bit_length() + 1 for x in sums),
        widest.bit_length() + 1,
        rows,
    )


def _rows(graph: Graph, node: Node, assigned: Assignment) -> Codes:
    """Return the weights in whole steps, one row an output channel; Python's integers, whose sums have no end."""
    whole = weight_codes(graph.weights[assigned.tensor], assigned)
    if node.op == "Conv":
        return whole.reshape(len(whole), -1).astype(object)
    return (whole if node.attributes.get("transB", 0) else whole.T).astype(object)


def input_codes(assigned: Assignment, ranges: Ranges | None) -> tuple[int, int]:
    """Return the least and largest code of an activation."""
    rule = assigned.rule
    assert rule is not None and rule.format is not None
    if rule.scale == "none":
        step = formats.smallest_positive(rule.format)
        return round(formats.min_value(rule.format) / step), round(formats.max_value(rule.format) / step)
    return activation_range(assigned, rule, ranges)[1:]


def overflows(weights: Sequence[int], codes: Sequence[int], order: Sequence[int], bits: int) -> bool:
    """Tell whether a two's complement accumulator leaves its range on the way, adding in the given order."""
    total, limit = 0, 1 << (bits - 1)
    for index in order:
        total += int(weights[index]) * int(codes[index])
        if not -limit <= total < limit:
            return True
    return False


def worst_input(weights: Sequence[int], inputs: tuple[int, int], *, positive: bool) -> tuple[list[int], list[int]]:
    """Return the codes and the order that drive a sum furthest up, or down: what helps comes first."""
    low, high = inputs
    sign = 1 if positive else -1
    codes = [high if sign * int(w) * high >= sign * int(w) * low else low for w in weights]
    gains = [sign * int(w) * x for w, x in zip(weights, codes, strict=True)]
    order = sorted(range(len(codes)), key=lambda index: -gains[index])
    return codes, order
