"""Find how few bits a trained network needs: formats tried on the validation images, the answer confirmed on the test images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.jobs import sources, trained
from convsmith.jobs.confirmation import confirm, sentence
from convsmith.jobs.duration import Duration
from convsmith.jobs.settings import Settings, positional, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith import precision
    from convsmith.data.dataset import Dataset


class Config(Settings):
    """Which run, how much accuracy may be lost, which formats."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    max_drop: float = Field(0.5, ge=0, description="Accuracy that may be lost, in points")
    families: tuple[str, ...] = Field((), description="Kinds of format: int, fixed, float e5, exponent, float e8; all by default")
    tensors: Literal["weight", "activation", "both"] = Field("both", description="What gets fewer bits")
    sweep: Literal["border", "curve", "all"] = Field(
        "curve", description="Formats to try: those around the answer, the whole curves, or also weights and activations alone"
    )
    sweep_time: Duration | None = text(
        None, "TIME", "Time whole curves may take; where they would take more, only the border is tried", gt=0
    )
    images: int = Field(0, ge=0, description="Validation images to try each format on; 0 takes all")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Search, confirm, and write precision.json, plan.json and precision.svg.

    ``dataset``: the run's images when they are open already.
    """
    from convsmith import precision

    network = trained.load(runs.open(record.folder))
    dataset = dataset or sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    graph = network.graph
    calibration = sources.pixels(dataset.train, network.preprocess, sources.CALIBRATION_IMAGES, config.workers)[0]
    x, labels = sources.pixels(dataset.splits.get("val") or dataset.test, network.preprocess, config.images, config.workers)
    score = precision.scorer(graph, x, labels, calibration=calibration)
    begin = time.perf_counter()
    baseline = score(None)
    plan, points = _search(config, graph, score, calibration, record, time.perf_counter() - begin)
    found = {
        "max_drop": config.max_drop,
        "baseline": baseline.accuracy,
        "n": baseline.n,
        "part": "val" if "val" in dataset.splits else "test",
        "points": [point.to_dict() for point in points],
        "chosen": plan.name if plan.rules else None,
        "weight_bytes": precision.weight_bytes(graph, plan),
        "float32_weight_bytes": precision.weight_bytes(graph),
        "text": precision.explain(plan, points, config.max_drop),
        "confirmed": confirm(plan, network, dataset, calibration, config.images, config.workers),
    }
    record.write_json("precision.json", found)
    record.write_json("plan.json", plan.to_dict())
    picture = record.folder / "precision.svg"
    precision.plot(points, picture, max_drop=config.max_drop)
    record.event("precision", chosen=found["chosen"], text=found["text"])
    return found | {"table": precision.points_table(points), "picture": str(picture)}


def _search(
    config: Config, graph: Any, score: precision.Scorer, calibration: NDArray[np.float32], record: runs.Record, evaluation_s: float
) -> tuple[precision.Plan, list[precision.Point]]:
    from convsmith import precision
    from convsmith.redesign import fold_batch_norm

    ranges = precision.calibrate(fold_batch_norm(graph), calibration)
    families = config.families or None

    def progress(done: int, total: int, name: str) -> None:
        record.progress("precision", done, total, format=name)

    formats = precision.candidates(graph, ranges, families, (config.tensors,))
    tried: list[precision.Point] = []
    affordable = config.sweep_time is None or len(formats) * evaluation_s <= config.sweep_time
    if config.sweep == "all" or (config.sweep == "curve" and affordable):
        which = precision.TENSORS if config.sweep == "all" else (config.tensors,)
        tried = precision.sweep(graph, score, ranges=ranges, families=families, tensors=which, progress=progress)
    return precision.find_uniform(graph, score, formats, config.max_drop, progress, ranges=ranges, tensors=config.tensors, done=tried)


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    parts = [result["table"], result["text"]]
    if result["confirmed"]:
        parts.append(sentence(result["confirmed"]))
    kept, before = result["weight_bytes"], result["float32_weight_bytes"]
    parts.append(f"Weights: {kept:,} bytes instead of {before:,} ({before / kept:.1f} times smaller).")
    return "\n\n".join(parts)
