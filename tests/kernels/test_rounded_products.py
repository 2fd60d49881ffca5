"""Rounded matrix products: NumPy against exact fractions, every native level against NumPy, both against apytypes, bit for bit."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from rounded_oracles import product_oracle, telling_factors

from convsmith import _native, formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format, native
from convsmith.kernels import rounded_reference
from convsmith.kernels.arithmetic import ORDERS, Arithmetic
from convsmith.kernels.rounded import matmul
from convsmith.kernels.rounded_random import call_key, draws
from convsmith.kernels.rounded_tables import matrix

F32 = NDArray[np.float32]
SEED, STREAM = 0x1234_5678_9ABC_DEF0, 3
LEVELS = _native.levels()

#: One of each kind of carrier and of rounding code, their edges, and what none of the fast ways covers.
FORMATS = (
    "e5m10 e8m7 e8m10 e4m3fn e5m2 e2m1 e8m21 e8m22 e8m23 e7m21 e6m9:flush e4m0 e8m0ieee e5m10:bias=30 e4m3fnuz e4m3extended ue5m3 "
    "q8.8 q2.14 int8 uint8 fixed<4,3>:symmetric ufixed<2,14> fixed<10,15> fixed<-4,20>"
).split()


def bits(x: F32) -> NDArray[np.uint32]:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def assert_same(got: F32, want: F32, *context: object) -> None:
    wrong = np.argwhere(bits(got) != bits(want))
    assert wrong.size == 0, (*context, len(wrong), wrong[0], got[tuple(wrong[0])], want[tuple(wrong[0])])


def by_numpy(a: F32, b: F32, arithmetic: Arithmetic) -> F32:
    (m, k), n = a.shape, b.shape[1]
    out = np.zeros((m, n), np.float32)
    tables = matrix(m, n, k, (k, 1), (n, 1))
    rounded_reference.multiply_gathered(a.reshape(-1), b.reshape(-1), out.reshape(-1), tables, arithmetic, call_key(SEED, STREAM))
    return out


def overflows_of(fmt: Format) -> list[formats.Overflow]:
    found: list[formats.Overflow] = ["saturate"]
    if fmt.specials != "finite":
        found.append("infinity")
    if fmt.kind != "float" and not fmt.symmetric:
        found.append("wrap")
    return found


def arithmetics(text: str) -> list[Arithmetic]:
    """Every rounding, overflow, order and kind of product of a format, most of the combinations."""
    fmt, wide = formats.parse(text), formats.parse("e8m12")
    found = []
    for mode, overflow in itertools.product(formats.ROUNDINGS, overflows_of(fmt)):
        random_bits = {"stochastic": 8 if len(found) % 2 else 3}.get(mode, 8)
        for order in ORDERS:
            found.append(Arithmetic(fmt, "same", mode, overflow, random_bits, order, block=4))
        found.append(Arithmetic(fmt, None, mode, overflow, random_bits))
        if overflow == "saturate":
            found.append(Arithmetic(fmt, wide, mode, overflow, 24 if mode == "stochastic" else 8, "pairwise"))
            found.append(Arithmetic(fmt, None, mode, overflow, 13, "kahan"))
            found.append(Arithmetic(fmt, None, mode, overflow, 13, "blocked", 3))
    return found


@pytest.mark.parametrize("text", FORMATS)
def test_numpy_equals_exact_fractions(text: str) -> None:
    fmt = formats.parse(text)
    for number, arithmetic in enumerate(arithmetics(text)):
        k = (1, 2, 3, 7)[number % 4]
        a = telling_factors((2, k), fmt, number, inside=number % 3 > 0)
        b = telling_factors((k, 2), fmt, number + 1000, inside=number % 3 > 0)
        assert_same(by_numpy(a, b, arithmetic), product_oracle(a, b, arithmetic, SEED, STREAM), arithmetic, a, b)


def native_cases(text: str) -> list[tuple[F32, F32, Arithmetic]]:
    fmt = formats.parse(text)
    cases = []
    for number, arithmetic in enumerate(arithmetics(text)):
        m, n, k = ((5, 67, 9), (1, 3, 17), (4, 64, 1), (7, 21, 40))[number % 4]
        inside = number % 3 > 0
        a, b = telling_factors((m, k), fmt, number, inside=inside), telling_factors((k, n), fmt, number + 1000, inside=inside)
        if number % 5 == 4:
            a[0, 0], b[-1, -1] = np.inf, np.nan
        cases.append((a, b, arithmetic))
    return cases


@pytest.mark.parametrize("text", FORMATS)
def test_native_levels_equal_numpy(text: str) -> None:
    for a, b, arithmetic in native_cases(text):
        want = by_numpy(a, b, arithmetic)
        for level in LEVELS:
            assert_same(matmul(a, b, arithmetic, seed=SEED, stream=STREAM, isa=level), want, level, arithmetic)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", ["e5m10", "e8m10", "q8.8", "e8m23"])
def test_many_terms(text: str, order: str) -> None:
    fmt = formats.parse(text)
    for mode in ("nearest_even", "stochastic"):
        arithmetic = Arithmetic(fmt, "same", mode, order=order, block=100)  # type: ignore[arg-type]
        a, b = telling_factors((3, 4096), fmt, 1), telling_factors((4096, 5), fmt, 2)
        want = matmul(a, b, arithmetic, seed=SEED, stream=STREAM, isa="reference")
        if order == "sequential" and mode == "nearest_even":
            assert_same(by_numpy(a, b, arithmetic), want, "numpy")
        for level in LEVELS[1:]:
            assert_same(matmul(a, b, arithmetic, seed=SEED, stream=STREAM, isa=level), want, level, mode)


@pytest.mark.parametrize("text", ["e5m10", "q8.8", "e4m3fn"])
def test_threads_transposes_and_out_do_not_change_bits(text: str) -> None:
    fmt = formats.parse(text)
    arithmetic = Arithmetic(fmt, rounding="stochastic", random_bits=5)
    a, b = telling_factors((37, 150), fmt, 1), telling_factors((150, 131), fmt, 2)
    want = matmul(a, b, arithmetic, seed=SEED, stream=STREAM, threads=1)
    for threads in (2, 3, 7):
        assert_same(matmul(a, b, arithmetic, seed=SEED, stream=STREAM, threads=threads), want)
    turned = matmul(
        np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), arithmetic, transpose_a=True, transpose_b=True, seed=SEED, stream=STREAM
    )
    assert_same(turned, want)
    out = np.full((37, 262), np.nan, np.float32)[:, ::2]
    assert matmul(a, b, arithmetic, seed=SEED, stream=STREAM, out=out) is out
    assert_same(out, want)
    other = matmul(a, b, arithmetic, seed=SEED, stream=STREAM + 1)
    assert (other != want).any()


def test_out_may_be_a_factor() -> None:
    arithmetic = Arithmetic(formats.parse("fp16"))
    a = telling_factors((9, 9), arithmetic.format, 1)
    want = matmul(a, a, arithmetic)
    matmul(a, a, arithmetic, out=a)
    assert_same(a, want)


@pytest.mark.parametrize("m, k, n", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (1, 1, 1)])
def test_empty_and_smallest(m: int, k: int, n: int) -> None:
    for order in ORDERS:
        arithmetic = Arithmetic(formats.parse("e4m3fn"), order=order)
        y = matmul(np.ones((m, k), np.float32), np.ones((k, n), np.float32), arithmetic)
        assert_same(y, np.full((m, n), float(min(k, 1)), np.float32))


APY_MODES: dict[formats.Rounding, str] = {
    "toward_zero": "TO_ZERO", "nearest_even": "TIES_EVEN", "nearest_away": "TIES_AWAY", "up": "TO_POS", "down": "TO_NEG",
    "to_odd": "JAM_UNBIASED",
}  # fmt: skip


@pytest.mark.parametrize("text", "e5m10 e8m10 e8m7 e4m3 e5m2 e6m9 e6m17 e8m22 e8m23".split())
@pytest.mark.parametrize("rounding", APY_MODES)
@pytest.mark.parametrize("m, k, n", [(3, 1, 2), (5, 77, 3), (2, 4096, 7), (1, 129, 65)])
def test_floats_equal_apytypes(text: str, rounding: formats.Rounding, m: int, k: int, n: int) -> None:
    apytypes = pytest.importorskip("apytypes")
    fmt = formats.parse(text)
    rng = np.random.default_rng(k)
    a, b = (formats.round_array(rng.normal(size=size), fmt) for size in ((m, k), (k, n)))
    quantization = getattr(apytypes.QuantizationMode, APY_MODES[rounding])
    e, man = fmt.exponent_bits, fmt.significand_bits
    theirs_a, theirs_b = (apytypes.APyFloatArray.from_float(v, e, man) for v in (a, b))
    with apytypes.APyFloatAccumulatorContext(exp_bits=e, man_bits=man, quantization=quantization):
        theirs = (theirs_a @ theirs_b).to_numpy().astype(np.float32)
    for level in LEVELS:
        assert_same(matmul(a, b, Arithmetic(fmt, rounding=rounding, overflow="infinity"), isa=level), theirs, level)


@pytest.mark.parametrize("rounding", APY_MODES)
@pytest.mark.parametrize("m, k, n", [(6, 1, 5), (6, 90, 5), (3, 4096, 2), (1, 33, 67)])
def test_fixed_point_equals_apytypes(rounding: formats.Rounding, m: int, k: int, n: int) -> None:
    apytypes = pytest.importorskip("apytypes")
    fmt = formats.parse("fixed<8,6>")
    rng = np.random.default_rng(1)
    # No sum leaves the range: apytypes 0.5.1 rounds every product but applies its overflow mode to products only.
    a, b = (formats.round_array(rng.normal(size=size) * 0.5, fmt) for size in ((m, k), (k, n)))
    theirs_a, theirs_b = (apytypes.APyFixedArray.from_float(v, int_bits=8, frac_bits=6) for v in (a, b))
    quantization = getattr(apytypes.QuantizationMode, APY_MODES[rounding])
    with apytypes.APyFixedAccumulatorContext(int_bits=8, frac_bits=6, quantization=quantization):
        want = (theirs_a @ theirs_b).to_numpy().astype(np.float32)
    assert np.abs(want).max() < 127
    for level in LEVELS:
        assert_same(matmul(a, b, Arithmetic(fmt, rounding=rounding), isa=level), want, level)


@pytest.mark.parametrize("text", ["q8.8", "e5m10", "e8m7", "e8m23", "fixed<10,15>"])
@pytest.mark.parametrize("random_bits", [1, 4, 8])
def test_every_random_number_of_a_product(text: str, random_bits: int) -> None:
    """All 2^r draws come among the outputs, and floor(2^r rest / step) of them go away from zero: the mean is the product."""
    fmt = formats.parse(text)
    arithmetic = Arithmetic(fmt, rounding="stochastic", random_bits=random_bits)
    a = formats.round_array(np.array([[1.37]], np.float32), fmt)
    b = np.full((1, 4096), formats.round_array(np.float32([0.7131]), fmt)[0])
    drawn = draws(np.arange(4096, dtype=np.uint64), 0, 0, arithmetic.draw_width, call_key(SEED, STREAM)) >> 32 - random_bits
    assert np.unique(drawn).size == 1 << random_bits
    exact = Fraction(float(a[0, 0])) * Fraction(float(b[0, 0]))
    low, high = (formats.round_scalar(float(exact), fmt, mode) for mode in ("down", "up"))
    assert Fraction(float(exact)) == exact and low < high
    up = int((exact - Fraction(low)) / (Fraction(high) - Fraction(low)) * (1 << random_bits))
    want = np.where(drawn >= (1 << random_bits) - up, high, low).astype(np.float32)
    for level in LEVELS:
        assert_same(matmul(a, b, arithmetic, seed=SEED, stream=STREAM, isa=level)[0], want, level)


def test_draws_are_uniform_and_independent() -> None:
    elements = np.arange(4096, dtype=np.uint64)
    key = call_key(SEED, STREAM)
    seen = [draws(elements, kind, number, 8, key) >> 24 for kind in (0, 1) for number in range(20)]
    counts = np.bincount(np.concatenate(seen), minlength=256)
    # Chi-square of 255 degrees of freedom: mean 255, deviation 22.6; five deviations.
    assert abs(((counts - counts.mean()) ** 2 / counts.mean()).sum() - 255) < 113
    correlation = np.corrcoef(np.stack(seen).astype(float))
    assert np.abs(correlation - np.eye(len(seen))).max() < 5 / 64  # five deviations of 1 / sqrt(4096)


def test_stochastic_products_are_unbiased() -> None:
    arithmetic = Arithmetic(formats.parse("q8.8"), rounding="stochastic")
    a, b = np.full((1, 1), 1 + 3 / 256, np.float32), np.full((1, 20000), 5 / 256, np.float32)
    mean = float(matmul(a, b, arithmetic, seed=1).mean(dtype=np.float64)) * 256
    exact = (1 + 3 / 256) * 5
    assert abs(mean - exact) < 5 * np.sqrt(0.06 * 0.94 / 20000)  # five deviations of the share that is rounded up


F = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: matmul(F, F, Arithmetic(formats.parse("fp16"))), r"do not pair up: a is \(2, 3\) with k = 3, b \(2, 3\) with k = 2"),
        (
            lambda: matmul(F.astype(np.float64), F, Arithmetic(formats.parse("fp16"))),
            r"a_mk must be a float32 .*got an array of float64",
        ),
        (lambda: matmul(F[0], F, Arithmetic(formats.parse("fp16"))), r"a_mk must have 2 axes; got shape \(3,\)"),
        (lambda: matmul(F, F.T, "fp16"), "arithmetic must be an Arithmetic; got 'fp16'"),
        (lambda: matmul(F, F.T, Arithmetic(formats.parse("fp16")), threads=0), "threads must be at least 1; got 0"),
        (lambda: matmul(F, F.T, Arithmetic(formats.parse("fp16")), seed=-1), "seed must be 0 to"),
        (lambda: matmul(F, F.T, Arithmetic(formats.parse("fp16")), out=F), "out must be a writable float32 array of shape"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


def test_unknown_instruction_set() -> None:
    with pytest.raises(UnsupportedError, match=r"No instruction set 'avx51'.*Did you mean 'avx512'|No instruction set 'avx51'"):
        matmul(F, F.T, Arithmetic(formats.parse("fp16")), isa="avx51")


def test_without_the_native_module(monkeypatch: pytest.MonkeyPatch) -> None:
    arithmetic = Arithmetic(formats.parse("q8.8"), rounding="stochastic")
    a = telling_factors((4, 6), arithmetic.format, 1)
    want = matmul(a, a, arithmetic, transpose_b=True, seed=SEED)
    monkeypatch.setattr(native, "native_module", lambda: None)
    assert_same(matmul(a, a, arithmetic, transpose_b=True, seed=SEED), want)
    with pytest.raises(UnsupportedError, match="asks for the native module"):
        matmul(a, a, arithmetic, transpose_b=True, isa="avx2")
