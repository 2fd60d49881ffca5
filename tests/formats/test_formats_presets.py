"""Every preset against the libraries that know it: gfloat, ml_dtypes, apytypes; all fp16 codes, a million random float32 patterns."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import apytypes
import gfloat
import ml_dtypes
import numpy as np
import pytest
from format_oracles import GFLOAT_MODES, ML_DTYPES, gfloat_format
from gfloat.formats import format_info_ocp_e8m0, format_info_p3109
from gfloat.types import Signedness
from numpy.typing import NDArray

from convsmith import _native, formats
from convsmith.formats import CATALOGUE, Format

F32 = NDArray[np.float32]
LEVELS = _native.levels()

FP16_CODES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
with np.errstate(invalid="ignore"):
    PATTERNS = np.random.default_rng(20).integers(0, 1 << 32, 1_000_000, dtype=np.uint32).view(np.float32)
EVERYTHING = np.concatenate([FP16_CODES, PATTERNS])

FLOATS = [name for name, fmt in CATALOGUE.items() if fmt.kind == "float" and fmt.carrier == "float32"]
WHOLE = [name for name, fmt in CATALOGUE.items() if fmt.kind in ("fixed", "integer") and fmt.signed and not fmt.symmetric]


def assert_same(ours: NDArray[Any], theirs: NDArray[Any], x: NDArray[Any], *context: object) -> None:
    """The same numbers, signs of zero included, and NaN in the same places."""
    no_number = np.isnan(ours)
    wrong = np.flatnonzero((no_number != np.isnan(theirs)) | (~no_number & (ours.view(np.uint32) != theirs.view(np.uint32))))
    assert wrong.size == 0, (*context, wrong.size, x[wrong[:3]], ours[wrong[:3]], theirs[wrong[:3]])


def as_gfloat(name: str) -> gfloat.FormatInfo:
    """gfloat's own description where it has the format by name."""
    if name == "e8m0":
        return format_info_ocp_e8m0
    if name.startswith("p3109"):
        signed, extended = name[-2] == "s", name[-1] == "e"
        domain = gfloat.Domain.Extended if extended else gfloat.Domain.Finite
        return format_info_p3109(8, int(name[-3]), Signedness.Signed if signed else Signedness.Unsigned, domain)
    return gfloat_format(CATALOGUE[name])


def known_to_gfloat(x: F32, fmt: Format) -> F32:
    """The numbers for which gfloat 0.5 rounds as its documentation says.

    Its unsigned formats let negative numbers pass; a format that is all normal has there subnormal numbers below its smallest one.
    """
    x = x[~np.isnan(x)]
    if not fmt.signed:
        x = x[~np.signbit(x)]
    return x[np.abs(x) >= formats.smallest_normal(fmt)] if fmt.all_normal else x


@pytest.mark.parametrize("name", FLOATS)
def test_every_float_equals_gfloat(name: str) -> None:
    fmt, other = CATALOGUE[name], as_gfloat(name)
    x = known_to_gfloat(EVERYTHING, fmt)
    for mode, theirs in GFLOAT_MODES.items():
        if mode == "stochastic":
            continue
        for overflow in ("saturate", "infinity") if fmt.specials != "finite" else ("saturate",):
            with np.errstate(all="ignore"):
                want = gfloat.round_ndarray(other, x.astype(np.float64), theirs, sat=overflow == "saturate").astype(np.float32)
            assert_same(formats.round_array(x, fmt, mode, overflow), want, x, mode, overflow)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FLOATS)
def test_every_float_equals_gfloat_with_the_same_random_bits(name: str) -> None:
    fmt, random_bits = CATALOGUE[name], 7
    x = known_to_gfloat(EVERYTHING[: 1 << 18], fmt)
    drawn = (formats.random_words(0, x.size, 11, 12) >> np.uint32(32 - random_bits)).astype(np.int64)
    with np.errstate(all="ignore"):
        mode = gfloat.RoundMode.StochasticFastest
        want = gfloat.round_ndarray(as_gfloat(name), x.astype(np.float64), mode, True, drawn, random_bits).astype(np.float32)
    assert_same(formats.round_array(x, fmt, "stochastic", seed=11, stream=12, random_bits=random_bits), want, x)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_every_float_of_ml_dtypes(name: str) -> None:
    fmt = CATALOGUE[name]
    with np.errstate(all="ignore"):
        theirs = EVERYTHING.astype(ML_DTYPES[name]).astype(np.float32)
    # The formats without NaN turn NaN into some number there; here it stays NaN.
    number = ~np.isnan(EVERYTHING)
    for level in ("numpy", *LEVELS):
        overflow: formats.Overflow = "saturate" if fmt.specials == "finite" else "infinity"
        if level == "numpy":
            ours = formats.round_numpy(EVERYTHING, fmt, "nearest_even", overflow)
        else:
            ours = formats.round_array(EVERYTHING, fmt, "nearest_even", overflow, isa=level)
        assert_same(ours[number], theirs[number], EVERYTHING[number], level)
        assert np.isnan(ours[~number]).all()


def test_the_scale_of_ml_dtypes_rounds_ties_away() -> None:
    """``float8_e8m0fnu`` of ml_dtypes takes the higher of two powers at a tie, and 2^-126 for all subnormal numbers above 2^-127."""
    fmt, x = CATALOGUE["e8m0"], EVERYTHING[~np.isnan(EVERYTHING)]
    with np.errstate(all="ignore"):
        theirs = x.astype(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    normal = (np.abs(x) >= np.float32(2.0**-126)) | (x == 0)
    assert_same(formats.round_array(x[normal], fmt, "nearest_away", "infinity"), theirs[normal], x[normal])


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_integers_of_ml_dtypes(name: str) -> None:
    whole = np.arange(-8, 8) if name == "int4" else np.arange(16)
    theirs = whole.astype(getattr(ml_dtypes, name)).astype(np.float32)
    assert_same(formats.round_array(whole.astype(np.float32), CATALOGUE[name]), theirs, whole)
    assert_same(formats.decode(np.arange(16), CATALOGUE[name])[whole % 16], theirs, whole)


APY_MODES: dict[formats.Rounding, str] = {
    "toward_zero": "TO_ZERO", "nearest_even": "TIES_EVEN", "nearest_away": "TIES_AWAY", "up": "TO_POS", "down": "TO_NEG",
    "to_odd": "JAM_UNBIASED",
}  # fmt: skip


@pytest.mark.parametrize("name", [*WHOLE, "fixed<5,6>", "fixed<-2,9>", "fixed<9,-3>"])
def test_fixed_point_equals_apytypes(name: str) -> None:
    """Numbers of all sizes, ties and both ends, given exactly: in at most 62 bits, beyond which apytypes 0.5.1 does not wrap arrays."""
    fmt = formats.parse(name)
    whole, cut = fmt.bits - fmt.fraction_bits, fmt.fraction_bits
    more = min(24, 57 - fmt.bits)
    step, top, rng = 2.0**-cut, formats.max_value(fmt), np.random.default_rng(0)
    ends = [at + step * np.arange(-40, 41) / 8 for at in (0, top, -top, 2 * top, -2 * top, 7 * top)]
    x = np.concatenate([*(rng.normal(size=20_000) * top * size for size in (1e-4, 0.1, 0.7, 2, 6)), *ends])
    x = np.round(x * 2.0 ** (cut + more)) / 2.0 ** (cut + more)
    given = apytypes.APyFixedArray.from_float(x, int_bits=whole + 5, frac_bits=cut + more)
    assert (given.to_numpy() == x).all()
    overflows: dict[formats.Overflow, Any] = {"saturate": apytypes.OverflowMode.SAT, "wrap": apytypes.OverflowMode.WRAP}
    for mode, theirs in APY_MODES.items():
        for overflow, rule in overflows.items():
            want = given.cast(int_bits=whole, frac_bits=cut, quantization=getattr(apytypes.QuantizationMode, theirs), overflow=rule)
            np.testing.assert_array_equal(formats.round_array(x, fmt, mode, overflow), want.to_numpy(), err_msg=f"{mode} {overflow}")
    direct = apytypes.APyFixedArray.from_float(x, int_bits=whole, frac_bits=cut).to_numpy()
    np.testing.assert_array_equal(formats.round_array(x, fmt, "nearest_away", "wrap"), direct)


@pytest.mark.parametrize("text", "fp16 bf16 e6m9 e5m2 e4m3fn e4m3fnuz p3109_k8p3se p3109_k8p3uf e2m1 e8m0 pow2_4 int4 uint8 q4.12".split())
@pytest.mark.parametrize("random_bits", [1, 3, 8])
def test_every_random_number_of_every_implementation(text: str, random_bits: int) -> None:
    """Element i draws a known number; all 2^r come, and exactly floor(2^r rest / step) of them go away from zero.

    Of the elements of one number that draw the same, all must do the same, in every implementation.
    """
    fmt, n = formats.parse(text), 4096
    drawn = formats.random_words(0, n, 5, 6) >> np.uint32(32 - random_bits)
    assert np.unique(drawn).size == 1 << random_bits
    listed = formats.values(fmt).astype(np.float64)
    rng = np.random.default_rng(0)
    lower = rng.integers(0, listed.size - 1, 12)
    for at, part in zip(lower, rng.random(12), strict=True):
        low, high = sorted(listed[at : at + 2], key=abs)
        x = np.float32(low + (high - low) * part)
        expected = int((Fraction(float(x)) - Fraction(low)) / (Fraction(high) - Fraction(low)) * (1 << random_bits))
        away = drawn >= (1 << random_bits) - expected
        assert np.unique(drawn[away]).size == expected
        want = np.where(away, high, low)
        same = np.full(n, x)
        for level in ("numpy", *LEVELS):
            how: dict[str, Any] = {"seed": 5, "stream": 6, "random_bits": random_bits}
            got = (
                formats.round_numpy(same, fmt, "stochastic", **how)
                if level == "numpy"
                else formats.round_array(same, fmt, "stochastic", isa=level, **how)
            )
            np.testing.assert_array_equal(got, want, err_msg=f"{x} {level}")


@pytest.mark.parametrize("name", [name for name, fmt in CATALOGUE.items() if fmt.kind in ("float", "fixed") and fmt.bits <= 16])
def test_the_mean_of_stochastic_rounding_is_the_number(name: str) -> None:
    # n coins of one step: within 5 standard errors, 5 step / (2 sqrt n), plus the 2^-24 steps that 24 random bits cannot tell apart.
    fmt, n = CATALOGUE[name], 20_000
    listed = formats.values(fmt).astype(np.float64)
    for at in np.random.default_rng(1).integers(0, listed.size - 1, 4):
        low, high = listed[at : at + 2]
        x = np.float32(low + (high - low) * 0.3)
        y = formats.round_array(np.full(n, x), fmt, "stochastic", seed=int(at))
        assert abs(y.mean(dtype=np.float64) - float(x)) <= (high - low) * (2.5 / n**0.5 + 2.0**-23)
