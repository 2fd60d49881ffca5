"""What a plan costs: bits of weights, bits moved, energy, or time by given prices; each a price of layers and of stored tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from convsmith.errors import DataError, UsageError, near
from convsmith.formats import Format
from convsmith.precision.allocation import Item, Pair
from convsmith.precision.choices import Choices, bits_of
from convsmith.precision.workload import Work

Price = Callable[[Work, Format | None, Format | None], float]
"""What the products of a layer cost with a format of its weights and one of its input; None is float32."""

MULTIPLY_PJ: Final = {"integer": 0.2 / 8**2, "float": 3.7 / 24**2}
"""Energy of a multiplication for each product of two bits, of integers (8 bits: 0.2 pJ) and of significands (float32: 3.7 pJ)."""

ADD_PJ: Final = {"integer": 0.1 / 32, "float": 0.9 / 32}
"""Energy of an addition for each bit of the sum (32-bit integers: 0.1 pJ, float32: 0.9 pJ)."""

MEMORY_PJ: Final = 10 / 64
"""Energy of a bit read from or written to a memory of 8 KiB (10 pJ for 64 bits).

References for the three: Horowitz 2014, Computing's energy problem, ISSCC, figure 1.1.9, 45 nm, 0.9 V.
"""


@dataclass(frozen=True)
class Cost:
    """A named cost. ``weight`` and ``activation`` are the price of one bit of a stored number, ``price`` that of a layer's products."""

    name: str
    unit: str
    weight: float
    activation: float
    price: Price | None = None

    def of(self, options: Choices, chosen: Mapping[str, Format | None]) -> float:
        """Return what an assignment costs for one image; a tensor that is not in it stays float32."""
        numbers = options.workload.numbers
        cost = 0.0
        for tensor, count in numbers.items():
            cost += self._stored(options, tensor, count, chosen.get(tensor))
        if self.price is not None:
            cost += sum(self.price(work, chosen.get(work.weight), chosen.get(work.source)) for work in options.workload.works)
        return cost

    def items(self, options: Choices, noise: Mapping[tuple[str, Format], float]) -> tuple[list[Item], list[Pair]]:
        """Return the program of an allocation: the price of each group's options and of each layer's pairs of options."""
        fmts, numbers = options.formats, options.workload.numbers
        stored = {g.tensor: [self._stored(options, g.tensor, numbers[g.tensor], f) for f in fmts] for g in options.groups}
        pairs = []
        for work in options.workload.works if self.price is not None else ():
            assert self.price is not None
            first, second = work.weight in stored, work.source in stored
            if first and second:
                table = tuple(tuple(self.price(work, w, a) for a in fmts) for w in fmts)
                pairs.append(Pair(work.weight, work.source, table))
            elif first:
                stored[work.weight] = [c + self.price(work, w, None) for c, w in zip(stored[work.weight], fmts, strict=True)]
            elif second:
                stored[work.source] = [c + self.price(work, None, a) for c, a in zip(stored[work.source], fmts, strict=True)]
        return [Item(name, tuple(noise[name, f] for f in fmts), tuple(costs)) for name, costs in stored.items()], pairs

    def _stored(self, options: Choices, tensor: str, count: int, fmt: Format | None) -> float:
        reads = options.workload.reads.get(tensor)
        if reads is None:
            return self.weight * count * bits_of(fmt)
        return self.activation * count * (1 + reads) * bits_of(fmt)


def energy_pj(work: Work, weight: Format | None, activation: Format | None) -> float:
    """Return the energy of a layer's multiplications and additions; formats of two kinds multiply as floats."""
    kinds = {_kind(weight), _kind(activation)}
    kind = "integer" if kinds == {"integer"} else "float"
    a, b = _significand(weight), _significand(activation)
    # a sum of n products has log2(n) bits more than one of them; a float accumulator is one of float32
    wide = a + b + max(0, (work.terms - 1).bit_length()) if kind == "integer" else 32
    return work.macs * (MULTIPLY_PJ[kind] * a * b + ADD_PJ[kind] * wide)


def bit_operations(work: Work, weight: Format | None, activation: Format | None) -> float:
    """Return multiply-accumulates times the bits of both factors."""
    return float(work.macs * bits_of(weight) * bits_of(activation))


COSTS: Final[dict[str, Cost]] = {
    "weight bits": Cost("weight bits", "bits", 1.0, 0.0),
    "bits moved": Cost("bits moved", "bits", 1.0, 1.0),
    "energy": Cost("energy", "pJ", MEMORY_PJ, MEMORY_PJ, energy_pj),
    "bit operations": Cost("bit operations", "bits^2", 0.0, 0.0, bit_operations),
}
"""Costs by name: weights stored; every weight read and every activation written and read, for one image; energy of that and of the
arithmetic; products of the bits that are multiplied. ``latency`` is made from given prices by ``priced``."""


def find_cost(name: str) -> Cost:
    """Return the cost of that name; ``UsageError`` with the nearest otherwise."""
    if name == "latency":
        raise UsageError("the cost 'latency' needs measured prices: give costs.priced(table), or --prices FILE on the command line")
    if name not in COSTS:
        raise UsageError(f"no cost {name!r}; allowed are {', '.join([*COSTS, 'latency'])}.{near(name, [*COSTS, 'latency'])}")
    return COSTS[name]


def priced(table: Mapping[str, Mapping[str, float]], name: str = "latency", unit: str = "ms") -> Cost:
    """Return the cost that a table of measured times gives: ``{layer: {"int8,int4": 0.31, ...}}``, weights first.

    "*" as a layer, or as a format, is the price of whatever is not listed. float32 is "float32".

    Raises: ``DataError`` when an entry is no number or below zero; ``UsageError``, when it is asked for, for a price that is missing.
    """
    for layer, prices in table.items():
        if not isinstance(prices, Mapping):
            raise DataError(f"the prices of layer {layer!r} are {prices!r}; give {{'int8,int8': milliseconds, ...}}")
        for key, value in prices.items():
            if not isinstance(value, int | float) or not value >= 0:
                raise DataError(f"the price of {key!r} in layer {layer!r} is {value!r}; a number of at least 0 is needed")

    def price(work: Work, weight: Format | None, activation: Format | None) -> float:
        w, a = (str(f) if f is not None else "float32" for f in (weight, activation))
        for layer in (work.layer, "*"):
            for key in (f"{w},{a}", f"{w},*", f"*,{a}", "*"):
                if key in table.get(layer, {}):
                    return float(table[layer][key])
        raise UsageError(f"the prices have no entry '{w},{a}' for layer {work.layer!r}; add it, or one for '*'")

    return Cost(name, unit, 0.0, 0.0, price)


def _kind(fmt: Format | None) -> str:
    return "float" if fmt is None or fmt.kind == "float" else "integer"


def _significand(fmt: Format | None) -> int:
    """Return the bits that are multiplied: the significand with its hidden bit, or the whole number."""
    if fmt is None:
        return 24
    return fmt.significand_bits + 1 if fmt.kind == "float" else fmt.bits
