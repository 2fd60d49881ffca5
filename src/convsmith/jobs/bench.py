"""Measure latency and throughput on this machine: torch and the runtimes in turn, on the same inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UnsupportedError, UsageError
from convsmith.jobs import file_bench, planned, sources, trained
from convsmith.jobs.settings import Settings, is_exported, positional
from convsmith.jobs.text import printable, table


class Config(Settings):
    """Which network, how many threads, which batches."""

    run: str = positional("Network: a run (its folder, its name, or 'last') or an exported file, such as .onnx or .program")
    threads: int = Field(0, ge=0, description="Processor threads of each runtime; 0 takes one for each processor")
    batches: tuple[int, ...] = Field((1, 16), description="Images at once")
    plan: str | None = Field(None, description="Also the native engine under these number formats: a plan's file, or int8; of a run only")
    rounds: int = Field(9, ge=7, description="Samples of each, taken in turn; at least 7")
    profile: bool = Field(False, description="Also which algorithm each step of the native engine was given, and what it takes")

    @property
    def writes(self) -> str:
        """A run is given what was found; an exported file is not."""
        return "nothing" if is_exported(self.run) else "given run"


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return one row for each runtime and batch; of a run they are written to bench.json.

    ``network`` rows read normalised pixels, ``file`` rows whole images with everything inside; of a file they are told apart by name.
    """
    from convsmith import report
    from convsmith.kernels import processor_count

    config = config.model_copy(update={"threads": config.threads or processor_count()})
    record.progress("bench", 0, 1)
    if isinstance(record, runs.Record):
        network = trained.load(runs.open(record.folder))
        dataset = sources.reopen(record.read_json("dataset.json"), record) if config.plan else None
        found = _of_run(config, network, planned.planned(config.plan, network, dataset, 0) if dataset else {})
        record.write_json("bench.json", found)
        record.event("bench", rows=len(found["rows"]))
        report.write_card(record.folder)
    elif config.plan:
        raise UsageError(f"--plan needs a run, whose images give the ranges of activations; {config.run!r} is a file")
    else:
        path = Path(config.run).expanduser()
        found = file_bench.of_file(path, config.threads, config.batches, config.rounds, config.profile)
        found["rows"] = [_in_seconds(row) for row in found["rows"]]
    record.progress("bench", 1, 1)
    return found


def _of_run(config: Config, network: trained.Trained, more: Mapping[str, Any]) -> dict[str, Any]:
    from convsmith import targets

    notes: list[str] = []
    native = _native(network, config.threads, notes, more)
    with tempfile.TemporaryDirectory(prefix="convsmith-") as folder:
        path = network.run.folder / "model.onnx"
        if not path.exists():
            path = Path(folder) / "model.onnx"
            targets.export(network.graph, network.preprocess, network.classes, path)
        described = network.run.read_json("dataset.json") if network.run.has("dataset.json") else {}
        height, width = described.get("median_size") or (network.preprocess.height, network.preprocess.width)
        found = targets.bench(
            network.graph,
            path,
            image_size=(height, width),
            torch_run=None if network.has_codes else _torch(network, config.threads),
            more=native,
            threads=config.threads,
            batches=config.batches,
            rounds=config.rounds,
        )
    whole = [row | {"runtime": f"{row['runtime']}, whole file"} for row in found["file"]]
    if config.profile and "convsmith" in native:
        found["profile"] = file_bench.profiles(native["convsmith"], tuple(found["input"]), config.batches)
    return found | {"rows": [_in_seconds(row) for row in [*found["network"], *whole]], "notes": [*found["notes"], *notes]}


def _torch(network: trained.Trained, threads: int) -> Any:
    import torch

    def run(x_nchw: Any) -> Any:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return network.module(torch.from_numpy(x_nchw))

    return run


def _native(network: trained.Trained, threads: int, notes: list[str], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the native engine, in float32 and under a plan, tuned for at most five seconds each; notes say why one cannot run."""
    from convsmith import compiler

    found: dict[str, Any] = {}
    for name, given in {"convsmith": {}, **({f"convsmith {more['plan'].name}": more} if more else {})}.items():
        try:
            found[name] = compiler.build(network.graph, **given, tune=5.0, threads=threads)
        except UnsupportedError as error:
            notes.append(str(error))
    return found


def _in_seconds(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row) | {f"{name}_s": row[f"{name}_ms"] / 1e3 for name in ("q1", "median", "q3")}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    text = speed_table(result["rows"])
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}, images of {'x'.join(map(str, result['image_size']))}"
    profiles = [file_bench.profile_lines(profile) for profile in result.get("profile", ())]
    return "\n\n".join([text, threads, *map(printable, result["notes"]), *profiles])


def speed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the measured rows as an aligned table."""
    cells = [
        [row["runtime"], row["batch"], f"{row['median_ms']:.3f}", f"{row['q1_ms']:.3f} to {row['q3_ms']:.3f}", f"{row['images_per_s']:.0f}"]
        for row in rows
    ]
    return table(["runtime", "batch", "median ms", "quartiles", "images/s"], cells)
