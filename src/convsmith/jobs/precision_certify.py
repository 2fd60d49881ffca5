"""Prove for each test image that a plan of number formats cannot change its class, and that integer accumulators cannot overflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import planned, sources, trained
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, table

if TYPE_CHECKING:
    from convsmith.data.dataset import Dataset

WIDTH_HEADERS = ("layer", "terms", "input codes", "bits", "l1 bits", "type bits")


class Config(Settings):
    """Which run, under which plan, how many images, how sure."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    plan: str = Field(description="File of a plan, or a number format such as bf16 for all weights and activations")
    images: int = Field(0, ge=0, description="Test images to certify, evenly spread; 0 takes all")
    failure: float = Field(1e-6, gt=0, lt=1, description="Probability with which a proof in probability may fail, for each image")
    against: Literal["float32", "exact"] = Field(
        "float32", description="Whose class is kept: float32 as computed here, or exact arithmetic"
    )
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Certify, and write certificate.json.

    Raises: UnsupportedError naming the operators without a bound before any image is read; UsageError for a plan of another network.
    """
    import numpy as np

    from convsmith.precision import certificate
    from convsmith.precision.certificate.setting import require_supported
    from convsmith.precision.certificate.summary import summarise, widths_rows
    from convsmith.redesign import fold_batch_norm

    network = trained.load(runs.open(record.folder))
    graph = network.graph
    plan = planned.read(config.plan, graph)
    require_supported(fold_batch_norm(graph))
    certificate.decided(plan, fold_batch_norm(graph))
    dataset = dataset or sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    part: Literal["test", "val"] = "test" if "test" in dataset.splits else "val"
    if part not in dataset.splits:
        raise UsageError(f"{dataset.source} has neither test nor validation images to certify")
    split = dataset.splits[part]
    calibration = sources.pixels(dataset.train, network.preprocess, sources.CALIBRATION_IMAGES, config.workers)[0]
    x, labels = sources.pixels(split, network.preprocess, config.images, config.workers)
    setting = certificate.describe(graph, plan, calibration)
    found = certificate.certify(
        setting,
        x,
        failure=config.failure,
        exact=config.against == "exact",
        progress=lambda done, total: record.progress("certify", done, total),
    )
    widths = certificate.accumulator_widths(graph, plan, calibration)
    names = [split.name(int(row)) for row in np.linspace(0, len(split) - 1, len(x)).astype(np.int64)]
    told = summarise(found, names) | {
        "plan": plan.to_dict(),
        "plan_name": plan.name,
        "against": config.against,
        "part": part,
        "accuracy": float((found.classes == labels).mean()),
        "certain_and_right": float((found.certain & (found.classes == labels)).mean()),
        "widths": [w.to_dict() for w in widths],
    }
    record.write_json("certificate.json", told)
    record.event("certificate", plan=plan.name, certain=told["certain"], likely=told["likely"], n=told["n"])
    return told | {"classes": list(network.classes), "widths_table": table(WIDTH_HEADERS, widths_rows(widths)) if widths else ""}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    n, classes = result["n"], result["classes"]
    whose = "float32" if result["against"] == "float32" else "exact arithmetic"
    rows = [
        ["plan", result["plan_name"]],
        ["images", f"{n:,} ({result['part']}), {percent(result['accuracy'])} right"],
        [f"cannot lose the class of {whose}", f"{percent(result['certain'])} for certain, whatever the order of additions"],
        ["", f"{percent(result['likely'])} but for a probability of {result['failure']:g} an image"],
        ["margin, median", _number(result["margin"][1])],
        ["bound, median", f"{_number(result['bound'][1])} certain, {_number(result['likely_bound'][1])} in probability"],
        ["time", f"{1e3 * result['seconds_per_image']:.2f} ms an image"],
    ]
    parts = [table(["what", "value"], rows)]
    if result["reasons"]:
        parts.append(table(["no certain proof because", "images"], [[reason, count] for reason, count in result["reasons"].items()]))
    least = [
        [item["image"], classes[item["class"]], classes[item["rival"]], _number(item["margin"]), _number(item["bound"]), item["proof"]]
        for item in result["least_room"]
    ]
    parts.append("Least room\n\n" + table(["image", "class", "nearest", "margin", "bound", "proof"], least))
    if result["widths_table"]:
        parts.append(
            "Bits with which a layer's sums cannot overflow, whatever image and order; the bias is not counted\n\n" + result["widths_table"]
        )
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "no bound" if value is None else f"{value:.3g}"
