"""Find the fewest bits of a training: the other half of ``precision search``, for ``--goal training``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.jobs.kept import Kept
from convsmith.jobs.text import table
from convsmith.jobs.trial_training import trainer_of

if TYPE_CHECKING:
    from convsmith.jobs.precision_search import Config
    from convsmith.precision.training_search import FoundTraining

TRIALS = "training_search_trials.json"


def search(config: Config, record: runs.Record) -> dict[str, Any]:
    """Search the recipe of a run, verify with full trainings, and write training_search.json and training_search_plan.json."""
    from convsmith.precision.training_search import find_training_plan
    from convsmith.precision.trials import Trial

    train = trainer_of(runs.open(record.folder), record, config.epochs, config.workers)
    work = train.work()
    settings = config.model_dump(mode="json", include={"formats", "kind", "master", "epochs"})
    kept = Kept(record, TRIALS, "trials", Trial.from_dict, settings)
    found = find_training_plan(
        train,
        work.update,
        config.max_drop,
        kind=config.kind,
        ladder=config.formats or None,
        master=config.master,
        longest_sum=work.longest_sum() if config.accumulators else 0,
        seeds=range(config.seeds),
        attempts=config.attempts,
        progress=lambda done, total, name: record.progress("search", done, total, plan=name),
        on_trial=kept.add,
        done=list(kept.found),
    )
    stored = describe(found, config.max_drop) | {"epochs": train.training.epochs, "seeds": config.seeds}
    record.write_json("training_search.json", stored)
    record.write_json("training_search_plan.json", found.plan.to_dict())
    record.event("training search", bits=stored["bits"], notes=stored["notes"])
    kept.forget()
    return stored | {"goal": "training"}


def describe(found: FoundTraining, max_drop: float) -> dict[str, Any]:
    """Return what a search found, for JSON."""
    interval = found.interval
    return {
        "max_drop": max_drop,
        "bits": found.setting.bits if found.setting else None,
        "formats": {role: str(found.setting.of(role)) for role in found.setting.roles} if found.setting else None,
        "drops": list(found.drops),
        "interval": [interval.mean, interval.low, interval.high] if interval else None,
        "alone": dict(found.alone),
        "spent": found.spent,
        "cost": list(found.costs),
        "notes": list(found.notes),
        "trials": [_row(trial) for trial in found.trials],
    }


def _row(trial: Any) -> dict[str, Any]:
    kept = {name: getattr(trial, name) for name in ("name", "share", "seed", "warm")}
    return kept | {"accuracy": trial.outcome.accuracy, "n": trial.outcome.n, "failed": trial.outcome.failed}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    parts = []
    if result["bits"] is not None:
        rows = [[role.replace("_", " "), str(fmt), result["alone"].get(role, "")] for role, fmt in result["formats"].items()]
        if "accumulator" in result["bits"]:
            rows.append(["accumulator", f"{result['bits']['accumulator']} bits", ""])
        parts.append(table(["what", "format", "alone would do"], rows))
        mean, low, high = result["interval"]
        drops = ", ".join(f"{drop:+.2f}" for drop in result["drops"])
        parts.append(
            f"Trained in full with {len(result['drops'])} seeds: drops of {drops} points against float32, mean {mean:+.2f} "
            f"(95 %: {low:+.2f} to {high:+.2f}), allowed {result['max_drop']:g}."
        )
        parts.append(f"An update takes {result['cost'][0] / result['cost'][1]:.1%} of the bit operations of float32.")
    parts.append(f"{len(result['trials'])} trainings, together {result['spent']:.1f} full runs.")
    return "\n\n".join([*parts, *result["notes"]])
