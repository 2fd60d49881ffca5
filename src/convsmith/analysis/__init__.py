"""What a network costs, and what its predictions are worth."""

from convsmith.analysis.abstention import Abstention, choose_threshold
from convsmith.analysis.calibration import Bin, Calibration, calibrate, chance_error, fit_temperature
from convsmith.analysis.cost import analyse
from convsmith.analysis.cost_report import Column, Layer, Report
from convsmith.analysis.limits import Limit, columns, roofline
from convsmith.analysis.memory import Peak
from convsmith.analysis.metrics import ClassScore, Evaluation, Mistake, confusion_matrix, evaluate
from convsmith.analysis.receptive_field import Field
from convsmith.analysis.significance import Paired, mcnemar, wilson

__all__ = [
    "Abstention",
    "Bin",
    "Calibration",
    "ClassScore",
    "Column",
    "Evaluation",
    "Field",
    "Layer",
    "Limit",
    "Mistake",
    "Paired",
    "Peak",
    "Report",
    "analyse",
    "calibrate",
    "chance_error",
    "choose_threshold",
    "columns",
    "confusion_matrix",
    "evaluate",
    "fit_temperature",
    "mcnemar",
    "roofline",
    "wilson",
]
