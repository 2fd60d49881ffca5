"""A plan of number formats named on the command line, and the ranges of its activations on the run's images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsmith.errors import UsageError
from convsmith.jobs import sources

if TYPE_CHECKING:
    from convsmith import precision
    from convsmith.data.dataset import Dataset
    from convsmith.graph import Graph
    from convsmith.jobs.trained import Trained


def read(name: str, graph: Graph) -> precision.Plan:
    """Return the plan of a file, or, of a format such as int8, the plan that gives it to all weights and activations.

    bf16 and fp16 are for weights alone: the engine stores them so, and computes in float32.
    """
    from convsmith import formats, precision
    from convsmith.precision.quantisation import STORED

    path = Path(name).expanduser()
    if path.suffix == ".json" or path.is_file():
        return precision.Plan.load(path)
    try:
        fmt = formats.parse(name)
    except UsageError as error:
        raise UsageError(f"{name!r} is neither a file of a plan nor a number format such as int8: {error}") from None
    return precision.candidate(fmt, precision.layout(graph), "weight" if fmt in STORED else "both").plan


def planned(name: str | None, network: Trained, dataset: Dataset, workers: int) -> dict[str, Any]:
    """Return plan and ranges as ``compiler.build`` takes them; nothing without a plan."""
    from convsmith import precision
    from convsmith.redesign import fold_batch_norm

    if name is None:
        return {}
    graph = network.graph
    x = sources.pixels(dataset.train, network.preprocess, sources.CALIBRATION_IMAGES, workers)[0]
    return {"plan": read(name, graph), "ranges": precision.calibrate(fold_batch_norm(graph), x)}
