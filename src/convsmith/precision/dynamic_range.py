"""Dynamic fixed point: integer bits that follow the rate of overflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    at half the range gives one less. The width stays. ``together``: several processes count, and `agree` moves the range for all.
    ``kept``: what is rounded is kept and moved on, as moments of gradients are, so that what is lost stays lost: the range begins with
    that of the first numbers which are not all zero, and grows at once.

    References: Courbariaux, Bengio, David 2014, arXiv 1412.7024, section 5.
    """

    def __init__(self, rule: Rule, *, together: bool = False, kept: bool = False) -> None:
        assert rule.format is not None
        self.kept = kept
        self._together, self._fitted = together, not kept
        self._interval, self._allowed = rule.interval, rule.max_overflow
        self.format = rule.format
        self._looks = self._seen = self._over = self._over_half = 0

    def look(self, x: Tensor) -> None:
        """Count what one batch would overflow, at this range and at half of it; the range moves after the last of an interval."""
        if self.kept:
            self._fit(x)
        outer = beyond(x, self._moved(-1))
        self._over_half += outer.numel()
        self._over += beyond(outer, self.format).numel()
        self._seen += x.numel()
        self._looks += 1
        if self._looks >= self._interval and not self._together:
            self._move()

    def _fit(self, x: Tensor) -> None:
        """Begin with the range of the first numbers, and grow until no more overflow than allowed."""
        x = x[x.isfinite()]
        largest = float(x.abs().max()) if x.numel() else 0.0
        if not self._fitted and largest > 0:
            self._fitted = True
            self._shift(math.frexp(largest)[1] + int(self.format.signed) - self.format.integer_bits)
        while beyond(x, self.format).numel() > self._allowed * x.numel() and self.format.integer_bits + 1 < FARTHEST:
            self._shift(1)
            self._looks = self._seen = self._over = self._over_half = 0

    def counted(self) -> list[int]:
        """Return what this process has counted since the range last moved."""
        return [self._looks, self._seen, self._over, self._over_half]

    def agree(self, counts: Sequence[int], processes: int) -> None:
        """Move by the sums of what all processes have counted, once the looks of an interval are made."""
        if counts[0] >= self._interval * processes:
            self._looks, self._seen, self._over, self._over_half = counts
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
        return {"integer_bits": self.format.integer_bits, "counts": self.counted(), "fitted": self._fitted}

    def load(self, state: Mapping[str, Any]) -> None:
        self._shift(state["integer_bits"] - self.format.integer_bits)
        self._looks, self._seen, self._over, self._over_half = state["counts"]
        self._fitted = state.get("fitted", True)
