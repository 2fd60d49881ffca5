"""Claim: the strategy that the probe chooses is within 0.5 points (mean) of the best of all run exhaustively, right 80 % of the time.

flowers5 and trashnet with the MobileNetV2 weights: 5, 10, 20 a class and full (4/5 of all photos), tested on all others; the small
parts first, seeds outermost, so a run that is cut has whole seeds. Strategies: a logistic regression on each of the last stages (one pass
over the photos serves all), and by real training `fine_tune`, `full`, `wise`, `lp_ft`, `surgical` and `scratch` (30 epochs, on the first
seed alone, being far behind). Right: no strategy is better by more than half a point. Times are processor seconds on one thread: the
choice takes the probe and its own strategy, at most 20 % of all.
Peer at 20 a class, at least 3 points behind: a fastai-style recipe (one epoch of the last layer alone, then everything at half the
rate, from 1/100 at the bottom to 1 at the top), the same backbone, with the processor seconds of the choice but at least 1 + 4 epochs.

Every row is kept as soon as it is done; started again, the run goes on. Needs CONVSMITH_DATA.
Run: python benchmarks/transfer_choice.py [--size 96] [--part 0.5] [--seeds 5] [--sets flowers5,trashnet] [--state FOLDER] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import RESULTS, footer

from convsmith import data, training
from convsmith.data.images import ResidentSplit
from convsmith.interop import pretrained
from convsmith.jobs import transfer
from convsmith.training import features, probing, soups, surgery, transferability
from convsmith.training.augmentation import to_input

WEIGHTS = "weights/mobilenet_v2/mobilenet_v2_1.0_224.safetensors"
COUNTS = (5, 10, 20, "full")
TRAINED = ("fine_tune", "full", "wise", "lp_ft", "surgical", "scratch")
FEW_SEEDS = {"scratch": 1}
"""What is run on the first seeds only, being far behind; its seconds count for the other seeds too."""

STAGES = 3
"""How many of the last stages get a classifier of their own."""

ARITHMETIC = {"threads": 1, "precision": "bfloat16", "channels_last": True}
"""What `train` takes here after timing it, fixed so that no timing decides anything."""

RATE = 2e-3
"""fastai's base rate of fine_tune."""


class Photos:
    """All photos of a set at one size, their features of every stage, and what the pass over them took."""

    def __init__(self, root: Path, name: str, size: int, state: Path) -> None:
        dataset = data.open(root / "data" / name)
        source = transfer.open_source(root / WEIGHTS, "auto", "auto", dataset)
        assert source is not None
        self.source, self.name, self.classes, self.size = source, name, dataset.classes, size
        self.preprocess = source.convention.preprocess(size)
        splits = dataset.splits.values()
        self.images = np.concatenate([data.pixels(split, self.preprocess) for split in splits])
        self.labels = np.concatenate([split.labels for split in splits])
        file = state / f"{name}-{size}.npz"
        if not file.exists():
            self._extract(file)
        with np.load(file) as held:
            self.stages = tuple(str(stage) for stage in held["stages"])
            self.pass_s = float(held["seconds"])
            self.features = {stage: held[f"x{place}"] for place, stage in enumerate(self.stages)}
            self.mirrored = {stage: held[f"m{place}"] for place, stage in enumerate(self.stages)}

    def _extract(self, file: Path) -> None:
        network = self.network()
        stages = features.stages_of(network, self.preprocess)
        began = time.process_time()
        found = features.extract(network, self.split(np.arange(len(self.labels))), self.preprocess, stages, mirror=True)
        arrays = {f"x{place}": found.images[stage] for place, stage in enumerate(stages)}
        arrays |= {f"m{place}": found.mirrored[stage] for place, stage in enumerate(stages)}
        np.savez(file, stages=np.array(stages), seconds=time.process_time() - began, **arrays)

    def network(self, scratch: bool = False) -> torch.nn.Module:
        from convsmith import models

        side = (self.size, self.size)
        if scratch:
            return models.load(self.source.model, classes=len(self.classes), input_size=side, **self.source.options)
        return pretrained.load(self.source, classes=len(self.classes), input_size=side)

    def split(self, rows: np.ndarray) -> ResidentSplit:
        zeros = np.zeros(len(rows), np.uint64)
        return ResidentSplit(self.images, rows.astype(np.int64), self.labels[rows], zeros, ((self.name, 0),))

    def dataset(self, train: np.ndarray, test: np.ndarray) -> data.Dataset:
        splits = {"train": self.split(train), "test": self.split(test)}
        return data.Dataset(self.name, self.name, self.classes, 3, splits)


def parts(labels: np.ndarray, count: int | str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training and test rows: so many of each class, or four fifths of it."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen.append(rng.choice(rows, round(0.8 * len(rows)) if count == "full" else int(count), replace=False))
    train = np.sort(np.concatenate(chosen))
    return train, np.setdiff1d(np.arange(len(labels)), train)


def linear(photos: Photos, stage: str, train: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """Return accuracy and processor seconds of a logistic regression on a stage; its part of the pass over the photos included."""
    began = time.process_time()
    x, labels = photos.features[stage], photos.labels
    weight, bias = transferability.linear_layer(x[train], labels[train], len(photos.classes), photos.mirrored[stage][train])
    accuracy = float(((x[test] @ weight.T + bias).argmax(1) == labels[test]).mean())
    return accuracy, time.process_time() - began + share_s(photos, train)


def share_s(photos: Photos, train: np.ndarray) -> float:
    return photos.pass_s * len(train) / len(photos.labels)


def choose(photos: Photos, train: np.ndarray) -> tuple[str, float]:
    """Return what the probe of the training photos chooses, and its processor seconds."""
    began = time.process_time()
    images, mirrored = ({stage: array[train] for stage, array in side.items()} for side in (photos.features, photos.mirrored))
    part = features.Features(photos.stages, images, mirrored, photos.labels[train], share_s(photos, train))
    found = probing.recommend(probing.score_stages(part), part)
    seconds = time.process_time() - began + share_s(photos, train)
    return {"linear": f"linear on {photos.stages[-1]}", "linear_on_stage": f"linear on {found.stage}"}.get(
        found.strategy, found.strategy
    ), seconds


def trained(photos: Photos, strategy: str, train: np.ndarray, test: np.ndarray, seed: int, part: float) -> tuple[dict[str, float], float]:
    """Return accuracies and processor seconds of a strategy run as `train` runs it, its epochs times ``part``.

    ``full`` gives ``wise`` too: the same training, answered by the mean of its first and last weights.
    """
    dataset = photos.dataset(train, test)
    torch.manual_seed(seed)
    network = photos.network(scratch=strategy == "scratch")
    chosen, _ = training.choose(dataset, photos.preprocess, model=photos.source.model)
    settings = chosen.model_dump(exclude_unset=True)
    began = time.process_time()
    if strategy == "scratch":
        settings["epochs"] = 30.0
    else:
        settings |= transfer.settings(strategy, len(train))
        transfer.fit_head(network, dataset, photos.preprocess, mirror=True)
    settings |= {"epochs": settings["epochs"] * part, "seed": seed, **ARITHMETIC}
    config = training.Training.model_validate(settings)
    if strategy == "surgical":
        block, _ = surgery.worst_third(network, dataset, config, photos.preprocess)
        config = config.model_copy(update={"transfer": config.transfer.model_copy(update={"block": block})})
    first = {name: value.clone() for name, value in network.state_dict().items()}
    fit = training.fit(network, dataset, config, preprocess=photos.preprocess)
    seconds = time.process_time() - began + (0 if strategy == "scratch" else share_s(photos, train))
    found = {strategy: accuracy_of(fit.module, dataset, photos)}
    if strategy == "full":
        fit.module.load_state_dict(soups.mean([first, fit.module.state_dict()]))
        found["wise"] = accuracy_of(fit.module, dataset, photos)
    return found, seconds


def accuracy_of(network: torch.nn.Module, dataset: data.Dataset, photos: Photos) -> float:
    """Return the share of the test images that a network names, in the arithmetic of its training."""
    network.to(memory_format=torch.channels_last)
    answers = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for x_nhwc, _, _ in data.batches(dataset.test, photos.preprocess, 32):
            answers.append(network(to_input(torch.from_numpy(x_nhwc), photos.preprocess, channels_last=True)).argmax(1))
    return float((torch.cat(answers).numpy() == dataset.test.labels).mean())


def fastai(photos: Photos, train: np.ndarray, test: np.ndarray, seed: int, budget_s: float) -> tuple[float, float]:
    """Return accuracy and processor seconds of the peer's recipe."""
    dataset = photos.dataset(train, test)
    torch.manual_seed(seed)
    network = photos.network()
    chosen, _ = training.choose(dataset, photos.preprocess, model=photos.source.model)
    shared = {
        "seed": seed,
        **ARITHMETIC,
        "batch": min(32, len(train)),
        "optimizer": "adamw",
        "augment": chosen.augment,
    }
    began = time.process_time()
    first = training.Training(
        epochs=1,
        learning_rate=RATE,
        weight_decay=0.01,
        schedule={"kind": "one_cycle", "rise": 0.99},
        transfer={"strategy": "linear"},
        **shared,
    )
    training.fit(network, dataset, first, preprocess=photos.preprocess)
    frozen_s = time.process_time() - began
    # a whole epoch costs three passes, one of the head alone little more than one
    epochs = max(4, int((budget_s - frozen_s) / (3 * frozen_s)))
    then = training.Training(
        epochs=epochs,
        learning_rate=RATE / 2,
        weight_decay=0.01,
        schedule={"kind": "one_cycle", "rise": 0.3, "start": 0.2},
        transfer={"strategy": "layer_decay", "layer_decay": 0.01 ** (1 / 19)},
        **shared,
    )
    fit = training.fit(network, dataset, then, preprocess=photos.preprocess)
    seconds = time.process_time() - began
    return accuracy_of(fit.module, dataset, photos), seconds


class State:
    """Rows that are kept as soon as they are done."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.rows = {tuple(row["key"]): row for row in map(json.loads, lines)}

    def measure(self, key: tuple[str, ...], function: Callable[[], tuple[object, float]]) -> dict:
        """Return the row of a key; several values at once go to rows of their own."""
        if key not in self.rows:
            value, seconds = function()
            for name, one in value.items() if isinstance(value, dict) else ((key[-1], value),):
                self.keep((*key[:-1], name), one, seconds)
        return self.rows[key]

    def keep(self, key: tuple[str, ...], value: object, seconds: float) -> None:
        self.rows[key] = {"key": key, "value": value, "cpu_s": seconds}
        with self.file.open("a") as file:
            file.write(json.dumps(self.rows[key]) + "\n")
        print(*key, value, f"{seconds:.1f} s", flush=True)


def run(photos: Photos, state: State, seed: int, part: float, counts: tuple[int | str, ...]) -> None:
    """Do what is missing of one seed of one set."""
    for count in counts:
        train, test = parts(photos.labels, count, seed)
        key = (photos.name, str(count), str(seed))
        chosen = state.measure((*key, "choice"), lambda train=train: choose(photos, train))
        spent = chosen["cpu_s"]
        for stage in dict.fromkeys((*photos.stages[-STAGES:], str(chosen["value"]).removeprefix("linear on "))):
            if stage in photos.stages:
                row = state.measure((*key, f"linear on {stage}"), lambda stage=stage, t=train, u=test: linear(photos, stage, t, u))
                spent += row["cpu_s"] * (chosen["value"] == f"linear on {stage}")
        if count == 20:
            state.measure((*key, "fastai"), lambda t=train, u=test, s=spent: fastai(photos, t, u, seed, s))
        for strategy in TRAINED:
            if seed >= FEW_SEEDS.get(strategy, seed + 1):
                continue
            state.measure((*key, strategy), lambda strategy=strategy, t=train, u=test: trained(photos, strategy, t, u, seed, part))


def page(state: State, sets: list[str], size: int, part: float) -> str:
    """Return the result page from what is there; only whole seeds count."""
    lines = [
        "# The choice of a strategy against all of them",
        "",
        f"MobileNetV2 weights, input of {size} pixels, epochs of the trained strategies times {part:g}. Accuracy in %, means over seeds;",
        "regret: points behind the best of all strategies, each seed by itself. Processor seconds of one thread.",
        "",
        "| photos | training | n | chosen | best | regret | right | time of the choice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    regrets, rights, times, behind = [], [], [], []
    for name in sets:
        for count in map(str, COUNTS):
            found = _whole(state, name, count)
            if not found:
                continue
            mine = [rows["chosen"] for rows in found]
            best = [max(rows["all"].values()) for rows in found]
            regret = [100 * (b - a) for a, b in zip(mine, best, strict=True)]
            share = [rows["spent"] / rows["whole"] for rows in found]
            regrets, times = regrets + regret, times + share
            right = [value <= 0.5 for value in regret]
            rights += right
            told = count if count == "full" else f"{count} a class"
            row = [name, told, str(len(found)), f"{100 * np.mean(mine):.1f}", f"{100 * np.mean(best):.1f}", f"{np.mean(regret):.2f}"]
            lines.append(f"| {' | '.join(row)} | {sum(right)} of {len(right)} | {100 * np.mean(share):.1f} % |")
            behind += [(name, 100 * (rows["chosen"] - rows["fastai"])) for rows in found if rows["fastai"] is not None]
    lines += ["", *_verdicts(regrets, rights, times, behind), "", *_strategies(state, sets)]
    return "\n".join(lines) + "\n" + footer(("convsmith", "torch", "scikit-learn"))


def _whole(state: State, name: str, count: str) -> list[dict]:
    """Return the seeds of a row of the page for which every strategy was run."""
    found = []
    for seed in map(str, range(99)):
        rows = {key[3]: row for key, row in state.rows.items() if key[:3] == (name, count, seed)}
        if not {"choice", *(one for one in TRAINED if one not in FEW_SEEDS)} <= rows.keys():
            continue
        elsewhere = [state.rows.get((name, count, "0", one), {"cpu_s": 0.0})["cpu_s"] for one in FEW_SEEDS if one not in rows]
        every = {key: row for key, row in rows.items() if key not in ("choice", "fastai")}
        chosen = rows["choice"]["value"]
        spent = rows["choice"]["cpu_s"] + every[chosen]["cpu_s"]
        peer = rows["fastai"]["value"] if "fastai" in rows else None
        accuracies = {key: row["value"] for key, row in every.items()}
        whole = sum(row["cpu_s"] for row in every.values()) + sum(elsewhere)
        found.append({"chosen": accuracies[chosen], "all": accuracies, "spent": spent, "whole": whole, "fastai": peer})
    return found


def _verdicts(regrets: list[float], rights: list[bool], times: list[float], behind: list[tuple[str, float]]) -> list[str]:
    if not regrets:
        return ["No seed is whole yet."]

    def reached(good: bool) -> str:
        return "reached" if good else "missed"

    mean, share, cost = float(np.mean(regrets)), float(np.mean(rights)), float(np.mean(times))
    lines = [
        f"- mean regret {mean:.2f} points over n = {len(regrets)} (goal 0.5): {reached(mean <= 0.5)}",
        f"- right in {100 * share:.0f} % (goal 80): {reached(share >= 0.8)}",
        f"- time of the choice {100 * cost:.1f} % of all (goal 20): {reached(cost <= 0.2)}",
    ]
    if behind:
        gains = [gain for _, gain in behind]
        told = ", ".join(f"{name} {np.mean([g for n, g in behind if n == name]):+.1f}" for name in dict.fromkeys(n for n, _ in behind))
        good = reached(np.mean(gains) >= 3)
        against = f"{np.mean(gains):+.1f} points over n = {len(gains)} ({told}; goal 3): {good}"
        lines.append(f"- 20 a class against the fastai-style recipe: {against}")
    lines.append("- the best of several strategies on one test part is favoured by chance: even a perfect rule has some regret")
    return lines


def _strategies(state: State, sets: list[str]) -> list[str]:
    """Return a table of every strategy's mean accuracy and seconds."""
    lines = ["| photos | training | strategy | accuracy | processor s | n |", "|---|---|---|---|---|---|"]
    for name in sets:
        for count in map(str, COUNTS):
            rows = [(key[3], row) for key, row in state.rows.items() if key[:2] == (name, count) and key[3] != "choice"]
            for strategy in dict.fromkeys(key for key, _ in rows):
                mine = [row for key, row in rows if key == strategy]
                accuracy, seconds = 100 * np.mean([row["value"] for row in mine]), np.mean([row["cpu_s"] for row in mine])
                lines.append(f"| {name} | {count} | {strategy} | {accuracy:.1f} | {seconds:.1f} | {len(mine)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--part", type=float, default=0.5, help="part of the usual epochs of trained strategies")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", default="flowers5,trashnet")
    parser.add_argument("--state", type=Path, default=Path("transfer_choice"))
    parser.add_argument("--write", action="store_true", help="write the page; with --seeds 0 from what is there")
    arguments = parser.parse_args()
    root = Path(os.environ.get("CONVSMITH_DATA") or sys.exit("set CONVSMITH_DATA to the folder that holds data/flowers5"))
    torch.set_num_threads(1)
    arguments.state.mkdir(parents=True, exist_ok=True)
    state, sets = State(arguments.state / "rows.jsonl"), arguments.sets.split(",")
    held = {name: Photos(root, name, arguments.size, arguments.state) for name in sets} if arguments.seeds else {}
    # the small parts first: they cost least, and matter most
    for counts in (COUNTS[:-1], COUNTS[-1:]):
        for seed in range(arguments.seeds):
            for photos in held.values():
                run(photos, state, seed, arguments.part, counts)
    text = page(state, sets, arguments.size, arguments.part)
    print(text)
    if arguments.write:
        (RESULTS / "transfer_choice.md").write_text(text)


if __name__ == "__main__":
    main()
