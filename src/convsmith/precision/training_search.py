"""The fewest bits of everything a training stores, so that it still reaches the accuracy of float32."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.formats import Format, Rounding
from convsmith.precision.accumulators import EXPONENT_BITS
from convsmith.precision.evidence import Spread, spread
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Role, Rule, ScaleRule
from convsmith.precision.trials import Outcome, Trainer, Trial, TrialProgress, Trials
from convsmith.precision.variance_retention import significand_bits

ROLES: Final[tuple[Role, ...]] = ("weight", "activation", "error", "weight_gradient", "momentum", "update")
"""What has a width of its own; biases go with the weights. Accumulators follow from the longest sum."""

LADDERS: Final[dict[str, tuple[str, ...]]] = {
    "float": ("e8m10", "e8m7", "e6m5", "e5m4", "e5m3", "e5m2", "e5m1", "e4m1", "e4m0"),
    "fixed": ("fixed<2,18>", "fixed<2,14>", "fixed<2,10>", "fixed<2,8>", "fixed<2,6>", "fixed<2,4>", "fixed<2,2>"),
}
"""Formats by kind, many bits first. The point of fixed ones moves with the rate of overflow (dynamic fixed point)."""

SHARES: Final = (0.1, 0.3)
"""Parts of a full run that a short training takes, one for each rung of the halving."""

WIDER: Final = (-1, 0, 1, 2)
"""Steps of the ladder by which all roles together are wider than each needs alone."""


@dataclass(frozen=True)
class Setting:
    """A place on the ladder for each role: 0 is the widest."""

    places: tuple[int, ...]
    roles: tuple[Role, ...]
    ladder: tuple[Format, ...]
    master: bool = False
    accumulator: Format | None = None

    @property
    def name(self) -> str:
        named = ", ".join(f"{role} {self.ladder[place]}" for role, place in zip(self.roles, self.places, strict=True))
        return named + (f", accumulator {self.accumulator}" if self.accumulator else "")

    @property
    def bits(self) -> dict[str, int]:
        found: dict[str, int] = {role: self.ladder[place].bits for role, place in zip(self.roles, self.places, strict=True)}
        return found | ({"accumulator": self.accumulator.bits} if self.accumulator else {})

    def plan(self, only: Role | None = None) -> Plan:
        """Return the plan: what is computed is rounded to nearest, what is added up over updates at random. ``only``: one role alone."""
        rules: list[Rule] = []
        for role, place in zip(self.roles, self.places, strict=True):
            if only in (None, role):
                fmt = self.ladder[place]
                scale: ScaleRule = "dynamic" if fmt.kind == "fixed" and role != "update" else "none"
                rounding: Rounding = "nearest_even" if role == "activation" or (role == "weight" and self.master) else "stochastic"
                rules += [Rule("*", name, fmt, rounding=rounding, scale=scale) for name in _with_bias(role)]
        if self.accumulator is not None and only is None:
            rules.append(Rule("*", "accumulator", self.accumulator, "operation", product=None))
        return Plan(tuple(rules), self.name if only is None else f"{only} {self.of(only)}", (), self.master)

    def of(self, role: Role) -> Format:
        """Return the format of a role."""
        return self.ladder[self.places[self.roles.index(role)]]

    def moved(self, steps: int) -> Setting:
        """Return the setting with all roles wider by steps of the ladder, narrower below zero."""
        return self._at([min(len(self.ladder) - 1, max(0, place - steps)) for place in self.places])

    def with_wider(self, role: Role, steps: int = 1) -> Setting:
        """Return the setting with one role wider."""
        at = self.roles.index(role)
        return self._at([max(0, place - steps) if index == at else place for index, place in enumerate(self.places)])

    def _at(self, places: Sequence[int]) -> Setting:
        return Setting(tuple(places), self.roles, self.ladder, self.master, self.accumulator)


def uniform_training(fmt: Format | str, roles: Sequence[Role] = ROLES, *, master: bool = False) -> Plan:
    """Return the plan in which everything a training stores has one format, rounded as the search for its bits rounds."""
    fmt = formats.parse(fmt) if isinstance(fmt, str) else fmt
    plan = Setting((0,) * len(roles), tuple(roles), (fmt,), master).plan()
    return Plan(plan.rules, str(fmt), plan.exempt, master)


def _with_bias(role: Role) -> tuple[Role, ...]:
    return ("weight", "bias") if role == "weight" else (role,)


@dataclass(frozen=True)
class FoundTraining:
    """What a search for the bits of training found.

    ``setting``: the cheapest whose full runs hold, None when none does. ``drops``: points lost by each seed's full run against float32 of
    that seed; ``interval`` their mean with Student's interval. ``alone``: the fewest bits of each role when all others are float32.
    ``spent``: trainings in units of a full run. ``costs``: of the answer and of float32.
    """

    setting: Setting | None
    plan: Plan
    drops: tuple[float, ...]
    interval: Spread | None
    alone: Mapping[str, str]
    trials: tuple[Trial, ...]
    spent: float
    costs: tuple[float, float]
    notes: tuple[str, ...]


def find_training_plan(
    train: Trainer,
    cost: Callable[[Plan | None], float],
    max_drop: float = 0.5,
    *,
    kind: str = "float",
    ladder: Sequence[Format | str] | None = None,
    roles: Sequence[Role] = ROLES,
    master: bool = False,
    longest_sum: int = 0,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
    attempts: int = 4,
    progress: TrialProgress | None = None,
    on_trial: Callable[[Trial], Any] | None = None,
    done: Iterable[Trial] = (),
) -> FoundTraining:
    """Find the cheapest formats of weights, activations, errors, gradients, momentum and updates under which training still works.

    Each role alone is narrowed by bisection on short trainings that start from an early float32 state; settings around those meet in
    successive halving on longer ones; the cheapest that are left are trained in full from random weights, with all ``seeds``, until one
    loses at most ``max_drop`` points in the mean. ``longest_sum``: terms of the longest sum of products; with it the answer gets the
    accumulator that keeps the variance, checked by a short training in which every addition is rounded. ``ladder``: formats to choose
    from, many bits first. ``done`` and ``on_trial`` let an interrupted search go on.

    Raises: ``UsageError`` for what cannot be searched.
    References: Jamieson and Talwalkar 2016 (successive halving), arXiv 1502.07943; Sakr et al. 2019, arXiv 1901.06588 (accumulators).
    """
    if not max_drop >= 0 or not seeds or attempts < 1:
        raise UsageError(f"max_drop is {max_drop}, seeds {list(seeds)}, attempts {attempts}: at least 0, one seed and one attempt")
    steps = _ladder(kind, ladder)
    trials = Trials(train, 2.0 + len(seeds) * 2.0, progress, on_trial, done)
    search = _Search(trials, cost, max_drop, tuple(shares), tuple(seeds))
    widest = Setting((0,) * len(roles), tuple(roles), steps, master)
    notes: list[str] = []
    alone = search.screen(widest)
    narrow = Setting(tuple(alone.values()), tuple(roles), steps, master)
    candidates = search.halve(_around(narrow))
    setting, drops = search.verify(candidates, widest, attempts, notes)
    if setting is not None and longest_sum > 1:
        setting = search.accumulate(setting, longest_sum, notes)
    told: dict[str, str] = {role: str(steps[place]) for role, place in alone.items()}
    plan = setting.plan() if setting else Plan()
    interval = spread([drop / 100 for drop in drops]) if drops else None
    costs = (cost(plan), cost(None))
    return FoundTraining(setting, plan, tuple(drops), interval, told, tuple(trials.list), trials.spent, costs, tuple(notes))


def _ladder(kind: str, given: Sequence[Format | str] | None) -> tuple[Format, ...]:
    if given is None and kind not in LADDERS:
        raise UsageError(f"no kind of format {kind!r}; allowed are {', '.join(LADDERS)}, or give the formats themselves")
    steps = tuple(formats.parse(f) if isinstance(f, str) else f for f in (given if given is not None else LADDERS[kind]))
    if len(steps) < 2 or any(a.bits <= b.bits for a, b in itertools.pairwise(steps)):
        raise UsageError(f"the formats are {', '.join(map(str, steps))}; give at least two, each with fewer bits than the one before")
    return steps


def _around(narrow: Setting) -> list[Setting]:
    """Return the settings that meet in the halving: all roles moved together, and one role wider than it needs alone."""
    made = [narrow.moved(step) for step in WIDER] + [narrow.with_wider(role) for role in narrow.roles]
    return list({setting.places: setting for setting in made}.values())


class _Search:
    def __init__(
        self, trials: Trials, cost: Callable[[Plan | None], float], max_drop: float, shares: tuple[float, ...], seeds: tuple[int, ...]
    ) -> None:
        self.trials, self.cost, self.max_drop, self.shares, self.seeds = trials, cost, max_drop, shares, seeds

    def drop(self, name: str, plan: Plan, share: float, seed: int, warm: bool) -> tuple[float, Outcome]:
        """Return the points that a training loses against float32 of the same length, seed and start."""
        base = self.trials("float32", None, share, seed, warm)
        outcome = self.trials(name, plan, share, seed, warm)
        return 100 * (base.accuracy - outcome.accuracy), base

    def slack(self, base: Outcome) -> float:
        """Return what a short training may lose: the limit and one standard error of the difference of two independent shares."""
        p = min(max(base.accuracy, 1 / (base.n + 2)), 1 - 1 / (base.n + 2))
        return self.max_drop + 100 * math.sqrt(2 * p * (1 - p) / base.n)

    def screen(self, widest: Setting) -> dict[Role, int]:
        """Return the narrowest place of each role alone, by bisection; the widest where nothing holds."""
        found: dict[Role, int] = {}
        for index, role in enumerate(widest.roles):
            low, high = 0, len(widest.ladder)
            while high - low > 1:
                middle = (low + high) // 2
                places = tuple(middle if at == index else 0 for at in range(len(widest.roles)))
                plan = Setting(places, widest.roles, widest.ladder, widest.master).plan(role)
                drop, base = self.drop(plan.name, plan, self.shares[0], self.seeds[0], True)
                low, high = (middle, high) if drop <= self.slack(base) else (low, middle)
            found[role] = low
        return found

    def halve(self, settings: list[Setting]) -> list[Setting]:
        """Return the settings that are left after the rungs, cheapest first; the first rung starts warm, the others from random weights."""
        for rung, share in enumerate(self.shares):
            ranked: list[tuple[bool, float, int]] = []
            for setting in settings:
                drop, base = self.drop(setting.name, setting.plan(), share, self.seeds[0], rung == 0)
                fails = drop > self.slack(base)
                ranked.append((fails, self.cost(setting.plan()) if not fails else drop, len(ranked)))
            keep = max(1, math.ceil(len(settings) / 2))
            settings = [settings[index] for _, _, index in sorted(ranked)[:keep]]
        return sorted(settings, key=lambda setting: self.cost(setting.plan()))

    def verify(self, candidates: list[Setting], widest: Setting, attempts: int, notes: list[str]) -> tuple[Setting | None, list[float]]:
        """Train in full with all seeds until a setting holds: the cheapest first, then the dearest ones wider, step by step."""
        queue = list(candidates)
        nearest: tuple[float, str] | None = None
        for attempt in range(attempts):
            setting = queue.pop(0) if queue else None
            if setting is None:
                return self._missed(nearest, attempt, notes)
            drops: list[float] = []
            for seed in self.seeds:
                drops.append(self.drop(setting.name, setting.plan(), 1.0, seed, False)[0])
                if drops[-1] > self.max_drop + 5:
                    break  # no other seed can bring the mean back
            mean = sum(drops) / len(drops)
            if len(drops) == len(self.seeds) and mean <= self.max_drop + 1e-9:
                return setting, drops
            if nearest is None or mean < nearest[0]:
                nearest = mean, setting.name
            wider = setting.moved(1)
            if not queue and wider.places != setting.places:
                queue.append(wider)
        return self._missed(nearest, attempts, notes)

    def _missed(self, nearest: tuple[float, str] | None, attempts: int, notes: list[str]) -> tuple[None, list[float]]:
        told = f"; the nearest miss is {nearest[1]} with a mean drop of {nearest[0]:.2f} points" if nearest else ""
        notes.append(
            f"None of {attempts} settings trained in full stays within {self.max_drop:g} points of float32{told}. Allow more, try more "
            "settings, or give a ladder with wider formats."
        )
        return None, []

    def accumulate(self, setting: Setting, longest_sum: int, notes: list[str]) -> Setting:
        """Add the accumulator that keeps the variance of the longest sum, checked by a short training with every addition rounded."""
        fewest = significand_bits(longest_sum)
        for bits in range(fewest, min(23, fewest + 3) + 1):
            wide = Format.float(EXPONENT_BITS, bits)
            tried = Setting(setting.places, setting.roles, setting.ladder, setting.master, wide)
            drop, base = self.drop(tried.name, tried.plan(), self.shares[0], self.seeds[0], True)
            if drop <= self.slack(base):
                notes.append(
                    f"Accumulator {wide}: the longest sum has {longest_sum:,} terms, for which the variance rule asks {fewest} bits of "
                    f"significand; a training of {self.shares[0]:.0%} of a run with every addition rounded lost {drop:.2f} points."
                )
                return tried
        notes.append(f"No accumulator up to {min(23, fewest + 3)} bits of significand held in a short training; it stays float32.")
        return setting
