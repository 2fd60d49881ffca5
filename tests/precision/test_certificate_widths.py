"""Widths of integer accumulators: reached by an adversary, never exceeded by a search, and beside A2Q's bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from precision_nets import pictures, residual_graph

from convsmith import formats, precision
from convsmith.errors import UsageError
from convsmith.precision import Plan, Rule
from convsmith.precision.certificate import Widths, accumulator_widths, bits_for, describe, overflows, worst_input


def widths(fmt: str) -> tuple[Widths, ...]:
    graph, found = residual_graph(), formats.parse(fmt)
    return accumulator_widths(graph, precision.uniform(found, found, precision.layout(graph)), pictures(100))


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-3, 1, 3), (-128, 127, 8), (0, 128, 9), (-129, 0, 9)]
)
def test_bits_of_a_range(low: int, high: int, bits: int) -> None:
    assert bits_for(low, high) == bits
    assert -(1 << bits - 1) <= low and high < 1 << bits - 1
    assert bits == 1 or low < -(1 << bits - 2) or high >= 1 << bits - 2


@pytest.mark.parametrize("fmt", ["int8", "int4", "int2", "fixed<3,5>", "fixed<2,2>"])
def test_an_adversary_reaches_the_width_and_not_beyond(fmt: str) -> None:
    found = widths(fmt)
    assert [w.layer for w in found] == ["stem", "block.conv", "fc"]
    for w in found:
        for row, bits in zip(w.weights, w.exact, strict=True):
            attacks = [worst_input(row, w.inputs, positive=positive) for positive in (True, False)]
            assert not any(overflows(row, *attack, bits) for attack in attacks)
            assert bits == 1 or any(overflows(row, *attack, bits - 1) for attack in attacks), "one bit less overflows"
        assert all(exact <= l1 <= w.by_type for exact, l1 in zip(w.exact, w.l1, strict=True))


def test_a_search_never_overflows_what_is_proved() -> None:
    """Random codes and orders, and codes climbed one by one to the largest partial sum."""
    rng = np.random.default_rng(0)
    for w in widths("int4"):
        low, high = w.inputs
        for row, bits in zip(w.weights, w.exact, strict=True):
            for _ in range(200):
                codes = rng.integers(low, high + 1, len(row)).tolist()
                assert not overflows(row, codes, rng.permutation(len(row)).tolist(), bits)
                place = int(rng.integers(len(row)))
                codes[place] = high if int(row[place]) > 0 else low
                assert not overflows(row, codes, np.argsort([-int(a) * b for a, b in zip(row, codes, strict=True)]).tolist(), bits)


def test_all_codes_and_orders_of_three_terms() -> None:
    weights, inputs = [3, -2, 1], (-2, 3)
    reached = [0]
    for codes in itertools.product(range(-2, 4), repeat=3):
        for order in itertools.permutations(range(3)):
            reached += np.cumsum([weights[i] * codes[i] for i in order]).tolist()
    bits = bits_for(min(reached), max(reached))
    ends = [sum(max(w * inputs[0], w * inputs[1], 0) for w in weights), sum(min(w * inputs[0], w * inputs[1], 0) for w in weights)]
    assert [max(reached), min(reached)] == ends
    for positive in (True, False):
        codes, order = worst_input(weights, inputs, positive=positive)
        assert not overflows(weights, codes, order, bits)


def test_codes_are_the_rounded_weights() -> None:
    graph = residual_graph()
    for fmt in ("int8", "fixed<3,5>"):
        found = formats.parse(fmt)
        plan = precision.uniform(found, found, precision.layout(graph))
        rounded = describe(graph, plan, pictures(50)).rounded.weights
        for w in accumulator_widths(graph, plan, pictures(50)):
            values = rounded[f"{w.layer}.weight"].reshape(len(w.weights), -1).astype(np.float64)
            codes = w.weights.astype(np.float64)
            step = values[np.abs(codes) > 0] / codes[np.abs(codes) > 0]
            each = np.abs(values).max(1) / np.abs(codes).max(1)
            np.testing.assert_allclose(values, codes * each[:, None], rtol=1e-6, atol=1e-9)
            assert (step > 0).all()


def test_layers_without_whole_codes_are_left_out() -> None:
    graph, int8 = residual_graph(), formats.parse("int8")
    rules = (Rule("*", "weight", formats.parse("int8:symmetric"), scale="channel"), Rule("relu", "activation", int8, scale="tensor"))
    assert [w.layer for w in accumulator_widths(graph, Plan(rules), pictures(20))] == ["block.conv"]
    assert accumulator_widths(graph, Plan(), None) == ()
    with pytest.raises(UsageError, match="int8 activations need ranges; give calibration images"):
        accumulator_widths(graph, Plan(rules))
