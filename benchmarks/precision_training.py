"""Claim: a training search finds fewer than 16 bits for all that LeNet-300-100 stores in training on MNIST, within 0.3 points of float32.

Part "search": `find_training_plan` over floats of 19 to 5 bits for weights (no float32 copies), activations, errors, weight gradients,
momentum and updates; short trainings, successive halving, then full ones with 3 seeds against float32 of the same seed, and the
accumulator of the variance rule checked in a short training with every addition rounded. Part "schedule": 10 bits (e6m3) first and 16
(e8m7) later against either alone, 3 seeds, equal accuracy meaning 0.2 points; and whether few bits converge faster at first. The recipe:
2 epochs of the 55,000 training images, SGD with momentum, batch 128, one cycle. Full runs are scored on the 10,000 test images, short ones
on 5,000 validation images. Nothing is timed.

Results: docs/results/precision_training.md. Needs CONVSMITH_DATA. What was trained is kept in --state, where an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from machine import RESULTS, footer

from convsmith import data, models
from convsmith.jobs import precision_schedule, training_bits
from convsmith.jobs.trial_training import RecipeTrainer
from convsmith.precision import schedules
from convsmith.precision.training_search import find_training_plan, uniform_training
from convsmith.precision.trials import Trial
from convsmith.training import Schedule, Training

EPOCHS = 2.0
SEEDS = (0, 1, 2)


def recipe(root: Path, epochs: float) -> RecipeTrainer:
    """Return LeNet-300-100 on MNIST."""
    dataset = data.open(root / "data" / "mnist")
    preprocess, _ = data.choose_preprocess(dataset)

    def build(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return models.load("mlp", classes=10, in_channels=1, input_size=(28, 28))

    config = Training(epochs=epochs, batch=128, learning_rate=0.05, schedule=Schedule(kind="one_cycle"), threads=1)
    return RecipeTrainer(dataset, preprocess, build, config)


class Kept:
    """Trials in a file, so that an interrupted benchmark goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials = [Trial.from_dict(row) for row in json.loads(path.read_text())] if path.is_file() else []

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.path.write_text(json.dumps([known.to_dict() for known in self.trials]))
        print(f"{trial.name}, share {trial.share:g}, seed {trial.seed}: {trial.outcome.accuracy:.2%} {trial.outcome.failed}", flush=True)


def search(train: RecipeTrainer, state: Path) -> dict[str, Any]:
    """Search for the bits of training."""
    work, kept = train.work(), Kept(state.with_suffix(".search.json"))
    found = find_training_plan(
        train, work.update, 0.3, longest_sum=work.longest_sum(), seeds=SEEDS, attempts=6, on_trial=kept.add, done=list(kept.trials)
    )
    return training_bits.describe(found, 0.3) | {"trials": len(found.trials)}


def schedule(train: RecipeTrainer, state: Path) -> dict[str, Any]:
    """Compare schedules of precision with constant ones."""
    work, kept = train.work(), Kept(state.with_suffix(".schedule.json"))
    epochs = train.training.epochs
    low, high = uniform_training("e6m3"), uniform_training("e8m7")
    found = schedules.compare_schedules(
        train, lambda plan: work.run(plan, epochs), low, high, epochs, 0.2, seeds=SEEDS, on_trial=kept.add, done=list(kept.trials)
    )
    rows = [dict(schedules.row_dict(row)) for row in found.rows]
    return {"rows": rows, "notes": list(found.notes), "hypothesis": found.hypothesis, "float32": work.run(None, epochs)}


def page(found: dict[str, Any]) -> str:
    """Return the result page."""
    lines = ["# Bits of training: LeNet-300-100 on MNIST", ""]
    if "search" in found:
        lines += [
            "## Search",
            "",
            "```text",
            training_bits.lines({**found["search"], "trials": [0] * found["search"]["trials"]}),
            "```",
            "",
        ]
    if "schedule" in found:
        lines += ["## Schedule", "", "```text", precision_schedule.lines(found["schedule"]), "```", ""]
        share = found["schedule"]["rows"][0]["cost"] / found["schedule"]["float32"]
        lines += [f"Training in e8m7 takes {share:.1%} of the bit operations of float32.", ""]
    return "\n".join([*lines, footer(("convsmith", "torch", "numpy", "scipy"))])


def main() -> None:
    """Train, print and write docs/results/precision_training.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["schedule", "search"])
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--state", type=Path, default=Path("precision_training.state"), help="where trainings are kept")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CONVSMITH_DATA", ".")), help="folder with data/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = RESULTS / "precision_training.json"
    text = ""
    for part in arguments.parts:
        train = recipe(arguments.data, arguments.epochs)
        measured = {"search": search, "schedule": schedule}[part](train, arguments.state)
        found = (json.loads(results.read_text()) if results.is_file() else {}) | {part: measured}
        results.write_text(json.dumps(found, indent=1) + "\n")
        text = page(found)
        (RESULTS / "precision_training.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
