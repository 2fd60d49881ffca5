"""Formats as data: what exists, what it spans, and its text."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from format_oracles import ML_DTYPES, gfloat_format
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.formats import Format


@pytest.mark.parametrize("name", ML_DTYPES)
def test_limits_are_those_of_ml_dtypes(name: str) -> None:
    fmt, info = formats.parse(name), ml_dtypes.finfo(ML_DTYPES[name])
    assert fmt.bits == info.bits
    assert formats.max_value(fmt) == float(info.max)
    assert formats.min_value(fmt) == float(info.min)
    assert formats.smallest_normal(fmt) == float(info.smallest_normal)
    assert formats.smallest_positive(fmt) == float(info.smallest_subnormal)
    assert formats.epsilon(fmt) == float(info.eps)


@pytest.mark.parametrize(
    ("text", "largest"),
    [
        ("tf32", (2 - 2**-10) * 2.0**127),
        ("e4m3fn", 448.0),
        ("e5m2", 57344.0),
        ("e3m2", 28.0),
        ("e2m3", 7.5),
        ("e2m1", 6.0),
        ("fp16", 65504.0),
    ],
)
def test_published_largest_values(text: str, largest: float) -> None:
    # OCP 8-bit floating point 1.0, table 2; OCP microscaling 1.0, section 5.3; IEEE 754-2019, table 3.5.
    assert formats.max_value(formats.parse(text)) == largest


@pytest.mark.parametrize("name", ["e5m2", "e4m3fn", "e3m2", "e2m3", "e2m1"])
def test_values_are_the_decoded_codes_of_ml_dtypes(name: str) -> None:
    codes = np.arange(1 << formats.parse(name).bits, dtype=np.uint8)
    decoded = codes.view(ML_DTYPES[name]).astype(np.float32)
    np.testing.assert_array_equal(formats.values(formats.parse(name)), np.unique(decoded[np.isfinite(decoded)]))


def test_values_of_fixed_point_and_integers() -> None:
    np.testing.assert_array_equal(formats.values(Format.fixed(2, 2)), np.arange(-8, 8) / 4)
    np.testing.assert_array_equal(formats.values(Format.fixed(0, 3, signed=False)), np.arange(8) / 8)
    np.testing.assert_array_equal(formats.values(Format.integer(4, symmetric=True)), np.arange(-7, 8))
    np.testing.assert_array_equal(formats.values(Format.fixed(6, -2)), 4 * np.arange(-8, 8))
    assert formats.values(Format.float(3, 2, subnormals=False))[formats.values(Format.float(3, 2, subnormals=False)) > 0][0] == 0.25


def test_listing_a_wide_format_is_refused() -> None:
    with pytest.raises(UsageError, match=r"e8m23 has 2\^32 codes; values are listed for formats of at most 20 bits"):
        formats.values(formats.CATALOGUE["fp32"])


def all_formats() -> list[Format]:
    """Every float of every exponent and significand width, with each rule that fits, and a spread of the others."""
    found = []
    for e in range(1, 9):
        for m in range(24):
            for specials in ("ieee", "fn", "finite"):
                for subnormals in (True, False):
                    try:
                        found.append(Format.float(e, m, specials=specials, subnormals=subnormals))
                    except UsageError:
                        # float32 has no room for eight exponent bits without an infinity, nor a one-bit float for anything but zero.
                        assert e in (1, 8)
    found += [Format.fixed(il, fl, signed) for il in range(-3, 12) for fl in range(-3, 12) for signed in (True, False) if il + fl >= 2]
    found += [Format.integer(bits, symmetric=symmetric) for bits in range(2, 25) for symmetric in (True, False)]
    return [*found, Format.float(4, 3, bias=11), Format.float(5, 2, bias=-7, specials="finite", subnormals=False)]


def test_text_round_trip() -> None:
    everything = all_formats()
    assert len(everything) > 1100
    texts = [str(fmt) for fmt in everything]
    assert [formats.parse(text) for text in texts] == everything
    assert len(set(texts)) == len(set(everything))


@pytest.mark.parametrize(
    ("text", "fmt"),
    [
        ("e5m10", Format.float(5, 10)),
        ("fp16", Format.float(5, 10)),
        (" BF16 ", Format.float(8, 7)),
        ("e2m1", Format.float(2, 1, specials="finite")),
        ("e2m1ieee", Format.float(2, 1)),
        ("e4m3fn", Format.float(4, 3, specials="fn")),
        ("e4m3:bias=11:flush", Format.float(4, 3, bias=11, subnormals=False)),
        ("fixed< 8, 8 >", Format.fixed(8, 8)),
        ("ufixed<0,8>", Format.fixed(0, 8, signed=False)),
        ("fixed<2,6>:symmetric", Format.fixed(2, 6, symmetric=True)),
        ("int8", Format.integer(8)),
        ("uint4", Format.integer(4, signed=False)),
    ],
)
def test_parse(text: str, fmt: Format) -> None:
    assert formats.parse(text) == fmt


def test_a_catalogue_name_that_is_a_notation_means_the_same() -> None:
    for name, fmt in formats.CATALOGUE.items():
        assert formats.parse(name) == fmt
        assert formats.parse(str(fmt)) == fmt
    assert set(formats.SOURCES) == set(formats.CATALOGUE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fp61", r"Unknown number format 'fp61'. Did you mean 'fp16'\? Write a name \(fp32, tf32"),
        ("e5m", "Unknown number format 'e5m'"),
        ("", "Unknown number format ''"),
        ("e9m2", r"float\(9,2\): exponent bits must be 1 to 8, since float32 carries the values; got 9"),
        ("e0m2", r"float\(0,2\): exponent bits must be 1 to 8"),
        ("e5m24", r"float\(5,24\): significand bits must be 0 to 23"),
        ("e1m0", r"float\(1,0\) with specials 'ieee' has no finite value but zero"),
        ("e1m3:flush", "has no finite value but zero"),
        ("e8m3finite", r"does not fit into float32: its normal numbers span 2\^-126 to 2\^128"),
        ("e5m2:bias=140", r"does not fit into float32: its normal numbers span 2\^-139"),
        ("e2m2:bias=-100", r"the bias must be at least -99, since float32 carries the values; got -100"),
        ("fixed<1,0>", "a signed format must have 2 to 25 bits, since float32 carries the values; got 1"),
        ("fixed<16,16>", r"fixed<16,16>: a signed format must have 2 to 25 bits, since float32 carries the values; got 32"),
        ("ufixed<20,5>", "an unsigned format must have 1 to 24 bits"),
        ("fixed<-99,101>", "fraction bits must be -100 to 100"),
        ("int1", r"int1: a signed format must have 2 to 25 bits"),
        ("uint8:symmetric", "an unsigned format cannot be symmetric"),
    ],
)
def test_formats_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        formats.parse(text)


def test_fields_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="belong to fixed point and integers"):
        Format("float", 5, 10, 15, specials="ieee", signed=False)
    with pytest.raises(UsageError, match="belong to floats"):
        Format("integer", integer_bits=8, exponent_bits=2)
    with pytest.raises(UsageError, match="A format of kind 'posit' does not exist"):
        Format("posit")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="specials must be 'ieee', 'fn' or 'finite'; got 'inf'"):
        Format.float(4, 3, specials="inf")  # type: ignore[arg-type]


def test_register() -> None:
    formats.register("hfp8", Format.float(4, 3, bias=11), "Sun et al. 2019")
    try:
        assert formats.parse("hfp8") == Format.float(4, 3, bias=11)
        with pytest.raises(UsageError, match=r"A format named 'hfp8' exists already \(e4m3:bias=11\)"):
            formats.register("hfp8", Format.float(4, 3), "")
        with pytest.raises(UsageError, match="'e3m3' is the notation of a format, so it cannot be a name for e3m3finite"):
            formats.register("e3m3", Format.float(3, 3, specials="finite"), "")
    finally:
        del formats.CATALOGUE["hfp8"], formats.SOURCES["hfp8"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(e=st.integers(2, 7), m=st.integers(1, 12), bias=st.integers(-20, 60), specials=st.sampled_from(["ieee", "fn", "finite"]))
def test_range_equals_gfloats(e: int, m: int, bias: int, specials: formats.Specials) -> None:
    try:
        fmt = Format.float(e, m, bias=bias, specials=specials)
    except UsageError:
        assert (1 << e) - 1 - bias > 127
        return
    other = gfloat_format(fmt)
    assert (formats.max_value(fmt), formats.smallest_positive(fmt)) == (other.max, other.smallest)
    assert math.isclose(formats.epsilon(fmt), other.eps, rel_tol=0)
