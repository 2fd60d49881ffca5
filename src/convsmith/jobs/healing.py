"""Training of a network that was made from a run's: with the augmentation, batch and threads that the run had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from convsmith.jobs.configuration import validate

if TYPE_CHECKING:
    from torch import nn

    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess
    from convsmith.graph.network import Graph
    from convsmith.jobs.trained import Trained

KEPT: Final = ("augment", "batch", "seed", "threads")

RULE: Final = {"optimizer": "adamw", "weight_decay": 0.0, "clip": 1.0}

RATE: Final = 1e-3
"""Highest learning rate of healing. ResNet-20 without a quarter of its inner channels (92.0 % before, 79.9 with statistics corrected) had
88.1 % after 60 updates at this rate, 84.1 at 4e-3, 82.6 by SGD at 2e-2, and 86.2 with the normalisations left folded."""

STATISTICS: Final = 256
"""Training images that the normalisations put in for healing begin with."""


def retrain(module: nn.Module, parent: Trained, dataset: Dataset, preprocess: Preprocess, own: Mapping[str, Any], **how: Any) -> nn.Module:
    """Train a network by settings of its own, and else as its parent was; ``how`` is for ``training.fit``.

    Raises: KeyboardInterrupt after Ctrl-C.
    """
    from convsmith import training

    given = parent.run.read_json("training.json") if parent.run.has("training.json") else {}
    recipe = validate(training.Training, {name: given[name] for name in KEPT if name in given} | dict(own))
    fit = training.fit(module, dataset, recipe, preprocess=preprocess, **how)
    if fit.stopped_by == "interrupt":
        raise KeyboardInterrupt
    return fit.module


def heal(graph: Graph, parent: Trained, dataset: Dataset, preprocess: Preprocess, own: Mapping[str, Any], **how: Any) -> Graph:
    """Train an edited network, batch norm folded, taught by the one it was made from; it has normalisations while it learns."""
    from convsmith.jobs import sources
    from convsmith.training.normalised import NormalisedNetwork

    seen = sources.pixels(dataset.train, preprocess, STATISTICS, 0)[0]
    module = retrain(NormalisedNetwork(graph, seen), parent, dataset, preprocess, RULE | dict(own), teacher=parent.module, **how)
    assert isinstance(module, NormalisedNetwork)
    return module.to_graph()
