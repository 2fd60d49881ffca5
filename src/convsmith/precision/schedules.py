"""Few bits first, more later: what a schedule of precision saves at equal accuracy, and whether few bits converge faster at first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convsmith.errors import UsageError
from convsmith.precision.evidence import Spread, spread
from convsmith.precision.plan import Plan
from convsmith.precision.schedule import Phase, Start
from convsmith.precision.trials import Outcome, Trainer, Trial, TrialProgress, Trials

SWITCHES: Final = (0.25, 0.5, 0.75)
"""Parts of a run after which a schedule goes on to its second plan."""

EARLY: Final = 0.5
"""The part of a run that counts as its beginning."""


@dataclass(frozen=True)
class Row:
    """One plan trained with all seeds: final accuracies, their mean with Student's interval, and the bit operations of a run.

    ``drop``: points below the reference, seed by seed, with interval.
    """

    name: str
    plan: Plan
    accuracies: tuple[float, ...]
    accuracy: Spread
    drop: Spread
    cost: float
    losses: tuple[tuple[float, ...], ...]
    curves: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Comparison:
    """Constant plans and schedules side by side. ``chosen``: the cheapest row whose mean drop holds, ``saved`` the part of the cost of
    the dearest constant plan that it saves. ``hypothesis`` says in words whether few bits converged faster at first.
    """

    rows: tuple[Row, ...]
    chosen: Row | None
    saved: float
    hypothesis: str
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]


def switching(low: Plan, high: Plan, epoch: float, name: str = "") -> Plan:
    """Return the plan that has the rules of ``low`` until ``epoch`` and those of ``high`` from there on."""
    if low.phases or high.phases:
        raise UsageError("a schedule is made of two plans without phases of their own")
    title = name or f"{low.name} until epoch {epoch:g}, then {high.name}"
    return Plan(low.rules, title, low.exempt, low.master and high.master, high.loss_scale, (Phase(Start("epoch", epoch), high.rules),))


def compare_schedules(
    train: Trainer,
    cost: Callable[[Plan], float],
    low: Plan,
    high: Plan,
    epochs: float,
    max_drop: float = 0.3,
    *,
    switches: Sequence[float] = SWITCHES,
    given: Sequence[Plan] = (),
    seeds: Sequence[int] = (0, 1, 2),
    progress: TrialProgress | None = None,
    on_trial: Callable[[Trial], Any] | None = None,
    done: Iterable[Trial] = (),
) -> Comparison:
    """Train under ``low`` alone, ``high`` alone, and low then high with each switch; then under ``given`` plans, phases and all.

    ``switches``: parts of the run, rounded to whole epochs. ``max_drop``: points below ``high`` alone that count as equal accuracy.

    Raises: ``UsageError`` when there is nothing to compare.
    """
    if not seeds or epochs < 2:
        raise UsageError(f"{len(seeds)} seeds and {epochs:g} epochs: a comparison needs at least one seed and two epochs")
    at = sorted({min(math.ceil(epochs) - 1, max(1, round(part * epochs))) for part in switches})
    plans = [high, low, *(switching(low, high, epoch) for epoch in at), *given]
    trials = Trials(train, len(plans) * len(seeds), progress, on_trial, done)
    outcomes = {plan.name: [trials(plan.name, plan, 1.0, seed) for seed in seeds] for plan in plans}
    base = outcomes[high.name]
    rows = tuple(_row(plan, outcomes[plan.name], base, cost(plan)) for plan in plans)
    notes = [f"{plan.name}: {o.failed}" for plan in plans for o in outcomes[plan.name] if o.failed]
    held = [row for row in rows[1:] if row.drop.mean <= max_drop + 1e-9 and row.cost < rows[0].cost]
    chosen = min(held, key=lambda row: row.cost) if held else None
    saved = 1 - chosen.cost / rows[0].cost if chosen else 0.0
    notes.append(_verdict(chosen, rows, saved, max_drop, len(seeds)))
    return Comparison(rows, chosen, saved, hypothesis(rows[1], rows[0]), tuple(trials.list), tuple(notes))


def _row(plan: Plan, outcomes: Sequence[Outcome], base: Sequence[Outcome], cost: float) -> Row:
    accuracies = tuple(outcome.accuracy for outcome in outcomes)
    drops = [b.accuracy - o.accuracy for b, o in zip(base, outcomes, strict=True)]
    curves = tuple(outcome.accuracies for outcome in outcomes)
    return Row(plan.name, plan, accuracies, spread(accuracies), spread(drops), cost, tuple(o.losses for o in outcomes), curves)


def _verdict(chosen: Row | None, rows: Sequence[Row], saved: float, max_drop: float, seeds: int) -> str:
    if chosen is None:
        return f"No cheaper plan stays within {max_drop:g} points of {rows[0].name} in the mean of {seeds} seeds: nothing is saved."
    sure = "" if chosen.drop.high <= max_drop else f"; the interval reaches beyond {max_drop:g}, more seeds would tell"
    kind = "a constant plan" if not chosen.plan.phases else "a schedule"
    return (
        f"{chosen.name}, {kind}, saves {saved:.0%} of the bit operations of {rows[0].name} at a drop of {chosen.drop.mean:.2f} points "
        f"(95 % of {seeds} seeds: {chosen.drop.low:.2f} to {chosen.drop.high:.2f}){sure}."
    )


def hypothesis(low: Row, high: Row) -> str:
    """Say whether few bits converge faster at first: the loss of training in the first half, epoch by epoch, seed by seed.

    Faster means that the mean loss of the first half is lower under few bits; the interval is Student's, over seeds.
    """
    pairs = [(a, b) for a, b in zip(low.losses, high.losses, strict=True) if a and b]
    if not pairs:
        return "Whether few bits converge faster at first cannot be told: no losses were kept."
    gains = []
    for few, many in pairs:
        count = max(1, math.floor(EARLY * min(len(few), len(many))))
        gains.append(float(np.mean(many[:count])) - float(np.mean(few[:count])))
    seen = spread([gain / 100 for gain in gains])
    told = f"mean loss of the first half lower by {seen.mean:+.4f} (95 % of {seen.times} seeds: {seen.low:+.4f} to {seen.high:+.4f})"
    if seen.times > 1 and seen.low > 0:
        return f"Few bits converge faster at first here: {told}."
    if seen.times > 1 and seen.high < 0:
        return f"The hypothesis that few bits converge faster at first fails here: {told}; they are slower in loss for equal updates."
    return f"The hypothesis that few bits converge faster at first is not confirmed here: {told}."


def curves_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return for a plot: name, epochs, mean loss and mean accuracy after each epoch."""
    found = []
    for row in rows:
        found.append({"name": row.name, "loss": _mean(row.losses), "accuracy": _mean(row.curves)})
    return found


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    kept = [curve for curve in curves if curve]
    length = min((len(curve) for curve in kept), default=0)
    return [float(np.mean([curve[epoch] for curve in kept])) for epoch in range(length)]


def row_dict(row: Row) -> Mapping[str, Any]:
    """Return a row for JSON."""
    return {
        "name": row.name,
        "plan": row.plan.to_dict(),
        "accuracies": list(row.accuracies),
        "accuracy": [row.accuracy.mean, row.accuracy.low, row.accuracy.high],
        "drop": [row.drop.mean, row.drop.low, row.drop.high],
        "cost": row.cost,
    }
