"""Find the cheapest number format of every layer of a trained network, or of everything that its training stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import DataError
from convsmith.jobs import sources, trained, training_bits
from convsmith.jobs.confirmation import confirm, sentence
from convsmith.jobs.kept import Kept
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, table

if TYPE_CHECKING:
    from convsmith import precision
    from convsmith.data.dataset import Dataset

POINTS = "search_points.json"


class Config(Settings):
    """Which run, how much accuracy may be lost, which formats, what a bit costs."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    goal: Literal["inference", "training"] = Field(
        "inference", description="Bits of the trained network layer by layer, or of training its recipe anew from random weights"
    )
    max_drop: float = Field(0.5, ge=0, description="Accuracy that may be lost, in points")
    formats: tuple[str, ...] = Field((), description="Formats to choose from, such as int8, e4m3, fixed<2,6>; int2 to int8 by default")
    cost: str = Field("bits moved", description="What is saved: weight bits, bits moved, energy, bit operations, latency")
    prices: Path | None = Field(None, description="JSON file of measured times for the cost latency: {layer: {'int8,int8': ms}}")
    evaluations: int = Field(12, ge=1, description="Plans to score on the images, at most")
    repeats: int = Field(5, ge=2, description="Times a score is repeated that is not the same twice")
    images: int = Field(0, ge=0, description="Validation images to score on; 0 takes all")
    kind: Literal["float", "fixed"] = Field("float", description="Training: formats to choose from where none are given")
    seeds: int = Field(3, ge=1, description="Training: seeds of the full trainings that verify the answer")
    attempts: int = Field(4, ge=1, description="Training: settings to train in full, at most")
    master: bool = Field(False, description="Training: keep float32 copies of the weights, to which updates are added")
    accumulators: bool = Field(True, description="Training: find the accumulator too, checked with every addition rounded")
    epochs: float | None = Field(None, gt=0, description="Training: passes over the images in a full training; those of the run by default")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Search, confirm on the test images, and write search.json and search_plan.json; an interrupted search goes on where it was."""
    if config.goal == "training":
        return training_bits.search(config, record)
    from convsmith import precision

    network = trained.load(runs.open(record.folder))
    dataset = dataset or sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    graph = network.graph
    calibration = sources.pixels(dataset.train, network.preprocess, sources.CALIBRATION_IMAGES, config.workers)[0]
    part = "val" if "val" in dataset.splits else "test"
    x, labels = sources.pixels(dataset.splits.get("val") or dataset.test, network.preprocess, config.images, config.workers)
    score = precision.scorer(graph, x, labels, calibration=calibration)
    settings = config.model_dump(mode="json", include={"formats", "cost", "images", "max_drop"})
    kept = Kept(record, POINTS, "points", precision.Point.from_dict, settings)
    cost = _priced(config.prices) if config.cost == "latency" and config.prices is not None else config.cost
    found = precision.find_plan(
        graph,
        score,
        config.formats or None,
        config.max_drop,
        cost,
        lambda done, total, name: record.progress("search", done, total, format=name),
        evaluations=config.evaluations,
        repeats=config.repeats,
        on_point=kept.add,
        done=list(kept.found),
    )
    stored = describe(found, config.max_drop) | {"part": part, "n": len(labels)}
    stored["confirmed"] = confirm(found.plan, network, dataset, calibration, config.images, config.workers)
    record.write_json("search.json", stored)
    record.write_json("search_plan.json", found.plan.to_dict())
    record.event("search", chosen=stored["chosen"], notes=stored["notes"])
    kept.forget()
    return stored | {"plan": str(record.folder / "search_plan.json")}


def describe(found: precision.Found, max_drop: float) -> dict[str, Any]:
    """Return what a search found, for JSON: the answer layer by layer, the uniform plan beside it, sensitivities, evaluations."""
    from convsmith.precision import Plan

    options, numbers = found.options, found.options.workload.numbers
    decided: dict[tuple[str, str], Any] = {(rule.layer, rule.role): rule for rule in found.plan.rules}

    def chosen_of(layer: str, role: str) -> str:
        rule = decided.get((layer, role)) or decided.get(("*", role))
        return "float32" if rule is None or rule.format is None else str(rule.format)

    layers = []
    for group in options.groups:
        layer = group.layers[0]
        noise = {str(fmt): found.sensitivity.noise[group.tensor, fmt] for fmt in options.formats}
        row = {"layer": layer, "role": group.role, "format": chosen_of(layer, group.role), "numbers": numbers[group.tensor]}
        wide = found.accumulators.get(layer) if group.role == "weight" else None
        layers.append(row | {"noise": noise, "accumulator_bits": wide})
    return {
        "max_drop": max_drop,
        "cost": {"name": found.cost.name, "unit": found.cost.unit, "float32": found.float32_cost},
        "chosen": found.point.to_dict() if found.point else None,
        "uniform": found.uniform.to_dict() if found.uniform else None,
        "points": [point.to_dict() for point in found.points],
        "evaluations": found.evaluations,
        "uniform_evaluations": found.uniform_evaluations,
        "layers": layers,
        "by_layers": found.point is not None and found.plan.rules != () and Plan.from_dict(found.point.plan).rules[0].layer != "*",
        "notes": list(found.notes),
    }


def _priced(path: Path) -> precision.Cost:
    from convsmith import precision

    try:
        return precision.priced(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, AttributeError) as error:
        raise DataError(f"{path} does not hold prices as JSON, {{layer: {{'int8,int8': milliseconds}}}}: {error}") from None


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text: the format of each layer, what it saves, what was spent."""
    if result.get("goal") == "training":
        return training_bits.lines(result)
    rows = [[row["layer"], row["role"], row["format"], f"{row['numbers']:,}", row["accumulator_bits"] or ""] for row in result["layers"]]
    cost, unit = result["cost"], result["cost"]["unit"]
    parts = [table(["layer", "tensor", "format", "numbers", "accumulator bits"], rows)]
    compared = [["float32", f"{cost['float32']:.4g}", "", ""]]
    for name, point in (("one format: ", result["uniform"]), ("", result["chosen"] if result["by_layers"] else None)):
        if point:
            interval = f"{point['drop']:.2f} ({point['drop_low']:.2f} to {point['drop_high']:.2f})"
            compared.append([f"{name}{point['format']}", f"{point['cost']:.4g}", interval, percent(point["accuracy"])])
    parts.append(table(["plan", f"{cost['name']}, {unit}", "drop in points (95 %)", "accuracy"], compared))
    parts.append(
        f"{result['evaluations']:.3g} passes over {result['n']:,} images for the answer and {result['uniform_evaluations']:.3g} for one "
        "format, a plan being given up as soon as it cannot hold; one backward pass scored all layers."
    )
    if result["confirmed"]:
        parts.append(sentence(result["confirmed"]))
    return "\n\n".join([*parts, *result["notes"]])
