"""Convolutions that follow each other run a band of lines at a time, so that what lies between them stays in the cache.

A block of MobileNet makes its image six times as wide, filters each channel by itself and makes it narrow again, and many a first layer
writes a large image that pooling reads at once: memory, not arithmetic, decides their time.

References: Alwani, Chen, Ferdman, Milder 2016, Fused-Layer CNN Accelerators (MICRO-49).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from convsmith.compiler.memory import rounded
from convsmith.compiler.planner import Layout
from convsmith.compiler.steps import Step
from convsmith.compiler.views import View, is_dense, usual_order
from convsmith.kernels import native

POOL: Final = "max_pool"
"""What native/band_steps.cc calls the largest over windows, which it takes with the sizes of a convolution."""

LETTERS: Final = {"gemm": "c", "direct": "c", "depthwise": "d", POOL: "p"}
"""What may be in a band: algorithms that lose nothing when they get few lines at a time, and give the same bits."""

PATTERNS: Final = ("cdc", "cd", "dc", "cp")
"""What is joined: a depthwise convolution with what comes before and after it, and a first layer with its pooling."""

ROOM: Final = 0.6
"""Part of the second-level cache that a band's values may take; weights and packed lines have the rest."""

LEAST_BYTES: Final = 1
"""Multiples of the second-level cache of all threads that the values between must take, else they stay in a cache by themselves."""

MOST_AGAIN: Final = 1.5
"""How often the lines of a stage may be computed, on the average."""

N, C, H, W, K, R, STRIDE, DILATION, TOP, BOTTOM, GROUPS, OUT_H, OUT_W = 0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 16, 17
"""Places of fields of ``Convolution`` in ``native.sizes``."""

Lines = tuple[int, int]


@dataclass(frozen=True)
class Band:
    """Steps to be joined, and how many lines of the result a band has."""

    steps: tuple[Step, ...]
    lines: int

    def ranges(self) -> Iterator[list[Lines]]:
        """Yield for each band the lines of the image and of every stage's result."""
        out_h = self.steps[-1].sizes[OUT_H]
        for begin in range(0, out_h, self.lines):
            found = [(begin, min(begin + self.lines, out_h))]
            for step in reversed(self.steps):
                found.insert(0, needed(step.sizes, found[0]))
            yield found

    def kept(self) -> list[int]:
        """Return the floats that every stage's result takes at the most, 0 for the last, which goes where it belongs."""
        most = [max(end - begin for begin, end in lines) for lines in zip(*self.ranges(), strict=True)][1:-1]
        pixels = [step.sizes[OUT_W] * step.sizes[K] for step in self.steps[:-1]]
        return [*(rounded(lines * size) for lines, size in zip(most, pixels, strict=True)), 0]

    def again(self) -> float:
        """Return how often the lines of the first stage are computed, on the average."""
        return sum(end - begin for _, (begin, end), *_ in self.ranges()) / self.steps[0].sizes[OUT_H]

    def scratch(self) -> int:
        """Return the floats that the algorithms need on one thread at the most."""
        parts = {
            (step.algorithm, part_of(step.sizes, given, lines))
            for found in self.ranges()
            for step, given, lines in zip(self.steps, found, found[1:], strict=False)
            if step.algorithm != POOL
        }
        return max(rounded(-(-native.workspace_bytes_of(name, sizes, 1) // 4)) for name, sizes in parts)


def needed(sizes: Sequence[int], lines: Lines) -> Lines:
    """Return the lines of the image that lines of a convolution's result need."""
    first, end = reach(sizes, lines)
    return max(first, 0), min(end, sizes[H])


def reach(sizes: Sequence[int], lines: Lines) -> Lines:
    """Return the lines that windows cover, those of the padding too."""
    first = lines[0] * sizes[STRIDE] - sizes[TOP]
    return first, (lines[1] - 1) * sizes[STRIDE] - sizes[TOP] + (sizes[R] - 1) * sizes[DILATION] + 1


def part_of(sizes: Sequence[int], given: Lines, lines: Lines) -> tuple[int, ...]:
    """Return the sizes of the convolution of some lines alone, as native/band_steps.cc makes them."""
    part, (first, end) = list(sizes[:20]), reach(sizes, lines)
    part[N], part[H], part[OUT_H] = 1, given[1] - given[0], lines[1] - lines[0]
    part[TOP], part[BOTTOM] = given[0] - first, end - given[1]
    return tuple(part)


def join(layout: Layout, threads: int) -> Layout:
    """Return the layout with bands where they pay: around depthwise convolutions of images that no cache holds."""
    users: dict[int, set[int]] = {}
    for index, step in enumerate(layout.steps):
        for view in (step.target, *step.reads, *step.scratch):
            if view.space == "arena":
                users.setdefault(view.buffer, set()).add(index)
    steps, buffers, index = list[Step](), list(layout.buffers), 0
    while index < len(layout.steps):
        band = next(bands_at(layout, index, users, threads), None)
        if band is None:
            steps.append(layout.steps[index])
            index += 1
            continue
        floats = threads * (band.scratch() + sum(band.kept()))
        steps.append(one(band, View("arena", len(buffers), (floats,), (1,)), threads))
        buffers.append(floats)
        index += len(band.steps)
    return replace(layout, steps=tuple(steps), buffers=tuple(buffers))


def bands_at(layout: Layout, index: int, users: dict[int, set[int]], threads: int) -> Iterator[Band]:
    """Yield the bands worth making from a step on, the longest first."""
    stages = [stage_of(step) for step in layout.steps[index : index + 3]]
    letters = "".join(LETTERS[stage.algorithm] if stage is not None else " " for stage in stages)
    for pattern in PATTERNS:
        steps = [stage for stage in stages[: len(pattern)] if stage is not None]
        if letters.startswith(pattern) and all(follows(layout, index + place, users) for place in range(len(pattern) - 1)):
            band = fitting(steps, threads)
            if band is not None:
                yield band


def stage_of(step: Step) -> Step | None:
    """Return a step as a part of a band, None where it cannot be one; pooling gets the sizes and operands of a convolution."""
    if step.kind == "pooling" and step.sizes[-2]:
        n, c, h, w, *windows, x_pitch, y_pitch, _, _ = step.sizes
        kernel, strides, dilations, pads, output = windows[:2], windows[2:4], windows[4:6], windows[6:10], windows[10:]
        sizes = (n, c, h, w, c, *kernel, *strides, *dilations, *pads, c, *output, x_pitch, y_pitch, 0, 0)
        operands = (step.operands[0], None, None, None)
        step = replace(step, operands=operands, sizes=sizes, numbers=(0.0, 0.0), algorithm=POOL, joined=(step,))
    elif step.kind != "convolution" or step.algorithm not in LETTERS:
        return None
    return step if padded_less_than_kernel(step.sizes) else None


def follows(layout: Layout, index: int, users: dict[int, set[int]]) -> bool:
    """Tell whether the next step alone reads what this one writes, all of it."""
    step, after = layout.steps[index : index + 2]
    view = step.target
    if view.space != "arena" or users[view.buffer] != {index, index + 1} or step.operands[3] is not None:
        return False
    alone = all(other is None or other.space != "arena" or other.buffer != view.buffer for other in after.operands[1:])
    whole = is_dense(view, usual_order(4)) and view.offset == 0 and rounded(view.size) == rounded(layout.buffers[view.buffer])
    return alone and whole and after.operands[0] == view


def padded_less_than_kernel(sizes: Sequence[int]) -> bool:
    """Tell whether every window has lines of the image."""
    return max(sizes[TOP], sizes[BOTTOM]) <= (sizes[R] - 1) * sizes[DILATION]


def fitting(steps: Sequence[Step], threads: int) -> Band | None:
    """Return the steps as bands of as many lines as the cache holds; None where they would not pay."""
    between = 4 * sum(step.target.size for step in steps[:-1])
    cache, out_h = native.second_cache(), steps[-1].sizes[OUT_H]
    if between < LEAST_BYTES * cache * threads or threads > max(step.threads for step in steps):
        return None
    # enough bands for the threads to share
    most = max(1, min(out_h, steps[0].sizes[N] * out_h // (4 * threads)))
    fits = (Band(tuple(steps), lines) for lines in range(most, 0, -1))
    band = next((band for band in fits if 4 * sum(band.kept()) <= ROOM * cache), None)
    if band is None:
        return None
    even = Band(band.steps, -(-out_h // -(-out_h // band.lines)))
    return even if even.again() <= MOST_AGAIN else None


def one(band: Band, workspace: View, threads: int) -> Step:
    """Return the step that runs the bands."""
    first, last = band.steps[0], band.steps[-1]
    sizes: list[int] = [len(band.steps), band.lines, band.scratch()]
    operands: list[View | None] = [first.operands[0]]
    for step, kept in zip(band.steps, band.kept(), strict=True):
        sizes += [*step.sizes, kept]
        operands += step.operands[1:4]
    return Step(
        "band",
        last.node,
        last.target,
        tuple(operands),
        tuple(sizes),
        tuple(number for step in band.steps for number in step.numbers),
        " ".join(step.algorithm for step in band.steps),
        threads,
        (workspace,),
        sum(step.work for step in band.steps),
        f"of {band.lines} lines: " + ", ".join(step.detail for step in band.steps),
        tuple(part for step in band.steps for part in step.whole),
    )
