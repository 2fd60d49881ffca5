"""Random bits from a counter: the same for a seed, a stream and an index, in any order and for any number of threads.

Element ``i`` of stream ``t`` under seed ``s`` uses Philox4x32 with 7 rounds, key ``s`` and counter ``(16 * (i // 64) + i % 16, t)``, both
64 bits with the low word first, and takes word ``i % 64 // 16`` of the four. One block of 64 elements so needs 16 counters, which is one
512-bit vector or two or four shorter ones. A wide word has 32 bits more below: the word of the counter with bit 63 set, which no element
has itself.

References: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", doi 10.1145/2063384.2063405 (7 rounds pass BigCrush).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError

ROUNDS: Final = 7
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = 0xFFFFFFFF


def philox(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int], rounds: int = ROUNDS) -> tuple[NDArray[np.uint64], ...]:
    """Return the four output words of Philox4x32 for arrays of counters, each 32-bit word in a uint64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    low, shift = np.uint64(_LOW), np.uint64(32)
    for _ in range(rounds):
        first, second = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c2 = (second >> shift) ^ c1 ^ np.uint64(k0), (first >> shift) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & low, first & low
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def check_key(seed: int, stream: int) -> None:
    """Refuse a seed or a stream that is not an unsigned 64-bit integer."""
    for name, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value < 1 << 64:
            raise UsageError(f"{name} must be 0 to 2^64 - 1; got {value}.")


def random_words(start: int, count: int, seed: int = 0, stream: int = 0) -> NDArray[np.uint32]:
    """Return the 32-bit random words of elements ``start`` to ``start + count`` of a stream.

    Stochastic rounding with ``r`` random bits uses the top ``r`` bits of an element's word.
    Raises: UsageError for a seed or stream beyond 64 bits.
    """
    return _words(start, count, seed, stream, 0)


def wide_random_words(start: int, count: int, seed: int = 0, stream: int = 0) -> NDArray[np.uint64]:
    """Return 64-bit random words, whose upper halves are the words of `random_words`, for more than 32 random bits."""
    upper = random_words(start, count, seed, stream).astype(np.uint64) << np.uint64(32)
    return upper | _words(start, count, seed, stream, 1 << 63)


def _words(start: int, count: int, seed: int, stream: int, offset: int) -> NDArray[np.uint32]:
    check_key(seed, stream)
    first_block, last_block = start // 64, -(-(start + count) // 64)
    counters = np.arange(first_block * 16, max(last_block, first_block) * 16, dtype=np.uint64) | np.uint64(offset)
    shape = counters.shape
    words = philox(
        (
            counters & np.uint64(_LOW),
            counters >> np.uint64(32),
            np.full(shape, stream & _LOW, np.uint64),
            np.full(shape, stream >> 32, np.uint64),
        ),
        (seed & _LOW, seed >> 32),
    )
    blocks = np.stack([word.reshape(-1, 16) for word in words], axis=1).astype(np.uint32)
    return blocks.reshape(-1)[start - 64 * first_block :][:count]
