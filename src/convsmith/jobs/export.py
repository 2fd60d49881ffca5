"""Write a trained network as one file that takes plain images, and prove on real images that it predicts the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

# the keys of targets.TARGETS, which would take long to import
Kind = Literal["onnx", "qdq", "qonnx", "native", "openvino", "torchscript", "torch-export", "tensorrt", "tensorrt-script"]


class Config(Settings):
    """Which run, to which file."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    to: Kind = Field("onnx", description="Kind of file")
    out: Path | None = Field(None, description="File to write; by default one in the run, named by its kind")
    plan: str | None = Field(
        None, description="Number formats of a native, qdq or qonnx file: a plan's file, or int8 for all weights and activations"
    )
    trust: float = Field(
        0.95, ge=0, le=1, description="Share of answers that must be right: below the confidence that gives it no class is named"
    )
    images: int = Field(0, ge=0, description="Validation images to prove it on; 0 takes all")
    overwrite: bool = Field(False, description="Replace the file when it exists")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Export, run the file on the validation images, write export.json, for other kinds export-KIND.json, and the model card.

    ``dataset``: the run's images when they are open already. A file with a plan must give what the network gives under it; how often
    that is the class of the float32 network is told. Temperature and threshold are fitted to what is expected of the file on these
    images; those of float32 are the run's own from then on (confidence.json).

    Raises: ParityError when the file predicts another class than the network; it is then left as ``*.failed``.
    """
    from convsmith import analysis, data, report, targets, training

    target = targets.TARGETS[config.to]
    if config.plan is not None and target.plans == "none":
        able = ", ".join(name for name, other in targets.TARGETS.items() if other.plans != "none")
        raise UsageError(f"--plan is for --to {able}, not {config.to!r}")
    network = trained.load(runs.open(record.folder))
    own = network.before_signs if config.plan is None and config.to == "qonnx" else None
    plan = config.plan or ("int8" if target.plans == "must" and own is None else None)
    if network.has_codes and plan is not None:
        raise UsageError(
            f"{record.folder} is a network of codes, which needs no plan: --to onnx writes its codes as QDQ, --to native as a program; "
            "other formats are made from the run it was made from"
        )
    dataset = dataset or sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    split = dataset.splits.get("val") or dataset.test
    rows = data.spread(len(split), config.images)
    record.progress("export", 0, 1)
    logits = training.score(network.module, split, network.preprocess, workers=config.workers)[rows]
    more = planned.planned(plan, network, dataset, config.workers)
    graph = network.graph if own is None else own[0]
    signs: dict[str, Any] = {} if own is None else {"plan": own[1]}
    expected = _planned_logits(config, network, split, rows, more) if more else logits
    temperature = analysis.fit_temperature(expected, split.labels[rows])
    abstention = analysis.choose_threshold(expected, split.labels[rows], config.trust, temperature=temperature)
    exported = targets.export(
        graph,
        network.preprocess,
        network.classes,
        config.out or record.folder / target.file,
        target=config.to,
        metadata={"model": network.name, "run": network.run.name},
        confidence=targets.Confidence(temperature, abstention.threshold),
        images=(split.image(int(row)) for row in rows),
        expected_logits=expected,
        overwrite=config.overwrite,
        **more,
        **signs,
    )
    record.progress("export", 1, 1)
    confidence = {"temperature": temperature, "trust": config.trust} | abstention.to_dict()
    found = describe(exported) | {"confidence": confidence}
    if not more:
        record.write_json("confidence.json", confidence)
    else:
        found |= {"plan": more["plan"].name, "same_class": float((expected.argmax(1) == logits.argmax(1)).mean())}
    record.write_json("export.json" if config.to == "onnx" else f"export-{config.to}.json", found)
    record.event("export", file=str(exported.path), parity=str(exported.parity))
    report.write_card(record.folder)
    return found | {"path": str(exported.path), "text": _parity_text(exported), "labels": len(network.classes)}


def _planned_logits(
    config: Config, network: trained.Trained, split: Split, rows: NDArray[np.int64], more: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return what the network under its plan says of images of a split: its codes compiled; for QONNX, of any format, emulated."""
    import numpy as np
    import torch

    from convsmith import compiler, data, precision

    if config.to == "qonnx":
        emulated = precision.emulate(network.graph, more["plan"], more["ranges"])
        answer: Callable[[Any], Any] = lambda x: emulated(torch.from_numpy(x)).numpy()  # noqa: E731
    else:
        answer = compiler.build(network.graph, **more)
    batches = data.batches(split, network.preprocess, 64, order=rows, workers=config.workers)
    parts = [answer(data.normalise(x, network.preprocess)) for x, _, _ in batches]
    return np.concatenate(parts)


def _parity_text(exported: targets.Exported) -> str:
    return str(exported.parity) if exported.parity else "not run here; the script compares what it builds with stored answers"


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
    confidence = result["confidence"]
    rows = [
        ["file", printable(result["path"])],
        ["size", size(result["bytes"])],
        ["reads", "uint8 images of any size; resize, crop and normalisation are inside"],
        ["gives", f"scores and logits of {result['labels']} labelled classes"],
        ["parity", result["text"]],
        ["temperature", f"{confidence['temperature']:.3f}, fitted on these images"],
        ["threshold", _threshold(confidence)],
    ]
    if "plan" in result:
        rows.append(["plan", f"{result['plan']}: the class of the float32 network for {percent(result['same_class'])} of these images"])
    return table(["what", "result"], rows)


def _threshold(confidence: Mapping[str, Any]) -> str:
    answered, right = percent(confidence["answered"]), percent(confidence["right"])
    return f"{confidence['threshold']:.3f}: {answered} of these images get a class, right for {right} of those"
