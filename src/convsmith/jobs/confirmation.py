"""A plan that a search chose, scored on the test images, which the search did not see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convsmith.jobs import sources
from convsmith.jobs.text import percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith import precision
    from convsmith.data.dataset import Dataset
    from convsmith.jobs.trained import Trained


def confirm(
    plan: precision.Plan, network: Trained, dataset: Dataset, calibration: NDArray[np.float32], images: int, workers: int
) -> dict[str, Any] | None:
    """Compare the plan with float32; None where there is no answer, or where the search itself had no other images than these."""
    if not plan.rules or "test" not in dataset.splits or "val" not in dataset.splits:
        return None
    from convsmith import precision

    x, labels = sources.pixels(dataset.test, network.preprocess, images, workers)
    score = precision.scorer(network.graph, x, labels, calibration=calibration)
    baseline, answer = score(None), score(plan)
    return {"baseline": baseline.accuracy, "accuracy": answer.accuracy} | precision.compare(baseline, answer)


def sentence(confirmed: Mapping[str, Any]) -> str:
    """Return what `confirm` found as text."""
    return (
        f"On the {confirmed['n']:,} test images, which the search did not see: {percent(confirmed['accuracy'])} "
        f"against {percent(confirmed['baseline'])} in float32, a drop of {confirmed['drop']:.2f} points "
        f"(95 %: {confirmed['drop_low']:.2f} to {confirmed['drop_high']:.2f})."
    )
