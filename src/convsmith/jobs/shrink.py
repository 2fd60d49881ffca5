"""Search what makes a trained network smaller and faster on this machine: edits, number formats and algorithms, measured together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import sources, trained
from convsmith.jobs.duration import Duration, format_duration
from convsmith.jobs.kept import Kept
from convsmith.jobs.settings import Settings, positional, text
from convsmith.jobs.shrinking.point import Limits, Point, best, frontier
from convsmith.jobs.text import percent, printable, size, table

if TYPE_CHECKING:
    from convsmith.data.dataset import Dataset
    from convsmith.jobs.shrinking.workshop import Workshop

POINTS = "shrink_points.json"


class Config(Settings):
    """Which run, what must hold, how long to look."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    max_drop: float = Field(0.5, ge=0, description="Accuracy that may be lost, in points")
    max_ms: float | None = Field(None, gt=0, description="Milliseconds that one image may take; no limit by default")
    max_mb: float | None = Field(None, gt=0, description="Size that the program's file may have, in 10^6 bytes; no limit by default")
    time: Duration = text(1800.0, "TIME", "Time for the search, such as 90s, 30m", shown="30m", gt=0)
    edits: bool = Field(True, description="Also change the architecture: fewer channels, cheaper convolutions, healed by training")
    evaluations: int = Field(8, ge=0, description="Plans with formats by layer to score, at most; 0 tries none")
    images: int = Field(2000, ge=0, description="Validation images to judge each network on; 0 takes all")
    batch: int = Field(16, ge=2, description="Images at once for the second speed, beside one")
    threads: int = Field(0, ge=0, description="Processor threads; 0 takes one for each processor")
    seed: int = Field(0, ge=0, description="Of the order of images in healing")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Search, time the frontier in turn, confirm it on the test images, and write shrink.json; a search that was cut short goes on.

    ``dataset``: the run's images when they are open already. Each point is a run in the folder ``shrink`` of this one.
    """
    from convsmith.jobs.shrinking.workshop import Workshop
    from convsmith.kernels import processor_count

    begun = time.monotonic()
    network = trained.load(runs.open(record.folder))
    if network.has_codes:
        raise UsageError(f"{record.folder} is a network of codes already; shrink the run it was made from")
    dataset = dataset or sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    shop = Workshop(network, dataset, record, config.threads or processor_count(), config.images, config.batch, config.workers, config.time)
    settings = config.model_dump(mode="json", include={"edits", "evaluations", "images", "batch", "threads", "max_drop", "seed"})
    kept = Kept(record, POINTS, "points", Point.from_dict, settings)
    notes = search(config, shop, kept, begun)
    points, torch_ms = finish(shop, kept.found, config)
    found = describe(config, shop, points, torch_ms, notes) | {"seconds": time.monotonic() - begun}
    record.write_json("shrink.json", found)
    record.event("shrink", chosen=found["chosen"], points=len(points))
    kept.forget()
    return found


def search(config: Config, shop: Workshop, kept: Kept[Point], begun: float) -> list[str]:
    """Make and measure points until all are there or the time is over; return what one must know."""
    from convsmith.jobs.shrinking.plans import plans

    notes: list[str] = []
    known = {point.name for point in kept.found}

    def tell(done: int, total: int, name: str) -> None:
        left = max(0.0, config.time - (time.monotonic() - begun))
        shop.record.progress("shrink", done, total, point=name, left=format_duration(left) if left >= 0.1 else "0 s")

    makers = list(plans(shop, config.evaluations, config.max_drop, tell))
    if config.edits:
        from convsmith.jobs.shrinking.edits import edited

        makers += edited(shop, begun + config.time, config.seed, tell)
    for number, (name, make) in enumerate(makers):
        if name in known:
            continue
        started = time.monotonic()
        if number > 1 and started - begun > config.time:  # float32 and codes of 8 bits are always there
            notes.append(f"The time of {format_duration(config.time)} was over before {len(makers) - number} further networks were tried.")
            break
        shop.record.progress("shrink", number, len(makers), point=name)
        made = make()
        if made is not None:
            kept.add(shop.measure(made, started))
    return notes


def finish(shop: Workshop, found: Sequence[Point], config: Config) -> tuple[list[Point], tuple[float, float]]:
    """Time all points in turn with torch, and confirm those of the frontier, and float32, on the test images.

    Returns torch's milliseconds of one image and of a batch beside the points.
    """
    programs = {point.name: shop.reopened(point) for point in found}
    times = _times(shop, programs)
    codes_ms = times.get(("int8", 1))
    points = [point.timed(times[point.name, 1], times[point.name, config.batch], codes_ms) for point in found]
    shown = {point.name for point in frontier(points)} | {"float32"}
    points = [replace(point, test=shop.confirm(programs[point.name])) if point.name in shown else point for point in points]
    return points, (times["torch", 1], times["torch", config.batch])


def _times(shop: Workshop, programs: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    """Return medians in milliseconds by name and number of images."""
    import numpy as np
    import torch

    from convsmith import targets

    def by_torch(x_nchw: Any) -> Any:
        torch.set_num_threads(shop.threads)
        with torch.inference_mode():
            return shop.network.module(torch.from_numpy(x_nchw))

    shape = shop.folded.inputs[0].shape[1:]
    rng = np.random.default_rng(0)
    rows = targets.measure(
        {"torch": by_torch, **programs}, lambda n: rng.standard_normal((n, *shape), np.float32), batches=(1, shop.batch), rounds=9
    )
    return {(row["runtime"], row["batch"]): row["median_ms"] for row in rows}


def describe(
    config: Config, shop: Workshop, points: Sequence[Point], torch_ms: tuple[float, float], notes: Sequence[str]
) -> dict[str, Any]:
    """Return shrink.json."""
    limits = Limits(config.max_drop, config.max_ms, config.max_mb)
    chosen = best(points, limits)
    shown = {point.name for point in frontier(points)}
    rows = [
        point.to_dict() | {"frontier": point.name in shown, "within": limits.hold(point), "speedup": _base(points).ms / point.ms}
        for point in sorted(points, key=lambda point: point.ms)
    ]
    return {
        "max_drop": config.max_drop,
        "max_ms": config.max_ms,
        "max_mb": config.max_mb,
        "part": shop.part,
        "n": shop.baseline.n,
        "baseline": shop.baseline.accuracy,
        "threads": shop.threads,
        "batch": config.batch,
        "torch_ms": torch_ms[0],
        "torch_batch_ms": torch_ms[1],
        "points": rows,
        "chosen": chosen.name if chosen else None,
        "folder": str(shop.record.folder / chosen.folder) if chosen else None,
        "notes": list(notes),
    }


def _base(points: Sequence[Point]) -> Point:
    return next(point for point in points if point.name == "float32")


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text: the frontier, quickest first, and what to do with the answer."""
    shown = [row for row in result["points"] if row["frontier"] or row["name"] == "float32"]
    parts = [points_table(shown, result)]
    chosen = next((row for row in result["points"] if row["name"] == result["chosen"]), None)
    images = f"{result['n']:,} {'validation' if result['part'] == 'val' else 'test'} images"
    if chosen is None:
        parts.append(f"None of {len(result['points'])} networks keeps all limits on {images}; the table shows what there is.")
    else:
        parts.append(
            f"Quickest within the limits on {images}: {chosen['name']}, {chosen['speedup']:.1f} times float32 here, "
            f"{result['torch_ms'] / chosen['ms']:.1f} times PyTorch.\n"
            f"Take it: convsmith export {printable(result['folder'])} --to native"
        )
    return "\n\n".join([*parts, *result["notes"]])


def points_table(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
    """Return points as an aligned table; accuracies are of the test images where there are other ones than those of the search."""
    cells = []
    for row in rows:
        seen = row["test"] or row
        cells.append(
            [
                ("* " if row["name"] == result["chosen"] else "") + row["name"],
                f"{percent(seen['accuracy'])} ({percent(seen['low'])} to {percent(seen['high'])})",
                f"{seen['drop']:.2f}",
                f"{row['ms']:.3f}",
                f"{row['batch_ms']:.3f}",
                f"{row['images_per_s']:,.0f}",
                size(row["file_bytes"]),
                size(row["memory_bytes"]),
                f"{row['energy_uj']:.3g}",
            ]
        )
    cells.append(["PyTorch", "", "", f"{result['torch_ms']:.3f}", f"{result['torch_batch_ms']:.3f}", "", "", "", ""])
    heads = ["network", "accuracy (95 %)", "drop", "ms", f"ms of {result['batch']}", "images/s", "file", "memory", "energy uJ"]
    return table(heads, cells)
