"""Pictures that are nearly the same: a copy that was compressed again, scaled, brightened, cut at the edges or mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.data.measures import LUMA

WINDOW: Final = 17
CANDIDATE: Final = 0.55
ALIKE: Final = 0.9
"""Copies reach 0.93 and more; the closest different photos of 600 of flowers and of waste on white reach 0.87."""
BLOCK: Final = 2048
MOST_CANDIDATES: Final = 200_000
ZOOMS: Final = (1 / 1.14, 1 / 1.07, 1.0, 1.07, 1.14)
SHIFTS: Final = (-1, 0, 1)


@dataclass(frozen=True)
class Pair:
    """Two rows of a source that look alike, ``first < second``. ``likeness``: correlation of their details, at most 1."""

    first: int
    second: int
    likeness: float
    mirrored: bool


def near_pairs(thumbs: NDArray[np.uint8]) -> list[Pair]:
    """Return all pairs of pictures that look alike, the likest first; flat pictures are alike to none.

    Small grey copies without their coarse light are correlated; pairs above 0.55 again at several zooms and shifts, and mirrored.

    Shapes: ``thumbs`` (n, side, side, 3).
    """
    upright, _ = details(thumbs)
    mirrored, _ = details(thumbs[:, :, ::-1])
    pairs: dict[tuple[int, int], Pair] = {}
    for flipped, others in ((False, upright), (True, mirrored)):
        first, second = _candidates(upright, others)
        for start in range(0, len(first), BLOCK):
            a, b = first[start : start + BLOCK], second[start : start + BLOCK]
            likeness = _aligned(thumbs[a], thumbs[b][:, :, ::-1] if flipped else thumbs[b])
            for place in np.flatnonzero(likeness >= ALIKE):
                key = (int(a[place]), int(b[place]))
                pair = Pair(*key, round(float(likeness[place]), 3), flipped)
                if key not in pairs or pair.likeness > pairs[key].likeness:
                    pairs[key] = pair
    return sorted(pairs.values(), key=lambda pair: (-pair.likeness, pair.first, pair.second))


def details(thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return grey pictures less their mean over 17 x 17, of length 1 as float32 ``(n, side * side)``, and which are flat (all zero)."""
    grey = thumbs.astype(np.float32) @ LUMA
    fine = grey - _smooth(_smooth(grey, 1), 2)
    rows = fine.reshape(len(fine), grey.shape[1] * grey.shape[2])
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    flat = length[:, 0] < 2.0 * grey.shape[1]  # a deviation of 2 of 255 levels: noise and nothing else
    rows[flat] = 0
    return rows / np.maximum(length, 1e-6), flat


def _smooth(grey: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    around = [(0, 0)] * 3
    around[axis] = (WINDOW // 2 + 1, WINDOW // 2)
    total = np.cumsum(np.pad(grey, around, mode="reflect"), axis=axis, dtype=np.float64)
    n = grey.shape[axis]
    later, earlier = np.arange(WINDOW, WINDOW + n), np.arange(n)
    mean: NDArray[np.float32] = ((total.take(later, axis) - total.take(earlier, axis)) / WINDOW).astype(np.float32)
    return mean


def _candidates(rows: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs ``first < second`` worth a second look; of very many, the likest of each block."""
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    n = len(rows)
    for top in range(0, n, BLOCK):
        for left in range(top, n, BLOCK):
            likeness = rows[top : top + BLOCK] @ others[left : left + BLOCK].T
            if top == left:
                likeness[np.tril_indices(len(likeness))] = 0
            a, b = np.nonzero(likeness >= CANDIDATE)
            found.append((a + top, b + left, likeness[a, b]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first, second = (np.concatenate([part[side] for part in found]) for side in (0, 1))
    best = np.argsort(-np.concatenate([part[2] for part in found]), kind="stable")[:MOST_CANDIDATES]
    return first[best], second[best]


def _aligned(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the best correlation over small changes of zoom and place."""
    best = np.full(len(one), -1, np.float32)
    fixed = {}
    for zoom in ZOOMS:
        a, b = (_zoomed(one, zoom), other) if zoom >= 1 else (one, _zoomed(other, 1 / zoom))
        if zoom not in fixed:
            fixed[zoom] = details(a)[0]
        for dy in SHIFTS:
            for dx in SHIFTS:
                moved = np.roll(b, (dy, dx), (1, 2)) if dy or dx else b
                best = np.maximum(best, np.einsum("nk,nk->n", fixed[zoom], details(moved)[0]))
    return best


def _zoomed(thumbs: NDArray[np.uint8], zoom: float) -> NDArray[np.uint8]:
    """Return the middle of each picture enlarged by ``zoom``, bilinear."""
    if zoom == 1:
        return thumbs
    side = thumbs.shape[1]
    place = (np.arange(side) + 0.5 - side / 2) / zoom + side / 2 - 0.5
    low = np.clip(np.floor(place).astype(np.int64), 0, side - 2)
    part = (place - low).astype(np.float32)
    rows = thumbs[:, low] * (1 - part)[None, :, None, None] + thumbs[:, low + 1] * part[None, :, None, None]
    both = rows[:, :, low] * (1 - part)[None, None, :, None] + rows[:, :, low + 1] * part[None, None, :, None]
    levels: NDArray[np.uint8] = np.rint(both).clip(0, 255).astype(np.uint8)
    return levels
