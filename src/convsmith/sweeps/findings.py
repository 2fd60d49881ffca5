"""What the trials of a study show together: the table, the best, and which setting mattered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsmith.sweeps.study import Shared

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

#: Words for optuna's states.
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class Results:
    """``rows``: one dict a trial, those done again left out in favour of the last. ``best``: its row. ``importance``: shares of one."""

    rows: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Any] | None
    importance: Mapping[str, float]


def results(shared: Shared) -> Results:
    """Return what a study has found so far. Of two equal trials the older is the best."""
    trials = shared.trials()
    replaced = {trial.user_attrs.get("retry_of") for trial in trials}
    last = {_origin(trial): trial for trial in trials}  # in order of number: the last attempt stays
    rows = tuple(_row(origin, trial, again=origin in replaced) for origin, trial in sorted(last.items()))
    ended = [row for row in rows if row["state"] == "finished"]
    pick = max if shared.spec.direction == "maximize" else min
    best = pick(ended, key=lambda row: row["value"]) if ended else None
    return Results(rows, best, importance(shared, ended))


def importance(shared: Shared, ended: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the share of each setting in the variance of the result (functional ANOVA), largest first; {} where nothing can be told."""
    names = [axis.name for axis in shared.spec.axes]
    varied = [name for name in names if len({repr(row["params"].get(name)) for row in ended}) > 1]
    if len(ended) < 4 or not varied or len({row["value"] for row in ended}) < 2:
        return {}
    if len(varied) == 1:
        return {varied[0]: 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        try:
            found = get_param_importances(shared.study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied)
        except (ValueError, RuntimeError):
            return {}
    return {str(name): float(share) for name, share in found.items()}


def _origin(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("retry_of", trial.number))


def _row(origin: int, trial: FrozenTrial, *, again: bool) -> dict[str, Any]:
    told = trial.user_attrs
    params = dict(trial.system_attrs.get("fixed_params", {})) | dict(trial.params)
    return {
        "trial": origin,
        "state": STATES[trial.state.name],
        "params": params,
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "reached": trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None,
        "epochs": max(trial.intermediate_values) if trial.intermediate_values else None,
        "seconds": told.get("seconds"),
        "run": told.get("run"),
        "host": (told.get("worker") or {}).get("host"),
        "figures": told.get("figures") or {},
        "error": told.get("error"),
        "again": again,
    }
