"""Claim: with the MobileNetV2 weights, a few hundred photos reach 82 % on flowers5 and 72 % on trashnet in the time of one pass.

The strategy is the one that the probe of the training images chooses. Where it is `linear`, the network is the pretrained one with a
logistic regression as its last layer, so features of the photos are computed once and shared by all splits. Mean over 5 stratified splits
of all photos, 4/5 to train; and over 5 seeds of 5, 10 and 20 images a class, tested on all others. Needs CONVSMITH_DATA.
Run: python benchmarks/transfer.py [--size 224] [--sets flowers5,trashnet]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from machine import RESULTS, footer
from sklearn.model_selection import StratifiedKFold

from convsmith import data
from convsmith.interop import pretrained
from convsmith.jobs import transfer
from convsmith.training import features, probing, transferability

WEIGHTS = "weights/mobilenet_v2/mobilenet_v2_1.0_224.safetensors"
GOALS = {"flowers5": 82.0, "trashnet": 72.0}
SEEDS = range(5)


def gather(root: Path, name: str, size: int) -> tuple[features.Features, tuple[str, ...]]:
    """Return the features of all photos of a set, training and validation part together, and how the weights want their input."""
    dataset = data.open(root / "data" / name)
    source = transfer.open_source(root / WEIGHTS, "auto", "auto", dataset)
    assert source is not None
    preprocess = source.convention.preprocess(size)
    network = pretrained.load(source, input_size=(size, size))
    stages = features.stages_of(network, preprocess)
    parts = [features.extract(network, split, preprocess, stages, mirror=True) for split in dataset.splits.values()]
    images, mirrored = (
        {stage: np.concatenate([getattr(part, key)[stage] for part in parts]) for stage in stages} for key in ("images", "mirrored")
    )
    labels = np.concatenate([part.labels for part in parts])
    return features.Features(stages, images, mirrored, labels, sum(part.seconds for part in parts)), source.reasons


def chosen(found: features.Features, rows: np.ndarray) -> probing.Recommendation:
    """Return what the probe of some images recommends."""
    images, mirrored = ({stage: array[rows] for stage, array in side.items()} for side in (found.images, found.mirrored))
    part = features.Features(found.stages, images, mirrored, found.labels[rows], found.seconds * len(rows) / len(found.labels))
    return probing.recommend(probing.score_stages(part), part)


def linear(found: features.Features, stage: str, train: np.ndarray, test: np.ndarray) -> float:
    """Return the accuracy on ``test`` of the last layer fitted on ``train``, in per cent."""
    x, labels = found.images[stage], found.labels
    weight, bias = transferability.linear_layer(x[train], labels[train], int(labels.max()) + 1, found.mirrored[stage][train])
    return float(100 * ((x[test] @ weight.T + bias).argmax(1) == labels[test]).mean())


def few(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count`` images of every class, and all others."""
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.choice(np.flatnonzero(labels == label), count, replace=False) for label in np.unique(labels)])
    return train, np.setdiff1d(np.arange(len(labels)), train)


def shown(values: list[float]) -> str:
    return f"{np.mean(values):.1f} +- {np.std(values, ddof=1):.1f}"


def measure(name: str, found: features.Features) -> list[str]:
    """Return the rows of one set."""
    last, rows = found.stages[-1], []
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(found.labels, found.labels))
    folds = {stage: [linear(found, stage, train, test) for train, test in splits] for stage in found.stages[-3:]}
    choices = [chosen(found, train) for train, _ in splits]
    auto = [folds.get(choice.stage if choice.strategy == "linear_on_stage" else last, folds[last])[k] for k, choice in enumerate(choices)]
    strategies = ", ".join(sorted({choice.strategy for choice in choices}))
    rows.append(f"| {name} | all, 5 splits | {strategies} | {shown(auto)} | {shown(folds[last])} | {GOALS[name]:g} |")
    for count in (20, 10, 5):
        pairs = [few(found.labels, count, seed) for seed in SEEDS]
        scores = [linear(found, last, train, test) for train, test in pairs]
        names = ", ".join(sorted({chosen(found, train).strategy for train, _ in pairs[:2]}))
        rows.append(f"| {name} | {count} a class, 5 seeds | {names} | | {shown(scores)} | |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--sets", default="flowers5,trashnet")
    arguments = parser.parse_args()
    root = Path(os.environ.get("CONVSMITH_DATA") or sys.exit("set CONVSMITH_DATA to the folder that holds data/flowers5"))
    lines = [
        "# Transfer to a few hundred photos",
        "",
        f"MobileNetV2 weights, input of {arguments.size} pixels. Accuracy in %, mean and standard deviation. `auto` is the strategy",
        "that the probe of the training images chooses, evaluated as chosen (a linear classifier on the stage it names); `linear` is",
        "the logistic regression as last layer. The same photos never stand in training and test.",
        "",
        "| photos | training | chosen | auto | linear | goal |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    for name in arguments.sets.split(","):
        begun = time.perf_counter()
        found, reasons = gather(root, name, arguments.size)
        pass_s = time.perf_counter() - begun
        lines += measure(name, found)
        print("\n".join(lines[-4:]), flush=True)
        notes.append(f"- {name}: {len(found.labels)} photos, {pass_s:.0f} s to decode and pass them and their mirror images; {reasons[-1]}")
    text = "\n".join([*lines, "", *notes]) + "\n" + footer(("convsmith", "torch", "scikit-learn"))
    (RESULTS / "transfer.md").write_text(text)


if __name__ == "__main__":
    main()
