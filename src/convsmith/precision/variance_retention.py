"""How many significand bits a float accumulator needs: those at which the sums keep their variance."""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError

LOST: Final = 50.0
"""The largest exponentiated variance that may be lost (Sakr et al. 2019, section 4.4)."""

MOST: Final = 23


def retention(bits: int, terms: int) -> float:
    """Return the part of the variance of a sum of ``terms`` random products that an accumulator with ``bits`` of significand keeps.

    Only full swamping is counted: once the sum is 2^bits times a product's deviation, what is added is lost. Products are taken as
    independent, of mean zero and one variance, exact. 1.0 is no loss.

    References: Sakr et al. 2019, Accumulation bit-width scaling for ultra-low precision training, arXiv 1901.06588, lemma 1.
    """
    if bits < 1 or terms < 1:
        raise UsageError(f"{bits} significand bits and {terms} terms; give at least one of each")
    if terms < 3:
        return 1.0
    limit = 2.0**bits
    i = np.arange(2, terms, dtype=np.float64)
    # the sum passes the limit at term i: it is beyond after i terms and was not after i - 1
    passed = _beyond(limit / np.sqrt(i)) * (1 - _beyond(limit / np.sqrt(i - 1)))
    never = float(1 - _beyond(np.array([limit / math.sqrt(terms)]))[0])
    norm = float(passed.sum()) + never
    return float((i * passed).sum() + terms * never) / (norm * terms) if norm > 0 else 0.0


def is_enough(bits: int, terms: int) -> bool:
    """Tell whether the variance lost over all terms is negligible: e^(terms (1 - retention)) is below ``LOST``."""
    return terms * (1 - retention(bits, terms)) < math.log(LOST)


@cache
def significand_bits(terms: int) -> int:
    """Return the fewest significand bits of an accumulator of ``terms`` products that keep the variance; at most 23."""
    return next((bits for bits in range(1, MOST) if is_enough(bits, terms)), MOST)


def _beyond(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that a standard normal number is beyond +-z."""
    from scipy.special import erfc

    found: NDArray[np.float64] = erfc(z / math.sqrt(2))
    return found
