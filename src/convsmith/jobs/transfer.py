"""Training from given weights: the source, the strategy that its features ask for, and the first weights of the new head."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess
    from convsmith.interop.pretrained import Source
    from convsmith.training import Training
    from convsmith.training.features import Features
    from convsmith.training.probing import Recommendation, StageScore

Strategy = Literal[
    "auto",
    "linear",
    "linear_on_stage",
    "head_first",
    "fine_tune",
    "full",
    "wise",
    "lp_ft",
    "surgical",
    "l2_sp",
    "layer_decay",
    "bit",
    "scratch",
]
ConventionName = Literal["auto", "torchvision", "tensorflow", "caffe", "keras"]
PREDICTED_BATCH = 32
SCRATCH_EPOCHS = 150
SETTLING = 48
"""Images on which the input convention of a source is decided."""

# what differs from the training of a network without weights; a head that starts as a fitted classifier needs small steps
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 3.0, "learning_rate": 1e-4},
    "head_first": {"epochs": 15.0, "learning_rate": 1e-3},
    "fine_tune": {"epochs": 15.0, "learning_rate": 1e-3},
    "full": {"epochs": 20.0, "learning_rate": 2e-3},
    "wise": {"epochs": 20.0, "learning_rate": 2e-3},
    "lp_ft": {"epochs": 15.0, "learning_rate": 2e-4},
    "surgical": {"epochs": 15.0, "learning_rate": 2e-4},
    "l2_sp": {"epochs": 20.0, "learning_rate": 2e-3},
    "layer_decay": {"epochs": 15.0, "learning_rate": 1e-3},
}

# what a strategy adds to its own name
TRANSFER: dict[str, dict[str, Any]] = {
    "l2_sp": {"anchor": 0.01},
    "layer_decay": {"layer_decay": 0.75},
    # the statistics of two networks have no mean that is those of their mean
    "wise": {"strategy": "full", "blend": 0.5, "freeze_norm": True},
}

FEW_IMAGES = 2000
"""Training images below which batch norm keeps the statistics of the given weights."""


@dataclass(frozen=True)
class Probe:
    """What was measured on the training images."""

    features: Features
    scores: tuple[StageScore, ...]
    recommendation: Recommendation
    minutes: Mapping[str, float]
    evidence: str


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


def probe(
    source: Source, dataset: Dataset, preprocess: Preprocess, *, mirror: bool = True, workers: int = 0, time_s: float | None = None
) -> Probe:
    """Extract the features of every stage of a source on the training images once and score them; ``time_s``: what training may take."""
    from convsmith.interop import pretrained
    from convsmith.training import features, probing

    network = pretrained.load(source, input_size=(preprocess.height, preprocess.width), classes=source.classes or 2)
    stages = features.stages_of(network, preprocess)
    found = features.extract(network, dataset.train, preprocess, stages, mirror=mirror, workers=workers)
    scores = probing.score_stages(found)
    minutes, evidence = predict_minutes(network, dataset, preprocess, found.seconds)
    recommended = probing.recommend(scores, found, minutes=minutes, allowed=None if time_s is None else time_s / 60)
    return Probe(found, scores, recommended, minutes, evidence)


def predict_minutes(network: nn.Module, dataset: Dataset, preprocess: Preprocess, pass_s: float) -> tuple[dict[str, float], str]:
    """Return what each strategy will take on this machine, and the measurements it rests on in one sentence.

    One update of each depth of learning is timed: the head alone, the top two thirds, everything. Decoding, which happens once, and the
    fit of the head are the pass over the images that was measured.
    """
    from convsmith.training import Training
    from convsmith.training.probing import update_seconds

    images = len(dataset.train)
    batch = min(PREDICTED_BATCH, images)
    timed = {}
    for kind in ("linear", "fine_tune", "full"):
        config = Training(batch=batch, optimizer="adamw", transfer={"strategy": kind, "freeze_norm": True})
        timed[kind] = update_seconds(network, dataset, config, preprocess)
    found = {}
    for strategy, plan in SETTINGS.items():
        depth = {"linear": "linear", "fine_tune": "fine_tune"}.get(strategy, "full")
        updates = plan["epochs"] * -(-images // batch)
        found[strategy] = (pass_s + updates * timed[depth]) / 60
    found["linear_on_stage"] = found["linear"]
    found["scratch"] = (pass_s + SCRATCH_EPOCHS * -(-images // batch) * timed["full"]) / 60
    told = ", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in timed.items())
    return found, f"a pass over the {images:,} images took {pass_s:.1f} s, an update of {batch} images {told}"


def settings(strategy: str, images: int, *, flip: bool = False, area: int = 0) -> Mapping[str, Any]:
    """Return the training settings of a strategy; batch norm keeps its statistics where images are few.

    ``flip``, ``area``: whether images may be mirrored, and their median number of pixels, for BiT's rule.
    """
    if strategy == "bit":
        from convsmith.training import big_transfer

        rule = big_transfer.hyperrule(images, area)
        return {**big_transfer.settings(rule, images, 32, flip), "transfer": {"strategy": "bit", "freeze_norm": images < FEW_IMAGES}}
    kind = "linear" if strategy == "linear_on_stage" else strategy
    transfer = {"strategy": kind, "freeze_norm": images < FEW_IMAGES, **TRANSFER.get(kind, {})}
    return {**SETTINGS[kind], "batch": 32, "transfer": transfer}


def median_area(dataset: Dataset) -> int:
    """Return the median number of pixels of the training images."""
    import numpy as np

    from convsmith.data.input_size import split_sizes

    return int(np.median(np.prod(split_sizes(dataset.train).astype(np.int64), axis=1)))


def cut_at(source: Source, stage: str, last: str) -> Source:
    """Return the source cut after a stage; whole where that is the last one."""
    return source if stage == last else dataclasses.replace(source, options={**source.options, "cut": stage})


def pulled_third(
    source: Source, dataset: Dataset, preprocess: Preprocess, config: Training, *, mirror: bool, workers: int
) -> tuple[str, str]:
    """Return the third of a source's blocks that the images pull at most, and why: for the surgical strategy."""
    from convsmith.interop import pretrained
    from convsmith.training import surgery

    network = pretrained.load(source, input_size=(preprocess.height, preprocess.width), classes=len(dataset.classes))
    fit_head(network, dataset, preprocess, mirror=mirror, workers=workers)
    return surgery.worst_third(network, dataset, config, preprocess)


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
