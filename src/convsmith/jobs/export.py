"""Write a trained network as one file that takes plain images, and prove on real images that it predicts the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import planned, sources, trained
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, printable, size, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith import targets
    from convsmith.data.dataset import Dataset, Split


class Config(Settings):
    """Which run, to which file."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    out: Path | None = Field(
        None, description="File to write; by default model.onnx (model.xml for openvino, model.program for native) in the run"
    )
    target: Literal["onnx", "openvino", "native"] = Field("onnx", description="Kind of file")
    plan: str | None = Field(None, description="Number formats of a native file: a plan's file, or int8 for all weights and activations")
    images: int = Field(0, ge=0, description="Validation images to prove it on; 0 takes all")
    overwrite: bool = Field(False, description="Replace the file when it exists")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Export, run the file on the validation images, and write export.json. ``dataset``: the run's images when they are open already.

    A file with a plan must give what the compiled plan gives; how often that is the class of the float32 network is told.

    Raises: ParityError when the file predicts another class than the network; it is then left as ``*.failed``.
    """
    import numpy as np

    from convsmith import training

    if config.plan is not None and config.target != "native":
        raise UsageError(f"--plan is for --target native, not {config.target!r}")
    network = trained.load(runs.open(record.folder))
    dataset = dataset or sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    split = dataset.splits.get("val") or dataset.test
    rows = np.unique(np.linspace(0, len(split) - 1, min(config.images or len(split), len(split))).astype(np.int64))
    record.progress("export", 0, 1)
    logits = training.score(network.module, split, network.preprocess, workers=config.workers)[rows]
    images = (split.image(int(row)) for row in rows)
    more = planned.planned(config.plan, network, dataset, config.workers)
    expected = _planned_logits(network, split, rows, more, config.workers) if more else logits
    exported = _written(config, network, record.folder, images, expected, more)
    record.progress("export", 1, 1)
    found = describe(exported)
    if more:
        found |= {"plan": more["plan"].name, "same_class": float(np.mean(expected.argmax(1) == logits.argmax(1)))}
    record.write_json("export.json", found)
    record.event("export", file=str(exported.path), parity=str(exported.parity))
    return found | {"path": str(exported.path), "text": str(exported.parity), "labels": len(network.classes)}


def _planned_logits(
    network: trained.Trained, split: Split, rows: NDArray[np.int64], more: Mapping[str, Any], workers: int
) -> NDArray[np.float32]:
    """Return what the network under its plan says of images of a split."""
    import numpy as np

    from convsmith import compiler, data

    program = compiler.build(network.graph, **more)
    parts = [
        program(data.normalise(x, network.preprocess))
        for x, _, _ in data.batches(split, network.preprocess, 64, order=rows, workers=workers)
    ]
    return np.concatenate(parts)


def _written(
    config: Config,
    network: trained.Trained,
    folder: Path,
    images: Iterator[NDArray[np.uint8]],
    logits: NDArray[np.float32],
    more: Mapping[str, Any],
) -> targets.Exported:
    """Write and check the file, by the compiler or by one of the targets that other runtimes read."""
    from convsmith import compiler, targets

    given: dict[str, Any] = {
        "metadata": {"model": network.name, "run": network.run.name},
        "images": images,
        "expected_logits": logits,
        "overwrite": config.overwrite,
    }
    if config.target == "native":
        return compiler.export(
            network.graph, network.preprocess, network.classes, config.out or folder / "model.program", **(given | dict(more))
        )
    path = config.out or folder / f"model{targets.TARGETS[config.target].suffix}"
    return targets.export(network.graph, network.preprocess, network.classes, path, target=config.target, **given)


def describe(exported: targets.Exported) -> dict[str, Any]:
    """Return export.json."""
    found = exported.to_dict()
    parity = found["parity"]
    return found | {
        "file": exported.path.name,
        "bytes": exported.size_bytes,
        "parity": parity and parity | {"different": len(parity["disagreements"]), "largest_difference": parity["largest_score_difference"]},
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = [
        ["file", printable(result["path"])],
        ["size", size(result["bytes"])],
        ["reads", "uint8 images of any size; resize, crop and normalisation are inside"],
        ["gives", f"scores and logits of {result['labels']} labelled classes"],
        ["parity", result["text"]],
    ]
    if "plan" in result:
        rows.append(["plan", f"{result['plan']}: the class of the float32 network for {percent(result['same_class'])} of these images"])
    return table(["what", "result"], rows)
