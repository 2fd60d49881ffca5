"""The random bits of rounded arithmetic: one draw for every rounding, keyed by what is computed and not by how.

A call with (seed, stream) has the key ``(k0, k1)``: the first two words of Philox4x32 with 7 rounds, key ``seed`` and counter
``(stream, "rounded!")``, low words first. Draw ``d`` of output element ``e`` (its C-order index) for products (kind 0) or sums (kind 1)
then comes from Philox4x32 with 7 rounds, that key and the counter ``(e low, e high, d // n, kind)``, which makes 128 bits: ``n`` pieces of
8, 16 or 32 bits, the narrowest that hold the random bits asked for. Piece ``d % n`` counts from the lowest bits of the first word up, and
its top ``random_bits`` bits are the integer R of `formats.round_scalar`.

Which number ``d`` a rounding has: a product, its term. A sum, in sequential order its term; in pairwise order the count of sums before it;
in blocked order its block; in Kahan's order ``4 term + 0 .. 3``.

References: Salmon et al. 2011, doi 10.1145/2063384.2063405.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.formats.random_bits import philox

PRODUCT: Final = 0
SUM: Final = 1
_LOW: Final = 0xFFFFFFFF
_TAG: Final = int.from_bytes(b"rounded!", "little")


def call_key(seed: int, stream: int) -> tuple[int, int]:
    """Return the Philox key of all draws of one call."""
    counter = tuple(np.full(1, word, np.uint64) for word in (stream & _LOW, stream >> 32, _TAG & _LOW, _TAG >> 32))
    words = philox(counter, (seed & _LOW, seed >> 32))
    return int(words[0][0]), int(words[1][0])


def draws(elements: NDArray[np.uint64], kind: int, number: int, width: int, key: tuple[int, int]) -> NDArray[np.uint32]:
    """Return draw ``number`` of each element, as a 32-bit word whose top ``width`` bits are its piece."""
    pieces = 128 // width
    shape = elements.shape
    words = philox(
        (
            elements & np.uint64(_LOW),
            elements >> np.uint64(32),
            np.full(shape, number // pieces, np.uint64),
            np.full(shape, kind, np.uint64),
        ),
        key,
    )
    bit = number % pieces * width
    piece = words[bit // 32] >> np.uint64(bit % 32)
    return (piece << np.uint64(32 - width) & np.uint64(_LOW)).astype(np.uint32)
