"""The learning curves, how the training ended, and in which arithmetic it ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from convsmith.report import units
from convsmith.report.charts import Curve, line_chart
from convsmith.report.source import Source

STEPS = {"reading": "disk_s", "decoding": "decode_s", "scaling": "resample_s"}
ENDINGS = {
    "time": "The number of updates was set by the time allowed.",
    "patience": "It stopped early, because validation had not improved for a while.",
    "interrupt": "It was interrupted.",
}


def build(source: Source) -> dict[str, Any] | None:
    """Return the curves of loss, accuracy and learning rate over the epochs; an epoch that was done again counts as it ended."""
    epochs = {float(event["epoch"]): event for event in source.kinds("epoch")}
    if not epochs:
        return None
    rows = [epochs[key] for key in sorted(epochs)]
    validated = [row for row in rows if row.get("val_accuracy") is not None]
    best = max(validated, key=lambda row: float(row["val_accuracy"]), default=None)
    ended = source.kinds("trained")
    return {
        "epochs": units.epochs(max(epochs)),
        "took": units.duration(rows[-1].get("seconds")),
        "best": best and {"epoch": units.epochs(best["epoch"]), "accuracy": units.percent(best["val_accuracy"])},
        "ending": ENDINGS.get(str(ended[-1].get("stopped_by")), "") if ended else "",
        "resumed": len([event for event in source.kinds("resume") if "step" in event]),
        "arithmetic": _arithmetic(source),
        "waiting": _waiting(source),
        "finders": _finders(source),
        "charts": [chart for chart in (_loss(rows), _accuracy(rows), _rate(rows), _flips(rows), _dead(rows)) if chart["svg"]],
    }


def _waiting(source: Source) -> str:
    """Tell how long the training waited for, changed and copied its images and what the threads did, "" of runs without the figures."""
    events = source.kinds("feed")
    elapsed = sum(float(event.get("elapsed_s", 0)) for event in events)
    if not elapsed:
        return ""
    seconds = {key: sum(float(event.get(key, 0)) for event in events) for key in ("waited_s", "augment_s", "copy_s", *STEPS.values())}
    share = {key: units.percent(min(1.0, value / elapsed)) for key, value in seconds.items()}
    total = sum(seconds[key] for key in STEPS.values())
    told = ", ".join(f"{word} {units.percent(seconds[key] / total)}" for word, key in STEPS.items()) if total else ""
    where = "all in memory" if all(event.get("resident") for event in events) else "decoded while it trained"
    busy = f"; the decoding threads spent theirs on {told}" if told else ""
    own = f", {share['augment_s']} augmenting and {share['copy_s']} copying them" if any("augment_s" in event for event in events) else ""
    return f"It spent {share['waited_s']} of its time waiting for images ({where}){own}{busy}."


def _arithmetic(source: Source) -> str:
    """Tell which arithmetic was the fastest of those that were timed, "" when there was no choice."""
    plans = source.kinds("plan")
    timed: Mapping[str, float] = (plans[-1].get("step_s") or {}) if plans else {}
    if len(timed) < 2:
        return ""
    told = ", ".join(f"{name} {units.latency(seconds)}" for name, seconds in sorted(timed.items(), key=lambda item: item[1]))
    return f"It ran in the fastest arithmetic that was timed, for one update: {told}."


def _finders(source: Source) -> dict[str, Any] | None:
    """Return what was tried to find batch and learning rate, None where nothing was."""
    found = source.table("finders.json")
    if found is None:
        return None
    batch, rate = found.get("batch"), found.get("learning_rate")
    return {
        "batch": batch and {"chosen": batch["chosen"], "reason": batch["reason"], "rows": [_trial(row) for row in batch["trials"]]},
        "rate": rate and {"chosen": units.digits3(rate["chosen"]), "reason": rate["reason"], "svg": _test(rate)},
    }


def _trial(row: Mapping[str, Any]) -> dict[str, str]:
    memory = row["peak_bytes"] if row["peak_bytes"] is not None else row["predicted_bytes"]
    told = units.size(memory) + ("" if row["peak_bytes"] is not None else " expected")
    return {"batch": str(row["batch"]), "memory": told, "rate": units.amount(row["images_per_s"]), "fits": "yes" if row["fits"] else "no"}


def _test(rate: Mapping[str, Any]) -> Markup:
    """Draw the loss against the power of ten of the rate, up to where the loss is twice that of the beginning."""
    shown = [(math.log10(x), y) for x, y in zip(rate["rates"], rate["smoothed"], strict=True) if y <= 2 * rate["smoothed"][0]]
    curve = Curve("loss, running mean", [x for x, _ in shown], [y for _, y in shown])
    label = f"Loss over learning rates: falls fastest at {units.digits3(rate['chosen'])}, lowest at {units.digits3(rate['lowest'])}"
    return line_chart([curve], x_label="power of ten of the learning rate", y_label="loss", label=label)


def _curves(rows: Sequence[Mapping[str, Any]], named: Mapping[str, str]) -> list[Curve]:
    x = [float(row["epoch"]) for row in rows]
    return [Curve(name, x, [row.get(key) for row in rows]) for name, key in named.items()]


def _last(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    return f"{units.digits3(values[0])} to {units.digits3(values[-1])}" if values else "not measured"


def _loss(rows: Sequence[Mapping[str, Any]]) -> dict[str, str | Markup]:
    label = f"Loss over epochs: training {_last(rows, 'loss')}, validation {_last(rows, 'val_loss')}"
    curves = _curves(rows, {"training": "loss", "validation": "val_loss"})
    return {"title": "Loss", "svg": line_chart(curves, x_label="epoch", y_label="loss", label=label, y_zero=True)}


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> dict[str, str | Markup]:
    label = f"Accuracy over epochs: training {_last(rows, 'accuracy')}, validation {_last(rows, 'val_accuracy')}"
    curves = _curves(rows, {"training": "accuracy", "validation": "val_accuracy"})
    svg = line_chart(curves, x_label="epoch", y_label="accuracy", label=label, y_format=units.axis_percent, y_most=1)
    return {"title": "Accuracy", "svg": svg}


def _rate(rows: Sequence[Mapping[str, Any]]) -> dict[str, str | Markup]:
    label = f"Learning rate over epochs: {_last(rows, 'lr')}"
    curves = _curves(rows, {"learning rate": "lr"})
    svg = line_chart(curves, x_label="epoch", y_label="learning rate", label=label, y_zero=True)
    return {"title": "Learning rate", "svg": svg}


def _flips(rows: Sequence[Mapping[str, Any]]) -> dict[str, str | Markup]:
    """Draw how many binary weights an update turns; nothing of other networks."""
    label = f"Binary weights that change sign in an update, over epochs: {_last(rows, 'flips')}"
    curves = _curves(rows, {"flips": "flips"})
    svg = line_chart(curves, x_label="epoch", y_label="binary weights", label=label, y_format=units.axis_percent, y_zero=True)
    return {"title": "Weights that change sign in an update", "svg": svg}


def _dead(rows: Sequence[Mapping[str, Any]]) -> dict[str, str | Markup]:
    """Draw dead channels of signs, and signs that pass no gradient; nothing of other networks."""
    named = {"channels of one sign throughout a batch": "dead", "signs at or beyond 1, without a gradient": "saturated"}
    label = f"Signs over epochs: dead channels {_last(rows, 'dead')}, without a gradient {_last(rows, 'saturated')}"
    curves = _curves(rows, named)
    svg = line_chart(curves, x_label="epoch", y_label="signs", label=label, y_format=units.axis_percent, y_most=1)
    return {"title": "Dead channels and saturation", "svg": svg}
