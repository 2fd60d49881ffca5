"""The test of a network at the end of a job: its scores, their temperature, and what follows from them, in the run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsmith.jobs import sources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from convsmith import runs
    from convsmith.analysis import Evaluation
    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess


def examine(
    module: nn.Module, preprocess: Preprocess, dataset: Dataset, record: runs.Record, workers: int
) -> tuple[Evaluation, NDArray[np.float32]]:
    """Score the test images, write evaluation and predictions, and return the evaluation with the scores.

    The temperature is that of the validation images, where there are other ones than those of the test.
    """
    from convsmith import analysis, training

    temperature = None
    if "val" in dataset.splits and "test" in dataset.splits and len(dataset.val):
        logits = training.score(module, dataset.val, preprocess, workers=workers)
        temperature = analysis.fit_temperature(logits, dataset.val.labels)
    logits = training.score(module, dataset.test, preprocess, workers=workers)
    evaluation = analysis.evaluate(logits, dataset.test.labels, dataset.classes, temperature=temperature)
    record.write_predictions(logits, dataset.test.labels, sources.names(dataset.test))
    record.write_json("evaluation.json", evaluation)
    record.event("evaluation", top1=evaluation.top1, interval=evaluation.interval, n=evaluation.n)
    return evaluation, logits
