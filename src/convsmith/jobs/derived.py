"""A run that was made from another: its network is a graph in a file of the folder, everything else is that of its parent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.jobs.examination import examine
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


def judge(parent: Trained, child: Trained, dataset: Dataset, record: runs.Record, workers: int) -> tuple[Evaluation, dict[str, Any]]:
    """Test the network on the parent's test images, write what was found, and return it beside the comparison with the parent."""
    from convsmith import precision, training

    evaluation, logits = examine(child.module, child.preprocess, dataset, record, workers)
    before = training.score(parent.module, dataset.test, parent.preprocess, workers=workers)
    scores = [precision.Score.of(answers.argmax(1) == dataset.test.labels) for answers in (before, logits)]
    return evaluation, {"baseline": scores[0].accuracy, "accuracy": scores[1].accuracy} | precision.compare(*scores)
