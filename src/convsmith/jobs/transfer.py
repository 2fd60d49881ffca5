"""Training from given weights: the source, the strategy that its features ask for, and the first weights of the new head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess
    from convsmith.interop.pretrained import Source
    from convsmith.training.features import Features
    from convsmith.training.probing import Recommendation, StageScore

Strategy = Literal["auto", "linear", "head_first", "fine_tune", "full", "scratch"]
ConventionName = Literal["auto", "torchvision", "tensorflow", "caffe", "keras"]
SETTLING = 48
"""Images on which the input convention of a source is decided."""

# what differs from the training of a network without weights; a head that starts as a fitted classifier needs small steps
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 3.0, "learning_rate": 1e-4},
    "head_first": {"epochs": 15.0, "learning_rate": 1e-3},
    "fine_tune": {"epochs": 15.0, "learning_rate": 1e-3},
    "full": {"epochs": 20.0, "learning_rate": 2e-3},
}


@dataclass(frozen=True)
class Probe:
    """What was measured on the training images."""

    features: Features
    scores: tuple[StageScore, ...]
    recommendation: Recommendation


def open_source(weights: Path | str, model: str, convention: str, dataset: Dataset) -> Source | None:
    """Return the pretrained source of a training, None for weights of Convsmith's own networks, which read what they were trained on.

    Where the file does not say how it wants its input, training images decide.
    """
    from convsmith import models
    from convsmith.errors import DataError
    from convsmith.interop import pretrained

    if model in models.ZOO and (models.ZOO[model].parameters is None or models.ZOO[model].input[0] != 3):
        return None
    try:
        source = pretrained.find(weights, model=model, convention=convention)
    except DataError as error:
        if model != "auto" and "no architecture of the zoo" in str(error):
            return None
        raise
    split = dataset.train
    count = min(SETTLING, len(split))
    return pretrained.settle(source, [split.image(len(split) * place // count) for place in range(count)])


def probe(source: Source, dataset: Dataset, preprocess: Preprocess, *, mirror: bool = True, workers: int = 0) -> Probe:
    """Extract the features of every stage of a source on the training images once and score them."""
    from convsmith.interop import pretrained
    from convsmith.training import features, probing

    network = pretrained.load(source, input_size=(preprocess.height, preprocess.width), classes=source.classes or 2)
    stages = features.stages_of(network, preprocess)
    found = features.extract(network, dataset.train, preprocess, stages, mirror=mirror, workers=workers)
    scores = probing.score_stages(found)
    return Probe(found, scores, probing.recommend(scores, found))


def settings(strategy: str, images: int) -> Mapping[str, Any]:
    """Return the training settings of a strategy; batch norm keeps its statistics where images are few."""
    transfer = {"strategy": strategy, "freeze_norm": images < 2000}
    return {**SETTINGS[strategy], "batch": 32, "transfer": transfer}


def trained_strategy(recommended: str) -> tuple[str, str]:
    """Return the strategy that training has for a recommended one, and what differs in words."""
    if recommended == "linear_on_stage":
        return "linear", "; training has no cut network yet, so the linear classifier stands on the last stage"
    return recommended, ""


def fit_head(network: nn.Module, dataset: Dataset, preprocess: Preprocess, *, mirror: bool, workers: int = 0) -> bool:
    """Set the last layer to a logistic regression on the features below it; False, with nothing done, where it is no linear layer."""
    import torch
    from torch import nn

    from convsmith.training import features
    from convsmith.training.transferability import linear_layer

    name, head = features.head_of(network)
    if not isinstance(head, nn.Linear):
        return False
    found = features.extract_below(network, name, dataset.train, preprocess, mirror=mirror, workers=workers)
    mirrored = found.mirrored.get(name)
    weight, bias = linear_layer(found.images[name], found.labels, len(dataset.classes), mirrored)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(bias))
    return True
