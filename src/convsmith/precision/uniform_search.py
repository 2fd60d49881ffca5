"""The one format of fewest bits that holds the accuracy, found by evaluation on real data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.graph.network import Graph
from convsmith.precision.calibration import Ranges
from convsmith.precision.curves import Evaluations, Progress, plan_of
from convsmith.precision.families import Candidate, Tensors, candidate, candidates, layout
from convsmith.precision.plan import Plan
from convsmith.precision.scoring import Point, Scorer

NAMES = {"both": "weights and activations", "weight": "weights", "activation": "activations"}
TOLERANCE = 1e-9  # points; the drop is a difference of quotients


def find_uniform(
    graph: Graph,
    score: Scorer,
    formats: Sequence[Format | str | Candidate] | None = None,
    max_drop: float = 0.5,
    progress: Progress | None = None,
    *,
    ranges: Ranges | None = None,
    tensors: Tensors = "both",
    on_point: Callable[[Point], Any] | None = None,
    done: Iterable[Point] = (),
    evaluate: Evaluations | None = None,
) -> tuple[Plan, list[Point]]:
    """Return the uniform plan of fewest bits whose accuracy drops by at most ``max_drop`` points on the scored images.

    In each family (bits alone differ) the border is found by bisection and the formats beside it are evaluated too: where a cheaper one
    holds, the search goes on from there. Families are tried in order; one cannot win with more bits than the best so far. At equal bits
    the smaller drop wins, then the earlier family. When nothing holds, the plan has no rules: float32 stays. ``explain`` says it in words.

    ``formats``: formats, their names or ``Candidate``; None takes all of ``candidates``. ``points`` are those evaluated, in order; those of
    ``done`` are not evaluated again. The answer holds for these images; confirm it on others.
    """
    if not max_drop >= 0:
        raise UsageError(f"max_drop is {max_drop}; it is in points of accuracy and must be at least 0")
    if formats is None:
        found: Sequence[Candidate] = candidates(graph, ranges, which=(tensors,))
    else:
        network = layout(graph)
        found = [f if isinstance(f, Candidate) else candidate(f, network, tensors) for f in formats]
    if not found:
        raise UsageError("no formats to choose from; give at least one")
    families = [
        sorted((c for c in found if (c.family, c.tensors) == key), key=lambda c: c.bits)
        for key in dict.fromkeys((c.family, c.tensors) for c in found)
    ]
    evaluate = evaluate or Evaluations(score, sum(map(_most_evaluations, families)), progress, on_point, done)
    best: Point | None = None
    for family in families:
        allowed = [c for c in family if best is None or c.bits <= best.bits]
        point = _cheapest(allowed, evaluate, max_drop) if allowed else None
        if point is not None and (best is None or (point.bits, point.drop) < (best.bits, best.drop)):
            best = point
    return (plan_of(best) if best else Plan()), evaluate.points


def holds(point: Point, max_drop: float) -> bool:
    """Tell whether the observed drop is at most ``max_drop`` points."""
    return point.drop <= max_drop + TOLERANCE


def _cheapest(family: Sequence[Candidate], evaluate: Callable[[Candidate], Point], max_drop: float) -> Point | None:
    """Return the point of fewest bits that holds, with the neighbours of the border evaluated."""

    def fits(index: int) -> bool:
        return holds(evaluate(family[index]), max_drop)

    top = next((index for index in (len(family) - 1, len(family) - 2) if index >= 0 and fits(index)), None)
    if top is None:
        return None
    low, high = -1, top  # fits(high); the formats at or below low fail or do not exist
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    while cheaper := [index for index in (high - 1, high - 2) if index >= 0 and fits(index)]:
        high = min(cheaper)
    return evaluate(family[high])


def _most_evaluations(family: Sequence[Candidate]) -> int:
    return min(len(family), len(family).bit_length() + 4)


def explain(plan: Plan, points: Sequence[Point], max_drop: float) -> str:
    """Say what ``find_uniform`` found, how sure it is, and whether accuracy fell steadily with bits."""
    chosen = next((point for point in points if plan.rules and point.plan == plan.to_dict()), None)
    if chosen is None:
        nearest = min(points, key=lambda point: point.drop)
        text = (
            f"None of {len(points)} evaluated formats keeps the drop within {max_drop:g} points on {nearest.n} images; the network stays "
            f"in float32. The smallest drop was {nearest.drop:.2f} points ({_interval(nearest)}) with {nearest.format}."
        )
    else:
        answers = "" if chosen.lost is None else f", {chosen.lost} answer{'s' * (chosen.lost != 1)} lost and {chosen.gained} gained"
        text = (
            f"{chosen.format}, {chosen.bits:g} bits for {NAMES[chosen.tensors]}, is the fewest found: drop {chosen.drop:.2f} points on "
            f"{chosen.n:,} images ({_interval(chosen)}{answers}), allowed {max_drop:g}; {len(points)} formats evaluated."
        )
        if chosen.drop_high > max_drop:
            text += f" The interval reaches beyond {max_drop:g}: on other images the drop may be larger."
    uneven = _uneven(points, max_drop)
    return text + (f" Accuracy does not fall steadily with bits in {', '.join(uneven)}." if uneven else "")


def _interval(point: Point) -> str:
    return f"95 % interval {point.drop_low:.2f} to {point.drop_high:.2f}"


def _uneven(points: Sequence[Point], max_drop: float) -> list[str]:
    """Families in which a format failed though one with fewer bits held."""
    found = []
    for key in dict.fromkeys((point.family, point.tensors) for point in points):
        mine = [point for point in points if (point.family, point.tensors) == key]
        held = [point.bits for point in mine if holds(point, max_drop)]
        if held and any(point.bits > min(held) for point in mine if not holds(point, max_drop)):
            found.append(key[0])
    return found
