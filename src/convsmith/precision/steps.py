"""The single operations of one written-out call, and what each of them is rounded to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from convsmith.precision.products import Accumulator, Spread, Total
from convsmith.precision.quantizer import Quantizer

_INSIDE: Final = 1 << 16
"""Numbers of roundings that one call inside of a call may take."""


class Steps:
    """The operations of one call: each result rounded as an activation, the error that comes back to it as an error.

    What is None stays float32. Operations are numbered in their order, so that each rounding has random bits of its own.
    """

    def __init__(
        self, activation: Quantizer | None, error: Quantizer | None, sums: Accumulator | None, statistics: Quantizer | None
    ) -> None:
        self.activation, self.error, self.sums, self.statistics = activation, error, sums, statistics
        self._part = 0

    def part(self, count: int = 1) -> int:
        """Return the number of the next rounding; ``count`` of them are taken."""
        self._part += count
        return self._part - count

    def follow(self, other: Steps) -> None:
        """Number operations where ``other`` is, which goes on far behind them."""
        self._part = other.part(_INSIDE)

    def __call__(self, x: Tensor) -> Tensor:
        """Store the result of one operation."""
        part = self.part(2)
        if self.error is not None and x.requires_grad:
            error = self.error
            x.register_hook(lambda gradient: error.rounded(gradient, part + 1))  # type: ignore[no-untyped-call]
        return x if self.activation is None else self.activation.round_(x, part)

    def add_bias(self, x: Tensor, bias: Tensor) -> Tensor:
        """Add a bias to sums of products, in the accumulator where there is one."""
        y = x + self.spread(bias, x.shape)
        return y if self.sums is None else self.sums.add(y, self.part())

    def total(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Add along axes, which stay with size 1."""
        if self.sums is None:
            return x.sum(tuple(axes), keepdim=True)
        result: Tensor = Total.apply(x, tuple(axes), self.sums, self.part())  # type: ignore[no-untyped-call]
        return result

    def spread(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Repeat to a shape; errors come back as sums."""
        if self.sums is None or tuple(x.shape) == tuple(shape):
            return x.expand(shape)
        result: Tensor = Spread.apply(x, tuple(shape), self.sums, self.part())  # type: ignore[no-untyped-call]
        return result

    def statistic(self, x: Tensor) -> Tensor:
        """Round a mean or a variance of a norm, in place."""
        return x if self.statistics is None else self.statistics.round_(x, self.part())
