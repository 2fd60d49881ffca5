"""Launching the Triton kernels: the constants of formats as integer codes, grids, and what the kernels cannot do."""

from __future__ import annotations

import functools
import importlib
import math
import struct
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats.constants import Constants, constants
from convsmith.formats.format import Format
from convsmith.formats.modes import ROUNDINGS, Overflow, Rounding, check_modes
from convsmith.precision.memory import TensorScale

#: Blocks of 64 elements that one program rounds.
_BLOCKS: Final = 32
#: Rows and columns of the result that one program computes.
_TILE: Final = 32
#: The kernels keep the upper 32 bits of a rest.
MAX_RANDOM_BITS: Final = 32

_OF_ONE_FORMAT: Final = ("IS_FLOAT", "KEPT", "FLIP", "NORMAL", "STEP", "LOWEST", "HIGHEST", "BELOW", "ABOVE", "MINUS", "PLUS")


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


def round_flat(source: Tensor, target: Tensor, spec: Constants, seed: int, stream: int, scale: TensorScale | None) -> None:
    """Round dense float32 tensors in the order of memory; ``target`` may be ``source``."""
    size = source.numel()
    if size == 0:
        return
    grid = (-(-size // (64 * _BLOCKS)),)
    factors, count, inner = (source, 1, 1) if scale is None else (scale.factors, scale.factors.numel(), scale.inner(source))
    with _device(source):
        kernels().round_kernel[grid](
            source, target, factors, size, _signed(seed), _signed(stream), inner, count,
            SCALED=scale is not None, BLOCKS=_BLOCKS, MODE=spec.mode, WRAP_BITS=spec.wrap_bits,
            LOW_STEPS=0 if spec.is_float else int(math.ldexp(spec.lowest, -spec.step_exponent)), RANDOM_BITS=spec.random_bits,
            **compiled_in(spec, 23), enable_fp_fusion=False,
        )  # fmt: skip


def multiply_rounded(
    a_mk: Tensor,
    b_kn: Tensor,
    fmt: Format,
    product: Format | None,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
) -> Tensor:
    """Return the matrix product with the sum of every term rounded to ``fmt``, term after term from +0, each product to ``product`` before.

    ``product`` None does not round products: a fused multiply-add. Any strides; NaN results are the positive quiet NaN.

    Shapes: (m, k) by (k, n) gives (m, n).
    Raises: UsageError for tensors that do not pair up; UnsupportedError for stochastic rounding and wrapping.
    """
    for each in (fmt, fmt if product is None else product):
        check_modes(each, rounding, overflow, 1)
    if rounding == "stochastic" or overflow == "wrap":
        raise UnsupportedError(f"The Triton product rounds without random bits and does not wrap; got {rounding!r} and {overflow!r}.")
    if a_mk.ndim != 2 or b_kn.ndim != 2 or a_mk.shape[1] != b_kn.shape[0] or a_mk.device != b_kn.device:
        raise UsageError(f"A product needs (m, k) by (k, n) on one device; got {tuple(a_mk.shape)} by {tuple(b_kn.shape)}.")
    if a_mk.dtype != torch.float32 or b_kn.dtype != torch.float32:
        raise UsageError(f"A rounded product takes float32 tensors; got {a_mk.dtype} and {b_kn.dtype}.")
    (m, k), n = a_mk.shape, b_kn.shape[1]
    result = torch.zeros(m, n, device=a_mk.device)
    if result.numel() == 0 or k == 0:
        return result
    sums = compiled_in(constants(fmt, rounding, overflow, 1), 52)
    products = compiled_in(constants(fmt if product is None else product, rounding, overflow, 1), 52)
    with _device(a_mk):
        kernels().product_kernel[(-(-m // _TILE), -(-n // _TILE))](
            a_mk.detach(), b_kn.detach(), result, m, n, k, *a_mk.stride(), *b_kn.stride(), ROWS=_TILE, COLUMNS=_TILE,
            MODE=ROUNDINGS.index(rounding), ROUND_PRODUCTS=product is not None, **sums,
            **{f"P_{name}": value for name, value in products.items()}, enable_fp_fusion=False,
        )  # fmt: skip
    return result


def compiled_in(spec: Constants, fraction_bits: int) -> Mapping[str, int]:
    """Return the constants of a format as the kernels want them: magnitudes as codes with so many fraction bits."""
    limits = (spec.lowest, spec.highest, spec.below, spec.above, spec.minus_infinity, spec.plus_infinity)
    values = (
        int(spec.is_float), spec.significand_bits, int(spec.flip_parity), _code(spec.smallest_normal, fraction_bits), spec.step_exponent,
        *(_code(limit, fraction_bits) for limit in limits),
    )  # fmt: skip
    return dict(zip(_OF_ONE_FORMAT, values, strict=True))


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
