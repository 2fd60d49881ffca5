"""Which part of a pretrained network serves the data at hand, and what to do with it: measured, not guessed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training.config import Training
from convsmith.training.features import Features, head_of
from convsmith.training.transferability import cross_validated, log_evidence, shrunk_h_score

LITTLE = 100
"""Training images a class below which data counts as little: BiT and the 20-image protocols of the literature lie below, CIFAR above."""

STRATEGIES = ("linear", "linear_on_stage", "fine_tune", "wise", "full", "scratch")


@dataclass(frozen=True)
class StageScore:
    """One stage. ``accuracy``, ``error``: mean of the folds of logistic regression and its standard error; ``svm``: of a linear SVM."""

    stage: str
    maps: int
    accuracy: float
    error: float
    svm: float
    log_evidence: float
    h_score: float


@dataclass(frozen=True)
class Recommendation:
    """``strategy`` of `STRATEGIES`, the best ``stage``, expected ``minutes``, and why in one sentence."""

    strategy: str
    stage: str
    minutes: float
    reason: str


def score_stages(features: Features) -> tuple[StageScore, ...]:
    """Return the scores of every stage by cross-validation inside the given images."""
    found = []
    for stage in features.stages:
        x, mirrored = features.images[stage], features.mirrored.get(stage)
        folds = cross_validated(x, features.labels, mirrored)
        svm = cross_validated(x, features.labels, mirrored, kind="svm")
        error = float(folds.std(ddof=1) / np.sqrt(len(folds)))
        scores = log_evidence(x, features.labels), shrunk_h_score(x, features.labels)
        found.append(StageScore(stage, x.shape[1], float(folds.mean()), error, float(svm.mean()), *scores))
    return tuple(found)


def update_seconds(network: nn.Module, dataset: Dataset, config: Training, preprocess: Preprocess) -> float:
    """Return the seconds of one update on a copy of the network, the faster of two after a first that does not count."""
    from convsmith.training import planning
    from convsmith.training.feed import Feed
    from convsmith.training.processes import Team
    from convsmith.training.surroundings import settings

    fixed = config.model_copy(update={"resident": False, "precision": "float32", "channels_last": False})
    with settings(fixed):
        feed = Feed(dataset.train, preprocess, fixed, Team())
        copied = _with_outputs(network, len(dataset.classes))
        return min(planning.trial(copied, fixed, feed, None).values())


def _with_outputs(network: nn.Module, classes: int) -> nn.Module:
    """Return a copy of a network whose linear head has enough outputs for labels of so many classes."""
    copied = copy.deepcopy(network)
    name, head = head_of(copied)
    owner, _, last = name.rpartition(".")
    outputs = head.out_features if isinstance(head, nn.Linear) else classes
    if isinstance(head, nn.Linear) and outputs < classes:
        setattr(copied.get_submodule(owner), last, nn.Linear(head.in_features, classes))
    return copied


def recommend(
    scores: tuple[StageScore, ...], features: Features, *, minutes: Mapping[str, float] | None = None, allowed: float | None = None
) -> Recommendation:
    """Return what the measurement asks for: the matrix of little or much data, similar or different, and of the time there is.

    Similar: a classifier on the last stage is as good as on any, within one standard error. Different: an earlier stage is better. Little:
    fewer than 100 images a class. Features no better than chance ask for training from scratch. Otherwise everything learns, with few
    images answering half by the weights before: that was the best or nearly so wherever all strategies were run. Only where its predicted
    ``minutes`` are more than ``allowed``, the top is fine-tuned, or a linear classifier put on the stage that is best for it.
    """
    labels = features.labels
    counts = np.bincount(labels)
    per_class, chance = int(np.median(counts[counts > 0])), float(counts.max() / counts.sum())
    best, last = max(scores, key=lambda score: score.accuracy), scores[-1]
    similar = last.accuracy >= best.accuracy - best.error
    little = per_class < LITTLE
    data = f"{per_class} images a class are {'little' if little else 'much'}"
    told = (
        f"{last.stage} gives {100 * last.accuracy:.1f} %, the best stage {best.stage} {100 * best.accuracy:.1f} +- {100 * best.error:.1f} %"
    )
    costs = _guessed_minutes(features) | dict(minutes or {})
    if best.accuracy <= chance + 2 * best.error:
        why = f"{data}; {told}, no better than the {100 * chance:.1f} % of the largest class"
        return Recommendation("scratch", best.stage, costs["scratch"], why)
    why = f"{data}; {told}: {'similar to the source' if similar else 'different from the source'}"
    head = "linear" if similar else "linear_on_stage"
    stage = last.stage if similar else best.stage
    halfway = ", and answer by the mean of the weights before and after"
    ladder = {
        "wise" if little else "full": f"fine-tune everything{halfway if little else ''}",
        "fine_tune": "fine-tune, the top most",
        head: f"a linear classifier on {stage}",
    }
    fitting = [name for name in ladder if allowed is None or costs[name] <= allowed]
    strategy = fitting[0] if fitting else head
    if strategy != next(iter(ladder)):
        first = next(iter(ladder))
        why += f"; {first} would take {costs[first]:.2g} minutes of {allowed:.2g}"
    return Recommendation(strategy, stage if strategy == head else best.stage, costs[strategy], f"{why}; {ladder[strategy]}")


def _guessed_minutes(features: Features) -> dict[str, float]:
    """Return minutes by the pass over the images alone: a forward and a backward pass are three of them, for some 20 epochs."""
    pass_min = features.seconds / (2 if features.mirrored else 1) / 60
    return dict.fromkeys(STRATEGIES, 60 * pass_min) | {"linear": 2 * pass_min, "linear_on_stage": 2 * pass_min}
