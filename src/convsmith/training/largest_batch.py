"""The most images at once that fit a given memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MOST: Final = 1 << 16
FIRST: Final = 16


def largest_batch(need_bytes: Callable[[int], int], limit_bytes: int, most: int = MOST) -> int:
    """Return the largest number of images, at most ``most``, whose need is within the limit; 0 when one image is too much.

    The need must not fall with the number of images. It is nearly a straight line, so each guess is where the line through the last two
    known points meets the limit; every second guess halves what is left, once something is known to be too much.
    """
    known = [(1, need_bytes(1))]
    if known[0][1] > limit_bytes:
        return 0
    low, high, halve = 1, most + 1, False
    guess = min(FIRST, most)
    while high - low > 1:
        known.append((guess, need_bytes(guess)))
        low, high = (guess, high) if known[-1][1] <= limit_bytes else (low, guess)
        halve = not halve and high <= most
        guess = (low + high) // 2 if halve else min(max(reached(known[-2], known[-1], limit_bytes), low + 1), high - 1)
    return low


def reached(one: tuple[int, int], other: tuple[int, int], limit_bytes: int) -> int:
    """Return at how many images the line through two points meets the limit; no end for a level one."""
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return MOST if slope <= 0 else other[0] + int((limit_bytes - other[1]) / slope)
