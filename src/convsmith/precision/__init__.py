"""Which tensor of which layer speaks which number format: plans, their emulation, and the search for the fewest bits."""

import importlib
from typing import TYPE_CHECKING, Any

from convsmith.precision.assignment import EMULATED, Assignment, resolve, table, tensors
from convsmith.precision.calibration import Range, Ranges, calibrate, integer_bits
from convsmith.precision.curves import plan_of, points_table, series, sweep
from convsmith.precision.families import FAMILIES, TENSORS, Candidate, Layout, candidate, candidates, layout, uniform
from convsmith.precision.picture import plot
from convsmith.precision.plan import Moment, Plan, RangeRule, Role, Rule, ScaleRule
from convsmith.precision.scoring import Point, Score, Scorer, compare, scorer
from convsmith.precision.search import explain, find_plan, holds
from convsmith.precision.storage import weight_bytes

if TYPE_CHECKING:
    from convsmith.precision.emulation import Emulated, emulate
    from convsmith.precision.gradients import Rounded, Way, round_both
    from convsmith.precision.rounding import Counts, round_counted, round_tensor

NEED_TORCH = {
    "Counts": "convsmith.precision.rounding",
    "Emulated": "convsmith.precision.emulation",
    "Rounded": "convsmith.precision.gradients",
    "Way": "convsmith.precision.gradients",
    "emulate": "convsmith.precision.emulation",
    "round_both": "convsmith.precision.gradients",
    "round_counted": "convsmith.precision.rounding",
    "round_tensor": "convsmith.precision.rounding",
}

__all__ = [
    "EMULATED",
    "FAMILIES",
    "TENSORS",
    "Assignment",
    "Candidate",
    "Counts",
    "Emulated",
    "Layout",
    "Moment",
    "Plan",
    "Point",
    "Range",
    "RangeRule",
    "Ranges",
    "Role",
    "Rounded",
    "Rule",
    "ScaleRule",
    "Score",
    "Scorer",
    "Way",
    "calibrate",
    "candidate",
    "candidates",
    "compare",
    "emulate",
    "explain",
    "find_plan",
    "holds",
    "integer_bits",
    "layout",
    "plan_of",
    "plot",
    "points_table",
    "resolve",
    "round_both",
    "round_counted",
    "round_tensor",
    "scorer",
    "series",
    "sweep",
    "table",
    "tensors",
    "uniform",
    "weight_bytes",
]


def __getattr__(name: str) -> Any:
    if name in NEED_TORCH:
        return getattr(importlib.import_module(NEED_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
