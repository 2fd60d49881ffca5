"""Run the experiments of a paper again and put its figures beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.jobs.duration import format_duration
from convsmith.jobs.settings import Settings, positional, text
from convsmith.jobs.text import printable, table

if TYPE_CHECKING:
    from convsmith.training.reproductions import Experiment, Paper, Size
    from convsmith.training.reproductions.running import Row


class Config(Settings):
    """Which paper, how long, on what."""

    paper: str = positional("Paper: gupta2015, courbariaux2014, binaryconnect2015, binarynet2016 or rips2017")
    quick: bool = Field(False, description="The shortened setup: minutes on two cores instead of hours or days")
    only: tuple[str, ...] = Field((), description="Experiments to run, such as mlp or lenet; by default all whose images are there")
    seeds: int | None = Field(None, ge=1, description="Seeds of each arm; by default the setup's")
    data: Path | None = text(None, "FOLDER", "Folder that holds mnist, cifar10 and svhn", shown="data below CONVSMITH_DATA, else ./data")
    threads: int = Field(0, ge=0, description="Processor threads; 0 takes torch's own number")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where arms without rounding compute; the others use the processor")


def require(config: Config) -> str:
    """Refuse, before a run folder is made, a paper, an experiment or images that are not there; return the paper's name.

    Experiments that were not asked for by name may be without images, as long as one has them.
    """
    _without_images(config)
    return config.paper


def _without_images(config: Config) -> Mapping[str, str]:
    """Return the chosen experiments whose images are not there, and what to do about each.

    Raises: DataError where experiments were asked for by name, or none has its images.
    """
    from convsmith.errors import DataError
    from convsmith.training import reproductions
    from convsmith.training.reproductions.images import locate

    chosen, missing = reproductions.find(config.paper).chosen(config.only), dict[str, str]()
    for experiment in chosen:
        try:
            locate(experiment.data, config.data)
        except DataError as error:
            missing[experiment.key] = str(error)
            if config.only or len(missing) == len(chosen):
                raise
    return missing


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Run every arm with every seed that has no result yet, and write results.json, page.md and errors.svg after each experiment.

    An interrupted run writes them with the rows that it has.
    """
    from convsmith.training import reproductions

    paper = reproductions.find(config.paper)
    size: Size = "quick" if config.quick else "full"
    experiments = tuple(_sized(experiment, config.seeds) for experiment in paper.chosen(config.only))
    missing = _without_images(config)
    for key, reason in missing.items():
        record.event("stage", text=f"{key}: not run, {reason}")
    rows: list[Row] = []
    result: dict[str, Any] = {}
    for experiment in experiments:
        if experiment.key in missing:
            continue
        try:
            _run_experiment(experiment, size, config, record, rows)
        finally:
            if rows:
                result = _write(paper, experiments, size, rows, record)
    return result


def resume(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on: finished arms are read, the interrupted one continues from its checkpoint."""
    return run(config, record)


def _sized(experiment: Experiment, seeds: int | None) -> Experiment:
    """Return the experiment with another number of seeds for every arm."""
    from dataclasses import replace

    if seeds is None:
        return experiment
    setups = {
        size: replace(setup, seeds=seeds, arms=tuple(replace(arm, seeds=None) for arm in setup.arms))
        for size, setup in experiment.setups.items()
    }
    return replace(experiment, setups=setups)


def _run_experiment(experiment: Experiment, size: Size, config: Config, record: runs.Record, rows: list[Row]) -> None:
    """Add the rows of one experiment to ``rows``, those that an earlier piece of the run finished first."""
    from convsmith import models
    from convsmith.training.reproductions import images, running

    setup = experiment.setup(size)
    wanted = setup.runs()
    found = {key: _kept(record, key) for key in (running.slug(experiment, arm, seed) for arm, seed in wanted)}
    stage = f"{experiment.key}"
    if any(row is None for row in found.values()):
        record.event("stage", text=f"{experiment.title}: {len(wanted)} runs")
        opened = images.open_images(experiment, setup, images.locate(experiment.data, config.data), models.ZOO[experiment.model].input)
        running.require_memory(experiment, setup, len(opened.dataset.train))
    rows += [row for row in found.values() if row is not None]
    for number, (arm, seed) in enumerate(wanted):
        key = running.slug(experiment, arm, seed)
        if found[key] is None:

            def show(what: str, done: float, total: float, **fields: Any) -> None:
                if what == "train":
                    record.progress(stage, number + done / total, len(wanted), arm=arm.name, seed=seed)  # noqa: B023

            row = running.run_arm(
                experiment,
                arm,
                setup,
                seed,
                opened,
                folder=record.folder / "checkpoints" / key,
                show=show,
                threads=config.threads,
                device=config.device,
            )
            _keep(record, key, row)
            rows.append(row)
        record.progress(stage, number + 1, len(wanted), arm=arm.name, seed=seed)


def _kept(record: runs.Record, key: str) -> Row | None:
    """Return the row that an earlier piece of the run finished."""
    from convsmith.training.reproductions.running import Row

    return Row.from_dict(record.read_json(f"results/{key}.json")) if (record.folder / "results" / f"{key}.json").exists() else None


def _keep(record: runs.Record, key: str, row: Row) -> None:
    """Write a row, and then drop the checkpoints that led to it."""
    import shutil

    (record.folder / "results").mkdir(exist_ok=True)
    record.write_json(f"results/{key}.json", row.to_dict())
    record.event("row", arm=row.arm, seed=row.seed, experiment=row.experiment, error=row.error, seconds=row.seconds)
    shutil.rmtree(record.folder / "checkpoints" / key, ignore_errors=True)


def _write(paper: Paper, experiments: tuple[Experiment, ...], size: Size, rows: list[Row], record: runs.Record) -> dict[str, Any]:
    from convsmith.training.reproductions import page, picture, tables

    picture.plot(experiments, size, rows, record.folder / "errors.svg")
    record.write_bytes("page.md", page.markdown(paper, experiments, size, rows, "errors.svg").encode("utf-8"))
    found: list[dict[str, Any]] = []
    for experiment in experiments:
        judged = tables.verdicts(experiment, size, rows)
        found.append(
            {
                "key": experiment.key,
                "title": experiment.title,
                "shortened": experiment.setup(size).shortened,
                "lines": [tables.cells(line) for line in tables.lines(experiment, size, rows)],
                "claims": [vars(verdict) for verdict in judged],
                "differs": list(experiment.differs),
            }
        )
    held = [claim["holds"] for experiment in found for claim in experiment["claims"]]
    result = {
        "paper": paper.key,
        "citation": paper.citation,
        "size": size,
        "headers": list(tables.HEADERS),
        "experiments": found,
        "seconds": sum(row.seconds for row in rows),
    }
    record.write_json("results.json", result | {"rows": [row.to_dict() for row in rows]})
    summary = {"paper": paper.key, "size": size, "claims": f"{sum(map(bool, held))} of {len(held)} hold"}
    return result | {"summary": summary, "folder": str(record.folder)}


def lines(result: Mapping[str, Any]) -> str:
    """Return the tables and what became of the claims."""
    parts = [f"{result['citation']}", f"{result['size']} setup, {format_duration(result['seconds'])} of training"]
    for experiment in result["experiments"]:
        shortened = f"shortened: {experiment['shortened']}\n" if experiment["shortened"] else ""
        claims = [f"{_word(claim['holds'])}  {claim['text']} ({claim['found']})" for claim in experiment["claims"]]
        parts.append("\n".join([experiment["title"], shortened + table(result["headers"], experiment["lines"]), "", *claims]))
    return "\n\n".join([*parts, f"page: {printable(result['folder'])}/page.md"])


def _word(holds: bool | None) -> str:
    return "not run" if holds is None else "holds  " if holds else "FAILS  "
