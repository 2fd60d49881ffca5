"""The main job: from labelled images to a measured, exported network. Each stage is a verb of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from convsmith import runs
from convsmith.jobs import bench, export, precision, preparation, shrink, train, trained
from convsmith.jobs.duration import Duration, format_duration
from convsmith.jobs.settings import text
from convsmith.jobs.text import percent, printable, size, table

TRAINING_SHARE = 0.7
"""Part of ``time`` that training may take; the search for bits, the proof of the file and the timing share the rest."""

SWEEP_SHARE = 0.15
"""Part of ``time`` that curves of accuracy against bits may take; where they would take more, only formats around the answer are tried."""

SHRINK_SHARE = 0.05
"""Part of ``time`` that the search for a smaller network at the end may take; without a time it takes `SHRINK_S` seconds."""

SHRINK_S = 60.0

BITS = ("chosen", "baseline", "confirmed", "weight_bytes", "float32_weight_bytes", "text", "max_drop")
SPEED = ("runtime", "batch", "median_ms", "q1_ms", "q3_ms", "images_per_s")


class Config(train.Config):
    """The images, how much accuracy fewer bits may cost, and the time for everything."""

    max_drop: float = Field(0.5, ge=0, description="Accuracy that fewer bits may cost, in points")
    time: Duration | None = text(600.0, "TIME", "Time for everything, such as 90s, 1h30m; training takes at most 70 %", shown="10m", gt=0)
    bits_images: int = Field(2000, ge=0, description="Validation images to try each number format on; 0 takes all")
    bench_threads: int = Field(0, ge=0, description="Processor threads of each runtime when speed is measured; 0 takes all")


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Train, test, and carry the network through every later stage; each writes its files into the run as soon as it is done."""
    settings = _training(config)
    prepared = train.begin(settings, record)
    record.write_json("trained.json", train.finish(prepared, settings, record, resume=False))
    return _ship(config, prepared, record)


def resume(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on where the run stopped; a stage that had come to its end is not done again."""
    settings = _training(config)
    prepared = preparation.reopen(settings, record)
    if not runs.open(record.folder).has("trained.json"):
        record.write_json("trained.json", train.finish(prepared, settings, record, resume=True))
    return _ship(config, prepared, record)


def quote(config: Config) -> dict[str, Any]:
    """Return what would be done and what training would take."""
    return train.quote(_training(config)) | {"time_for_everything": format_duration(config.time) if config.time else None}


def _training(config: Config) -> train.Config:
    """Return the settings of the training stage: those of `train`, and its part of the time."""
    given = {name: value for name, value in config.model_dump(exclude_unset=True).items() if name in train.Config.model_fields}
    return train.Config.model_validate(given | {"time": config.time * TRAINING_SHARE if config.time else None})


def _ship(config: Config, prepared: preparation.Prepared, record: runs.Record) -> dict[str, Any]:
    """Look at the cost, find the fewest bits, export with proof, and measure; return the result of the verb."""
    from convsmith import analysis

    where, workers = str(record.folder), config.workers
    sweep_s = config.time * SWEEP_SHARE if config.time else None
    bits = precision.Config(run=where, max_drop=config.max_drop, images=config.bits_images, workers=workers, sweep_time=sweep_s)
    stages: list[tuple[str, Callable[[], Any]]] = [
        ("analysis.json", lambda: record.write_json("analysis.json", analysis.analyse(trained.load(runs.open(record.folder)).graph))),
        ("precision.json", lambda: _find_bits(bits, record, prepared)),
        ("export.json", lambda: export.run(export.Config(run=where, overwrite=True, workers=workers), record, dataset=prepared.dataset)),
        ("bench.json", lambda: bench.run(bench.Config(run=where, threads=config.bench_threads), record)),
        ("shrink.json", lambda: shrink.run(_shrink(config, where), record, dataset=prepared.dataset)),
    ]
    for name, stage in stages:
        if not runs.open(record.folder).has(name):
            stage()
    return _summarise(record)


def _shrink(config: Config, where: str) -> shrink.Config:
    """Return the settings of the last stage, a short `convsmith shrink`."""
    allowed = config.time * SHRINK_SHARE if config.time else SHRINK_S
    images, threads = config.bits_images, config.bench_threads
    return shrink.Config(
        run=where,
        max_drop=config.max_drop,
        time=allowed,
        images=images,
        threads=threads,
        workers=config.workers,
        evaluations=0,
        edits=False,
    )


def _find_bits(config: precision.Config, record: runs.Record, prepared: preparation.Prepared) -> None:
    found = precision.run(config, record, dataset=prepared.dataset)
    decision = {"stage": "bits", "choice": found["chosen"] or "float32", "reason": found["text"]}
    record.write_json("decisions.json", [*prepared.decisions, decision])
    record.event("decision", **decision)


def _summarise(record: runs.Record) -> dict[str, Any]:
    result = dict(record.read_json("trained.json"))
    cost, bits, file, speed = (record.read_json(f"{stage}.json") for stage in ("analysis", "precision", "export", "bench"))
    result["macs"] = cost["totals"]["macs"]
    result["bits"] = {key: bits[key] for key in BITS}
    result["export"] = {"file": str(record.folder / file["file"]), "bytes": file["bytes"], "parity": file["parity"]}
    result["speed"] = [{key: row[key] for key in SPEED} for row in speed["rows"]]
    result["shrink"] = _smaller(record.read_json("shrink.json"))
    fastest = min((row for row in result["speed"] if row["batch"] == 1), key=lambda row: row["median_ms"])
    result["summary"] = result["summary"] | {"bits": bits["chosen"], "file_bytes": file["bytes"], "latency_ms": fastest["median_ms"]}
    return result


def _smaller(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the network to take instead, None where none keeps the limit."""
    chosen = next((row for row in found["points"] if row["name"] == found["chosen"]), None)
    return chosen and {key: chosen[key] for key in ("name", "ms", "speedup", "file_bytes", "folder", "drop", "test")}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text: what was made, and how fast it is."""
    bits, file = result["bits"], result["export"]
    made = train.rows(result)
    made.insert(1, ["cost", f"{result['macs'] / 1e6:.3g} million multiply-adds an image"])
    made += [
        ["fewest bits", _bits(bits)],
        ["weights", f"{size(bits['weight_bytes'])} at those bits, {size(bits['float32_weight_bytes'])} in float32"],
        ["file", f"{printable(file['file'])} ({size(file['bytes'])})"],
        ["parity", f"{file['parity']['different']} of {file['parity']['images']:,} validation images predicted otherwise by the file"],
    ]
    if result["shrink"]:
        made.append(["smaller", _instead(result["shrink"])])
    return "\n\n".join([table(["what", "result"], made), bench.speed_table(result["speed"])])


def _instead(chosen: Mapping[str, Any]) -> str:
    if chosen["name"] == "float32":
        return "nothing that was tried is quicker than float32"
    drop = (chosen["test"] or chosen)["drop"]
    return (
        f"{chosen['name']} in {chosen['folder']}: {chosen['ms']:.3g} ms an image, {chosen['speedup']:.1f} times as fast as float32 in the "
        f"same engine, {size(chosen['file_bytes'])}, {drop:.2f} points lost"
    )


def _bits(bits: Mapping[str, Any]) -> str:
    if bits["chosen"] is None:
        return f"float32: no narrower format stays within {bits['max_drop']:g} points"
    confirmed = bits["confirmed"]
    if confirmed is None:
        return f"{bits['chosen']} within {bits['max_drop']:g} points"
    change = f"{percent(confirmed['accuracy'])} against {percent(confirmed['baseline'])} on the test images"
    where = "" if confirmed["drop"] <= bits["max_drop"] else " of the validation images, not confirmed"
    return f"{bits['chosen']} within {bits['max_drop']:g} points{where} ({change})"
