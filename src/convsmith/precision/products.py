"""Products and sums of torch tensors with every multiply and add rounded, forward and in both backward products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convsmith.kernels.arithmetic import Arithmetic
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.rule import Rule
from convsmith.precision.tensor_products import multiply


class Accumulator:
    """The sums of one layer: their arithmetic, and streams of random bits for each of its products.

    A layer's products are numbered as they are made, forward ones first in each pass; ``None`` in place of it means float32.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self.quantizer = quantizer
        self.products = arithmetic_of(quantizer.rule)
        pairwise = self.products.order == "pairwise"
        self.sums = self.products if pairwise else replace(self.products, product=None)

    def keys(self, part: int) -> dict[str, Any]:
        """Return seed and stream of the product number ``part``."""
        return self.quantizer.keys(part)

    def add(self, x: Tensor, part: int) -> Tensor:
        """Round what one more addition gave, in place."""
        return self.quantizer.round_(x, part)


def arithmetic_of(rule: Rule) -> Arithmetic:
    """Return the arithmetic that an accumulator's rule describes."""
    assert rule.format is not None
    modes: dict[str, Any] = {"block": rule.block} if rule.block else {}
    modes |= {"rounding": rule.rounding, "overflow": rule.overflow, "random_bits": rule.random_bits}
    return Arithmetic(rule.format, rule.product, order=rule.order, **modes)


class Product(torch.autograd.Function):
    """Multiply matrices (m, k) by (k, n), the second given as (n, k) when ``transposed``."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, transposed: bool, sums: Accumulator, part: int) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.transposed, ctx.sums, ctx.part = transposed, sums, part
        return multiply(a, b, sums.products, transpose_b=transposed, **sums.keys(part))

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (a, b), sums, part = ctx.saved_tensors, ctx.sums, ctx.part
        error, da, db = errors[0], None, None
        if ctx.needs_input_grad[0]:
            da = multiply(error, b, sums.products, transpose_b=not ctx.transposed, **sums.keys(part + 1))
        if ctx.needs_input_grad[1]:
            left, right = (error, a) if ctx.transposed else (a, error)
            db = multiply(left, right, sums.products, transpose_a=True, **sums.keys(part + 2))
        return da, db, None, None, None


class Total(torch.autograd.Function):
    """Add along axes, in C order of what is added; the axes stay with size 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], sums: Accumulator, part: int) -> Tensor:
        ctx.shape = x.shape
        return added(x, axes, sums, part)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor, None, None, None]:
        return errors[0].expand(ctx.shape), None, None, None


class Spread(torch.autograd.Function):
    """Repeat along axes of size 1; the error that comes back is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: Sequence[int], sums: Accumulator, part: int) -> Tensor:
        ctx.given, ctx.sums, ctx.part = x.shape, sums, part
        return x.expand(shape)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor, None, None, None]:
        error = errors[0]
        lead = error.ndim - len(ctx.given)
        axes = (*range(lead), *(lead + axis for axis, size in enumerate(ctx.given) if size == 1 and error.shape[lead + axis] != 1))
        return added(error, axes, ctx.sums, ctx.part).reshape(ctx.given), None, None, None


def added(x: Tensor, axes: tuple[int, ...], sums: Accumulator, part: int) -> Tensor:
    """Return the sums along axes, which stay with size 1; each one the product of its numbers with ones."""
    axes = tuple(axis % x.ndim for axis in axes)
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    terms = math.prod(x.shape[axis] for axis in axes)
    rows = x.detach().permute(*kept, *axes).reshape(-1, terms)
    return multiply(rows, rows.new_ones(terms, 1), sums.sums, **sums.keys(part)).reshape(shape)
