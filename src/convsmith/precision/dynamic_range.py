"""Dynamic fixed point: integer bits that follow the rate of overflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from torch import Tensor

from convsmith import formats
from convsmith.precision.rule import Rule

FARTHEST: Final = 60
"""Integer bits beyond which a range does not move: the steps stay float32 values."""


def beyond(x: Tensor, fmt: formats.Format) -> Tensor:
    """Return the values that are beyond the range of a format, in one row."""
    return x[(x > formats.max_value(fmt)) | (x < formats.min_value(fmt))]


class DynamicRange:
    """The range of one tensor. Every ``interval`` looks: more overflow than allowed gives one integer bit more; no more than allowed
    at half the range gives one less. The width stays.

    References: Courbariaux, Bengio, David 2014, arXiv 1412.7024, section 5.
    """

    def __init__(self, rule: Rule) -> None:
        assert rule.format is not None
        self._interval, self._allowed = rule.interval, rule.max_overflow
        self.format = rule.format
        self._looks = self._seen = self._over = self._over_half = 0

    def look(self, x: Tensor) -> None:
        """Count what one batch would overflow, at this range and at half of it; the range moves after the last of an interval."""
        outer = beyond(x, self._moved(-1))
        self._over_half += outer.numel()
        self._over += beyond(outer, self.format).numel()
        self._seen += x.numel()
        self._looks += 1
        if self._looks >= self._interval:
            self._move()

    def _move(self) -> None:
        if self._over > self._allowed * self._seen:
            self._shift(1)
        elif self._over_half <= self._allowed * self._seen:
            self._shift(-1)
        self._looks = self._seen = self._over = self._over_half = 0

    def _shift(self, bits: int) -> None:
        if abs(self.format.integer_bits + bits) < FARTHEST:
            self.format = self._moved(bits)

    def _moved(self, bits: int) -> formats.Format:
        integer_bits = self.format.integer_bits + bits
        return replace(self.format, integer_bits=integer_bits, fraction_bits=self.format.bits - integer_bits)

    def state(self) -> dict[str, Any]:
        return {"integer_bits": self.format.integer_bits, "counts": [self._looks, self._seen, self._over, self._over_half]}

    def load(self, state: Mapping[str, Any]) -> None:
        self._shift(state["integer_bits"] - self.format.integer_bits)
        self._looks, self._seen, self._over, self._over_half = state["counts"]
