"""Evaluate a network on labelled images: a run or an exported file, on its own test images or on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import DataError, UsageError, near
from convsmith.jobs import averages, sources
from convsmith.jobs.settings import Settings, is_exported, positional
from convsmith.jobs.text import percent, printable, table
from convsmith.runs.naming import slug

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.data.dataset import Dataset, Split

MOST_CLASSES = 20


class Config(Settings):
    """Which network, on which images."""

    run: str = positional("Network: a run (its folder, its name, or 'last') or an exported file, such as .onnx or .program")
    data: str | None = positional("Images, as for train; by default the test images the run held out", default=None)
    part: Literal["auto", "train", "val", "test", "all"] = Field(
        "auto", description="Part of the images; auto takes the test part, or all when there is none"
    )
    average: averages.Average = Field(
        "none", description="Average the answers over views, checkpoints or runs; `convsmith average` weighs them"
    )
    others: tuple[str, ...] = Field((), description="Other runs on the same images, for --average ensemble and soup")
    batch: int = Field(64, ge=1, description="Images at once")
    workers: int = Field(0, ge=0, description="Processes that look at the files")

    @property
    def writes(self) -> str:
        """A run is given what was found; an exported file is not."""
        return "nothing" if is_exported(self.run) else "given run"


@dataclass(frozen=True)
class Chosen:
    """The images to evaluate on. ``held_out``: they are the run's own test part."""

    dataset: Dataset
    splits: Sequence[Split]
    part: str
    held_out: bool


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the evaluation. A run keeps it: as evaluation.json for its own test images, else under the name of the data.

    Raises: DataError when the images have a class that the network does not know.
    """
    from convsmith import analysis
    from convsmith.jobs import classifier

    network = classifier.open_network(config.run)
    if config.average != "none" and network.run is None:
        raise UsageError(f"--average needs a run, not the file {config.run!r}")
    chosen = choose(config, network.run, record)
    labels = _labels(chosen, network.classes)
    total, done = len(labels), 0

    def images() -> Any:
        nonlocal done
        for split in chosen.splits:
            for image in classifier.decoded(split):
                yield image
                done += 1
                record.progress("evaluate", done, total)

    logits: NDArray[Any]
    if config.average == "none" or network.run is None:
        logits, temperature = network.logits(images(), config.batch), _temperature(network.run)
    else:
        logits, temperature = _averaged(config, network.run, chosen, images(), record), None
    evaluation = analysis.evaluate(logits, labels, network.classes, temperature=temperature)
    names = [name for split in chosen.splits for name in sources.names(split)]
    if isinstance(record, runs.Record):
        ending = "" if chosen.held_out else f"-{slug(chosen.dataset.name)}-{chosen.part}"
        ending += "" if config.average == "none" else f"-{config.average}"
        record.write_json(f"evaluation{ending}.json", evaluation)
        if not ending:
            record.write_predictions(logits, labels, names)
        record.event("evaluation", data=chosen.dataset.source, part=chosen.part, top1=evaluation.top1, n=evaluation.n)
    return evaluation.to_dict() | {
        "macro_f1": evaluation.macro_f1,
        "network": network.name,
        "data": chosen.dataset.source,
        "part": chosen.part,
        "held_out": chosen.held_out,
        "average": config.average,
        "worst": [names[mistake.index] for mistake in evaluation.mistakes],
    }


def _averaged(config: Config, run: runs.Run, chosen: Chosen, images: Iterator[Any], record: runs.Listener) -> NDArray[np.float64]:
    """Return the logarithms of the mean probabilities of the average that was asked for."""
    from convsmith.training import averaging

    dataset = chosen.dataset if chosen.held_out else sources.reopen(run.read_json("dataset.json"), record, workers=config.workers)
    ways = averages.prepare(run, config.others, dataset, record, only=config.average, workers=config.workers)
    return averaging.read(ways.methods[1:], ways.members, images, batch=config.batch).logits(ways.methods[1])


def choose(config: Config, run: runs.Run | None, record: runs.Listener) -> Chosen:
    """Open the images and take the part that was asked for."""
    described = run.read_json("dataset.json") if run is not None and run.has("dataset.json") else None
    if described is not None and _is_own(config.data, described):
        dataset, given = sources.reopen(described, record, workers=config.workers), True
    elif config.data is None:
        raise UsageError(f"{config.run} does not say which images it was trained on; name some: convsmith eval {config.run} DATA")
    else:
        dataset, given = _as_given(config.data, config.workers, record), False
    parts: Mapping[str, Split] = {str(name): split for name, split in dataset.splits.items()}
    part = config.part
    if part == "auto":
        part = "test" if "test" in parts else "val" if given and "val" in parts else "all"
    if part != "all" and part not in parts:
        raise UsageError(f"{dataset.source} has no {part} part; it has {', '.join(parts)}. Give --part all for all images")
    splits = list(parts.values()) if part == "all" else [parts[part]]
    return Chosen(dataset, splits, part, given and part == ("test" if "test" in parts else "val"))


def _as_given(source: str, workers: int, record: runs.Listener) -> Dataset:
    """Open images without holding any out."""
    from convsmith import data

    return data.open(source, workers=workers or None, progress=lambda done, total: record.progress("open", done, total), trainable=False)


def _is_own(given: str | None, described: Mapping[str, Any]) -> bool:
    own = str(described["open"]["data"])
    return given is None or given == own or (Path(own).exists() and Path(given).expanduser().absolute() == Path(own))


def _labels(chosen: Chosen, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the labels as the network numbers them: classes are the same when their names are."""
    import numpy as np

    unknown = [name for name in chosen.dataset.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{chosen.dataset.source} has the class {unknown[0]!r}, which the network was not trained on.{near(unknown[0], classes)} "
            f"It knows {', '.join(map(repr, classes[:20]))}{' ...' if len(classes) > 20 else ''}"
        )
    places = np.array([classes.index(name) for name in chosen.dataset.classes], np.int64)
    return np.concatenate([places[split.labels] for split in chosen.splits])


def _temperature(run: runs.Run | None) -> float | None:
    stored = run.read_json("evaluation.json") if run is not None and run.has("evaluation.json") else None
    found = (stored or {}).get("calibrated")
    return float(found["temperature"]) if found else None


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    low, high = result["interval"]
    calibrated = result["calibrated"]
    rows = [
        ["images", f"{result['n']:,} of {printable(result['data'])}, part {result['part']}"],
        *([["average", result["average"]]] if result["average"] != "none" else []),
        ["top-1", f"{percent(result['top1'])}  (95 %: {percent(low)} to {percent(high)})"],
        *([["top-5", percent(result["top5"])]] if len(result["classes"]) > 5 else []),
        ["mean F1", percent(result["macro_f1"])],
        ["log loss", f"{result['log_loss']:.4f}"],
        ["calibration error", percent(result["calibration"]["ece"])],
    ]
    if calibrated:
        rows.append(["after temperature", f"{percent(calibrated['ece'])} at {calibrated['temperature']:.2f}"])
    scores = [
        [item["name"], *(percent(item[key]) if item["support"] else "-" for key in ("precision", "recall", "f1")), item["support"]]
        for item in result["per_class"]
    ]
    parts = [table(["measure", "value"], rows), table(["class", "precision", "recall", "F1", "images"], scores), _confusion(result)]
    return "\n\n".join(part for part in parts if part)


def _confusion(result: Mapping[str, Any]) -> str:
    """Return the confusion matrix, or its largest entries when there are many classes."""
    import numpy as np

    names, matrix = result["classes"], np.array(result["confusion"])
    if len(names) <= MOST_CLASSES:
        rows = [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)]
        return "Confusion (rows: true class, columns: predicted)\n\n" + table(["", *map(printable, names)], rows)
    np.fill_diagonal(matrix, 0)
    order = [divmod(int(place), len(names)) for place in np.argsort(-matrix, axis=None, kind="stable")[:MOST_CLASSES]]
    rows = [[names[true], names[predicted], int(matrix[true, predicted])] for true, predicted in order if matrix[true, predicted]]
    return "Most frequent confusions\n\n" + table(["true", "predicted", "images"], rows) if rows else ""
