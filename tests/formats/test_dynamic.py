"""Dynamic fixed point against the rule of Courbariaux et al. 2014 written out."""

from __future__ import annotations

import numpy as np
import pytest

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.formats import DynamicRange, Format


def test_overflows_are_counted_as_a_loop_counts_them() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=5000) * 3, [np.inf, -np.inf, np.nan, 0.0, 7.9375, 7.94, -7.9375, -8.0]]).astype(np.float32)
    for dtype in (np.float32, np.float64, np.float16):
        y = x.astype(dtype)
        for fmt in (Format.fixed(4, 4, symmetric=True), Format.fixed(2, 8), Format.integer(3, signed=False), formats.parse("e2m1")):
            want = sum(1 for v in y.tolist() if v > formats.max_value(fmt) or v < formats.min_value(fmt))
            assert formats.count_overflows(y, fmt) == (want,)
    assert formats.count_overflows(np.full((3, 2), np.nan), Format.integer(4)) == (0,)
    assert formats.count_overflows(np.zeros(0), Format.integer(4), Format.integer(8)) == (0, 0)
    many = np.tile(x, 500)
    assert formats.count_overflows(many, Format.integer(3)) == (500 * formats.count_overflows(x, Format.integer(3))[0],)


def test_the_rule_of_the_paper() -> None:
    # rate(range) > max: one bit more; else rate(range - 1) <= max: one bit less; looked at every n batches.
    rng = np.random.default_rng(1)
    for scale, start in ((0.01, 3), (1.0, 3), (300.0, 3), (4.0, 8)):
        state, width, seen = DynamicRange(10, start, max_rate=1e-3, every=4), start, np.zeros(0, np.float32)
        for step in range(1, 61):
            batch = (rng.normal(size=3000) * scale).astype(np.float32)
            seen = np.append(seen, np.abs(batch))
            state = formats.adapt(formats.observe(state, batch))
            if step % 4 == 0:
                limit = (2**9 - 1) * 2.0 ** (width - 10)
                if (seen > limit).mean() > 1e-3:
                    width += 1
                elif (seen > limit / 2).mean() <= 1e-3:
                    width -= 1
                assert state == DynamicRange(10, width, max_rate=1e-3, every=4)
                seen = seen[:0]
            assert state.integer_bits == width and state.batches == step % 4
        # Settled: 3.3 deviations of a normal distribution exceed the range in one of a thousand.
        assert 2.0 ** (width - 2) < 3.3 * scale < 2.0**width


def test_states_are_values_and_give_the_format() -> None:
    state = DynamicRange(10, 4)
    assert state.format == Format.fixed(4, 6, symmetric=True) and state.rate == 0.0
    after = formats.observe(state, np.array([1.0, 100.0]))
    assert (state.seen, after.seen, after.overflows, after.overflows_below, after.rate) == (0, 2, 1, 1, 0.5)
    assert formats.adapt(after) is after
    empty = formats.adapt(formats.observe(DynamicRange(10, 4, every=1), np.zeros(0)))
    assert empty.integer_bits == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_rate": 1.0}, "max_rate must be at least 0 and below 1; got 1"),
        ({"every": 0}, "every must be at least 1 batch; got 0"),
        ({"bits": 1}, "a signed format must have 2 to 54 bits"),
    ],
)
def test_states_that_cannot_be(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DynamicRange(**{"bits": 10, "integer_bits": 4, **arguments})  # type: ignore[arg-type]
