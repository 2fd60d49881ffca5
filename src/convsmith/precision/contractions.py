"""Products of torch beside ``matmul`` and ``linear``, written out as those: einsum, attention, vectors, batches with something added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.errors import UnsupportedError
from convsmith.precision.operations import matmul, softmax
from convsmith.precision.steps import Steps


def vectors(steps: Steps, a: Tensor, b: Tensor) -> Tensor:
    """``torch.mv`` and ``torch.dot``."""
    return matmul(steps, a, b)


def outer(steps: Steps, a: Tensor, b: Tensor) -> Tensor:
    """``torch.outer``: single products."""
    return steps(a[:, None] * b)


def inner(steps: Steps, a: Tensor, b: Tensor) -> Tensor:
    """``torch.inner``: sums over the last axis of both."""
    if not (a.ndim and b.ndim):
        return steps(a * b)
    y = matmul(steps, a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]).t())
    return y.reshape(*a.shape[:-1], *b.shape[:-1])


def baddbmm(steps: Steps, added: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``torch.baddbmm`` without factors: what is added comes after the last product, in the accumulator."""
    if steps.sums is None:
        return steps(torch.baddbmm(added, a, b))
    return steps(steps.add_bias(_plain(steps, a, b), added))


def attention(
    steps: Steps, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """``F.scaled_dot_product_attention``: products of queries and keys, each times the scale, softmax, products with the values."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = matmul(steps, query, key.transpose(-2, -1))
    scores = steps(scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = steps(scores + attn_mask)
    share = softmax(steps, scores, -1)
    return matmul(steps, steps(F.dropout(share, dropout_p)) if dropout_p else share, value)


def einsum(steps: Steps, equation: Any, *operands: Any) -> Tensor:
    """``torch.einsum`` of one or two operands: what only one of them has is summed first, the rest is one batch of matrix products.

    Raises: UnsupportedError for more operands, diagonals and ellipses.
    """
    given: Sequence[Tensor] = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    if not isinstance(equation, str) or len(given) > 2:
        raise UnsupportedError("einsum is emulated operation by operation for a text and at most two operands; split it")
    left, arrow, right = equation.replace(" ", "").partition("->")
    names = left.split(",")
    joined = "".join(names)
    result = right if arrow else "".join(sorted(name for name in set(joined) if joined.count(name) == 1))
    if "." in equation or any(len(set(name)) != len(name) for name in (*names, result)):
        raise UnsupportedError(f"einsum {equation!r} is not emulated operation by operation: no diagonals and no ellipses; write it out")
    if len(given) == 1:
        x, labels = _summed(steps, given[0], names[0], set(names[0]) - set(result))
        return x.permute([labels.index(name) for name in result])
    a, in_a = _summed(steps, given[0], names[0], set(names[0]) - set(names[1]) - set(result))
    b, in_b = _summed(steps, given[1], names[1], set(names[1]) - set(names[0]) - set(result))
    both = [name for name in in_a if name in in_b]
    batch, sums = [name for name in both if name in result], [name for name in both if name not in result]
    rows, columns = [name for name in in_a if name not in both], [name for name in in_b if name not in both]
    sizes = dict(zip(in_a, a.shape, strict=True)) | dict(zip(in_b, b.shape, strict=True))
    shapes = [[math.prod(sizes[name] for name in part) for part in parts] for parts in ((batch, rows, sums), (batch, sums, columns))]
    left_one = a.permute([in_a.index(name) for name in (*batch, *rows, *sums)]).reshape(shapes[0])
    right_one = b.permute([in_b.index(name) for name in (*batch, *sums, *columns)]).reshape(shapes[1])
    y = matmul(steps, left_one, right_one) if sums else steps(left_one * right_one)
    order = [*batch, *rows, *columns]
    return y.reshape([sizes[name] for name in order]).permute([order.index(name) for name in result])


def _summed(steps: Steps, x: Tensor, labels: str, gone: set[str]) -> tuple[Tensor, str]:
    """Return the sums over some axes, and the labels that are left."""
    axes = tuple(labels.index(name) for name in sorted(gone))
    kept = "".join(name for name in labels if name not in gone)
    return (steps(steps.total(x, axes)).squeeze(axes), kept) if axes else (x, kept)


def _plain(steps: Steps, a: Tensor, b: Tensor) -> Tensor:
    """Return batches of products without a store behind them."""
    inside = Steps(None, None, steps.sums, None)
    inside.follow(steps)
    return matmul(inside, a, b)
