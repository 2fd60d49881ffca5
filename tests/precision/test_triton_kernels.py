"""The Triton kernels, run by Triton's interpreter on a processor, bit for bit against array rounding and exact fractions."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.formats.constants import constants
from convsmith.precision import rounding as tensor_rounding
from convsmith.precision import triton_launch
from convsmith.precision.memory import as_tensor_scale

pytestmark = pytest.mark.extra
TEXTS = (
    "fp16 bf16 tf32 fp32 e5m2 e4m3fn e2m1 e3m1:flush e4m0 e4m0:bias=6 e6m9:flush e2m23:bias=-50 "
    "int8 uint4 q8.8 int4:symmetric fixed<-2,6> fixed<8,-3> fixed<10,15> ufixed<24,0> fixed<-80,100> fixed<110,-100>"
).split()


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> Iterator[None]:
    """Triton decides when the kernels are imported whether it interprets them."""
    pytest.importorskip("triton")
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    triton_launch.kernels.cache_clear()
    sys.modules.pop("convsmith.precision.triton_kernels", None)
    triton_launch.kernels()
    yield
    triton_launch.kernels.cache_clear()
    sys.modules.pop("convsmith.precision.triton_kernels", None)
    if before is None:
        del os.environ["TRITON_INTERPRET"]
    else:
        os.environ["TRITON_INTERPRET"] = before


def bits(x: Tensor | NDArray[np.float32]) -> NDArray[np.uint32]:
    array = x.numpy() if isinstance(x, Tensor) else x
    assert array.dtype == np.float32
    return np.ascontiguousarray(array).view(np.uint32)


def modes_of(fmt: Format) -> Iterator[tuple[formats.Rounding, formats.Overflow]]:
    overflows: list[formats.Overflow] = ["saturate"]
    if fmt.kind != "float" and not fmt.symmetric:
        overflows.append("wrap")
    if fmt.specials != "finite":
        overflows.append("infinity")
    yield from itertools.product(formats.ROUNDINGS, overflows)


def telling(fmt: Format) -> Tensor:
    """Random patterns, numbers of all sizes of the format, its values' neighbourhood, both ends, midpoints, special values."""
    rng = np.random.default_rng(7)
    top, least = formats.max_value(fmt), formats.smallest_positive(fmt)
    spread = np.exp2(rng.uniform(np.log2(least) - 3, np.log2(top) + 3, 400))
    with np.errstate(over="ignore", invalid="ignore"):
        patterns = rng.integers(0, 1 << 32, 600, dtype=np.uint32).view(np.float32)
        ends = top * (1 + np.arange(-6, 7) * formats.epsilon(fmt) / 4)
        around = np.concatenate([least * np.arange(0, 40, 0.25), formats.smallest_normal(fmt) * (1 + np.arange(-8, 9) / 16)])
        x = np.concatenate([spread, ends, around, [0, np.inf, np.nan, 1e-45, 3e38]]).astype(np.float32)
        return torch.from_numpy(np.concatenate([x, -x, patterns]))


@pytest.mark.parametrize("text", TEXTS)
def test_every_mode_equals_array_rounding(text: str) -> None:
    fmt = formats.parse(text)
    x = telling(fmt)
    assert x.numel() % 64, "a part of a block at the end"
    for rounding, overflow in modes_of(fmt):
        for random_bits in (1, 7, 24) if rounding == "stochastic" else (24,):
            modes, key = (rounding, overflow), {"seed": (1 << 63) + 5, "stream": (1 << 40) + 9}
            want = formats.round_array(x.numpy(), fmt, *modes, **key, random_bits=random_bits)
            got = torch.full_like(x, 7)
            triton_launch.round_flat(x, got, constants(fmt, *modes, random_bits), *key.values(), None)
            wrong = np.flatnonzero(bits(got) != bits(want))
            assert wrong.size == 0, (modes, random_bits, x[wrong[:3]], got[wrong[:3]], want[wrong[:3]])


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
def test_scales_layouts_and_places_go_the_way_of_cuda(rounding: formats.Rounding) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5, 6, 7)).astype(np.float32) * 40)
    fmt = Format.integer(8)
    for layout, (scale, axis) in itertools.product(
        (x, x.contiguous(memory_format=torch.channels_last), x.permute(2, 0, 3, 1), x[:, ::2]), ((None, None), (0.3, None), (True, 1))
    ):
        factors = torch.linspace(0.1, 3, layout.shape[1]) if scale is True else scale
        call = tensor_rounding._Call(fmt, rounding, "saturate", 3, 4, 24, None, None, False)
        place = as_tensor_scale(factors, axis, layout)
        got, _ = tensor_rounding._round_in_memory(tensor_rounding._run_triton, layout, layout, call, place, None)
        options = {"scale": None if factors is None else np.asarray(factors), "axis": axis}
        want = formats.round_array(layout.numpy(), fmt, rounding, seed=3, stream=4, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(bits(got), bits(want))
        own = layout.clone()
        tensor_rounding._round_in_memory(tensor_rounding._run_triton, own, own, call, place, own)
        np.testing.assert_array_equal(bits(own), bits(want))
    large = torch.from_numpy(np.random.default_rng(1).normal(size=5000).astype(np.float32) * 40)  # more than one program
    got = torch.empty_like(large)
    triton_launch.round_flat(large, got, constants(fmt, rounding, "saturate", 24), 1, 2, None)
    np.testing.assert_array_equal(bits(got), bits(formats.round_array(large.numpy(), fmt, rounding, seed=1, stream=2)))
    triton_launch.round_flat(x[:0], x[:0], constants(fmt, rounding, "saturate", 24), 0, 0, None)


def one_by_one(a: Tensor, b: Tensor, fmt: Format, product: Format | None, modes: tuple[formats.Rounding, formats.Overflow]) -> Tensor:
    """Multiply and add one pair after the other; the exact sums are fractions."""
    result = torch.zeros(a.shape[0], b.shape[1])
    for i, j in itertools.product(range(a.shape[0]), range(b.shape[1])):
        total = 0.0
        for u, v in zip(a[i].tolist(), b[:, j].tolist(), strict=True):
            term = u * v  # exact: two float32 numbers
            if product is not None:
                term = formats.round_scalar(term, product, *modes)
            total = formats.round_scalar(exact_sum(total, term), fmt, *modes)
        result[i, j] = total
    return result


def exact_sum(a: float, b: float) -> float:
    """Return the sum, which the inputs of these tests keep within 53 bits."""
    total = a + b
    assert not np.isfinite(total) or Fraction(a) + Fraction(b) == Fraction(total)
    return total


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "up", "to_odd"])
@pytest.mark.parametrize(
    ("text", "product", "overflow"),
    [
        ("fp16", "fp16", "saturate"),
        ("e4m3fn", "e4m3fn", "infinity"),
        ("e5m2", "fp16", "infinity"),
        ("e3m1:flush", None, "saturate"),
        ("e5m0", "e5m2", "saturate"),
        ("fixed<4,12>", "fixed<4,12>", "saturate"),
        ("int8", "fixed<6,2>", "saturate"),
    ],
)
def test_products_equal_a_loop_over_single_numbers(
    text: str, product: str | None, overflow: formats.Overflow, rounding: formats.Rounding
) -> None:
    fmt, of_products = formats.parse(text), None if product is None else formats.parse(product)
    rng = np.random.default_rng(3)
    for m, k, n in ((3, 7, 5), (1, 1, 1), (2, 40, 3)):
        spread = formats.max_value(fmt) ** 0.5 / 4
        operands = [rng.normal(size=shape) * spread * np.exp2(-rng.integers(0, 8, shape)) for shape in ((m, k), (k, n))]
        a, b = (torch.from_numpy(formats.round_array(x.astype(np.float32), fmt, "nearest_even")) for x in operands)
        a[0, 0] = 0.0
        got = triton_launch.multiply_rounded(a, b, fmt, of_products, rounding, overflow)
        np.testing.assert_array_equal(bits(got), bits(one_by_one(a, b, fmt, of_products, (rounding, overflow))))
        turned = triton_launch.multiply_rounded(b.t(), a.t(), fmt, of_products, rounding, overflow)
        np.testing.assert_array_equal(bits(turned.t()), bits(got))


def test_sums_of_many_bits_are_rounded_once() -> None:
    # 1 + 2^-10 + 2^-11 lies halfway between two fp16 numbers, of which the higher is even; the product misses it by 2^-57.
    fp16, least, unit = formats.CATALOGUE["fp16"], 2.0**-140, 2.0**-23
    a = torch.tensor([[1 + 2**-10, 2**-11 * (1 + unit)]])
    for last, want in ((1 - unit, 1 + 2**-10), (1.0, 1 + 2**-9)):
        assert triton_launch.multiply_rounded(a, torch.tensor([[1.0], [last]]), fp16, None).item() == want
    wide = torch.tensor([[1.0, least]]), torch.tensor([[1.0], [1.0]])
    assert triton_launch.multiply_rounded(*wide, fp16, None, "up").item() == 1 + 2**-10
    assert triton_launch.multiply_rounded(*wide, fp16, None, "toward_zero").item() == 1.0
    wide[0][0, 1] = -least
    assert triton_launch.multiply_rounded(*wide, fp16, None, "toward_zero").item() == 1 - 2**-11
    with np.errstate(invalid="ignore"):
        no_number = triton_launch.multiply_rounded(torch.tensor([[torch.inf]]), torch.zeros(1, 1), fp16, None)
    assert bits(no_number).item() == 0x7FC00000
    assert triton_launch.multiply_rounded(torch.ones(2, 0), torch.ones(0, 3), fp16, fp16).tolist() == [[0.0] * 3] * 2


def test_products_that_cannot_be_are_refused() -> None:
    fp16, one = formats.CATALOGUE["fp16"], torch.ones(2, 2)
    with pytest.raises(UsageError, match=r"A product needs \(m, k\) by \(k, n\) on one device; got \(2, 2\) by \(3, 2\)"):
        triton_launch.multiply_rounded(one, torch.ones(3, 2), fp16, fp16)
    with pytest.raises(UsageError, match=r"takes float32 tensors; got torch.float32 and torch.float64"):
        triton_launch.multiply_rounded(one, one.double(), fp16, fp16)
    with pytest.raises(UnsupportedError, match=r"rounds without random bits and does not wrap; got 'stochastic'"):
        triton_launch.multiply_rounded(one, one, fp16, fp16, "stochastic")


def test_without_triton_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_launch.kernels.cache_clear()
    with pytest.raises(UnsupportedError, match=r"needs Triton: pip install 'convsmith\[gpu\]'"):
        triton_launch.kernels()
