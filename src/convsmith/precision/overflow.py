"""How far sums of integer products can go, in any order of the additions, and the bits that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sum_ends(rows: NDArray[Any], low: int, high: int) -> tuple[list[int], list[int]]:
    """Return the least and the largest partial sum of each row of weights, for inputs of ``low`` to ``high``.

    Exact: the largest takes all terms that can be positive at their largest and none of the others, the least the other way round.

    Shapes: ``rows`` (channels, terms), whole numbers.
    """
    ends = np.stack([rows * low, rows * high])
    return [int(x) for x in np.minimum(ends.min(0), 0).sum(1)], [int(x) for x in np.maximum(ends.max(0), 0).sum(1)]


def bits_for(low: int, high: int) -> int:
    """Return the bits of the smallest two's complement range that holds both."""
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1
