"""Launching the Triton kernels: the constants of formats as integer codes, tables on the device, grids."""

from __future__ import annotations

import functools
import importlib
import math
import struct
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from convsmith.errors import UnsupportedError
from convsmith.formats import CATALOGUE, round_array
from convsmith.formats.constants import Constants, constants
from convsmith.formats.modes import MAX_RANDOM_BITS
from convsmith.kernels.arithmetic import ORDERS, Arithmetic
from convsmith.kernels.rounded import matmul
from convsmith.kernels.rounded_random import call_key
from convsmith.kernels.rounded_tables import TABLES, Product, matrix
from convsmith.precision.memory import TensorScale

#: Blocks of 64 elements that one program rounds.
_BLOCKS: Final = 32
#: Rows and columns of the result that one program computes.
_TILE: Final = 32

Spec = tuple[int, ...]
"""A format with its modes as the kernels want it: is_float, mode, significand_bits, flip_parity, smallest_normal, step_exponent, lowest,
highest, below, above, minus_infinity, plus_infinity (magnitudes as codes), wrap_bits, lowest in steps, random_bits, negative_zero."""


@functools.cache
def kernels() -> Any:
    """Import the kernels.

    Raises: UnsupportedError when Triton is not installed.
    """
    try:
        importlib.import_module("triton")
    except ImportError as error:
        raise UnsupportedError("Rounding on CUDA needs Triton: pip install 'convsmith[gpu]', or move the tensor with x.cpu().") from error
    return importlib.import_module("convsmith.precision.triton_kernels")


@functools.cache
def products() -> Any:
    """Import the kernel of rounded products; raises as `kernels` does."""
    kernels()
    return importlib.import_module("convsmith.precision.triton_products")


def has_kernel(spec: Constants) -> bool:
    """Tell whether float32 numbers are rounded to such a format by `round_flat`."""
    return not (spec.is_binary or spec.double or spec.wide)


def round_flat(source: Tensor, target: Tensor, spec: Constants, seed: int, stream: int, scale: TensorScale | None) -> None:
    """Round dense float32 tensors in the order of memory; ``target`` may be ``source``."""
    if source.numel() == 0:
        return
    if source.is_cuda:
        check_rounding(source.device)
    _round_flat(source, target, spec, seed, stream, scale)


def _round_flat(source: Tensor, target: Tensor, spec: Constants, seed: int, stream: int, scale: TensorScale | None) -> None:
    size = source.numel()
    grid = (-(-size // (64 * _BLOCKS)),)
    factors, count, inner = (source, 1, 1) if scale is None else (scale.factors, scale.factors.numel(), scale.inner(source))
    with _device(source):
        kernels().round_kernel[grid](
            source, target, factors, size, _signed(seed), _signed(stream), inner, count,
            SCALED=scale is not None, BLOCKS=_BLOCKS, SPEC=compiled_in(spec, 23), enable_fp_fusion=False,
        )  # fmt: skip


def multiply_gathered(a: Tensor, b: Tensor, out: Tensor, product: Product, arithmetic: Arithmetic, key: tuple[int, int]) -> None:
    """Compute one gathered product of flat float32 tensors into a flat tensor: the bits of `rounded_reference.multiply_gathered`."""
    m, n, k = product.a_rows.size, product.b_columns.size, product.a_terms.size
    if 0 in (m, n, k, product.groups):
        return
    if a.is_cuda:
        check_products(a.device)
    _multiply_gathered(a, b, out, product, arithmetic, key)


def _multiply_gathered(a: Tensor, b: Tensor, out: Tensor, product: Product, arithmetic: Arithmetic, key: tuple[int, int]) -> None:
    m, n, k = product.a_rows.size, product.b_columns.size, product.a_terms.size
    grid = (-(-m // _TILE), -(-n // _TILE), product.groups)
    levels = k.bit_length() if arithmetic.order == "pairwise" else 0
    scratch = torch.empty(max(1, math.prod(grid) * levels * _TILE * _TILE), dtype=torch.float64, device=a.device)
    modes = arithmetic.rounding, arithmetic.overflow, arithmetic.random_bits
    of_products = arithmetic.product_format
    with _device(a):
        products().product_kernel[grid](
            a, b, out, scratch, *_tables(product, a.device), m, n, k, product.height, product.width, product.a_group, product.b_group,
            product.out_group, _signed(key[0] | key[1] << 32), arithmetic.block, ROWS=_TILE, COLUMNS=_TILE,
            ORDER=ORDERS.index(arithmetic.order), LEVELS=levels, WIDTH=arithmetic.draw_width, ROUND_PRODUCTS=of_products is not None,
            PRODUCTS=compiled_in(constants(of_products or arithmetic.format, *modes), 52),
            SUMS=compiled_in(constants(arithmetic.format, *modes), 52), FLOAT32=_float32(), enable_fp_fusion=False,
        )  # fmt: skip


@functools.cache
def check_rounding(device: torch.device) -> None:
    """Round some numbers on a device, once, and compare the bits with the processor's.

    Raises: UnsupportedError when one differs: a compiler or a device that does not keep the arithmetic must not give results.
    """
    rng, fmt = np.random.default_rng(0), CATALOGUE["e4m3fn"]
    x = torch.from_numpy((rng.standard_normal(1000) * 2.0 ** rng.integers(-12, 10, 1000)).astype(np.float32))
    got = torch.empty(1000, device=device)
    _round_flat(x.to(device), got, constants(fmt, "stochastic", "saturate", 8), 1, 2, None)
    _require_same(got, torch.from_numpy(round_array(x.numpy(), fmt, "stochastic", seed=1, stream=2, random_bits=8)))


@functools.cache
def check_products(device: torch.device) -> None:
    """Multiply two small matrices on a device, once, and compare the bits with the processor's; raises as `check_rounding` does."""
    rng, arithmetic = np.random.default_rng(0), Arithmetic(CATALOGUE["fp16"], rounding="stochastic")
    a, b = (torch.from_numpy(rng.standard_normal(size).astype(np.float32)) for size in ((3, 40), (40, 5)))
    got = torch.empty(15, device=device)
    places = matrix(3, 5, 40, (40, 1), (5, 1))
    _multiply_gathered(a.reshape(-1).to(device), b.reshape(-1).to(device), got, places, arithmetic, call_key(1, 2))
    _require_same(got, torch.from_numpy(matmul(a.numpy(), b.numpy(), arithmetic, seed=1, stream=2).reshape(-1)))


def _require_same(got: Tensor, want: Tensor) -> None:
    differing = int((got.cpu().view(torch.int32) != want.view(torch.int32)).sum())
    if differing:
        raise UnsupportedError(
            f"the Triton kernels give other bits on {got.device} than the processor for {differing} of {want.numel()} numbers; "
            "move the tensors with x.cpu(), and report it with the versions of torch and triton."
        )


@functools.lru_cache(maxsize=64)
def _tables(product: Product, device: torch.device) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(getattr(product, name)).to(device) for name in TABLES)


@functools.cache
def _float32() -> Spec:
    """Return float32 with infinities, the format of inner sums."""
    return compiled_in(constants(CATALOGUE["fp32"], "nearest_even", "infinity", MAX_RANDOM_BITS), 52)


def compiled_in(spec: Constants, fraction_bits: int) -> Spec:
    """Return the constants of a format as the kernels want them: magnitudes as codes with so many fraction bits."""
    limits = (spec.lowest, spec.highest, spec.below, spec.above, spec.minus_infinity, spec.plus_infinity)
    return (
        int(spec.is_float), spec.mode, spec.significand_bits, int(spec.flip_parity), _code(spec.smallest_normal, fraction_bits),
        spec.step_exponent, *(_code(limit, fraction_bits) for limit in limits), spec.wrap_bits,
        0 if spec.is_float else int(math.ldexp(spec.lowest, -spec.step_exponent)), spec.random_bits,
        int(spec.is_float and spec.negative_zero),
    )  # fmt: skip


def _code(value: float, fraction_bits: int) -> int:
    """Return the code of a magnitude in float32 or float64; that of NaN is the quiet one."""
    if math.isnan(value):
        return 0x7FC00000 if fraction_bits == 23 else 0x7FF8 << 48
    kind, integer = ("<f", "<i") if fraction_bits == 23 else ("<d", "<q")
    code: int = struct.unpack(integer, struct.pack(kind, abs(value)))[0]
    return code


def _signed(value: int) -> int:
    """Return the number with the same 64 bits in two's complement."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _device(x: Tensor) -> Any:
    """Triton launches on the current device."""
    return torch.cuda.device(x.device) if x.is_cuda else torch.no_grad()
