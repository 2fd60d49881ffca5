"""Latency and throughput: the network alone in each runtime, and the exported file from pixels to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convsmith.report import units
from convsmith.report.charts import Spread, spread_chart
from convsmith.report.source import Source

NAMES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "openvino bf16": "OpenVINO bfloat16"}


def build(source: Source) -> dict[str, Any] | None:
    """Return one group for each batch of the network alone and of the whole file."""
    bench = source.table("bench.json")
    if bench is None:
        return None
    height, width = bench["image_size"]
    return {
        "threads": bench["threads"],
        "parts": [
            {
                "title": "The network alone",
                "note": "From normalised pixels to logits: what the runtimes differ in.",
                "groups": _groups(bench["network"]),
            },
            {
                "title": "The exported file",
                "note": f"From {height} × {width} pixel images to scores, resize and normalisation included: what you will see in use.",
                "groups": _groups(bench["file"]),
            },
        ],
        "notes": [str(note) for note in bench.get("notes") or []],
    }


def fastest(source: Source) -> Mapping[str, Any] | None:
    """Return the row of the exported file for one image in its fastest runtime; ``label`` is the runtime's name."""
    bench = source.table("bench.json")
    single = [row for row in (bench or {}).get("file", []) if row["batch"] == 1]
    best = min(single, key=lambda row: float(row["median_ms"]), default=None)
    return best and {**best, "label": _name(best)}


def _name(row: Mapping[str, Any]) -> str:
    return NAMES.get(str(row["runtime"]), str(row["runtime"]))


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    batches = sorted({int(row["batch"]) for row in rows})
    return [_group([row for row in rows if row["batch"] == batch], batch) for batch in batches]


def _group(rows: Sequence[Mapping[str, Any]], batch: int) -> dict[str, Any]:
    base = next((row for row in rows if row["runtime"] == "torch"), rows[0])
    images = "one image" if batch == 1 else f"{batch} images"
    spreads = [Spread(_name(row), row["q1_ms"] / 1e3, row["median_ms"] / 1e3, row["q3_ms"] / 1e3) for row in rows]
    told = "; ".join(f"{spread.name} {units.latency(spread.median)}" for spread in spreads)
    return {
        "title": f"Batch {batch}",
        "base": _name(base),
        "chart": spread_chart(spreads, x_label=f"time for {images}", label=f"Median time for {images}: {told}", x_format=units.latency),
        "rows": [
            {
                "runtime": spread.name,
                "median": units.latency(spread.median),
                "quartiles": f"{units.latency(spread.low)} to {units.latency(spread.high)}",
                "rate": f"{units.amount(row['images_per_s'])}/s",
                "ratio": units.ratio(base["median_ms"] / row["median_ms"]),
            }
            for spread, row in zip(spreads, rows, strict=True)
        ],
    }
