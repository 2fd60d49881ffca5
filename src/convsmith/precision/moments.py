"""Curves of accuracy and loss against one kind of bits, rounded at every operation, at each layer, or at each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from convsmith.errors import UsageError, near
from convsmith.formats import Format, Rounding
from convsmith.precision.curves import COLLAPSED
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Moment, Role, Rule

MOMENTS: Final[tuple[Moment, ...]] = ("operation", "layer", "batch")

VARIABLES: Final[dict[str, str]] = {
    "significand": "significand bits of a float with the exponent of float32",
    "exponent": "exponent bits of a float with 7 bits of significand",
    "fraction": "bits behind the point, 8 before it",
    "integer": "bits before the point, sign included, 12 behind it",
}
"""What is varied, and what stays."""

BITS: Final[dict[str, tuple[int, ...]]] = {
    "significand": (0, 1, 2, 3, 4, 5, 6, 7, 8, 10),
    "exponent": (2, 3, 4, 5, 6, 8),
    "fraction": (0, 2, 4, 6, 8, 10, 12, 14),
    "integer": (1, 2, 3, 4, 5, 6, 8),
}


@dataclass(frozen=True)
class Measured:
    """One point of a curve. ``loss`` is the mean cross-entropy; None when it is no number."""

    model: str
    variable: str
    moment: str
    bits: int
    format: str
    accuracy: float
    loss: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measured:
        return cls(**values)


Evaluate = Callable[[Plan | None], tuple[float, float | None, int]]
"""Returns accuracy, loss and number of images under a plan; None is float32."""


def format_of(variable: str, bits: int) -> Format:
    """Return the format of a place on a curve."""
    if variable not in VARIABLES:
        raise UsageError(f"no variable {variable!r}; allowed are {', '.join(VARIABLES)}.{near(variable, VARIABLES)}")
    if variable == "significand":
        return Format.float(8, bits)
    if variable == "exponent":
        return Format.float(bits, 7)
    return Format.fixed(8, bits) if variable == "fraction" else Format.fixed(bits, 12)


def moment_plan(fmt: Format, moment: Moment, *, training: bool, rounding: Rounding = "nearest_even") -> Plan:
    """Return the plan that rounds to one format at a moment; without float32 copies of the weights.

    ``operation``: every multiplication, addition and stored value, in training the backward pass and the optimizer too. ``layer``: what
    layers store and read. ``batch``: the parameters alone, once for each update, in training their gradients too.
    """
    if moment == "batch":
        roles: dict[Role, Moment] = {"weight": "batch", "bias": "batch"}
        if training:
            roles["weight_gradient"] = "batch"
    else:
        roles = {"weight": "layer", "bias": "layer", "activation": moment}
        if training:
            roles |= {"error": moment, "weight_gradient": "layer", "momentum": moment, "update": moment}
        if moment == "operation":
            roles["accumulator"] = "operation"
    rules = tuple(Rule("*", role, fmt, when, rounding=rounding) for role, when in roles.items())
    return Plan(rules, f"{fmt} at each {moment}", (), master=False)


def trace(
    model: str,
    evaluate: Evaluate,
    *,
    training: bool,
    variables: Sequence[str] = tuple(VARIABLES),
    moments: Sequence[Moment] = MOMENTS,
    rounding: Rounding = "nearest_even",
    progress: Callable[[int, int, str], Any] | None = None,
    on_point: Callable[[Measured], Any] | None = None,
    done: Iterable[Measured] = (),
) -> list[Measured]:
    """Return the curves of one model, float32 first (variable and moment empty), each from many bits to few.

    ``done`` and ``on_point`` let an interrupted trace go on.
    """
    known = {(p.variable, p.moment, p.bits): p for p in done if p.model == model}
    total = 1 + sum(len(BITS[variable]) for variable in variables if variable in BITS) * len(moments)
    points: list[Measured] = []

    def measure(variable: str, moment: Moment | None, bits: int, fmt: Format | None) -> Measured:
        point = known.get((variable, moment or "", bits))
        if point is None:
            if progress:
                progress(len(points), total, f"{model} {fmt or 'float32'} {moment or ''}".strip())
            plan = moment_plan(fmt, moment, training=training, rounding=rounding) if fmt and moment else None
            accuracy, loss, n = evaluate(plan)
            point = Measured(model, variable, moment or "", bits, str(fmt) if fmt else "float32", accuracy, loss, n)
            if on_point:
                on_point(point)
        points.append(point)
        return point

    base = measure("", None, 32, None)
    for variable in variables:
        format_of(variable, 4)
        for moment in moments:
            lost = 0
            for bits in reversed(BITS[variable]):
                point = measure(variable, moment, bits, format_of(variable, bits))
                lost = lost + 1 if 100 * (base.accuracy - point.accuracy) > COLLAPSED else 0
                if lost == 2:
                    break
    return points


def fewest(points: Sequence[Measured], max_drop: float) -> list[dict[str, Any]]:
    """Return, for each model, variable and moment, the fewest bits within ``max_drop`` points below which no wider format fails."""
    bases = {point.model: point for point in points if not point.variable}
    rows = []
    for key in dict.fromkeys((p.model, p.variable, p.moment) for p in points if p.variable):
        mine = sorted((p for p in points if (p.model, p.variable, p.moment) == key), key=lambda p: -p.bits)
        held: Measured | None = None
        for point in mine:
            if 100 * (bases[key[0]].accuracy - point.accuracy) > max_drop + 1e-9:
                break
            held = point
        rows.append({"model": key[0], "variable": key[1], "moment": key[2], "bits": held.bits if held else None})
    return rows
