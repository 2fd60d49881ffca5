"""Which tensor of which layer speaks which number format: plans, their emulation, and the search for the fewest bits."""

import importlib
from typing import TYPE_CHECKING, Any

from convsmith.precision.accumulators import with_accumulators
from convsmith.precision.assignment import EMULATED, Assignment, resolve, table, tensors
from convsmith.precision.calibration import Range, Ranges, calibrate, integer_bits
from convsmith.precision.choices import Choices, Group
from convsmith.precision.costs import COSTS, Cost, find_cost, priced
from convsmith.precision.curves import plan_of, points_table, series, sweep
from convsmith.precision.evidence import drop_bound, images_needed
from convsmith.precision.families import FAMILIES, TENSORS, Candidate, Layout, candidate, candidates, layout, uniform
from convsmith.precision.picture import plot, plot_counts
from convsmith.precision.plan import Plan
from convsmith.precision.quantisation import quantise
from convsmith.precision.rule import Moment, Order, PseudoGradient, RangeRule, Role, Rule, ScaleRule
from convsmith.precision.schedule import LossScale, Phase, Start
from convsmith.precision.scoring import Point, Score, Scorer, compare, scorer
from convsmith.precision.search import Found, find_plan, propose
from convsmith.precision.sensitivity import Sensitivity, measure
from convsmith.precision.storage import weight_bytes
from convsmith.precision.uniform_search import explain, find_uniform, holds

if TYPE_CHECKING:
    from convsmith.precision.emulated_module import EmulatedModule
    from convsmith.precision.emulation import Emulated, emulate
    from convsmith.precision.gradients import Rounded, Way, round_both
    from convsmith.precision.planned_optimizer import PlannedOptimizer, optimizer
    from convsmith.precision.rounding import Counts, round_counted, round_tensor, round_tensors

NEED_TORCH = {
    "Counts": "rounding",
    "Emulated": "emulation",
    "EmulatedModule": "emulated_module",
    "PlannedOptimizer": "planned_optimizer",
    "Rounded": "gradients",
    "Way": "gradients",
    "emulate": "emulation",
    "optimizer": "planned_optimizer",
    "round_both": "gradients",
    "round_counted": "rounding",
    "round_tensors": "rounding",
    "round_tensor": "rounding",
}

__all__ = [
    "COSTS",
    "EMULATED",
    "FAMILIES",
    "TENSORS",
    "Assignment",
    "Candidate",
    "Choices",
    "Cost",
    "Counts",
    "Emulated",
    "EmulatedModule",
    "Found",
    "Group",
    "Layout",
    "LossScale",
    "Moment",
    "Order",
    "Phase",
    "Plan",
    "PlannedOptimizer",
    "Point",
    "PseudoGradient",
    "Range",
    "RangeRule",
    "Ranges",
    "Role",
    "Rounded",
    "Rule",
    "ScaleRule",
    "Score",
    "Scorer",
    "Sensitivity",
    "Start",
    "Way",
    "calibrate",
    "candidate",
    "candidates",
    "compare",
    "drop_bound",
    "emulate",
    "explain",
    "find_cost",
    "find_plan",
    "find_uniform",
    "holds",
    "images_needed",
    "integer_bits",
    "layout",
    "measure",
    "optimizer",
    "plan_of",
    "plot",
    "plot_counts",
    "points_table",
    "priced",
    "propose",
    "quantise",
    "resolve",
    "round_both",
    "round_counted",
    "round_tensor",
    "round_tensors",
    "scorer",
    "series",
    "sweep",
    "table",
    "tensors",
    "uniform",
    "weight_bytes",
    "with_accumulators",
]


def __getattr__(name: str) -> Any:
    if name in NEED_TORCH:
        return getattr(importlib.import_module(f"convsmith.precision.{NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
