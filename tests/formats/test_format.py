"""Formats as data: what exists, what it spans, and its text."""

from __future__ import annotations

import itertools
import math
from typing import Final

import ml_dtypes
import numpy as np
import pytest
from format_oracles import ML_DTYPES, gfloat_format
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format

RULES: Final[tuple[formats.ScaleRule, ...]] = ("floor", "fit")


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
    """Every float of up to 8 exponent and 23 fraction bits, with each rule that fits, and a spread of the others."""
    found = []
    for e, m, specials in itertools.product(range(1, 12), (*range(24), 30, 52), ("ieee", "fn", "finite", "fnuz", "extended")):
        for subnormals, signed, all_normal in itertools.product((True, False), repeat=3):
            try:
                found.append(Format.float(e, m, specials=specials, subnormals=subnormals, signed=signed, all_normal=all_normal))
            except UsageError:
                # float64 has no room for eleven exponent bits without an infinity, nor a one-bit float for anything but zero.
                assert e in (1, 11) or not signed or all_normal
    found += [Format.fixed(il, fl, signed) for il in range(-3, 12) for fl in range(-3, 12) for signed in (True, False) if il + fl >= 2]
    found += [Format.integer(bits, symmetric=symmetric) for bits in range(2, 55) for symmetric in (True, False)]
    found += [Format.float(4, 3, bias=11), Format.float(5, 2, bias=-7, specials="finite", subnormals=False), Format.binary()]
    e4m0 = Format.float(4, 0, subnormals=False, specials="fn", signed=False, all_normal=True, zero=False)
    for element in (Format.float(2, 1), Format.fixed(2, 2, symmetric=True), Format.integer(8)):
        found += [Format.block(element, size, scale=scale, rule=rule) for size in (1, 32) for scale in (None, e4m0) for rule in RULES]
    return found


def test_text_round_trip() -> None:
    everything = all_formats()
    assert len(everything) > 4000
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
        ("fp61", r"Unknown number format 'fp61'. Did you mean 'fp64'\? Write a name that `convsmith precision formats` lists"),
        ("e5m", "Unknown number format 'e5m'"),
        ("", "Unknown number format ''"),
        ("e12m2", r"float\(12,2\): exponent bits must be 1 to 11, since float64 carries the widest values; got 12"),
        ("e0m2", r"float\(0,2\): exponent bits must be 1 to 11"),
        ("e5m53", r"float\(5,53\): significand bits must be 0 to 52"),
        ("e1m0", r"float\(1,0\) with specials 'ieee' has no finite value but zero"),
        ("e1m3:flush", "has no finite value but zero"),
        ("e11m3finite", r"does not fit into float64: its normal numbers span 2\^-1022 to 2\^1024"),
        ("e5m2:bias=1040", r"does not fit into float64: its normal numbers span 2\^-1039"),
        ("e2m2:bias=-200", r"the smallest normal number must be at most 2\^200; with bias -200 it is 2\^201"),
        ("fixed<1,0>", "a signed format must have 2 to 54 bits, since float64 carries the widest values; got 1"),
        ("fixed<32,32>", r"fixed<32,32>: a signed format must have 2 to 54 bits, since float64 carries the widest values; got 64"),
        ("ufixed<50,5>", "an unsigned format must have 1 to 53 bits"),
        ("fixed<-199,201>", "fraction bits must be -200 to 200; got 201"),
        ("int1", r"int1: a signed format must have 2 to 54 bits"),
        ("uint8:symmetric", "an unsigned format cannot be symmetric"),
        ("ue4m3fnuz", "'fnuz' puts NaN in the code of negative zero, and an unsigned format has none: take 'fn'"),
        ("e4m3:nozero", "zero=False is for unsigned formats with all_normal=True"),
        ("e4m0finite:normal", "all_normal=True with a zero is the same as the ordinary format"),
        ("e10m3:normal", "a format without subnormal codes must fit into float32; this one spans"),
        ("block<uint8,32>", "the elements must be signed and have an ordinary zero"),
        ("block<int8,0>", "a block has 1 to 65536 elements; got 0"),
        ("block<binary,8>", "A block format needs elements that are floats, fixed point or integers"),
        ("block<block<e2m1,4>,8>", "A block format needs elements that are floats, fixed point or integers"),
        ("block<e2m1,32,e4m3fn>", "the shared scale must be a power of two, an unsigned float without fraction bits and zero such as e8m0"),
        ("block<e5m10,32>", r"does not fit into float32: its smallest value is 2\^-151. Take a narrower element or scale"),
    ],
)
def test_formats_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises((UsageError, UnsupportedError), match=message):
        formats.parse(text)


def test_fields_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="belong to fixed point and integers"):
        Format("float", 5, 10, 15, specials="ieee", symmetric=True)
    with pytest.raises(UsageError, match="element, block_size, scale, rule belong to blocks"):
        Format("float", 5, 10, 15, specials="ieee", block_size=4)
    with pytest.raises(UsageError, match="belong to floats, fixed point and blocks"):
        Format("binary", integer_bits=1, symmetric=True)
    with pytest.raises(UsageError, match="give subnormals=False too"):
        Format.float(5, 2, all_normal=True)
    with pytest.raises(UsageError, match="the rule must be 'floor' or 'fit'; got 'max'"):
        Format.block(Format.integer(8), rule="max")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="belong to floats"):
        Format("integer", integer_bits=8, exponent_bits=2)
    with pytest.raises(UsageError, match="A format of kind 'posit' does not exist"):
        Format("posit")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="specials must be 'ieee', 'fn', 'finite', 'fnuz', 'extended'; got 'inf'"):
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
        assert (1 << e) - 1 - bias > 1023
        return
    other = gfloat_format(fmt)
    assert (formats.max_value(fmt), formats.smallest_positive(fmt)) == (other.max, other.smallest)
    assert math.isclose(formats.epsilon(fmt), other.eps, rel_tol=0)
