"""The scalar specification against the standards' words, gfloat and exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import gfloat
import numpy as np
import pytest
from format_oracles import GFLOAT_MODES, gfloat_format

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.formats import Format


def same(a: float, b: float) -> bool:
    """Equal as float32 codes are: the sign of zero counts; all NaN of one sign are one."""
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))


@pytest.mark.parametrize(
    ("x", "mode", "expected"),
    [
        (2.5, "nearest_even", 2.0),
        (3.5, "nearest_even", 4.0),
        (2.5, "nearest_away", 3.0),
        (-2.5, "nearest_away", -3.0),
        (-2.5, "up", -2.0),
        (-2.5, "down", -3.0),
        (2.9, "toward_zero", 2.0),
        (2.1, "to_odd", 3.0),
        (3.9, "to_odd", 3.0),
        (4.0, "to_odd", 4.0),
        (-0.2, "nearest_even", 0.0),
        (1e9, "nearest_even", 127.0),
        (-1e9, "nearest_even", -128.0),
        (-math.inf, "nearest_even", -128.0),
    ],
)
def test_integers_by_hand(x: float, mode: formats.Rounding, expected: float) -> None:
    assert same(formats.round_scalar(x, Format.integer(8), mode), expected)


@pytest.mark.parametrize(
    ("x", "text", "overflow", "expected"),
    [
        # OCP 8-bit floating point 1.0, section 5.2.1: beyond the range E5M2 becomes infinity and E4M3 NaN, or the largest with saturation.
        (61440.0, "e5m2", "infinity", math.inf),
        (61439.0, "e5m2", "infinity", 57344.0),
        (464.0, "e4m3fn", "infinity", 448.0),
        (465.0, "e4m3fn", "infinity", math.nan),
        (465.0, "e4m3fn", "saturate", 448.0),
        (-math.inf, "e4m3fn", "saturate", -448.0),
        (-math.inf, "e4m3fn", "infinity", math.nan),
        (math.inf, "fp16", "infinity", math.inf),
        (65519.99, "fp16", "infinity", 65504.0),
        (65520.0, "fp16", "infinity", math.inf),
        # Two's complement arithmetic modulo 2^8, 2^4 and 2^6 steps of 1/4.
        (128.0, "int8", "wrap", -128.0),
        (-129.0, "int8", "wrap", 127.0),
        (300.0, "int8", "wrap", 44.0),
        (17.0, "uint4", "wrap", 1.0),
        (-1.0, "uint4", "wrap", 15.0),
        (8.25, "fixed<4,2>", "wrap", -7.75),
        (1e30, "int8", "wrap", 0.0),
        (math.inf, "int8", "wrap", math.nan),
        (math.nan, "int8", "saturate", math.nan),
        (math.nan, "e2m1", "saturate", math.nan),
        (-0.0, "e2m1", "saturate", -0.0),
        (-1e-30, "fp16", "saturate", -0.0),
        (-1e-30, "q8.8", "saturate", 0.0),
    ],
)
def test_overflow_and_special_values_by_hand(x: float, text: str, overflow: formats.Overflow, expected: float) -> None:
    assert same(formats.round_scalar(x, formats.parse(text), overflow=overflow), expected)


@pytest.mark.parametrize(
    ("mode", "positive", "negative"),
    [
        ("toward_zero", 65504.0, -65504.0),
        ("up", math.inf, -65504.0),
        ("down", 65504.0, -math.inf),
        ("to_odd", 65504.0, -65504.0),
        ("nearest_even", math.inf, -math.inf),
    ],
)
def test_overflow_by_direction(mode: formats.Rounding, positive: float, negative: float) -> None:
    # IEEE 754-2019, section 7.4: directions that point inwards deliver the format's largest finite number.
    fp16 = formats.CATALOGUE["fp16"]
    assert formats.round_scalar(1e6, fp16, mode, "infinity") == positive
    assert formats.round_scalar(-1e6, fp16, mode, "infinity") == negative
    assert formats.round_scalar(math.inf, fp16, mode, "infinity") == math.inf


def test_without_subnormals_the_lowest_step_is_the_smallest_normal() -> None:
    flush = Format.float(4, 3, subnormals=False)
    least = 2.0**-6
    assert formats.round_scalar(0.5 * least, flush) == 0.0
    assert formats.round_scalar(0.51 * least, flush) == least
    assert formats.round_scalar(1e-9, flush, "up") == least
    assert same(formats.round_scalar(-1e-9, flush, "up"), -0.0)


def test_ties_without_fraction_bits_go_to_the_even_code() -> None:
    # Codes of e4m0 with bias 7 are the exponents + 7: 2^-1 has code 6, 1 has 7, 2 has 8.
    powers = Format.float(4, 0)
    assert formats.round_scalar(1.5, powers) == 2.0
    assert formats.round_scalar(0.75, powers) == 0.5
    assert formats.round_scalar(1.5, Format.float(4, 0, bias=6)) == 1.0


@pytest.mark.parametrize("text", ["e5m2", "e4m3fn", "e4m3", "e3m2", "e2m1", "e1m3finite", "e4m0", "e4m0:bias=6", "e3m3fn", "fp16"])
@pytest.mark.parametrize("mode", GFLOAT_MODES)
def test_floats_equal_gfloat(text: str, mode: formats.Rounding) -> None:
    fmt = formats.parse(text)
    other = gfloat_format(fmt)
    rng = np.random.default_rng(5)
    scale = formats.max_value(fmt)
    inputs = np.concatenate(
        [
            rng.normal(size=100) * scale * 0.5,
            rng.normal(size=50) * formats.smallest_positive(fmt) * 4,
            np.arange(-40, 40) * formats.smallest_positive(fmt) / 4,
            scale * (1 + np.arange(-8, 9) * formats.epsilon(fmt) / 4),
            [0.0, -0.0, 1e300, -1e300],
        ]
    )
    for x in inputs:
        random = int(rng.integers(1 << 6))
        bits = (random, 6) if mode == "stochastic" else (0, 6)
        for overflow in ("saturate", "infinity"):
            if overflow == "infinity" and fmt.specials == "finite":
                continue
            expected = gfloat.round_float(other, float(x), GFLOAT_MODES[mode], overflow == "saturate", *bits)
            assert same(formats.round_scalar(float(x), fmt, mode, overflow, *bits), float(expected)), (x, mode, overflow)


@pytest.mark.parametrize(
    "fmt", [Format.fixed(3, 4), Format.fixed(0, 6, signed=False), Format.fixed(8, -3), Format.integer(5, symmetric=True)]
)
def test_fixed_point_equals_fractions(fmt: Format) -> None:
    step = Fraction(2) ** -fmt.fraction_bits
    grid = {Fraction(float(v)) for v in formats.values(fmt)}
    for numerator in range(-700, 700, 3):
        x = Fraction(numerator, 16) * step
        inside = min(max(x, min(grid)), max(grid))
        below, above = max(v for v in grid if v <= inside), min(v for v in grid if v >= inside)
        assert Fraction(formats.round_scalar(float(x), fmt, "down")) == below
        assert Fraction(formats.round_scalar(float(x), fmt, "up")) == above
        assert Fraction(formats.round_scalar(float(x), fmt, "toward_zero")) == (below if x > 0 else above)
        nearest = Fraction(formats.round_scalar(float(x), fmt))
        assert abs(nearest - inside) == min(inside - below, above - inside)
        if 0 < inside - below == above - inside:
            assert (nearest / step) % 2 == 0
        odd = Fraction(formats.round_scalar(float(x), fmt, "to_odd"))
        assert odd in (below, above)
        assert below == above or (odd / step) % 2 == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fp16", "nearest"), r"Unknown rounding 'nearest'. Did you mean 'nearest_even'\? The modes are toward_zero, nearest_even"),
        (("fp16", "up", "clip"), "Unknown overflow 'clip'. The rules are saturate, infinity, wrap"),
        (("fp16", "up", "wrap"), "overflow='wrap' is for fixed point and integers; e5m10 is a float: take 'saturate' or 'infinity'"),
        (("int8:symmetric", "up", "wrap"), "overflow='wrap' needs all codes of two's complement; int8:symmetric leaves one out"),
        (("e2m1", "up", "infinity"), "overflow='infinity' needs a format with infinities or NaN; e2m1 has neither: take 'saturate'"),
        (("int8", "up", "infinity"), "overflow='infinity' needs a format with infinities or NaN; int8 has neither"),
        (("fp16", "stochastic", "saturate", 8, 3), "random must be an integer of 3 bits, 0 to 7; got 8"),
        (("fp16", "stochastic", "saturate", 0, 25), "random_bits must be 1 to 24; got 25"),
        (("fp16", "stochastic", "saturate", 0, 0), "random_bits must be 1 to 24; got 0"),
    ],
)
def test_what_cannot_be_asked(arguments: tuple[object, ...], message: str) -> None:
    text, *rest = arguments
    with pytest.raises(UsageError, match=message):
        formats.round_scalar(1.0, formats.parse(str(text)), *rest)  # type: ignore[arg-type]
