"""For each image the proof that its class cannot change under a plan, or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith.errors import DataError, UsageError
from convsmith.graph.shapes import infer_shapes
from convsmith.interop import pytorch
from convsmith.precision.certificate.enclosure import FAST, FLOAT64, Walk
from convsmith.precision.certificate.layer import terms_of
from convsmith.precision.certificate.roundoff import FLOAT32, SumBound, azuma_factor, power, probable, worst
from convsmith.precision.certificate.setting import AVERAGES, Setting
from convsmith.precision.certificate.steps import Layers, walk

BEYOND: Final = "the bound exceeds the margin"

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Certificates:
    """What was proved of each image.

    ``classes``: the class in float32, or in exact arithmetic where that was asked for. ``certain``: proved for every rounding; ``likely``:
    proved, or proved to fail with probability at most ``failure`` under the model of mean-zero errors. ``gaps``: how far the class is
    ahead of each other under the plan, at the centre of what is possible, or in exact arithmetic; ``bounds``: how far these differences
    can be off, and ``likely_bounds`` in probability. ``margin`` and ``bound`` are those of the class that comes nearest. ``reasons``: why
    there is no proof, else "".
    """

    classes: NDArray[np.int64]
    certain: NDArray[np.bool_]
    likely: NDArray[np.bool_]
    gaps: F64
    bounds: F64
    likely_bounds: F64
    reasons: tuple[str, ...]
    failure: float
    seconds: float

    @property
    def rival(self) -> NDArray[np.int64]:
        """The class whose score comes nearest; where there is no proof, the one that is nearest counted in bounds."""
        own = np.arange(len(self.classes))
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(np.isfinite(self.bounds), self.gaps / np.maximum(self.bounds, 1e-300), 0.0)
        gaps = self.gaps.copy()
        room[own, self.classes] = gaps[own, self.classes] = np.inf
        return np.asarray(np.where(self.certain | ~np.isfinite(self.bounds).all(1), gaps.argmin(1), room.argmin(1)), np.int64)

    def _of_rival(self, values: F64) -> F64:
        found: F64 = values[np.arange(len(values)), self.rival]
        return found

    @property
    def margin(self) -> F64:
        return self._of_rival(self.gaps)

    @property
    def bound(self) -> F64:
        return self._of_rival(self.bounds)

    @property
    def likely_bound(self) -> F64:
        return self._of_rival(self.likely_bounds)


@dataclass
class _Range:
    """Least and largest difference between the score of an image's class and each other score."""

    low: Tensor
    high: Tensor

    def narrow(self, rows: Tensor, low: Tensor, high: Tensor, columns: Tensor) -> None:
        self.low[rows, columns] = torch.maximum(self.low[rows, columns], low)
        self.high[rows, columns] = torch.minimum(self.high[rows, columns], high)


def certify(
    setting: Setting,
    x_nchw: Any,
    *,
    failure: float = 1e-6,
    exact: bool = False,
    batch: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Certificates:
    """Prove what can be proved of each image.

    ``failure``: the probability that the proof in probability may fail, for each image. ``exact``: compare with the network in exact
    arithmetic, which takes a float64 pass, and not with float32 as torch computes it.
    Shapes: ``x_nchw`` float32 ``(n, channels, height, width)``.
    Raises: DataError for images that are not finite, or not of the network's size.
    """
    x = _images(setting, x_nchw)
    if not 0 < failure < 1:
        raise UsageError(f"failure is a probability above 0 and below 1; got {failure}")
    begin = time.perf_counter()
    prover = _Prover(setting, layer_bounds(setting, None), layer_bounds(setting, failure / 2), failure / 2, exact)
    parts = []
    for start in range(0, len(x), batch):
        parts.append(prover.batch(x[start : start + batch]))
        if progress:
            progress(min(start + batch, len(x)), len(x))
    classes, certain, likely, gaps, bounds, likely_bounds = (
        np.concatenate(items) for items in zip(*(part[:-1] for part in parts), strict=True)
    )
    reasons = tuple(reason for part in parts for reason in part[-1])
    return Certificates(classes, certain, likely, gaps, bounds, likely_bounds, reasons, failure, time.perf_counter() - begin)


def _images(setting: Setting, x_nchw: Any) -> Tensor:
    x = torch.as_tensor(x_nchw)
    wanted = setting.exact.inputs[0].shape
    if x.dtype != torch.float32 or x.dim() != len(wanted) or not len(x) or tuple(x.shape[1:]) != tuple(wanted[1:]):
        sizes = ", ".join(map(str, wanted[1:]))
        raise DataError(f"the network takes float32 images (n, {sizes}), at least one; got {x.dtype}, {tuple(x.shape)}")
    broken = (~torch.isfinite(x).flatten(1).all(1)).nonzero().reshape(-1).tolist()
    if broken:
        shown = ", ".join(map(str, broken[:5])) + (" ..." if len(broken) > 5 else "")
        raise DataError(f"{len(broken)} of {len(x)} images hold NaN or infinities (number {shown}); leave them out")
    return x


def layer_bounds(setting: Setting, failure: float | None) -> dict[str, SumBound]:
    """Return the bound of the sums of each layer; with ``failure`` the probability that any sum of one image exceeds its own."""
    graph = setting.rounded
    shapes = infer_shapes(graph, 1)
    outputs = {node.name: int(np.prod(shapes[node.outputs[0]])) for node in graph if node.name in setting.sums}
    found = {}
    for node in graph:
        if node.name not in setting.sums:
            continue
        sums = setting.sums[node.name]
        n = terms_of(graph, node, torch.empty(shapes[node.inputs[0]]))
        if failure is None:
            bound = worst(n, sums.product, sums.addition, exact_sums=sums.exact)
        else:
            bound = probable(n, sums.product, sums.addition, failure / sum(outputs.values()), exact_sums=sums.exact)
        found[node.name] = _divided(bound) if node.op in AVERAGES else bound
    return found


def _divided(bound: SumBound) -> SumBound:
    """Return the bound of an average: a sum, then a division in float32 or a product with a rounded reciprocal, as if of each product."""
    once = power(FLOAT32.relative, 3)
    return replace(
        bound,
        relative=(1 + bound.relative) * (1 + once) - 1 + 2.0**-50,
        absolute=bound.absolute * (1 + once) + FLOAT32.absolute,
        compensated=(1 + bound.compensated) * (1 + once) - 1 if bound.compensated else 0.0,
        compensated_absolute=bound.compensated_absolute * (1 + once) + FLOAT32.absolute,
        product=(bound.product + once) * (1 + bound.relative) * (1 + once),
        plain=bound.plain * (1 + once) + FLOAT32.absolute,
    )


@dataclass
class _Prover:
    """The proofs of one setting."""

    setting: Setting
    sure: Mapping[str, SumBound]
    chance: Mapping[str, SumBound]
    failure: float
    exact: bool

    def __post_init__(self) -> None:
        self.name = self.setting.rounded.outputs[0].name
        self.float32 = pytorch.write(self.setting.exact).eval()
        self.layers: Layers = {}
        self.exact_layers: Layers = {}

    def batch(self, x: Tensor) -> tuple[Any, ...]:
        """Return the columns of `Certificates` for some images."""
        reference, classes, clear = self.reference(x)
        first, centre, problems = self.prove(x, classes, self.sure, None)
        others = torch.arange(centre.shape[1]) != classes[:, None]
        proved = _ahead(first, others) & clear
        second = _Range(first.low.clone(), first.high.clone())
        rest = (~proved).nonzero().reshape(-1)
        if len(rest):
            tried, _, _ = self.prove(x[rest], classes[rest], self.chance, self.failure)
            second.low[rest] = torch.maximum(second.low[rest], tried.low)
            second.high[rest] = torch.minimum(second.high[rest], tried.high)
        likely = _ahead(second, others) & clear
        told = {True: BEYOND, False: "the class is not clear in exact arithmetic"}
        reasons = tuple("" if proved[i] else problems.get(i, told[bool(clear[i])]) for i in range(len(x)))
        within = reference or _Range(centre, centre)
        columns = (classes, proved, likely, (within.low + within.high) / 2, _furthest(first, within), _furthest(second, within))
        return (*(column.numpy() for column in columns), reasons)

    def reference(self, x: Tensor) -> tuple[_Range | None, Tensor, Tensor]:
        """Return the differences of scores in exact arithmetic when they are wanted, the class, and whether it is beyond doubt."""
        if not self.exact:
            with torch.no_grad():
                scores = self.float32(x)
            return None, scores.argmax(1), torch.ones(len(x), dtype=torch.bool)
        found = walk(self.setting.exact, x, None, {}, numbers=FLOAT64, layers=self.exact_layers).values[self.name]
        classes = found.centre.argmax(1)
        reference = _differences(found.centre, found.radius, classes, FLOAT64.few)
        others = torch.arange(found.centre.shape[1]) != classes[:, None]
        return reference, classes, _ahead(reference, others)

    def prove(
        self, x: Tensor, classes: Tensor, bounds: Mapping[str, SumBound], failure: float | None
    ) -> tuple[_Range, Tensor, dict[int, str]]:
        """Return what the differences of scores can be under the plan, those of the centre, and what went wrong for which image.

        The way back is walked for the rival of each image, then for every pair of classes that is not decided.
        ``failure``: of the way back, in a proof in probability.
        """
        kept = self.walk(x, bounds, failure)
        scores = kept.values[self.name]
        found = _differences(scores.centre, scores.radius, classes, FAST.few)
        centre = (found.low + found.high) / 2
        problems = kept.problems
        for index in problems:
            found.low[index], found.high[index] = -torch.inf, torch.inf
        others = torch.arange(centre.shape[1]) != classes[:, None]
        clear = torch.ones(len(x), dtype=torch.bool)
        clear[list(problems)] = False
        if clear.any():
            self.back(kept, found, None, clear, classes, torch.where(others, centre, torch.inf).argmin(1), failure)
        rows, columns = ((found.low <= 0) & others & clear[:, None]).nonzero(as_tuple=True)
        for first in range(0, len(rows), len(x)):
            some, against = rows[first : first + len(x)], columns[first : first + len(x)]
            self.back(kept, found, some, torch.ones(len(some), dtype=torch.bool), classes[some], against, failure)
        return found, centre, problems

    def walk(self, x: Tensor, bounds: Mapping[str, SumBound], failure: float | None) -> Walk:
        return walk(self.setting.rounded, x, self.setting, bounds, keep=True, likely=failure is not None, layers=self.layers)

    def back(
        self, kept: Walk, found: _Range, rows: Tensor | None, count: Tensor, classes: Tensor, columns: Tensor, failure: float | None
    ) -> None:
        """Walk back from the difference of two scores of some images, None for all, and narrow it in ``found`` where it ``count``s."""
        scores = kept.values[self.name].centre
        centre = scores if rows is None else scores[rows]
        places = torch.arange(len(centre)) if rows is None else rows
        start, own = torch.zeros_like(centre), torch.arange(len(centre))
        start[own, classes] += 1
        start[own, columns] -= 1
        offset, reach = _reach_back(kept, self.name, start, rows, None if failure is None else failure / (centre.shape[1] - 1))
        middle = (start * centre).sum(1, dtype=torch.float64) + offset
        reach = reach * (1 + 16 * FAST.unit) + 1e-15 * middle.abs()
        found.narrow(places[count], (middle - reach)[count], (middle + reach)[count], columns[count])


def _differences(centre: Tensor, radius: Tensor, classes: Tensor, few: float) -> _Range:
    rows = torch.arange(len(centre))
    centre, radius = centre.double(), radius.double() * (1 + few)
    middle = centre[rows, classes][:, None] - centre
    reach = (radius[rows, classes][:, None] + radius) * (1 + 2.0**-50) + 2.0**-50 * middle.abs()
    return _Range(middle - reach, middle + reach)


def _ahead(found: _Range, others: Tensor) -> Tensor:
    return ((found.low > 0) | ~others).all(1)


def _furthest(found: _Range, exact: _Range) -> Tensor:
    """Return how far a difference under the plan can be from the exact one."""
    return torch.maximum(exact.high - found.low, found.high - exact.low)


def _reach_back(kept: Walk, name: str, start: Tensor, rows: Tensor | None, failure: float | None) -> tuple[Tensor, Tensor]:
    """Return where the linear function ``start`` of the scores of some images lies, from the centre, and within what."""

    def of(values: Tensor) -> Tensor:
        return values if rows is None else values.index_select(0, rows)

    offset = torch.zeros(len(start), dtype=torch.float64)
    # errors within bounds; of sums in trees, of compensated sums, of stores; rounding errors of the offset
    bounded, trees, compensated, stores, sizes = (torch.zeros_like(offset) for _ in range(5))
    weights = {name: start}
    for output, link in reversed(kept.links):
        g = weights.pop(output, None)
        if g is None:
            continue
        size = g.abs()
        if link.offset is not None:
            place, own = of(link.offset), _own(g)
            shift, most = _product(g, place), _product(size, place.abs())
            offset += shift
            sizes += own * most * (1 + 2 * own)
        if link.bounded is not None:
            bounded += _product(size, of(link.bounded)) * (1 + 2 * _own(g))
        if link.spread is not None:
            part = g * of(link.spread)
            squares = _product(part, part) * (1 + 2 * _own(g))
            if link.compensated is None:
                stores += squares
            else:
                trees += squares
                compensated += _product(size, of(link.compensated)) * (1 + 2 * _own(g))
        g = g if link.slope is None else g * of(link.slope)
        for source, part in zip(link.sources, link.back(g, rows), strict=True):
            weights[source] = weights[source] + part if source in weights else part
    reach = bounded + sizes
    if failure is not None:
        factor = azuma_factor(failure)
        reach = reach + torch.maximum(factor * (trees + stores).sqrt(), compensated + factor * stores.sqrt())
    return offset, reach


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of products for each image; `_own` of the sum of their magnitudes is how far it can be off."""
    a, b = a.flatten(1), b.flatten(1)
    return torch.linalg.vecdot(a, b).double() if _own(a) < 0.01 else (a.double() * b.double()).sum(1)


def _own(x: Tensor) -> float:
    own = FAST.gamma(x[0].numel())
    return own if own < 0.01 else FAST.few
