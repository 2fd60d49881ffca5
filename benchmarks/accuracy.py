"""What the accuracy benchmarks share: one call as `forge` makes it, timed, for several seeds, and the page that states the outcome."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from machine import RESULTS, footer

from convsmith import data, models, training


@dataclass(frozen=True)
class Result:
    """One seed. ``seconds``: opening the data, choosing, quoting, training and validating; not the final look at the test images."""

    seed: int
    accuracy: float
    val_accuracy: float
    seconds: float
    quoted_s: float
    epochs: float
    parameters: int
    arithmetic: str
    stopped_by: str


def source(name: str) -> Path:
    """Return a data set below the folder that CONVSMITH_DATA names."""
    root = os.environ.get("CONVSMITH_DATA") or sys.exit(f"set CONVSMITH_DATA to the folder that holds data/{name}")
    return Path(root) / "data" / name


def run(path: str | Path, seed: int, time_s: float | None, threads: int) -> Result:
    """Train once with what is chosen from the data, and score the test images at the end, once."""
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    dataset = data.open(path, seed=seed)
    preprocess, _ = data.choose_preprocess(dataset)
    config, _ = training.choose(dataset, preprocess, time_s)
    name, _ = models.choose(dataset, preprocess, time_s)
    torch.manual_seed(seed)
    shape = {"in_channels": preprocess.channels, "input_size": (preprocess.height, preprocess.width)}
    network = models.load(name, classes=len(dataset.classes), **shape)
    quoted = training.quote(network, dataset, config, preprocess)
    left_s = None if time_s is None else time_s - (time.perf_counter() - begin)
    fit = training.fit(network, dataset, config.model_copy(update={"seed": seed, "time_s": left_s}), preprocess=preprocess)
    seconds = time.perf_counter() - begin
    logits = training.score(fit.module, dataset.test, preprocess)
    right = float((logits.argmax(1) == dataset.test.labels).mean())
    parameters = sum(p.numel() for p in network.parameters())
    arithmetic = str(fit.plan.arithmetic)
    return Result(seed, right, fit.best_accuracy, seconds, quoted.seconds, fit.epochs_done, parameters, arithmetic, fit.stopped_by)


def asked(description: str | None, seeds: int) -> argparse.Namespace:
    """Read the arguments that all accuracy benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=seeds, help="how many seeds, from 0 on")
    parser.add_argument("--seed", type=int, help="measure this seed alone, and keep the others of the last result page")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def measure(name: str, claim: str, path: str | Path, goal: float, limit_s: float | None, arguments: argparse.Namespace) -> bool:
    """Run the seeds that were asked for and write the page; return whether its goals were reached."""
    chosen = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    results = [run(path, seed, limit_s, arguments.threads) for seed in chosen]
    stored = RESULTS / f"{name}.json"
    if arguments.seed is not None and stored.exists():
        others = [Result(**fields) for fields in json.loads(stored.read_text())["runs"]]
        results = sorted([*results, *(other for other in others if other.seed != arguments.seed)], key=lambda result: result.seed)
    return page(name, claim, results, goal, limit_s, one_by_one=arguments.seed is not None)


def page(name: str, claim: str, results: Sequence[Result], goal: float, limit_s: float | None, *, one_by_one: bool = False) -> bool:
    """Write docs/results/<name>.md and .json; return whether mean accuracy and every time reached the goals."""
    accuracies = [result.accuracy for result in results]
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    slowest = max(result.seconds for result in results)
    reached = mean >= goal and (limit_s is None or slowest <= limit_s)
    lines = [
        f"# {claim}",
        "",
        f"**{'Reached' if reached else 'Missed'}**: mean test accuracy {100 * mean:.2f} % (standard deviation {100 * spread:.2f}, "
        f"lowest {100 * min(accuracies):.2f}, n = {len(results)} seeds); slowest {slowest:.1f} s.",
        "",
        "| seed | test % | validation % | seconds | quoted s | epochs | parameters | arithmetic |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        numbers = f"{100 * r.accuracy:.2f} | {100 * r.val_accuracy:.2f} | {r.seconds:.1f} | {r.quoted_s:.1f} | {r.epochs:.1f}"
        lines.append(f"| {r.seed} | {numbers} | {r.parameters:,} | {r.arithmetic} |")
    lines += ["", "Each seed was a call of its own; the command is the last one's."] if one_by_one else []
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n" + footer()
    (RESULTS / f"{name}.md").write_text(text)
    content = {"claim": claim, "reached": reached, "mean_accuracy": mean, "goal": goal, "limit_s": limit_s}
    (RESULTS / f"{name}.json").write_text(json.dumps(content | {"runs": [asdict(r) for r in results]}, indent=1) + "\n")
    print(text)
    return reached
