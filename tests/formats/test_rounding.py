"""Array rounding, NumPy and every native level, against the specification."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convsmith import _native, formats
from convsmith.formats import Format

F32 = NDArray[np.float32]
LEVELS = ["numpy", *_native.levels()]
SEED, STREAM = 0x1234_5678_9ABC_DEF0, 3

SMALL = [
    "e2m1 e2m1ieee e3m2 e2m3 e1m2 e1m3finite e4m0 e4m0:bias=6 e3m1:flush e3m2fn e2m2fn:bias=-3:flush e5m2:bias=-20",
    "e3m2fnuz e4m3fnuz e3m2extended e4m0extended ue4m1extended ue3m2fn ue4m0fn:nozero ue2m3:nozero e3m2fn:normal e3m1finite:normal",
    "e8m0 pow2_4 p3109_k8p1ue p3109_k8p1uf p3109_k8p1se p3109_k8p8ue binary",
    "int2 int4 uint4 int4:symmetric fixed<2,3> ufixed<1,3> fixed<8,-3> fixed<-2,6>",
]
LARGE = (
    "fp32 tf32 bf16 fp16 dlfloat e4m9:bias=140 e2m2:bias=-120 e8m0ieee e8m22 e6m9:flush e2m23:bias=-50 "
    "int8 q2.14 fixed<10,15> ufixed<24,0> fixed<-80,100> fixed<110,-100>"
)
WIDE = "fp64 e11m20 e11m51:flush e9m5 e8m30 e11m0 e8m40extended ue10m30fn int32 ufixed<53,0> fixed<27,27> fixed<-150,200> fixed<210,-200>"


def bits(x: NDArray[Any]) -> NDArray[Any]:
    """The codes of float32 or float64."""
    assert x.dtype in (np.float32, np.float64)
    return np.ascontiguousarray(x).view(f"u{x.itemsize}")


def rounded(level: str, x: F32, fmt: Format, *modes: object, threads: int = 1, **options: object) -> F32:
    """Round by one implementation."""
    if level == "numpy":
        return formats.round_numpy(x, fmt, *modes, **options)  # type: ignore[arg-type]
    return formats.round_array(x, fmt, *modes, threads=threads, isa=level, **options)  # type: ignore[arg-type]


def telling_inputs(fmt: Format, carrier: str) -> NDArray[Any]:
    """Every value of a small format (a sample of a large one), midpoints and their neighbours, quarters, both ends, special values."""
    dtype = np.dtype(carrier).type
    rng = np.random.default_rng(0)
    top, least = formats.max_value(fmt), formats.smallest_positive(fmt)
    values = formats.values(fmt).astype(np.float64) if fmt.bits <= 6 else np.zeros(0)
    gaps = np.diff(values)
    with np.errstate(over="ignore", under="ignore"):
        around = np.concatenate([least * np.arange(0, 6, 0.25), formats.smallest_normal(fmt) * (1 + np.arange(-8, 9) / 16)])
        tops = top * (1 + formats.epsilon(fmt) * np.arange(-4, 5) / 4 / max(1.0, formats.epsilon(fmt)))
        spread = np.exp2(rng.uniform(np.log2(least) - 2, np.log2(top) + 2, 100))
        specials = [0, np.inf, np.nan, 1e-45, 1e-38, 3e38, 5e-324, 1e-310, 1e308]
        positive = np.concatenate([around, tops, spread, specials]).astype(dtype)
        inner = np.concatenate([values] + [values[:-1] + gaps * part for part in (0.25, 0.5, 0.75)]).astype(dtype)
        x = np.concatenate([positive, -positive, inner])
        return np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))])


def modes_of(fmt: Format) -> Iterator[tuple[formats.Rounding, formats.Overflow]]:
    overflows: list[formats.Overflow] = ["saturate"]
    if fmt.kind in ("fixed", "integer") and not fmt.symmetric:
        overflows.append("wrap")
    if fmt.specials != "finite":
        overflows.append("infinity")
    for mode, overflow in itertools.product(formats.ROUNDINGS, overflows):
        if fmt.kind != "binary" or mode not in ("toward_zero", "to_odd"):
            yield mode, overflow


@cache
def expected(text: str, carrier: str) -> list[tuple[tuple[formats.Rounding, formats.Overflow], int, NDArray[Any]]]:
    """The specification's results for all modes: computed once, compared with each implementation."""
    fmt = formats.parse(text)
    x = telling_inputs(fmt, carrier)
    found = []
    for mode, overflow in modes_of(fmt):
        for random_bits in (1, 5, 24, 33, 52) if mode == "stochastic" else (24,):
            if random_bits > 24 and fmt.carrier == "float32":
                continue
            drawn = formats.wide_random_words(0, x.size, SEED, STREAM) >> np.uint64(64 - random_bits)
            results = [formats.round_scalar(float(v), fmt, mode, overflow, int(r), random_bits) for v, r in zip(x, drawn, strict=True)]
            found.append(((mode, overflow), random_bits, bits(np.array(results, fmt.carrier))))
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", " ".join([*SMALL, LARGE]).split())
def test_all_modes_equal_the_specification_bit_for_bit(text: str, level: str) -> None:
    check_all_modes(text, "float32", level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", f"{WIDE} e4m3fn fp16 fp32 ue3m2fn e3m2fnuz dlfloat e8m0 binary int4 q2.14 fixed<60,-50>".split())
def test_float64_is_rounded_as_the_specification_says(text: str, level: str) -> None:
    check_all_modes(text, "float64", level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", ["fp64", "e11m20", "fixed<27,27>"])
def test_float32_to_formats_that_only_float64_carries(text: str, level: str) -> None:
    check_all_modes(text, "float32", level)


def check_all_modes(text: str, carrier: str, level: str) -> None:
    fmt = formats.parse(text)
    x = telling_inputs(fmt, carrier)
    for modes, random_bits, want in expected(text, carrier):
        got = rounded(level, x, fmt, *modes, seed=SEED, stream=STREAM, random_bits=random_bits)
        assert got.dtype == fmt.carrier
        wrong = np.flatnonzero(bits(got) != want)
        assert wrong.size == 0, (modes, random_bits, x[wrong[:3]], got[wrong[:3]], want[wrong[:3]].view(fmt.carrier))


FP16_CODES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
with np.errstate(invalid="ignore"):
    PATTERNS = np.random.default_rng(1).integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)


def test_to_odd_makes_double_rounding_harmless() -> None:
    # Boldo and Melquiond 2008: rounding to odd with two bits more, then to nearest, equals rounding once.
    x = np.concatenate([FP16_CODES, PATTERNS])
    x = x[np.isfinite(x) & (np.abs(x) < 1e38)]
    once = formats.round_array(x, formats.CATALOGUE["bf16"])
    odd = formats.round_array(x, Format.float(8, 9), "to_odd")
    np.testing.assert_array_equal(bits(formats.round_array(odd, formats.CATALOGUE["bf16"])), bits(once))
    even = formats.round_array(x, Format.float(8, 9))
    assert (bits(formats.round_array(even, formats.CATALOGUE["bf16"])) != bits(once)).any()


def test_float64_is_rounded_once() -> None:
    # By way of float32 the first would become 448 and the second 1 (ml_dtypes issue 401).
    x = np.array([-431.99999999999994, 1 + 2**-8 + 2**-40])
    assert formats.round_array(x[:1], formats.CATALOGUE["e4m3fn"]).tolist() == [-416.0]
    assert formats.round_array(x[1:], formats.CATALOGUE["bf16"]).tolist() == [1.0078125]
