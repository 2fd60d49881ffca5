"""Which algorithm a convolution runs with, and on how many threads: by rule, or by measuring on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from convsmith import __version__
from convsmith.compiler.trials import Choice, stopwatch
from convsmith.errors import UnsupportedError, UsageError
from convsmith.kernels import ALGORITHMS, ConvolutionShape, integer_native, native, processor, tuner, tuning_cache

ALONE_OPERATIONS: Final = 400_000
"""Multiplications and additions below which one thread is quicker than two."""

FLOAT32: Final = 1e-4
"""Error above which an algorithm is taken only where it is asked for: bfloat16 operands."""

FEW: Final = 16
"""Input channels up to which convolutions read pixels where they lie, unless measuring says otherwise."""

WIDE: Final = 7
"""Output columns from which integer convolutions read pixels where they lie: with fewer, packing those of several rows fills the tiles."""

SHARED: Final = 20
"""Multiples of ``ALONE_OPERATIONS`` from which one thread is not worth a measurement."""

MOST_COST: Final = 2.2
"""How many times the cost of the cheapest a fast algorithm may have to be measured; of 107 layers the quickest never had 2.0 times."""

DIRECT: Final = ("depthwise", "direct", "gemm", "loops", "int8_depthwise", "int8_direct", "int8_gemm", "int8_loops")
"""Algorithms that sum directly, the one to use without measuring first."""


Choose = Callable[[ConvolutionShape], Choice]
Decisions = Mapping[str, Choice]


class Chooser:
    """Chooses by rule, or by measuring where asked to; a decision once made stays.

    ``tune``: True, or the seconds that measuring may take in all. ``accuracy``: the largest error of an algorithm, ``Algorithm.accuracy``.
    """

    def __init__(
        self, threads: int, level: str, *, tune: bool | float = False, accuracy: float | None = None, decisions: Decisions | None = None
    ) -> None:
        if (not isinstance(tune, bool) and tune <= 0) or (accuracy is not None and accuracy <= 0):
            raise UsageError(f"tune is {tune} and accuracy {accuracy}; a time and an accuracy must be positive")
        self.threads, self.level, self.accuracy = threads, level, accuracy
        self.decisions: dict[str, Choice] = dict(decisions or {})
        self._measures = tune is not False
        self._left_s = None if isinstance(tune, bool) else float(tune)
        self._remembered = tuning_cache.recall() if self._measures else {}

    def __call__(self, shape: ConvolutionShape) -> Choice:
        names, name = candidates(shape, self.level, self.accuracy), self._key(layer_key(shape))
        decided = self.decisions.get(name)
        if decided is None and self._measures:
            decided = self._recalled(name, names) or self._measured(shape, names, name)
        if decided is not None and decided.algorithm in names:
            return decided
        return by_rule(shape, names, self.threads)

    def _key(self, layer: str) -> str:
        return tuning_cache.key(processor(), self.level, self.threads, __version__, layer)

    def _cached(self, name: str, names: list[str]) -> str:
        """Return the name of a decision in the cache, which holds those of every accuracy and of so many algorithms; a program has one."""
        within = "" if self.accuracy is None else f" within {self.accuracy:g}"
        return f"{name} of {len(names)}{within}"

    def _recalled(self, name: str, names: list[str]) -> Choice | None:
        cached = self._cached(name, names)
        if cached not in self._remembered:
            return None
        self.decisions[name] = Choice(*self._remembered[cached])
        return self.decisions[name]

    def _measured(self, shape: ConvolutionShape, names: list[str], name: str) -> Choice | None:
        if self._left_s is not None and self._left_s <= 0:
            return None
        start = time.perf_counter()
        rule = by_rule(shape, [next(n for n in DIRECT if n in names)] if set(DIRECT) & set(names) else names, self.threads)
        counts = {self.threads} if operations_of(shape) >= SHARED * ALONE_OPERATIONS else {1, self.threads}
        choices = [Choice(algorithm, threads) for algorithm in promising(shape, names) for threads in sorted(counts)]
        choices += [] if rule in choices else [rule]
        decision = tuner.choose(choices, stopwatch(shape, choices, self.level), direct=rule, limit_s=self._left_s)
        if self._left_s is not None:
            self._left_s -= time.perf_counter() - start
        if not decision.intervals:
            return None
        self.decisions[name] = decision.chosen
        tuning_cache.remember({self._cached(name, names): [decision.chosen.algorithm, decision.chosen.threads]})
        return decision.chosen


def candidates(shape: ConvolutionShape, level: str, accuracy: float | None) -> list[str]:
    """Return the native algorithms that can, and are as accurate as asked for.

    Raises: ``UnsupportedError`` when there is none.
    """
    kernels = native if shape.dtype == "float32" else integer_native
    names = [name for name in kernels.names(level) if kernels.supports(name, shape)]
    # nothing is more accurate than a sum of the products themselves: the direct ones always remain
    limit = FLOAT32 if accuracy is None else accuracy
    names = [name for name in names if name in DIRECT or ALGORITHMS[name].accuracy <= limit]
    if not names:
        raise UnsupportedError("no algorithm supports it")
    return names


def by_rule(shape: ConvolutionShape, names: list[str], threads: int) -> Choice:
    """Return what to use without measuring: Winograd where it is known to win, else directly; one thread where there is little to do."""
    operations = operations_of(shape)
    wide = shape.windows.output[1] >= WIDE or (shape.products == shape.in_channels and set(shape.windows.strides) == {1})
    forms = fast_forms(shape) if shape.dtype == "float32" else () if wide else ("int8_depthwise", "int8_gemm")
    many = shape.in_channels > FEW
    algorithm = next((name for name in (*forms, *DIRECT) if name in names and not (many and name == "direct")), names[0])
    return Choice(algorithm, 1 if operations < ALONE_OPERATIONS else threads)


def promising(shape: ConvolutionShape, names: Sequence[str]) -> list[str]:
    """Return the algorithms worth measuring: those that sum directly, and fast ones whose multiplications are not far from the fewest."""
    costs = {name: cost for name in names if (cost := multiplications(name, shape))}
    most = MOST_COST * min(costs.values(), default=0.0)
    return [name for name in names if "loops" not in name and costs.get(name, 0.0) <= most]


def multiplications(name: str, shape: ConvolutionShape) -> float:
    """Return those of one pair of channels by Winograd or Fourier, 0 for any other algorithm.

    A complex one is four, and counts twice that: transforms of Fourier are longer, and its products reach half the speed.
    """
    kind, *sides = name.removesuffix("_parts").split("_")
    if kind not in ("winograd", "fft"):
        return 0.0
    kernel, output = shape.windows.kernel, shape.windows.output
    taken, reach = ([int(side) for side in text.split("x")] for text in (sides[0], sides[-1]))
    if kind == "fft":
        outputs, points, parts = [side - size + 1 for side, size in zip(taken, kernel, strict=True)], 8 * (taken[0] * taken[1] // 2 + 2), 1
    else:
        outputs, points = taken, int(np.prod([m + r - 1 for m, r in zip(taken, reach, strict=True)]))
        parts = int(np.prod([-(-size // r) for size, r in zip(kernel, reach, strict=True)]))
    tiles = np.prod([-(-size // max(1, m)) for size, m in zip(output, outputs, strict=True)])
    return float(parts * points * tiles * shape.batch)


def fast_forms(shape: ConvolutionShape) -> tuple[str, ...]:
    """Return the Winograd forms worth trying first: larger tiles need more channels than transforms, and enough pixels to fill."""
    if min(shape.in_channels, shape.out_channels) < 32 or operations_of(shape) < 20 * ALONE_OPERATIONS:
        return ()
    side, kernel = min(shape.windows.output), min(shape.windows.kernel)
    if kernel > 5:
        return large_forms(shape) if side >= 12 else ()
    large, small = ("winograd_6x6_3x3",) if side >= 56 else (), ("winograd_4x4_3x3",) if side >= 12 else ()
    return (*large, *small, *(("winograd_4x4_5x5",) if side >= 12 else ()))


def large_forms(shape: ConvolutionShape) -> tuple[str, ...]:
    """Return the ways for large kernels, those with the fewest multiplications of a pair of channels first."""
    kernel, output = shape.windows.kernel, shape.windows.output

    def tiles(outputs: Sequence[int]) -> int:
        return shape.batch * int(np.prod([-(-size // max(1, m)) for size, m in zip(output, outputs, strict=True)]))

    costs = {
        f"winograd_{m}x{m}_{r}x{r}_parts": int(np.prod([-(-size // r) for size in kernel])) * 64 * tiles((m, m))
        for m, r in ((5, 4), (4, 5))
    }
    for side in (16, 32):
        # reading a point's weights takes about as long as multiplying four tiles
        costs[f"fft_{side}x{side}"] = 4 * (side * side // 2 + 2) * (tiles([side - size + 1 for size in kernel]) + 4)
    return tuple(sorted(costs, key=costs.__getitem__))


def operations_of(shape: ConvolutionShape) -> int:
    return 2 * shape.products * int(np.prod(shape.output))


def layer_key(shape: ConvolutionShape) -> str:
    """Return all sizes of a convolution as text."""
    w = shape.windows
    sizes = [shape.batch, shape.in_channels, *shape.size, shape.out_channels, *w.kernel]
    kind = "conv" if shape.dtype == "float32" else "conv int8"
    return f"{kind} {'x'.join(map(str, sizes))} s{w.strides} d{w.dilations} p{w.before + w.after} g{shape.groups}"
