"""Matrix products whose every multiply and add is rounded: natively, and in NumPy where the native module is not built."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError
from convsmith.formats.carrier import check_out
from convsmith.formats.constants import constants
from convsmith.formats.native import Native, choose, threads_by_default
from convsmith.formats.random_bits import check_key
from convsmith.kernels.arithmetic import ORDERS, Arithmetic
from convsmith.kernels.rounded_random import call_key
from convsmith.kernels.rounded_reference import multiply_gathered
from convsmith.kernels.rounded_tables import TABLES, Product, matrix

F32 = NDArray[np.float32]

#: Below so many products a second thread costs more than it saves.
_ONE_THREAD: Final = 1 << 14


def matmul(
    a_mk: F32,
    b_kn: F32,
    arithmetic: Arithmetic,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    seed: int = 0,
    stream: int = 0,
    out: F32 | None = None,
    threads: int | None = None,
    isa: str | None = None,
) -> F32:
    """Return the matrix product with every multiply and add rounded as ``arithmetic`` says.

    Sequential order starts at +0 and adds the products of k = 0, 1, 2, ... one by one: ``s = round(s + round(a[i, k] b[k, j]))``. Numbers
    that are not in the arithmetic's formats are used as they are. An empty sum is +0. NaN results are the positive quiet NaN.
    ``transpose_a`` takes ``a`` as (k, m), ``transpose_b`` takes ``b`` as (n, k), without copying. Random bits depend on
    (seed, stream, i, j, k) only. ``isa`` forces "reference", "portable", "avx2" or "avx512"; the bits are the same.
    Shapes: (m, k) by (k, n) gives (m, n).
    Raises: UsageError for arrays, seeds and arithmetics that cannot be; UnsupportedError for an ``isa`` that is not there.
    """
    a, b = check_operand("a_mk", a_mk, 2), check_operand("b_kn", b_kn, 2)
    (m, k), (k_b, n) = a.shape[:: -1 if transpose_a else 1], b.shape[:: -1 if transpose_b else 1]
    if k != k_b:
        raise UsageError(
            f"the products do not pair up: a is {'transposed ' if transpose_a else ''}{a.shape} with k = {k}, "
            f"b {'transposed ' if transpose_b else ''}{b.shape} with k = {k_b}."
        )
    tables = matrix(m, n, k, (1, m) if transpose_a else (k, 1), (1, k) if transpose_b else (n, 1))
    return compute((m, n), a, b, (tables,), arithmetic, seed=seed, stream=stream, out=out, threads=threads, isa=isa)


def check_operand(name: str, array: F32, rank: int) -> F32:
    """Return a C-ordered float32 array; refuse other types, whose values would silently be rounded to float32, and other ranks."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        given = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UsageError(f"{name} must be a float32 array, which carries the values of every format; got {given}. Round it first.")
    if array.ndim != rank:
        raise UsageError(f"{name} must have {rank} axes; got shape {array.shape}.")
    return np.ascontiguousarray(array)


def compute(
    shape: tuple[int, ...],
    a: F32,
    b: F32,
    products: tuple[Product, ...],
    arithmetic: Arithmetic,
    *,
    seed: int,
    stream: int,
    out: F32 | None,
    threads: int | None,
    isa: str | None,
) -> F32:
    """Compute gathered products into one array; what no product reaches is +0."""
    if not isinstance(arithmetic, Arithmetic):
        raise UsageError(f"arithmetic must be an Arithmetic; got {arithmetic!r}.")
    check_key(seed, stream)
    check_out(out, shape, arithmetic.format)
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1; got {threads}.")
    native = choose(isa)
    direct = out is not None and out.flags.c_contiguous and not (np.may_share_memory(out, a) or np.may_share_memory(out, b))
    result = out if direct and out is not None else np.empty(shape, np.float32)
    result.fill(0.0)
    flat, key = result.reshape(-1), call_key(seed, stream) if arithmetic.rounding == "stochastic" else (0, 0)
    for product in products:
        if native is None:
            multiply_gathered(a.reshape(-1), b.reshape(-1), flat, product, arithmetic, key)
            continue
        work = product.a_rows.size * product.a_terms.size * product.b_columns.size * product.groups
        count = (threads_by_default() if work > _ONE_THREAD else 1) if threads is None else threads
        _run_native(native, a.reshape(-1), b.reshape(-1), flat, product, arithmetic, key, count)
    if out is None or direct:
        return result
    out[...] = result
    return out


def _run_native(
    native: Native, a: F32, b: F32, out: F32, product: Product, arithmetic: Arithmetic, key: tuple[int, int], threads: int
) -> None:
    modes = arithmetic.rounding, arithmetic.overflow, arithmetic.random_bits
    product_format = arithmetic.product_format
    native.module.rounded_product(
        a,
        b,
        out,
        [getattr(product, name) for name in TABLES],
        (product.height, product.width, product.groups, product.a_group, product.b_group, product.out_group),
        tuple(constants(arithmetic.format, *modes)),
        None if product_format is None else tuple(constants(product_format, *modes)),
        arithmetic.product == "same" or product_format == arithmetic.format,
        ORDERS.index(arithmetic.order),
        arithmetic.block,
        arithmetic.draw_width,
        key,
        threads,
        native.level,
    )
