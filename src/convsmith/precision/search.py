"""The cheapest format for each layer's weights and activations that holds the accuracy: scored at once, proposed by a knapsack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.graph.network import Graph
from convsmith.precision.accumulators import with_accumulators
from convsmith.precision.allocation import allocate, spend, total
from convsmith.precision.calibration import Ranges, calibrate
from convsmith.precision.choices import Choices, choices
from convsmith.precision.costs import Cost, find_cost
from convsmith.precision.curves import Evaluations, Progress
from convsmith.precision.evidence import Repeated, images_needed, is_noisy
from convsmith.precision.families import Candidate, Tensors, candidate, layout
from convsmith.precision.plan import Plan
from convsmith.precision.scoring import Point, Scorer
from convsmith.precision.sensitivity import Sensitivity, measure
from convsmith.precision.uniform_search import find_uniform, holds
from convsmith.redesign import fold_batch_norm

LAYERS: Final = "layers"
"""The family of points whose formats differ by layer."""

FIRST_NOISE: Final = 10.0
"""The first noise tried, as a multiple of the allowed drop: about ten times as many answers are moved as change, measured on ResNet-20."""

CLOSE: Final = 1.12
"""The search ends when the noise of a plan that fails is so little above that of one that holds."""

NEAR: Final = 0.04
"""It ends too when a plan that fails is cheaper than one that holds by no more than this part of its cost."""

BEYOND: Final = 1e6
"""The noise of an option that is none."""

SATURATED: Final = 0.5
"""A format that cannot hold this part of a tensor's numbers is no option for it."""


@dataclass(frozen=True)
class Found:
    """What a search by layers found.

    ``plan``: the cheapest that holds, without rules when none does. ``point``: its evaluation. ``uniform``: the best plan of one format
    for all, None when none holds. ``points``: everything evaluated, in order. ``evaluations`` and ``uniform_evaluations``: passes over the
    images for either, a part of one for a plan that was given up early; float32 itself is one more. ``accumulators``: bits by layer.
    ``notes``: what one must know.
    """

    plan: Plan
    point: Point | None
    uniform: Point | None
    points: tuple[Point, ...]
    evaluations: float
    uniform_evaluations: float
    cost: Cost
    float32_cost: float
    options: Choices
    sensitivity: Sensitivity
    accumulators: Mapping[str, int]
    notes: tuple[str, ...] = ()


def find_plan(
    graph: Graph,
    score: Scorer,
    formats: Sequence[Format | str] | None = None,
    max_drop: float = 0.5,
    cost: Cost | str = "bits moved",
    progress: Progress | None = None,
    *,
    images: Any = None,
    ranges: Ranges | None = None,
    tensors: Tensors = "both",
    evaluations: int = 12,
    repeats: int = 5,
    on_point: Callable[[Point], Any] | None = None,
    done: Iterable[Point] = (),
) -> Found:
    """Give each layer's weights, activations and accumulators the cheapest of the formats so that accuracy drops by ``max_drop`` at most.

    One backward pass over ``images`` scores every tensor in every format (``sensitivity``). An integer program then proposes the cheapest
    assignment of a noise (``allocation``), and the data decide: the largest noise that holds is found by bisection, with at most
    ``evaluations`` plans scored. The best single format for all layers is found beside it, and is the answer where it is cheaper.

    ``images``: what the sensitivity looks at, those of the scorer's calibration by default. ``done`` and ``on_point`` let an
    interrupted search go on: nothing is scored twice. A score that does not repeat itself is asked ``repeats`` times for each plan.

    Raises: ``UsageError`` for a limit, cost or formats that cannot be, or when no format holds the numbers of some tensor.
    """
    if not max_drop >= 0:
        raise UsageError(f"max_drop is {max_drop}; it is in points of accuracy and must be at least 0")
    if evaluations < 1:
        raise UsageError(f"evaluations is {evaluations}; at least one plan must be scored")
    cost = find_cost(cost) if isinstance(cost, str) else cost
    folded = fold_batch_norm(graph)
    x, ranges = _material(folded, score, images, ranges)
    options = choices(folded, formats, tensors)
    sensitivity = measure(folded, options, x, ranges)
    notes: list[str] = []
    noise = usable(options, sensitivity, notes)
    score = _steady(score, repeats, notes)
    evaluate = Evaluations(score, evaluations + 2 * len(options.formats), progress, on_point, done, max_drop)
    uniform = _uniform(folded, score, options, noise, max_drop, tensors, evaluate, cost)
    before = evaluate.spent
    search = _Search(options, noise, cost, max_drop, tensors, evaluate, len(x))
    best = search.run(evaluations)
    point = _cheaper(best, uniform, notes)
    plan = Plan()
    widths: dict[str, int] = {}
    if point is not None:
        plan, widths, point = _accumulate(folded, point, ranges, evaluate, max_drop, notes)
    spent = evaluate.spent - before
    _conclude(point, evaluate.points, max_drop, notes)
    float32 = cost.of(options, {})
    return Found(plan, point, uniform, tuple(evaluate.points), spent, before, cost, float32, options, sensitivity, widths, tuple(notes))


def propose(options: Choices, sensitivity: Sensitivity, cost: Cost, budget: float) -> Plan | None:
    """Return the plan of least noise that costs at most ``budget``, without scoring anything; None when nothing is so cheap."""
    items, pairs = cost.items(options, usable(options, sensitivity, []))
    fixed = cost.of(options, dict.fromkeys((g.tensor for g in options.groups), options.formats[0]))
    lowest = {item.name: 0 for item in items}
    chosen = spend(items, pairs, cost=budget - (fixed - total(lowest, items, pairs)[0]))
    return None if chosen is None else options.plan({name: options.formats[index] for name, index in chosen.items()})


def usable(options: Choices, sensitivity: Sensitivity, notes: list[str]) -> dict[tuple[str, Format], float]:
    """Return the noise of each option, beyond reach for formats that saturate their tensor; a note says which.

    Raises: ``UsageError`` when every format saturates a tensor.
    """
    noise = dict(sensitivity.noise)
    left_out = []
    for group in options.groups:
        bad = [f for f in options.formats if sensitivity.saturated.get((group.tensor, f), 0.0) > SATURATED]
        if len(bad) == len(options.formats):
            part = min(sensitivity.saturated[group.tensor, f] for f in bad)
            raise UsageError(
                f"every format given saturates the {group.role} of layer {group.layers[0]!r}: at least {part:.0%} of its numbers are "
                f"beyond the range of {', '.join(map(str, bad))}; give more integer or exponent bits, or a scaled format such as int8"
            )
        for fmt in bad:
            noise[group.tensor, fmt] = BEYOND
            left_out.append(f"{fmt} for {group.name}")
    if left_out:
        some = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        notes.append(f"Left out because most numbers are beyond their range: {some}.")
    return noise


class _Search:
    """Bisection for the largest noise whose cheapest plan holds."""

    def __init__(
        self,
        options: Choices,
        noise: Mapping[tuple[str, Format], float],
        cost: Cost,
        max_drop: float,
        tensors: Tensors,
        evaluate: Evaluations,
        images: int,
    ) -> None:
        self.options, self.noise, self.cost, self.max_drop = options, noise, cost, max_drop
        self.tensors, self.evaluate = tensors, evaluate
        self.items, self.pairs = cost.items(options, noise)
        self.least = sum(min(item.noise) for item in self.items)
        self.most = sum(max(v for v in item.noise if v < BEYOND) for item in self.items)
        self.known: dict[tuple[Format | None, ...], Point] = {}

    def run(self, evaluations: int) -> Point | None:
        """Return the cheapest point that holds, None when not even the plan of least noise does."""
        low, high = 0.0, math.inf
        noise = min(self.most, max(self.least * 1.01, FIRST_NOISE * max(self.max_drop, 0.05) / 100))
        best: Point | None = None
        failed: Point | None = None
        while len(self.known) < evaluations:
            chosen = self.propose(noise)
            point = self.score(chosen)
            if holds(point, self.max_drop):
                best = point if best is None or (point.cost or 0) <= (best.cost or 0) else best
                low = noise
                if noise >= self.most:
                    break
                noise = min(self.most, noise * 3) if math.isinf(high) else math.sqrt(low * high)
            else:
                high, failed = noise, point
                if noise <= self.least * 1.01:
                    break
                noise = max(self.least, noise / 3) if low == 0 else math.sqrt(low * high)
            if low and high / low < CLOSE:
                break
            if best and failed and (best.cost or 0) - (failed.cost or 0) <= NEAR * (best.cost or 0):
                break
        return best

    def propose(self, noise: float) -> dict[str, Format]:
        """Return the cheapest assignment of at most that noise; that of least noise when there is none."""
        chosen = allocate(self.items, self.pairs, noise=noise)
        if chosen is None:
            chosen = {item.name: min(range(len(item.noise)), key=item.noise.__getitem__) for item in self.items}
        return {name: self.options.formats[index] for name, index in chosen.items()}

    def score(self, chosen: Mapping[str, Format]) -> Point:
        """Evaluate an assignment, once."""
        key = tuple(chosen.get(group.tensor) for group in self.options.groups)
        if key not in self.known:
            noise = sum(self.noise[name, fmt] for name, fmt in chosen.items())
            plan = replace(self.options.plan(chosen), name=f"{self.options.describe(chosen)}, noise {noise:.5g}")
            numbers = self.options.workload.numbers
            whole = sum(numbers[group.tensor] for group in self.options.groups)
            bits = sum(numbers[name] * fmt.bits for name, fmt in chosen.items()) / whole
            cost = self.cost.of(self.options, chosen)
            self.known[key] = self.evaluate(Candidate(LAYERS, plan.name, self.tensors, round(bits, 3), plan, cost))
        return self.known[key]


def _material(graph: Graph, score: Scorer, images: Any, ranges: Ranges | None) -> tuple[Any, Ranges]:
    """Return the images of the sensitivity and the ranges of activations."""
    x = images if images is not None else getattr(score, "calibration", None)
    if x is None:
        raise UsageError("the score brings no images; give images=, float32 (n, channels, height, width), for the backward pass")
    found = ranges if ranges is not None else getattr(score, "ranges", None)
    return x, found if isinstance(found, Ranges) else calibrate(graph, x)


def _steady(score: Scorer, repeats: int, notes: list[str]) -> Scorer:
    """Return the score, repeated where float32 itself does not score the same twice."""
    first = score(None)
    if not is_noisy(score, first):
        return _Remembered(score, first)
    steady = Repeated(score, repeats)
    answer = steady(None)
    seen = steady.spreads["float32"]
    notes.append(
        f"The score does not repeat itself: float32 scored {seen.times} times gave {seen.mean:.2f} % (95 % interval of the mean "
        f"{seen.low:.2f} to {seen.high:.2f}). Every plan was scored {seen.times} times and its mean taken."
    )
    return _Remembered(steady, answer)


class _Remembered:
    """A score that already knows what float32 scores."""

    def __init__(self, score: Scorer, float32: Any) -> None:
        self._score, self._float32 = score, float32

    def __call__(self, plan: Plan | None) -> Any:
        return self._float32 if plan is None else self._score(plan)

    @property
    def until(self) -> Any:
        """How the score gives up early, None where it cannot."""
        return getattr(self._score, "until", None)


def _uniform(
    graph: Graph,
    score: Scorer,
    options: Choices,
    noise: Mapping[tuple[str, Format], float],
    max_drop: float,
    tensors: Tensors,
    evaluate: Evaluations,
    cost: Cost,
) -> Point | None:
    """Return the cheapest plan of one format for all that holds."""
    network = layout(graph)
    found = []
    for fmt in options.formats:
        if any(noise[group.tensor, fmt] >= BEYOND for group in options.groups):
            continue
        same = dict.fromkeys((group.tensor for group in options.groups), fmt)
        found.append(replace(candidate(fmt, network, tensors), cost=cost.of(options, same)))
    if not found:
        return None
    plan, points = find_uniform(graph, score, found, max_drop, tensors=tensors, evaluate=evaluate)
    return next((point for point in points if plan.rules and point.plan == plan.to_dict()), None)


def _cheaper(best: Point | None, uniform: Point | None, notes: list[str]) -> Point | None:
    if best is None or uniform is None:
        return best or uniform
    if (uniform.cost or 0) <= (best.cost or 0):
        notes.append(f"One format for all layers, {uniform.format}, costs no more than the best plan by layers and is the answer.")
        return uniform
    return best


def _accumulate(
    graph: Graph, point: Point, ranges: Ranges, evaluate: Evaluations, max_drop: float, notes: list[str]
) -> tuple[Plan, dict[str, int], Point]:
    """Give the layers of a plan accumulators: integers proved wide enough, floats tried on the data, wider by a bit until they hold."""
    plan = Plan.from_dict(point.plan)
    for extra in range(4):
        wider, widths = with_accumulators(graph, plan, ranges, extra)
        tried = [rule for rule in wider.rules if rule.role == "accumulator" and rule.format is not None and rule.format.kind != "integer"]
        if not tried:
            return wider, widths, point
        named = replace(wider, name=f"{plan.name}, accumulators e8m{min(r.format.significand_bits for r in tried if r.format)} and up")
        with_sums = evaluate(Candidate(point.family, named.name, _tensors(point.tensors), point.bits, named, point.cost))
        if holds(with_sums, max_drop):
            return named, widths, with_sums
    notes.append("Accumulators narrower than float32 did not hold, up to three bits above those that keep the variance; they stay float32.")
    return plan, {}, point


def _tensors(name: str) -> Tensors:
    return "weight" if name == "weight" else "activation" if name == "activation" else "both"


def _conclude(point: Point | None, points: Sequence[Point], max_drop: float, notes: list[str]) -> None:
    """Say what the limit and the number of images make of the answer."""
    if point is None:
        nearest = min(points, key=lambda p: p.drop)
        notes.append(
            f"No plan keeps the drop within {max_drop:g} points; the nearest miss is {nearest.format} with a drop of {nearest.drop:.2f} "
            f"({nearest.drop_low:.2f} to {nearest.drop_high:.2f}). Allow more, or give wider formats."
        )
        return
    if point.drop_high <= max_drop or point.lost is None or point.gained is None:
        return
    needed = images_needed(point.lost, point.gained, point.n, max_drop)
    many = "and no number of images would prove it at these rates" if needed is None else f"about {needed:,} images would prove it"
    notes.append(
        f"{point.n:,} images do not decide it: the 95 % interval of the drop reaches {point.drop_high:.2f} points; {many} "
        f"({point.lost} answers lost, {point.gained} gained; exact binomial bounds)."
    )
