"""Train a network on labelled images and test it: the first half of the flow, and a verb of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import DataError, UnsupportedError
from convsmith.jobs import preparation, sources, teaching, trained, transfer
from convsmith.jobs.duration import Duration, format_duration
from convsmith.jobs.examination import examine
from convsmith.jobs.preparation import Prepared
from convsmith.jobs.settings import Images, ResizeMode, text
from convsmith.jobs.text import percent, printable, size, table
from convsmith.training.config import Training

if TYPE_CHECKING:
    from torch import nn

    from convsmith import analysis
    from convsmith.data.dataset import Dataset
    from convsmith.training import Fit


class Config(Images):
    """What to train, on what, for how long. Whatever is not given is chosen from the data, with the reason."""

    model: str = Field("auto", description="Architecture, or 'auto'; see `convsmith inspect` for the names")
    size: int | None = Field(None, ge=1, description="Side of the network's square input in pixels; by default from the images")
    resize: ResizeMode | None = Field(
        None, description="How images of another shape fill it: squashed, cut (crop), whole with black beside them (fill), or half way"
    )
    weights: Path | None = Field(None, description="Weights to start from: a file, torchvision/NAME or timm/NAME")
    convention: transfer.ConventionName = Field("auto", description="How the weights want their input")
    strategy: transfer.Strategy = Field("auto", description="What to do with the weights; 'auto' measures it on the training images")
    time: Duration | None = text(None, "TIME", "Time the training may take, such as 90s, 10m, 1h30m", gt=0)
    epochs: float | None = Field(None, gt=0, description="Passes over the training images")
    batch: int | Literal["full", "find"] | None = text(
        None, "N", "Images per update; 'full' is all of them, 'find' tries which is fast and fits"
    )
    learning_rate: Annotated[float, Field(gt=0)] | Literal["find"] | None = text(
        None, "RATE", "Highest learning rate; 'find' tries rising rates"
    )
    plan: Path | None = Field(
        None, description="Number formats to train under: the file of a plan, 'binary' for a network of signs, or 'two-stage'"
    )
    teacher: Path | None = Field(None, description="Run of a trained network whose answers are learned; training.distil is its share")
    leaked: Path | None = Field(None, description="List of test images to score apart, such as `convsmith check --list` calls leaked")
    seed: int = Field(0, ge=0, description="Seed of the first weights, the data order and augmentation")
    deterministic: bool = Field(False, description="Repeat bit for bit")
    threads: int = Field(0, ge=0, description="Processor threads; 0 times all and one and takes the faster")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute")
    kernels: Literal["torch", "native"] = Field("torch", description="Whose convolutions; native measures each layer against torch's")
    training: Training = Field(default_factory=lambda: Training(), description="Every setting of the training")


CALIBRATION_S = 6.0
"""Seconds that --dry-run runs the network warm for its pace; a training that begins is quoted without."""

NO_TEST = "; on val, which also chose the weights: the data has no test part"


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Choose what was not given, train, test, and write everything into the run folder."""
    return finish(begin(config, record), config, record, resume=False)


def resume(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, with the choices it was begun with."""
    return finish(preparation.reopen(config, record), config, record, resume=True)


def begin(config: Config, record: runs.Record) -> Prepared:
    """Choose what was not given, and write it with what the training will take."""
    prepared = preparation.prepare(config, record)
    preparation.write(prepared, config, record)
    quoted = quote_of(prepared, config)
    record.write_json("quote.json", {"quoted": quoted})
    record.event("quote", **quoted)
    return prepared


def quote(config: Config) -> dict[str, Any]:
    """Return what would be done and what it would take."""
    prepared = preparation.prepare(config, runs.Unrecorded())
    return {
        "model": prepared.model,
        "images": {name: len(split) for name, split in prepared.dataset.splits.items()},
        "classes": prepared.dataset.classes,
        "decisions": prepared.decisions,
        "training": prepared.training.model_dump(mode="json"),
        "quote": quote_of(prepared, config, CALIBRATION_S),
    }


def finish(prepared: Prepared, config: Config, record: runs.Record, *, resume: bool) -> dict[str, Any]:
    """Train, test and write weights, predictions, evaluation, cost and the truth about the quote.

    Raises: KeyboardInterrupt after Ctrl-C, once the checkpoint is written.
    """
    from convsmith import training

    module = preparation.build(prepared, config)
    if prepared.source is not None and not (resume and (record.folder / "checkpoints" / "last.pt").exists()):
        flip = bool(prepared.training.augment.flip)
        if transfer.fit_head(module, prepared.dataset, prepared.preprocess, mirror=flip, workers=config.workers):
            record.event("head", reason="the last layer starts as the logistic regression on the features below it")
    teacher = teaching.teacher(config.teacher, prepared)
    shape = prepared.preprocess
    fit = training.fit(module, prepared.dataset, prepared.training, preprocess=shape, record=record, resume=resume, teacher=teacher)
    if fit.stopped_by == "interrupt":
        raise KeyboardInterrupt
    trained.save_weights(fit.module, record)
    measured = {"seconds": fit.seconds, "memory_bytes": fit.memory_bytes, "disk_bytes": fit.disk_bytes}
    if runs.open(record.folder).has("quote.json"):
        record.write_json("quote.json", record.read_json("quote.json") | {"measured": measured})
    write_cost(record)
    if fit.counts:
        write_counts(fit, record)
    evaluation = test(fit.network, prepared, record)
    waited = waiting(record)
    apart = {} if config.leaked is None else {"without_leaked": without_leaked(config.leaked, prepared.dataset, record)}
    return summarise(prepared, fit, evaluation) | apart | {"waiting": waited} | {"measured": measured, "folder": str(record.folder)}


def waiting(record: runs.Record) -> float | None:
    """Return the share of the training's time in which it waited for its images, None where it was not measured."""
    events = [event for event in runs.open(record.folder).events() if event.get("kind") == "feed"]
    elapsed = sum(float(event["elapsed_s"]) for event in events)
    return min(1.0, sum(float(event["waited_s"]) for event in events) / elapsed) if elapsed else None


def without_leaked(path: Path, dataset: Dataset, record: runs.Record) -> dict[str, Any]:
    """Return the accuracy on the test images that a list does not name, and write it as evaluation-without-leaked.json.

    Lines of the kind ``leaked`` count, or all where there are none.

    Raises: DataError when the list names no test image, or all of them.
    """
    import numpy as np

    from convsmith import analysis, data

    listed = data.read_list(path)
    marked = {name for name, (kind, _) in listed.items() if kind == "leaked"} or set(listed)
    names = sources.names(dataset.test)
    keep = np.array([name not in marked for name in names])
    if keep.all() or not keep.any():
        raise DataError(f"{str(path)!r} names {'no' if keep.all() else 'every'} test image of {dataset.name}; nothing can be compared")
    stored = runs.open(record.folder).predictions()
    evaluation = analysis.evaluate(stored.logits[keep], stored.labels[keep], dataset.classes)
    record.write_json("evaluation-without-leaked.json", evaluation)
    return {"images": int(keep.sum()), "leaked": int((~keep).sum()), "top1": evaluation.top1, "interval": evaluation.interval}


def write_counts(fit: Fit, record: runs.Record) -> None:
    """Write counts.json and counts.svg: what rounding did to each tensor over the run."""
    from convsmith import precision

    record.write_json("counts.json", fit.counts)
    precision.plot_counts(fit.counts, record.folder / "counts.svg")


def write_cost(record: runs.Record) -> None:
    """Write analysis.json; a network with an operator that cannot be analysed goes without, and an event says so."""
    from convsmith import analysis

    try:
        record.write_json("analysis.json", analysis.analyse(trained.load(runs.open(record.folder)).graph))
    except UnsupportedError as error:
        record.event("not analysed", reason=str(error))


def test(module: nn.Module, prepared: Prepared, record: runs.Record) -> analysis.Evaluation:
    """Score the test images, with the temperature fitted on the validation images, and write what was found."""
    from convsmith.report import save_mistakes

    dataset = prepared.dataset
    record.progress("test", 0, 1)
    evaluation, _ = examine(module, prepared.preprocess, dataset, record, prepared.training.workers)
    record.progress("test", 1, 1)
    save_mistakes(record.folder, evaluation, dataset.test.image, sources.names(dataset.test))
    return evaluation


def quote_of(prepared: Prepared, config: Config, calibration_s: float = 0.0) -> dict[str, Any]:
    """Return seconds, memory and disk that training will take, measured on a few updates, and for ``calibration_s`` more."""
    from convsmith import training

    module, teacher = preparation.build(prepared, config), teaching.teacher(config.teacher, prepared)
    quoted: dict[str, Any] = runs.plain(
        training.quote(module, prepared.dataset, prepared.training, prepared.preprocess, calibration_s, teacher)
    )
    return quoted


def summarise(prepared: Prepared, fit: Fit, evaluation: analysis.Evaluation) -> dict[str, Any]:
    """Return the result of the verb; ``summary`` goes to the list of runs."""
    parameters = sum(weight.numel() for weight in fit.module.parameters())
    return {
        "model": prepared.model,
        "parameters": parameters,
        "images": {name: len(split) for name, split in prepared.dataset.splits.items()},
        "decisions": prepared.decisions,
        "epochs": fit.epochs_done,
        "stopped_by": fit.stopped_by,
        "val_accuracy": fit.best_accuracy,
        "top1": evaluation.top1,
        "interval": evaluation.interval,
        "top5": evaluation.top5 if len(evaluation.classes) > 5 else None,
        "summary": {"model": prepared.model, "top1": evaluation.top1, "parameters": parameters, "seconds": fit.seconds},
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    return table(["what", "result"], rows(result))


def rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return what was trained and how good it is, as rows of a name and a text."""
    low, high = result["interval"]
    where = "" if "test" in result["images"] else NO_TEST
    return [
        ["model", f"{result['model']}, {result['parameters']:,} parameters"],
        ["images", ", ".join(f"{count:,} {name}" for name, count in result["images"].items())],
        ["trained", f"{result['epochs']:.3g} epochs in {format_duration(result['measured']['seconds'])}"],
        *([["waited for images", f"{percent(result['waiting'])} of the time"]] if result.get("waiting") is not None else []),
        ["memory", size(result["measured"]["memory_bytes"])],
        ["val accuracy", percent(result["val_accuracy"])],
        [
            "test accuracy",
            f"{percent(result['top1'])}  (95 %: {percent(low)} to {percent(high)}){where}",
        ],
        *_apart(result),
        ["run", printable(result["folder"])],
    ]


def _apart(result: Mapping[str, Any]) -> list[list[str]]:
    found = result.get("without_leaked")
    if not found:
        return []
    low, high = found["interval"]
    name = f"without {found['leaked']} leaked"
    return [[name, f"{percent(found['top1'])}  (95 %: {percent(low)} to {percent(high)}) on the other {found['images']}"]]


def plan(quoted: Mapping[str, Any]) -> str:
    """Return what `quote` found as text."""
    settings, cost, whole = quoted["training"], quoted["quote"], quoted.get("time_for_everything")
    how = f"batches of {settings['batch']}, {settings['optimizer']}, {settings['schedule']['kind']}"
    rows = [
        ["images", ", ".join(f"{count:,} {name}" for name, count in quoted["images"].items())],
        ["classes", ", ".join(map(printable, quoted["classes"]))],
        ["model", quoted["model"]],
        [
            "training",
            f"{settings['epochs']:g} epochs, {how}",
        ],
        ["training time", f"about {format_duration(cost['seconds'])} for {cost['steps']:,} updates of {1e3 * cost['step_s']:.3g} ms"],
        *([["whole flow", f"{whole} allowed"]] if whole else []),
        ["memory", f"about {size(cost['memory_bytes'])}"],
        ["disk", f"about {size(cost['disk_bytes'])}"],
    ]
    reasons = [[row["stage"], row["choice"], row["reason"]] for row in quoted["decisions"]]
    return "\n\n".join([table(["what", "plan"], rows), table(["stage", "choice", "reason"], reasons), "Nothing was done."])
