"""Claim: VGG-small of one-bit weights and activations comes within 5 points of its float32 twin, on CIFAR-10 at equal epochs.

A quarter of the published width (32, 64 and 128 filters); the twin is the same network with a hard tanh where the other has signs. The
images are those of CONVSMITH_DATA, whichever CIFAR-10 is there; 5,000 of them choose the weights, the test images are looked at once.
Run: python benchmarks/binary_accuracy.py [--arm binary|float32] [--state FOLDER] [--threads 2]. An arm that was interrupted goes on, and
the page has the arms that are done. Writes docs/results/binary_accuracy.md and .json. Needs CONVSMITH_DATA.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import RESULTS, footer

from convsmith import models
from convsmith.precision.binary_plan import binary_plan
from convsmith.training.config import Training
from convsmith.training.reproductions import images, tables
from convsmith.training.reproductions.paper import REFERENCE, Arm, Claim, Experiment, Setup
from convsmith.training.reproductions.running import Row, run_arm

NAME = "binary_accuracy"
WIDTHS = (32, 64, 128)
GOAL = 5.0
MODEL, SHAPE = "vgg_small", (3, 32, 32)
RECIPE: dict[str, Any] = {
    "epochs": 8,
    "batch": 128,
    "schedule": {"kind": "one_cycle"},
    "augment": {"flip": True, "shift": 0.1},
    "validate_every": 2,
}
SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 5e-4}
ADAM: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.003, "weight_decay": 0.0}


def experiment() -> Experiment:
    network = models.load(MODEL, classes=10, in_channels=SHAPE[0], input_size=SHAPE[1:], widths=WIDTHS)
    arms = (Arm(REFERENCE, training=SGD), Arm("binary", binary_plan(network), training=ADAM))
    setup = Setup(arms, Training.model_validate(RECIPE), seeds=1, options={"widths": WIDTHS})
    claim = Claim("within", f"signs come within {GOAL:g} points of the float32 twin", "binary", GOAL)
    return Experiment("vgg", "VGG-small", "cifar10", MODEL, {"quick": setup}, (claim,), mean=0.5, std=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=[REFERENCE, "binary"], help="train this arm alone")
    parser.add_argument("--state", type=Path, help="where arms keep their checkpoints and results, to go on with them")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    state = arguments.state or Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    asked = experiment()
    for arm in asked.setup("quick").arms:
        if arguments.arm in (None, arm.name) and not stored(state, arm).exists():
            train(asked, arm, state, arguments.threads)
    rows = [Row.from_dict(json.loads(stored(state, arm).read_text())) for arm in asked.setup("quick").arms if stored(state, arm).exists()]
    sys.exit(0 if page(asked, rows, arguments.threads) else 1)


def stored(state: Path, arm: Arm) -> Path:
    return state / f"{arm.name}.json"


def train(asked: Experiment, arm: Arm, state: Path, threads: int) -> None:
    """Train and test one arm, or go on with it, and store its row."""
    setup, told = asked.setup("quick"), [0.0]
    opened = images.open_images(asked, setup, images.locate(asked.data, None), SHAPE)

    def show(what: str, done: float, total: float, **fields: Any) -> None:
        if what == "train" and time.monotonic() - told[0] > 60:
            told[0] = time.monotonic()
            print(f"{arm.name}: update {done:.0f} of {total:.0f}, loss {fields['loss']:.3f}", file=sys.stderr, flush=True)

    row = run_arm(asked, arm, setup, 0, opened, folder=state / f"{arm.name}-checkpoints", show=show, threads=threads, device="cpu")
    stored(state, arm).write_text(json.dumps(row.to_dict()))


def page(asked: Experiment, rows: list[Row], threads: int) -> bool:
    """Write the page; return whether the claim holds."""
    head = ("arm", "optimizer, rate", "epochs", "training images", "test error %", "validation error %", "minutes")
    lines = [f"# VGG-small in one bit against float32: CIFAR-10, within {GOAL:g} points at equal epochs", ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        own = next(arm.training for arm in asked.setup("quick").arms if arm.name == row.arm)
        cells = [row.arm, f"{own['optimizer']}, {own['learning_rate']:g}", f"{row.epochs:g}", f"{row.images:,} of `{row.source}`"]
        cells += [f"{row.error:.2f}", f"{row.val_error:.2f}", f"{row.seconds / 60:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    judged = tables.verdicts(asked, "quick", rows)
    lines += [
        "",
        *(f"- {'**Holds**' if v.holds else 'Not run' if v.holds is None else '**Fails**'}: {v.text} ({v.found})." for v in judged),
    ]
    lines += [
        "",
        f"Filters {', '.join(map(str, WIDTHS))}, a quarter of the published 128, 256 and 512; one seed; {threads} thread(s), minutes of "
        f"a machine shared with other work. Batches of {RECIPE['batch']}, a rate that rises and falls once, mirrored images moved by up "
        "to three pixels. The twin has a hard tanh where the other has signs, and float32 weights; the first convolution and the last "
        "layer are float32 in both.",
        *_shortened(rows),
    ]
    text = "\n".join(lines) + "\n" + footer()
    (RESULTS / f"{NAME}.md").write_text(text)
    found = [{key: value for key, value in row.to_dict().items() if key != "wrong"} for row in rows]
    (RESULTS / f"{NAME}.json").write_text(json.dumps({"claims": [vars(v) for v in judged], "rows": found}, indent=1) + "\n")
    print(text)
    return all(verdict.holds for verdict in judged)


def _shortened(rows: list[Row]) -> list[str]:
    """Say how far the arms came where their trainings were ended early, the rate falling to zero from then on."""
    least = min((row.epochs for row in rows), default=RECIPE["epochs"])
    if least >= RECIPE["epochs"]:
        return []
    return [
        "",
        f"Both were ended early for want of processor time: after some 1.8 of {RECIPE['epochs']} epochs their schedules were shortened, so "
        f"that the rate fell to zero by epoch {least:g}. The gap at {RECIPE['epochs']} epochs was not measured.",
    ]


if __name__ == "__main__":
    main()
