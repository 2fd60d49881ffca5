"""What one value of a network can be, and how its deviations come from those of the values before it.

Every radius is enlarged by more than the rounding errors of its own computation: a sum of n products is off by at most ``gamma(n)`` of the
sum of magnitudes (Higham 2002, section 3.1), whatever the order, and no other way of convolving is used here than sums of products.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Numbers:
    """What the bounds are computed in. ``few``: four of its rounding errors; ``least``: more than what all its underflows can add up to."""

    dtype: torch.dtype
    unit: float
    least: float

    @property
    def few(self) -> float:
        return 4 * self.unit

    def gamma(self, n: int) -> float:
        """Return the bound of n rounding errors, infinite where they are too many to be bounded so."""
        return (n + 8) * self.unit * 1.02 if (n + 8) * self.unit < 0.02 else math.inf


FLOAT64: Final = Numbers(torch.float64, 2.0**-53, 1e-290)
#: oneDNN on x86 adds products in some order; libraries of other processors may use Winograd's algorithm, which has other errors.
FAST: Final = Numbers(torch.float32, 2.0**-24, 1e-30) if platform.machine() in ("x86_64", "AMD64") else FLOAT64


@dataclass
class Enclosure:
    """Values within ``radius`` of ``centre``."""

    centre: Tensor
    radius: Tensor

    @property
    def low(self) -> Tensor:
        return self.centre - self.radius

    @property
    def high(self) -> Tensor:
        return self.centre + self.radius


@dataclass
class Link:
    """How the deviations of a value from its centre come from those of the node's inputs, for the way back.

    output deviation = slope * (linear function of input deviations) + offset + something within ``bounded``, plus rounding errors: each
    within ``error`` for certain; for a proof in probability within ``error`` counts for nothing and ``spread``, ``steady`` and
    ``compensated`` say how they add up (see ``SumBound``). ``back``: takes weights of the output to those of the inputs, for the images
    whose numbers are given beside them, None for all in their order.
    """

    sources: tuple[str, ...]
    back: Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]
    slope: Tensor | None = None
    offset: Tensor | None = None
    bounded: Tensor | None = None
    spread: Tensor | None = None
    compensated: Tensor | None = None


@dataclass
class Walk:
    """One pass over a batch: every value, what went wrong for which image, and the links when they are kept."""

    values: dict[str, Enclosure] = field(default_factory=dict)
    links: list[tuple[str, Link]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def blame(self, images: Tensor, reason: str) -> None:
        """Note for the images of a mask why there is no proof; the first reason stays."""
        for index in images.nonzero().reshape(-1).tolist():
            self.problems.setdefault(index, reason)


def constant(array: Any, dtype: torch.dtype) -> Enclosure:
    """Return a weight as an enclosure without radius."""
    centre = torch.from_numpy(np.array(array)).to(dtype)
    return Enclosure(centre, torch.zeros_like(centre))
