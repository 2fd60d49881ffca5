"""For each image the proof that its class cannot change under a plan, or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith.errors import DataError, UsageError
from convsmith.graph.network import Graph
from convsmith.graph.shapes import infer_shapes
from convsmith.precision.certificate.enclosure import FEW, Walk, terms_of, walk
from convsmith.precision.certificate.roundoff import FLOAT32, SumBound, azuma_factor, power, probable, worst
from convsmith.precision.certificate.setting import AVERAGES, Setting

CERTAIN, LIKELY, NONE = "certain", "likely", "none"
BEYOND: Final = "the bound exceeds the margin"

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Certificates:
    """What was proved of each image.

    ``classes``: the class of exact arithmetic. ``certain``: proved for every rounding; ``likely``: proved, or proved to fail with
    probability at most ``failure`` under the model of mean-zero errors. ``margin``: by how much the class is ahead of the score that
    is proved with the least room; ``bound``: how far that difference can be off; with ``likely_bound`` in probability.
    ``gaps`` and ``bounds`` hold both for every class. ``reasons``: why there is no proof, "" where there is one.
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
        """The class whose score comes nearest, counted in bounds."""
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(np.isfinite(self.bounds), self.gaps / np.maximum(self.bounds, 1e-300), 0.0)
            room = np.where(np.isfinite(self.bounds).all(1, keepdims=True), room, self.gaps)
        room[np.arange(len(room)), self.classes] = np.inf
        return room.argmin(1)

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

    def narrow(self, rows: Tensor, low: Tensor, high: Tensor, column: int) -> None:
        self.low[rows, column] = torch.maximum(self.low[rows, column], low)
        self.high[rows, column] = torch.minimum(self.high[rows, column], high)


def certify(
    setting: Setting,
    x_nchw: Any,
    *,
    failure: float = 1e-6,
    batch: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Certificates:
    """Prove what can be proved of each image.

    ``failure``: the probability that the proof in probability may fail, for each image.
    Shapes: ``x_nchw`` float32 ``(n, channels, height, width)``.
    Raises: DataError for images that are not finite, or not of the network's size.
    """
    x = _images(setting, x_nchw)
    if not 0 < failure < 1:
        raise UsageError(f"failure is a probability above 0 and below 1; got {failure}")
    begin = time.perf_counter()
    sure, chance = layer_bounds(setting, None, x), layer_bounds(setting, failure / 2, x)
    parts = []
    for start in range(0, len(x), batch):
        parts.append(_certify_batch(setting, x[start : start + batch], sure, chance, failure / 2))
        if progress:
            progress(min(start + batch, len(x)), len(x))
    joined = [np.concatenate(items) for items in zip(*(part[:-1] for part in parts), strict=True)]
    reasons = tuple(reason for part in parts for reason in part[-1])
    return Certificates(*joined, reasons, failure, time.perf_counter() - begin)


def _images(setting: Setting, x_nchw: Any) -> Tensor:
    x = torch.as_tensor(x_nchw)
    wanted = setting.exact.inputs[0].shape
    if x.dtype != torch.float32 or x.dim() != len(wanted) or not len(x) or tuple(x.shape[1:]) != tuple(wanted[1:]):
        raise DataError(f"the network takes float32 images (n, {', '.join(map(str, wanted[1:]))}), at least one; got {x.dtype}, {tuple(x.shape)}")
    broken = (~torch.isfinite(x).flatten(1).all(1)).nonzero().reshape(-1).tolist()
    if broken:
        shown = ", ".join(map(str, broken[:5])) + (" ..." if len(broken) > 5 else "")
        raise DataError(f"{len(broken)} of {len(x)} images hold NaN or infinities (number {shown}); leave them out")
    return x


def layer_bounds(setting: Setting, failure: float | None, x: Tensor) -> dict[str, SumBound]:
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
    """Return the bound of an average: a sum, then a division in float32 or a product with a rounded reciprocal."""
    once = power(FLOAT32.relative, 3)
    return SumBound(
        (1 + bound.relative) * (1 + once) - 1 + 2.0**-50,
        bound.absolute * (1 + once) + FLOAT32.absolute,
        bound.reach,
        bound.reach_absolute,
        bound.spread * (1 + once),
        bound.spread_absolute * (1 + once),
        bound.steady + once * (1 + bound.relative),
        bound.steady_absolute + once * bound.absolute + FLOAT32.absolute,
        (1 + bound.compensated) * (1 + once) - 1 if bound.compensated else 0.0,
        bound.compensated_absolute * (1 + once),
    )


def _certify_batch(setting: Setting, x: Tensor, sure: Mapping[str, SumBound], chance: Mapping[str, SumBound], failure: float) -> Any:
    exact = walk(setting.exact, x, None, {}).values[setting.exact.outputs[0].name]
    classes = exact.centre.argmax(1)
    reference = _differences(exact.centre, exact.radius, classes)
    others = torch.arange(exact.centre.shape[1]) != classes[:, None]
    clear = (reference.low > 0).logical_or(~others).all(1)

    first, problems = _prove(setting, x, classes, sure, None)
    proved = _ahead(first, others) & clear
    second = _Range(first.low.clone(), first.high.clone())
    rest = (~proved).nonzero().reshape(-1)
    if len(rest):
        tried, _ = _prove(setting, x[rest], classes[rest], chance, failure)
        second.low[rest], second.high[rest] = tried.low, tried.high
    likely = proved | (_ahead(second, others) & clear)
    reasons = tuple(
        "" if proved[i] else "the class is not clear in exact arithmetic" if not clear[i] else problems.get(i, BEYOND) for i in range(len(x))
    )
    gaps = (reference.low + reference.high) / 2
    return (
        classes.numpy(),
        proved.numpy(),
        likely.numpy(),
        gaps.numpy(),
        _furthest(first, reference).numpy(),
        _furthest(second, reference).numpy(),
        reasons,
    )


def _differences(centre: Tensor, radius: Tensor, classes: Tensor) -> _Range:
    rows = torch.arange(len(centre))
    middle = centre[rows, classes][:, None] - centre
    reach = (radius[rows, classes][:, None] + radius) * (1 + FEW) + FEW * middle.abs()
    return _Range(middle - reach, middle + reach)


def _ahead(found: _Range, others: Tensor) -> Tensor:
    return ((found.low > 0) | ~others).all(1)


def _furthest(found: _Range, exact: _Range) -> Tensor:
    """Return how far a difference under the plan can be from the exact one."""
    return torch.maximum(exact.high - found.low, found.high - exact.low)


def _prove(
    setting: Setting, x: Tensor, classes: Tensor, bounds: Mapping[str, SumBound], failure: float | None
) -> tuple[_Range, dict[int, str]]:
    """Return what the differences of scores can be; the way back is walked for images that intervals do not decide.

    ``failure``: for proofs in probability, what the way back may fail with.
    """
    name = setting.rounded.outputs[0].name
    forward = walk(setting.rounded, x, setting, bounds)
    scores = forward.values[name]
    found = _differences(scores.centre, scores.radius, classes)
    for index in forward.problems:
        found.low[index], found.high[index] = -torch.inf, torch.inf
    others = torch.arange(scores.centre.shape[1]) != classes[:, None]
    open_rows = (~_ahead(found, others)).nonzero().reshape(-1)
    open_rows = open_rows[[int(row) not in forward.problems for row in open_rows]] if len(open_rows) else open_rows
    if len(open_rows):
        kept = walk(setting.rounded, x[open_rows], setting, bounds, keep=True, likely=failure is not None)
        _walk_back(setting.rounded, kept, found, open_rows, classes[open_rows], failure)
    return found, forward.problems


def _walk_back(graph: Graph, kept: Walk, found: _Range, rows: Tensor, classes: Tensor, failure: float | None) -> None:
    name = graph.outputs[0].name
    centre = kept.values[name].centre.detach()
    count = centre.shape[1]
    for column in range(count):
        if not ((classes != column) & (found.low[rows, column] <= 0)).any():
            continue
        start = torch.zeros_like(centre)
        start[torch.arange(len(rows)), classes] += 1
        start[:, column] -= 1
        offset, reach = _reach_back(kept, name, start, None if failure is None else failure / (count - 1))
        middle = (start * centre).sum(1) + offset
        reach = reach * (1 + 2.0**-40) + FEW * (start.abs() * centre.abs()).sum(1)
        found.narrow(rows, middle - reach, middle + reach, column)


def _reach_back(kept: Walk, name: str, start: Tensor, failure: float | None) -> tuple[Tensor, Tensor]:
    """Return where the linear function ``start`` of the scores lies, from the centre, and within what."""
    offset, bounded = torch.zeros(len(start), dtype=torch.float64), torch.zeros(len(start), dtype=torch.float64)
    # of sums in trees, of compensated sums, of stores
    trees, compensated, stores, sizes = (torch.zeros_like(bounded) for _ in range(4))
    weights = {name: start}
    for output, link in reversed(kept.links):
        g = weights.pop(output, None)
        if g is None:
            continue
        if link.offset is not None:
            offset += _total(g * link.offset)
            sizes += _total((g * link.offset).abs())
        if link.bounded is not None:
            bounded += _total(g.abs() * link.bounded)
        if link.spread is not None and link.compensated is not None:
            trees += _total((g * link.spread) ** 2)
            compensated += _total(g.abs() * link.compensated)
        elif link.spread is not None:
            stores += _total((g * link.spread) ** 2)
        g = g if link.slope is None else g * link.slope
        for source, part in zip(link.sources, link.back(g), strict=True):
            weights[source] = weights[source] + part if source in weights else part
    reach = bounded + FEW * sizes
    if failure is not None:
        factor = azuma_factor(failure)
        reach = reach + torch.maximum(factor * (trees + stores).sqrt(), compensated + factor * stores.sqrt())
    return offset, reach


def _total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)
