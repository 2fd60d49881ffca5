"""A trained network becomes codes without training: ranges, equalisation, adaptive rounding, corrected biases, kept where they help.

Which of them help is told by the scores alone, on images without labels that nothing was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError, near
from convsmith.graph import Graph
from convsmith.precision.bias_correction import correct_biases
from convsmith.precision.calibration import Ranges, calibrate
from convsmith.precision.equalisation import equalise, pairs, reached, without_limits
from convsmith.precision.plan import Plan
from convsmith.precision.quantisation import quantise
from convsmith.precision.rule import RangeRule
from convsmith.redesign import fold_batch_norm
from convsmith.redesign.noise import answer_noise

if TYPE_CHECKING:
    from convsmith.precision.rule import Rule

Measure = Literal["equalise", "round", "bias"]
MEASURES: Final[tuple[Measure, ...]] = ("equalise", "round", "bias")
"""What can be done beside choosing ranges, in the order in which it is done."""

RANGES: Final[tuple[RangeRule, ...]] = ("max", "percentile", "mse")
CORRECTED: Final = 128
"""Images whose means decide about biases; they pass through the network at once."""

Progress = Callable[[int, int, str], Any]


@dataclass(frozen=True)
class Recipe:
    """Where ranges come from, and what is done beside."""

    range: RangeRule = "max"
    measures: tuple[Measure, ...] = ()

    def __post_init__(self) -> None:
        for name in self.measures:
            if name not in MEASURES:
                raise UsageError(f"there is nothing called {name!r} to do; there are {', '.join(MEASURES)}.{near(name, MEASURES)}")
        if self.range not in RANGES:
            raise UsageError(f"range is {self.range!r}; allowed are {', '.join(RANGES)}.{near(self.range, RANGES)}")
        object.__setattr__(self, "measures", tuple(name for name in MEASURES if name in self.measures))

    def __str__(self) -> str:
        return " + ".join((self.range, *self.measures))

    def to_dict(self) -> dict[str, Any]:
        return {"range": self.range, "measures": list(self.measures)}


@dataclass(frozen=True)
class Trial:
    """A recipe and its error: about the probability that it changes an answer, `redesign.noise.answer_noise`."""

    recipe: Recipe
    error: float


@dataclass(frozen=True)
class Coded:
    """A graph of codes, the float32 ``graph`` whose weights they are, and how they were made. ``trials``: all that was tried."""

    codes: Graph
    graph: Graph
    plan: Plan
    recipe: Recipe
    trials: tuple[Trial, ...] = ()

    @property
    def error(self) -> float:
        """That of the recipe; NaN where nothing was compared."""
        return next((trial.error for trial in self.trials if trial.recipe == self.recipe), float("nan"))


def ranged(plan: Plan, how: RangeRule) -> Plan:
    """Return the plan with the ranges of its scaled integers taken so; a percentile is of activations, weights then keep the largest."""

    def changed(rule: Rule) -> Rule:
        if rule.format is None or rule.scale not in ("tensor", "channel"):
            return rule
        return replace(rule, range="max" if how == "percentile" and rule.role == "weight" else how)

    return replace(plan, rules=tuple(changed(rule) for rule in plan.rules))


class PostTraining:
    """Makes codes of one network under one plan; what recipes share is computed once.

    ``x_nchw``: calibration images; the last quarter, at least one, judges, the others are what ranges and rounding are fitted on.
    """

    def __init__(self, graph: Graph, plan: Plan, x_nchw: Any, progress: Progress | None = None) -> None:
        x = np.asarray(x_nchw, np.float32)
        if len(x) < 2:
            raise UsageError(f"codes are fitted on some images and judged on others; got {len(x)}, give at least 2")
        kept = max(1, len(x) // 4)
        self.plan, self.fitted, self.judged, self.progress = plan, x[:-kept], x[-kept:], progress
        self.graph = fold_batch_norm(graph)
        self._graphs: dict[bool, tuple[Graph, Ranges]] = {}
        self._made: dict[tuple[Recipe, int], Coded] = {}
        self._expected: NDArray[np.float64] | None = None

    def make(self, recipe: Recipe, rounding_steps: int = 500) -> Coded:
        """Return the codes of a recipe."""
        if "bias" in recipe.measures:
            before = self.make(Recipe(recipe.range, tuple(name for name in recipe.measures if name != "bias")), rounding_steps)
            codes = correct_biases(before.codes, before.graph, self.fitted[:CORRECTED])
            return replace(before, codes=codes, recipe=recipe)
        key = recipe, rounding_steps if "round" in recipe.measures else 0
        if key not in self._made:
            graph, ranges = self._material("equalise" in recipe.measures)
            plan = ranged(self.plan, recipe.range)
            codes = quantise(graph, plan, ranges)
            if "round" in recipe.measures:
                from convsmith.precision.adaptive_rounding import round_adaptively

                codes = round_adaptively(codes, graph, self.fitted, steps=rounding_steps, progress=self.progress)
            self._made[key] = Coded(codes, graph, plan, recipe)
        return self._made[key]

    def error(self, codes: Graph) -> float:
        """Return the noise of the answers of codes on the judging images."""
        if self._expected is None:
            self._expected = _logits(self.graph, self.judged)
        return answer_noise(self._expected, _logits(codes, self.judged))

    def judge(self, coded: Coded) -> Coded:
        """Return the codes with their error."""
        return replace(coded, trials=(Trial(coded.recipe, self.error(coded.codes)),))

    def choose(self, measures: Sequence[Measure] | None = None, ranges: Sequence[RangeRule] | None = None) -> Coded:
        """Return the best codes found: the best of the ranges, then each measure that lowers the error, one after the other.

        ``measures``: which may be taken, by default those that can pay: rounding up or down takes minutes and pays below 8 bits.
        """
        allowed = self.worth() if measures is None else tuple(measures)
        tried: dict[Recipe, tuple[Trial, Coded]] = {}

        def attempt(recipe: Recipe) -> Trial:
            if recipe not in tried:
                if self.progress is not None:
                    self.progress(len(tried), len(ranges or RANGES) + len(allowed), str(recipe))
                coded = self.make(recipe)
                tried[recipe] = Trial(recipe, self.error(coded.codes)), coded
            return tried[recipe][0]

        best = min((attempt(Recipe(how)) for how in ranges or RANGES), key=lambda trial: trial.error)
        for name in (name for name in MEASURES if name in allowed):
            best = min(best, attempt(Recipe(best.recipe.range, (*best.recipe.measures, name))), key=lambda trial: trial.error)
        return replace(tried[best.recipe][1], trials=tuple(trial for trial, _ in tried.values()))

    def worth(self) -> tuple[Measure, ...]:
        """Return the measures that can pay for this network and plan."""
        narrow = any(rule.role == "weight" and rule.format is not None and rule.format.bits < 8 for rule in self.plan.rules)
        paired = bool(pairs(self._limitless()))
        return tuple(name for name, use in zip(MEASURES, (paired, narrow, True), strict=True) if use)

    def _limitless(self) -> Graph:
        """Return the graph without the limits that no activation comes up to."""
        return without_limits(self.graph, reached(self.graph, self._material(False)[1]))

    def _material(self, equalised: bool) -> tuple[Graph, Ranges]:
        if equalised not in self._graphs:
            graph = equalise(self._limitless()) if equalised else self.graph
            self._graphs[equalised] = graph, calibrate(graph, self.fitted)
        return self._graphs[equalised]


def _logits(graph: Graph, x: NDArray[np.float32]) -> NDArray[np.float64]:
    import torch

    from convsmith.interop import pytorch

    module = pytorch.write(graph).eval()
    with torch.no_grad():
        parts = [module(part).double().flatten(1).numpy() for part in torch.split(torch.from_numpy(x), 64)]
    return np.concatenate(parts)
