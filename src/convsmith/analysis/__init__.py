"""What a network costs, and what its predictions are worth."""

from convsmith.analysis.calibration import Bin, Calibration, calibrate, fit_temperature
from convsmith.analysis.metrics import ClassScore, Evaluation, Mistake, confusion_matrix, evaluate
from convsmith.analysis.significance import Paired, mcnemar, wilson

__all__ = [
    "Bin",
    "Calibration",
    "ClassScore",
    "Evaluation",
    "Mistake",
    "Paired",
    "calibrate",
    "confusion_matrix",
    "evaluate",
    "fit_temperature",
    "mcnemar",
    "wilson",
]
