"""Where the values of a program lie in one arena, so that memory is used again when a value is no longer needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from convsmith.compiler.steps import Step

UNIT: Final = 16
"""Floats: buffers begin at multiples of 64 bytes, a line of the cache and ``kAlignment`` of native/convolution.h."""


@dataclass(frozen=True)
class Arena:
    """``offsets`` and ``size`` in floats; ``live_bytes``: of each step, what is in use while it runs."""

    offsets: tuple[int, ...]
    size: int
    live_bytes: tuple[int, ...]


def place_buffers(sizes: Sequence[int], steps: Sequence[Step]) -> Arena:
    """Return an offset for every buffer such that those in use at the same time do not overlap.

    Large buffers are placed first, each at the lowest place that is free for as long as it lives. A buffer that no step
    uses takes no room.

    References: Pisarchyk and Lee 2020, arXiv:2001.03288, greedy by size for offsets.
    """
    spans = lifetimes(len(sizes), steps)
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for number in sorted((n for n, span in enumerate(spans) if span), key=lambda n: (-sizes[n], n)):
        first, last = spans[number] or (0, 0)
        rivals = sorted(
            (offsets[other], offsets[other] + rounded(sizes[other])) for other in placed if overlaps(spans[other], (first, last))
        )
        offset = 0
        for begin, end in rivals:
            if begin - offset >= rounded(sizes[number]):
                break
            offset = max(offset, end)
        offsets[number] = offset
        placed.append(number)
    total = max((offsets[n] + rounded(sizes[n]) for n in placed), default=0)
    live = [sum(4 * sizes[n] for n in placed if overlaps(spans[n], (index, index))) for index in range(len(steps))]
    return Arena(tuple(offsets), total, tuple(live))


def lifetimes(count: int, steps: Sequence[Step]) -> list[tuple[int, int] | None]:
    """Return the first and the last step that uses each buffer of the arena; None when none does."""
    spans: list[tuple[int, int] | None] = [None] * count
    for index, step in enumerate(steps):
        for view in (step.target, *step.reads, *step.scratch):
            if view.space == "arena":
                span = spans[view.buffer]
                spans[view.buffer] = (index if span is None else span[0], index)
    return spans


def overlaps(span: tuple[int, int] | None, other: tuple[int, int]) -> bool:
    return span is not None and span[0] <= other[1] and other[0] <= span[1]


def rounded(size: int) -> int:
    return -(-size // UNIT) * UNIT
