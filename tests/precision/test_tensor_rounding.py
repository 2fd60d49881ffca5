"""Rounding of tensors against array rounding, the counts against a count of single numbers by the specification."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith import _native, formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.precision import Counts, Way, round_both, round_counted, round_tensor, round_tensors

LEVELS = _native.levels()
TEXTS = "fp16 bf16 e4m3fn e2m1 e3m1:flush e4m0 fp32 int8 uint4 q8.8 int4:symmetric fixed<-2,6> fixed<8,-3>".split()
FP16 = formats.CATALOGUE["fp16"]


def bits(x: Tensor | NDArray[np.float32]) -> NDArray[np.uint32]:
    array = x.detach().numpy() if isinstance(x, Tensor) else x
    assert array.dtype == np.float32
    return np.ascontiguousarray(array).view(np.uint32)


def modes_of(fmt: Format) -> Iterator[tuple[formats.Rounding, formats.Overflow]]:
    overflows: list[formats.Overflow] = ["saturate"]
    if fmt.kind != "float" and not fmt.symmetric:
        overflows.append("wrap")
    if fmt.specials != "finite":
        overflows.append("infinity")
    yield from itertools.product(formats.ROUNDINGS, overflows)


def telling(fmt: Format, count: int = 700) -> Tensor:
    """Numbers of all sizes, more of them around the ends of the range, and the special ones."""
    rng = np.random.default_rng(5)
    top, least = formats.max_value(fmt), formats.smallest_positive(fmt)
    sizes = np.exp2(rng.uniform(np.log2(least) - 3, np.log2(top) + 3, count))
    with np.errstate(over="ignore"):
        ends = np.concatenate([top * (1 + np.arange(-6, 7) * formats.epsilon(fmt) / 4), top + least * np.arange(-3, 3.5, 0.5)])
        x = np.concatenate([sizes, ends, least * np.arange(0, 3, 0.25), [0, np.inf, np.nan, 1e-45, 3e38]]).astype(np.float32)
    return torch.from_numpy(np.concatenate([x, -x]))


@pytest.mark.parametrize("text", TEXTS)
def test_contiguous_tensors_equal_arrays(text: str) -> None:
    fmt = formats.parse(text)
    x = telling(fmt)
    for rounding, overflow in modes_of(fmt):
        want = bits(formats.round_numpy(x.numpy(), fmt, rounding, overflow, seed=1 << 63, stream=9, random_bits=7))
        for level in (None, *LEVELS):
            got = round_tensor(x, fmt, rounding, overflow, seed=1 << 63, stream=9, random_bits=7, isa=level)
            np.testing.assert_array_equal(bits(got), want)
        copy = x.clone()
        assert round_tensor(copy, fmt, rounding, overflow, seed=1 << 63, stream=9, random_bits=7, out=copy) is copy
        np.testing.assert_array_equal(bits(copy), want)


SHAPED = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5, 7, 6)).astype(np.float32))
LAYOUTS = {
    "channels_last": SHAPED.contiguous(memory_format=torch.channels_last),
    "permuted": SHAPED.permute(2, 0, 3, 1),
    "sliced": SHAPED[:, ::2, 1:, :],
    "transposed": SHAPED[0, 0].t(),
    "expanded": SHAPED[:1].expand(4, -1, -1, -1),
    "offset": SHAPED.flatten()[1:],
    "scalar": SHAPED[0, 0, 0, 0],
    "size one": SHAPED[:, :1].contiguous(memory_format=torch.channels_last),
    "empty": SHAPED[:0],
    "negated view": torch.view_as_complex(SHAPED.reshape(-1, 2)).conj().imag,
}


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_changes_no_bit_and_is_kept(name: str, rounding: formats.Rounding) -> None:
    x = LAYOUTS[name]
    for scale, axis in ((None, None), (0.1, None), (np.linspace(0.5, 2, x.shape[-1]) if x.ndim else 0.5, -1)):
        options: dict[str, object] = {"scale": scale, "axis": axis, "seed": 3, "stream": 4}
        want = bits(formats.round_numpy(x.resolve_neg().numpy(), formats.CATALOGUE["e4m3fn"], rounding, **options))  # type: ignore[arg-type]
        got = round_tensor(x, formats.CATALOGUE["e4m3fn"], rounding, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(bits(got), want)
        assert (got.stride() == torch.empty_like(x).stride() and got.data_ptr() != x.data_ptr()) or x.numel() == 0
        if name not in ("expanded", "negated view"):
            base = torch.empty_strided((4000,), (1,)).fill_(7)
            own = base.as_strided(x.shape, x.stride(), 1).copy_(x)
            assert round_tensor(own, formats.CATALOGUE["e4m3fn"], rounding, out=own, **options) is own  # type: ignore[arg-type]
            np.testing.assert_array_equal(bits(own), want)
            outside = torch.ones(4000, dtype=torch.bool)
            outside.as_strided(x.shape, x.stride(), 1).fill_(False)
            assert (base[outside] == 7).all()


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["channels_last", "permuted", "sliced"])
def test_scales_follow_their_axis_in_any_layout(name: str, axis: int) -> None:
    x = LAYOUTS[name]
    scale = torch.linspace(0.01, 3, x.shape[axis])
    for rounding in ("nearest_even", "stochastic"):
        want = formats.round_numpy(x.numpy(), Format.integer(8), rounding, scale=scale.numpy(), axis=axis)
        np.testing.assert_array_equal(bits(round_tensor(x, Format.integer(8), rounding, scale=scale, axis=axis)), bits(want))


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
def test_out_may_lie_anywhere(rounding: formats.Rounding) -> None:
    x, want = SHAPED, bits(formats.round_numpy(SHAPED.numpy(), FP16, rounding))
    wide = torch.zeros(3, 5, 7, 12)
    for out in (torch.empty_like(x), LAYOUTS["channels_last"].clone(), wide[..., ::2]):
        assert round_tensor(x, FP16, rounding, out=out) is out
        np.testing.assert_array_equal(bits(out), want)
    line = torch.cat([x.flatten(), torch.zeros(3)])
    want = bits(formats.round_numpy(x.flatten().numpy(), FP16, rounding))
    round_tensor(line[:-3], FP16, rounding, out=line[3:])  # overlapping
    np.testing.assert_array_equal(bits(line[3:]), want)


@pytest.mark.parametrize(
    "name",
    "float16 bfloat16 float64 float8_e4m3fn float8_e5m2 int8 uint8 int16 uint16 int32 int64 bool".split(),
)
def test_other_types_are_rounded_once_from_their_values(name: str) -> None:
    dtype: torch.dtype = getattr(torch, name)
    x = (torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 50))) * 40).abs().to(dtype).transpose(0, 1)
    if dtype is torch.float64:
        x[0, 0, :2] = torch.tensor([431.99999999999994, 1 + 2**-8 + 2**-40])  # by way of float32 these would become 448 and 1
    exact = x.double().numpy()
    for fmt in (formats.CATALOGUE["e4m3fn"], Format.fixed(3, 1), formats.CATALOGUE["bf16"]):
        got = round_tensor(x, fmt)
        want = [formats.round_scalar(float(v), fmt) for v in exact.reshape(-1)]
        np.testing.assert_array_equal(bits(got).reshape(-1), bits(np.array(want, np.float32)))
    stochastic = round_tensor(x, FP16, "stochastic", seed=2)
    np.testing.assert_array_equal(bits(stochastic), bits(formats.round_numpy(exact, FP16, "stochastic", seed=2)))


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("fmt", [Format.float(11, 40), Format.binary(), Format.block(formats.CATALOGUE["e2m1"], 4)], ids=str)
def test_formats_of_other_kinds_go_the_way_of_arrays(fmt: Format, rounding: formats.Rounding) -> None:
    dtype = torch.float64 if fmt.carrier == "float64" else torch.float32
    for x, axis in ((SHAPED, 1), (LAYOUTS["channels_last"], 1), (SHAPED.double(), None)):
        want = torch.from_numpy(formats.round_array(x.numpy(), fmt, rounding, seed=1, axis=axis))
        got = round_tensor(x, fmt, rounding, seed=1, axis=axis)
        assert got.dtype is dtype and got.stride() == x.stride() and torch.equal(got, want)
        out = torch.empty_like(x, dtype=dtype)
        assert round_tensor(x, fmt, rounding, seed=1, axis=axis, out=out) is out and torch.equal(out, want)
    with pytest.raises(UsageError, match=rf"out must be a {str(dtype)[6:]} tensor"):
        round_tensor(SHAPED, fmt, out=torch.empty_like(SHAPED, dtype=torch.float16))


def test_the_same_bits_for_any_number_of_threads_and_large_tensors() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=300_007).astype(np.float32))
    want = bits(formats.round_numpy(x.numpy(), FP16, "stochastic", seed=77, stream=5))
    for threads in (None, 1, 2, 3, 8):
        np.testing.assert_array_equal(bits(round_tensor(x, FP16, "stochastic", seed=77, stream=5, threads=threads)), want)
        assert round_counted(x * 4, FP16, threads=threads)[1] == round_counted(x * 4, FP16, threads=1)[1]


def test_many_tensors_in_one_call_are_each_rounded_alone() -> None:
    rng = np.random.default_rng(6)
    sizes = [1, 0, 63, 64, 5, 100_003, 200, 16_384, 16_383, 7, 40_000]
    many = [torch.from_numpy(rng.normal(size=size).astype(np.float32) * 9) for size in sizes]
    streams = [3 * i + (1 << 50) for i in range(len(many))]
    for rounding, level, threads in itertools.product(("nearest_even", "stochastic"), (*LEVELS[1:], None), (None, 3)):
        how = {"seed": 5, "threads": threads, "isa": level}
        want = [round_tensor(x, FP16, rounding, stream=stream, **how) for x, stream in zip(many, streams, strict=True)]
        for got, one in zip(round_tensors(many, FP16, rounding, streams=streams, **how), want, strict=True):
            np.testing.assert_array_equal(bits(got), bits(one))
    own = [x.clone() for x in many]
    versions = [x._version for x in own]
    assert all(a is b for a, b in zip(round_tensors(own, FP16, "stochastic", streams=streams, seed=5, in_place=True), own, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(own, want, strict=True))
    assert all(x._version > before for x, before in zip(own, versions, strict=True))
    mixed = [many[2], SHAPED.to(memory_format=torch.channels_last), many[4].double()]
    for got, x, stream in zip(round_tensors(mixed, FP16, "stochastic", seed=5), mixed, range(3), strict=True):
        np.testing.assert_array_equal(bits(got), bits(round_tensor(x, FP16, "stochastic", seed=5, stream=stream)))
    assert round_tensors([], FP16) == []
    with pytest.raises(UsageError, match="each tensor needs a stream of its own; got 11 tensors and 2 streams"):
        round_tensors(many, FP16, "stochastic", streams=[1, 2])
    with pytest.raises(UsageError, match="stream"):
        round_tensors(many[:1], FP16, "stochastic", streams=[-1])


def counted_by_the_specification(x: NDArray[np.float32], factor: np.float32, fmt: Format, modes: tuple[str, str], seed: int) -> Counts:
    """Count one number at a time; what lies beyond the range is told from rounding with an exact, wider format of the same grid."""
    rounding, overflow = modes
    drawn = formats.random_words(0, x.size, seed) >> np.uint32(8)
    found = [0, 0, 0, 0]
    with np.errstate(all="ignore"):
        quotients = x / factor
    for value, quotient, random in zip(x, quotients, drawn, strict=True):
        if np.isnan(value) or np.isinf(value):
            found[3 if np.isnan(value) else 2] += 1
        elif beyond(float(quotient), fmt, rounding, int(random)):
            found[0] += 1
        else:
            result = formats.round_scalar(float(quotient), fmt, rounding, overflow, int(random))  # type: ignore[arg-type]
            found[1] += bool(value != 0 and result == 0)
    return Counts(*found)


def beyond(x: float, fmt: Format, rounding: str, random: int) -> bool:
    """Tell whether a finite number's rounding without an upper end lies outside the range: written from the definition."""
    if np.isinf(x):
        return True
    exact = Fraction(abs(x))
    step = Fraction(2) ** -fmt.fraction_bits
    if fmt.kind == "float":
        exponent = max(int(np.frexp(abs(x))[1]) - 1, 1 - fmt.bias) if x else 1 - fmt.bias
        least = exponent == 1 - fmt.bias and exact < Fraction(2) ** exponent
        step = Fraction(2) ** (exponent - (0 if least and not fmt.subnormals else fmt.significand_bits))
    steps, rest = divmod(exact, step)
    part = rest / step
    odd_code = steps % 2 == 1
    if fmt.kind == "float" and fmt.significand_bits == 0:
        odd_code = bool(exact >= Fraction(2) ** (1 - fmt.bias) and (exponent + fmt.bias) % 2 == 1)
    half = Fraction(1, 2)
    away = {
        "toward_zero": False,
        "nearest_even": part > half or (part == half and odd_code),
        "nearest_away": part >= half,
        "up": part > 0 and x > 0,
        "down": part > 0 and x < 0,
        "to_odd": part > 0 and not odd_code,
        "stochastic": part + Fraction(random, 1 << 24) >= 1,
    }[rounding]
    result = (1 if x > 0 else -1) * (steps + away) * step
    return not Fraction(formats.min_value(fmt)) <= result <= Fraction(formats.max_value(fmt))


@pytest.mark.parametrize("text", TEXTS)
def test_counts_are_exact_and_the_bits_are_those_of_rounding(text: str) -> None:
    fmt = formats.parse(text)
    x = telling(fmt, 150)
    for (rounding, overflow), scale in itertools.product(modes_of(fmt), (None, 0.75, 1e-38)):
        want_counts = counted_by_the_specification(x.numpy(), np.float32(scale or 1), fmt, (rounding, overflow), 6)
        want = bits(formats.round_numpy(x.numpy(), fmt, rounding, overflow, seed=6, scale=scale))
        for level in LEVELS:
            got, counts = round_counted(x, fmt, rounding, overflow, seed=6, scale=scale, isa=level)
            assert counts == want_counts, (rounding, overflow, scale, level)
            np.testing.assert_array_equal(bits(got), want)
        copy = x.clone()
        assert round_counted(copy, fmt, rounding, overflow, seed=6, scale=scale, out=copy) == (copy, want_counts)
        np.testing.assert_array_equal(bits(copy), want)


@pytest.mark.parametrize("level", LEVELS)
def test_counts_by_channel_and_over_many_chunks(level: str) -> None:
    x = (SHAPED * 300).repeat(1, 1, 40, 2)
    scale = torch.tensor([0.5, 1, 2, 4, 8])
    got, counts = round_counted(x, Format.integer(8), scale=scale, axis=1, isa=level)
    quotient = (x / scale.view(1, 5, 1, 1)).double().round()
    assert counts == (int(((quotient > 127) | (quotient < -128)).sum()), int(((quotient == 0) & (x != 0)).sum()), 0, 0)
    np.testing.assert_array_equal(bits(got), bits(formats.round_numpy(x.numpy(), Format.integer(8), scale=scale.numpy(), axis=1)))
    assert round_counted(torch.empty(0), FP16)[1] == (0, 0, 0, 0)


def test_gradients_do_not_pass_a_plain_rounding_and_writes_are_seen_by_autograd() -> None:
    w = torch.randn(5, requires_grad=True)
    assert not round_tensor(w, FP16).requires_grad
    with pytest.raises(UsageError, match=r"out requires a gradient.*call it under torch.no_grad\(\) or give out.detach\(\)"):
        round_tensor(w, FP16, out=w)
    with torch.no_grad():
        assert round_tensor(w, FP16, out=w) is w
    saved = torch.randn(5)
    product = (w * saved).sum()
    round_tensor(saved, FP16, out=saved)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    product = (w * saved[::1].t()).sum()
    round_tensor(saved.unsqueeze(0), FP16, scale=2.0, out=saved.unsqueeze(0))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_round_both_rounds_values_and_gradient_by_their_own_way() -> None:
    x = torch.randn(4, 6, requires_grad=True)
    upstream = torch.randn(4, 6)
    values, gradient = Way(Format.fixed(2, 4), "stochastic"), Way(formats.CATALOGUE["e5m2"], "stochastic", scale=0.5)
    y = round_both(x, values, gradient, seed=8, stream=10, gradient_stream=11)
    y.backward(upstream)
    assert x.grad is not None
    np.testing.assert_array_equal(bits(y), bits(round_tensor(x, Format.fixed(2, 4), "stochastic", seed=8, stream=10)))
    np.testing.assert_array_equal(
        bits(x.grad), bits(round_tensor(upstream, formats.CATALOGUE["e5m2"], "stochastic", seed=8, stream=11, scale=0.5))
    )
    x.grad = None
    z = round_both(x, None, None)
    (z * upstream).sum().backward()
    assert torch.equal(z, x) and torch.equal(x.grad, upstream)
    (first,) = torch.autograd.grad((round_both(x, values, None) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (np.ones(3, np.float32), {}, UsageError, r"round_tensor takes a torch tensor; got ndarray: use formats.round_array"),
        (torch.ones(3, device="meta"), {}, UsageError, r"on the meta device has a shape and no numbers"),
        (torch.ones(3).to_sparse(), {}, UnsupportedError, r"Only dense tensors can be rounded; got layout torch.sparse_coo"),
        (torch.ones(3, dtype=torch.complex64), {}, UsageError, r"real numbers can be rounded .*got torch.complex64"),
        (torch.ones(3), {"out": torch.ones(4)}, UsageError, r"out must be a float32 tensor of shape \(3,\) on cpu; got .*shape \(4,\)"),
        (torch.ones(3), {"out": torch.ones(3, dtype=torch.float64)}, UsageError, r"out must be a float32 .*got torch.float64"),
        (torch.ones(3), {"seed": -1}, UsageError, r"seed must be 0 to 2\^64 - 1; got -1"),
        (torch.ones(3), {"stream": 1 << 64}, UsageError, r"stream must be 0 to 2\^64 - 1; got"),
        (torch.ones(3), {"threads": 0}, UsageError, r"threads must be at least 1; got 0"),
        (torch.ones(3), {"isa": "avx"}, UnsupportedError, r"No instruction set 'avx' here"),
        (torch.ones(3), {"rounding": "nearest"}, UsageError, r"Unknown rounding 'nearest'. Did you mean 'nearest_even'"),
        (torch.ones(3), {"scale": torch.zeros(())}, UsageError, r"Scales must be positive and finite"),
        (torch.ones(2, 3), {"scale": torch.ones(2), "axis": 1}, UsageError, r"got a scale of shape \(2,\) with axis=1"),
        (torch.tensor([1 << 60]), {}, UsageError, r"Integers beyond 2\^53 cannot be rounded exactly"),
    ],
)
def test_bad_input_is_refused(x: Tensor, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        round_tensor(x, FP16, **options)  # type: ignore[arg-type]


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"The native core counts for tensors on cpu .*got torch.float64 on cpu"):
        round_counted(torch.ones(3, dtype=torch.float64), FP16)
    with pytest.raises(UnsupportedError, match=r"formats without float64 arithmetic or blocks; got .* and binary"):
        round_counted(torch.ones(3), Format.binary())


def test_the_environment_chooses_level_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSMITH_ISA", "sse1")
    with pytest.raises(UnsupportedError, match=r"No instruction set 'sse1' here"):
        round_tensor(torch.ones(3), FP16)
    monkeypatch.setenv("CONVSMITH_ISA", "portable")
    assert round_tensor(torch.tensor([0.1]), FP16).item() == float(np.float16(0.1))
    for own, omp in itertools.product(("", "3", "x"), ("", "5", "-1")):
        monkeypatch.setenv("CONVSMITH_THREADS", own)
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
        assert _native.default_threads() == formats.rounding.threads_by_default()


def test_without_the_native_module_numpy_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from convsmith.precision import rounding

    want = bits(round_tensor(LAYOUTS["channels_last"], FP16, "stochastic", seed=1))
    monkeypatch.setattr(rounding, "native_module", lambda: None)
    monkeypatch.setattr(formats.rounding, "native_module", lambda: None)
    rounding._rounder.cache_clear()
    try:
        for x in (LAYOUTS["channels_last"], SHAPED, SHAPED.double()):
            np.testing.assert_array_equal(bits(round_tensor(x, FP16, "stochastic", seed=1)), want)
    finally:
        rounding._rounder.cache_clear()
