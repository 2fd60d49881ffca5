"""A run that was made from another: its network is a graph in a file of the folder, everything else is that of its parent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.jobs.trained import NETWORK
from convsmith.jobs.trained import load as load_run

if TYPE_CHECKING:
    from convsmith.analysis import Evaluation
    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess
    from convsmith.graph.network import Graph
    from convsmith.jobs.trained import Trained

COPIED = ("dataset.json", "preprocess.json")


def write(record: runs.Record, parent: Trained, graph: Graph, *, preprocess: Preprocess | None = None, **described: Any) -> Trained:
    """Write the graph and what it shares with its parent into a run folder, and open it; ``described`` goes into model.json.

    ``preprocess``: how the network reads its images, where that is not as its parent does.
    """
    from convsmith import graph as graphs

    for name in COPIED:
        if parent.run.has(name):
            record.write_json(name, parent.run.read_json(name))
    if preprocess is not None:
        record.write_json("preprocess.json", preprocess.to_dict() | {"classes": list(parent.classes)})
        described["input_size"] = [preprocess.height, preprocess.width]
    made: Mapping[str, Any] = {"parent": str(parent.run.folder.resolve()), "network": NETWORK}
    record.write_json("model.json", dict(parent.run.read_json("model.json")) | dict(made) | described)
    graphs.save(graph, record.folder / NETWORK)
    return load_run(runs.open(record.folder))


def evaluate(network: Trained, dataset: Dataset, record: runs.Record, workers: int) -> Evaluation:
    """Test the network on the parent's test images and write evaluation and predictions."""
    from convsmith import analysis, training

    split = dataset.test
    temperature = None
    if "val" in dataset.splits and "test" in dataset.splits and len(dataset.val):
        logits = training.score(network.module, dataset.val, network.preprocess, workers=workers)
        temperature = analysis.fit_temperature(logits, dataset.val.labels)
    logits = training.score(network.module, split, network.preprocess, workers=workers)
    evaluation = analysis.evaluate(logits, split.labels, dataset.classes, temperature=temperature)
    record.write_predictions(logits, split.labels, [split.name(index) for index in range(len(split))])
    record.write_json("evaluation.json", evaluation)
    record.event("evaluation", top1=evaluation.top1, interval=evaluation.interval, n=evaluation.n)
    return evaluation
