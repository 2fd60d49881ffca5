"""Try many settings of a verb and keep what each gave: a grid, at random, or guided by what was found."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import ResourceError, UsageError
from convsmith.jobs import sources, verbs
from convsmith.jobs.configuration import merge, parse_set, validate
from convsmith.jobs.duration import format_duration
from convsmith.jobs.settings import Settings, positional, text
from convsmith.jobs.text import percent, printable, table

LOOK_S = 0.5
#: Workers that die one after the other without a trial done between them.
DEATHS = 5
#: Verbs whose trials can be compared: they make a run and say how good it is.
VERBS = ("train", "forge")
TOLD_EACH_EPOCH = ("val_accuracy", "val_loss", "accuracy", "loss")


class Config(Settings):
    """What to vary, how, and where the study is kept."""

    verb: Literal["train", "forge"] = positional("What is done in each trial: train or forge")
    data: str = positional("Images, as the verb takes them")
    over: tuple[str, ...] = Field(
        (), description="A setting and its values: learning_rate=0.01,0.1 or learning_rate=1e-4..1e-1:log; once for each setting"
    )
    fixed: tuple[str, ...] = Field((), description="A setting of the verb that stays, such as epochs=5; once for each")
    sampler: Literal["auto", "grid", "random", "tpe"] = Field(
        "auto", description="How trials are chosen; auto: lists make a grid, else tpe"
    )
    trials: int | None = Field(None, ge=1, le=100_000, description="How many; by default all of a grid, else 20")
    prune: bool = Field(False, description="Give up trials that are worse than others after as many epochs (successive halving)")
    metric: str = Field("val_accuracy", description="The number of the verb's result that decides")
    minimize: bool = Field(False, description="The smallest is the best")
    parallel: int = Field(1, ge=0, le=256, description="Worker processes on this machine; 0: others work, this one waits")
    study: str | None = text(None, "URL", "Database of the study; by default a file in the run folder", shown="sqlite:///RUN/study.sqlite")
    name: str | None = Field(None, description="Name of the study; by default that of the run folder")
    seed: int = Field(0, ge=0, description="Seed of the trials' values")


def require(config: Config) -> str:
    """Refuse, before a folder is made, a sweep that cannot be; return the name of the data."""
    from convsmith.sweeps import study

    spec_of(config)
    sources.require(config.data)
    if config.study is not None:
        study.require(config.study)
    return config.data


def spec_of(config: Config) -> Any:
    """Return the study's specification; every value of every list and both ends of every range are checked against the verb.

    Raises: UsageError that names the setting.
    """
    from convsmith.sweeps import Spec, grid, parse
    from convsmith.sweeps.study import samplers

    if not config.over:
        raise UsageError("nothing is varied; give for example --over learning_rate=0.003,0.01,0.03")
    axes = [parse(item) for item in config.over]
    doubled = sorted({axis.name for axis in axes if [other.name for other in axes].count(axis.name) > 1})
    if doubled:
        raise UsageError(f"--over names {doubled[0]} twice; give all of its values in one list")
    settings: dict[str, Any] = {"data": config.data}
    for item in config.fixed:
        settings = merge(settings, parse_set(item))
    _check(config.verb, settings, axes)
    sampler = samplers(axes) if config.sampler == "auto" else config.sampler
    if config.prune and config.metric not in TOLD_EACH_EPOCH:
        raise UsageError(
            f"--prune compares trials epoch by epoch, by {', '.join(TOLD_EACH_EPOCH)}; {config.metric} is known at the end only"
        )
    trials = len(grid(axes)[: config.trials]) if sampler == "grid" else config.trials or 20
    direction: Any = "minimize" if config.minimize else "maximize"
    return Spec(config.verb, settings, config.over, config.metric, direction, sampler, trials, config.seed, config.prune)


def _check(verb: str, settings: Mapping[str, Any], axes: list[Any]) -> None:
    from convsmith.sweeps import nested

    schema = verbs.find(verb).module.Config
    for axis in axes:
        if axis.name == "data":
            raise UsageError("--over data: trials on different images cannot be compared; vary a setting of the verb")
        for value in axis.ends():
            validate(schema, merge(settings, nested({axis.name: value})))


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Begin the study, or join it, keep workers at it until every trial has ended, and write sweep.json after each."""
    from convsmith import sweeps

    spec = spec_of(config)
    url = config.study or f"sqlite:///{(record.folder / 'study.sqlite').absolute()}"
    shared = sweeps.begin(url, config.name or record.folder.resolve().name, spec)
    record.event("stage", text=f"{spec.trials} trials ({spec.sampler}) of {spec.verb}, study {shared.name} in {sweeps.study.shown(url)}")
    workers = _Workers(shared, config.parallel, record)
    written = -1
    try:
        while (left := shared.open_count()) or workers.busy:
            if left != written:
                written = left
                _write(shared, record)
            for number in shared.reap():
                record.event("trial again", trial=number)
            workers.tend(left)
            time.sleep(LOOK_S)
    finally:
        workers.stop()
        found = _write(shared, record)
    return _summarise(shared, found, record)


def resume(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on: trials that ended are kept, those that were cut short go on from their checkpoints."""
    return run(config, record)


def quote(config: Config) -> dict[str, Any]:
    """Return the trials there would be."""
    spec = spec_of(config)
    return {"verb": spec.verb, "sampler": spec.sampler, "trials": spec.trials, "settings": spec.settings, "points": spec.points()}


def plan(quoted: Mapping[str, Any]) -> str:
    """Return what `quote` found as text."""
    rows = [[key, printable(quoted[key])] for key in ("verb", "sampler", "trials")]
    rows += [[key, printable(value)] for key, value in quoted["settings"].items()]
    points = quoted["points"][:20]
    parts = [table(["what", "plan"], rows)]
    if points and points[0]:
        parts.append(table(["trial", *points[0]], [[number, *point.values()] for number, point in enumerate(points)]))
        parts += [f"... and {len(quoted['points']) - 20} more"] if len(quoted["points"]) > 20 else []
    return "\n\n".join([*parts, "Nothing was done."])


class _Workers:
    """The worker processes of this machine: as many as wanted while trials wait, started again when one is killed."""

    def __init__(self, shared: Any, wanted: int, record: runs.Record) -> None:
        self.shared, self.wanted, self.record = shared, wanted, record
        self.living: list[subprocess.Popen[bytes]] = []
        self.deaths, self.done = 0, -1
        self.log = record.folder / "workers.log"

    @property
    def busy(self) -> bool:
        return any(worker.poll() is None for worker in self.living)

    def tend(self, left: int) -> None:
        """Start workers that lack.

        Raises: ResourceError when they die one after the other.
        """
        done = self.shared.done_count()
        died = [worker for worker in self.living if worker.poll() not in (None, 0)]
        self.living = [worker for worker in self.living if worker.poll() is None]
        self.deaths = 0 if done != self.done else self.deaths + len(died)
        self.done = done
        for worker in died:
            self.record.event("worker died", code=worker.returncode)
        if self.deaths >= DEATHS:
            raise ResourceError(f"{self.deaths} workers died one after the other without a trial done; the last words are in {self.log}")
        while left and len(self.living) < min(self.wanted, left):
            self._start()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "convsmith.cli", "worker", "--study", self.shared.url, "--name", self.shared.name]
        environment = os.environ | {"CONVSMITH_RUNS": str(runs.root().absolute())}
        if self.wanted > 1 and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // self.wanted))
        with self.log.open("ab") as log:
            # a process group of their own: Ctrl-C reaches them once, from here
            self.living.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
            )

    def stop(self, patience_s: float = 20.0) -> None:
        """Let every worker save its trial and leave."""
        for worker in self.living:
            if worker.poll() is None:
                worker.terminate()
        end = time.monotonic() + patience_s
        for worker in self.living:
            try:
                worker.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _write(shared: Any, record: runs.Record) -> Any:
    from dataclasses import asdict

    from convsmith import sweeps

    found = sweeps.results(shared)
    ended = sum(row["state"] in ("finished", "pruned", "failed") for row in found.rows)
    about = {"study": shared.name, "url": sweeps.study.shown(shared.url), "spec": asdict(shared.spec)}
    record.write_json("sweep.json", about | {"axes": [asdict(axis) for axis in shared.spec.axes]} | asdict(found))
    record.progress("trials", ended, shared.spec.trials, **({"best": found.best["value"]} if found.best else {}))
    return found


def _summarise(shared: Any, found: Any, record: runs.Record) -> dict[str, Any]:
    states = [row["state"] for row in found.rows]
    summary: dict[str, Any] = {"trials": len(states)}
    if found.best:
        figures = found.best["figures"]
        summary |= {shared.spec.metric: found.best["value"], **{key: figures[key] for key in ("top1",) if key in figures}}
    return {
        "study": shared.name,
        "verb_of_trials": shared.spec.verb,
        "metric": shared.spec.metric,
        "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        "rows": found.rows,
        "best": found.best,
        "importance": found.importance,
        "errors": [] if found.best else [f"none of the {len(states)} trials came to a result; the errors are in the table"],
        "folder": str(record.folder),
        "summary": summary,
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the trials as a table, the best marked, and which setting mattered."""
    metric, best = result["metric"], result["best"]
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["params"]))
    rows = [
        [
            f"{row['trial']}{' *' if best and row['trial'] == best['trial'] else ''}",
            row["state"],
            *(row["params"].get(name) for name in names),
            row["value"] if row["value"] is not None else row["reached"],
            format_duration(row["seconds"]) if row["seconds"] is not None else None,
            row["run"] and os.path.basename(row["run"]),  # noqa: PTH119
        ]
        for row in result["rows"]
    ]
    parts = [table(["trial", "state", *names, metric, "time", "run"], rows)]
    parts += [f"trial {row['trial']} failed: {printable(row['error'])}" for row in result["rows"] if row["error"]]
    if best:
        told = f"* best: {metric} {best['value']:.6g}"
        if isinstance(best["figures"].get("top1"), float) and math.isfinite(best["figures"]["top1"]):
            told += f", {percent(best['figures']['top1'])} on the test images, which chose nothing"
        parts.append(told)
    if result["importance"]:
        shares = ", ".join(f"{name} {percent(share)}" for name, share in result["importance"].items())
        parts.append(f"share in what made the difference: {shares}")
    return "\n\n".join(parts)
