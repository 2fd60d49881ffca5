"""Claim: accuracy against bits, rounded at every operation, at each layer or at each batch, stands on one plot for three kinds of networks.

Logistic regression, a perceptron and LeNet-5 on MNIST: first trained anew under every float format from 0 to 10 bits of significand, on
the first --train images and tested on the first --test, then, trained in float32 on all images, looked at under every format of all four
kinds of bits. Beside it the accumulated error against float64 by layer, depth and width. Nothing is timed; one seed, so points scatter.

Runs are kept in --state: run it again to go on. Needs CONVSMITH_DATA.
Run: python benchmarks/precision_sweep.py [--state FOLDER]. Results: docs/results/precision_sweep.md, two pictures.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from machine import RESULTS, footer

from convsmith import jobs, runs

MODELS = ("logistic", "mlp", "lenet5")
SOURCE = Path(os.environ.get("CONVSMITH_DATA", ".")) / "data" / "mnist"
DEPTHS, WIDTHS = (1, 2, 4, 8, 16), (32, 128, 512)


def subset(folder: Path, train: int, test: int) -> Path:
    """Write the first images of MNIST as files of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        for name, head in ((f"{part}-images-idx3-ubyte", 16), (f"{part}-labels-idx1-ubyte", 8)):
            whole = SOURCE / f"{name}.gz"
            raw = gzip.decompress(whole.read_bytes()) if whole.exists() else (SOURCE / name).read_bytes()
            size = 784 if head == 16 else 1
            (folder / name).write_bytes(raw[:4] + count.to_bytes(4, "big") + raw[8:head] + raw[head : head + count * size])
    return folder


def swept(folder: Path, verb: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Run a verb into a folder, or go on with it, and return its sweep."""
    if not (folder / "run.json").exists():
        jobs.perform(verb, settings, out=folder)
    elif runs.open(folder).status != "finished":
        jobs.perform("resume", {"run": str(folder)})
    return json.loads((folder / "sweep.json").read_text()) if (folder / "sweep.json").exists() else {}


def trained(state: Path, model: str, epochs: float, images: int) -> dict[str, Any]:
    """Train a network in float32 and sweep it."""
    folder = state / model
    swept(folder, "train", {"data": str(SOURCE), "model": model, "epochs": epochs, "threads": 1})
    if not (folder / "sweep.json").exists():
        jobs.perform("precision sweep", {"run": str(folder), "images": images, "depths": DEPTHS, "widths": WIDTHS})
    return json.loads((folder / "sweep.json").read_text())  # type: ignore[no-any-return]


def table(*rows: tuple[object, ...]) -> list[str]:
    """Return a Markdown table; the first row is its head."""
    told = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return ["", told[0], "|" + "---|" * len(rows[0]), *told[1:], ""]


def curves(points: list[dict[str, Any]], variable: str) -> list[str]:
    """Return accuracy by bits, a column for each model and moment."""
    keys = list(dict.fromkeys((p["model"], p["moment"]) for p in points if p["variable"] == variable))
    found = {(p["model"], p["moment"], p["bits"]): f"{100 * p['accuracy']:.1f}" for p in points if p["variable"] == variable}
    bits = sorted({key[2] for key in found}, reverse=True)
    return table(("bits", *(f"{m}, {w}" for m, w in keys)), *((b, *(found.get((*key, b), "") for key in keys)) for b in bits))


def fewest(rows: list[dict[str, Any]]) -> list[str]:
    """Return the fewest bits that hold, a column for each moment."""
    moments = list(dict.fromkeys(r["moment"] for r in rows))
    found = {(r["model"], r["variable"], r["moment"]): "none" if r["bits"] is None else r["bits"] for r in rows}
    keys = list(dict.fromkeys((r["model"], r["variable"]) for r in rows))
    return table(("network", "bits", *moments), *((m, v, *(found[m, v, w] for w in moments)) for m, v in keys))


def errors(sweeps: list[dict[str, Any]]) -> list[str]:
    """Return how errors grow along LeNet-5 and with depth and width."""
    along, shape = sweeps[-1]["growth"], sweeps[0]["depth_and_width"]
    layers = list(dict.fromkeys(r["layer"] for r in along))
    wide = list(dict.fromkeys(r["bits"] for r in along))
    of = {(r["layer"], r["bits"]): f"{r['error']:.2g}" for r in along}
    grown = {(r["width"], r["depth"], r["bits"]): f"{r['error']:.2g}" for r in shape}
    few = sorted({r["bits"] for r in shape})
    return [
        "## The error grows along the network",
        "",
        "Root mean square of the difference to float64 as a part of the value's own, stored values and every addition rounded.",
        *table((f"{MODELS[-1]}, layer", *(f"{b} bits" for b in wide)), *((name, *(of[name, b] for b in wide)) for name in layers)),
        "Perceptrons with weights as drawn (He), the error of the last layer:",
        *table(
            ("neurons", "layers", *(f"{b} bits" for b in few)), *((w, d, *(grown[w, d, b] for b in few)) for w in WIDTHS for d in DEPTHS)
        ),
    ]


def page(training: dict[str, Any], sweeps: list[dict[str, Any]], given: argparse.Namespace) -> str:
    """Return the result page."""
    base = {p["model"]: p for sweep in sweeps for p in sweep["points"] if not p["variable"]}
    anew = {p["model"]: p for p in training["points"] if not p["variable"]}
    float32 = ", ".join(f"{model} {100 * p['accuracy']:.1f} %" for model, p in anew.items())
    whole = ", ".join(f"{model} {100 * p['accuracy']:.1f} %" for model, p in base.items())
    tests = next(iter(base.values()))["n"]
    return "\n".join(
        [
            "# Accuracy against bits: logistic regression, perceptron, ConvNet",
            "",
            "Rounded to nearest even at every operation, at each layer (what it stores and reads), or at each batch (parameters alone).",
            "",
            "## Trained under every format",
            "",
            f"{given.train:,} training images of MNIST, {given.epochs:g} epochs, no float32 copies of the weights; validation images. "
            f"float32: {float32}. Significand bits; an empty place was left out below two collapsed points.",
            *curves(training["points"], "significand"),
            f"Fewest bits within {training['max_drop']:g} points of float32:",
            *fewest(training["fewest"]),
            "![Trainings under every format](precision_sweep_training.svg)",
            "",
            "## Trained in float32, looked at under every format",
            "",
            f"All training images, {given.whole_epochs:g} epochs; accuracy on {tests:,} validation images. float32: {whole}.",
            f"Fewest bits within {sweeps[0]['max_drop']:g} point of float32:",
            *fewest([row for sweep in sweeps for row in sweep["fewest"]]),
            "![LeNet-5 under every format](precision_sweep_lenet5.svg)",
            "",
            *errors(sweeps),
            footer(),
        ]
    )


def main() -> None:
    """Do what is not done, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, help="folder of the runs, to go on with them")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--whole-epochs", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=500)
    given = parser.parse_args()
    state = given.state or Path(tempfile.mkdtemp(prefix="precision-sweep-"))
    state.mkdir(parents=True, exist_ok=True)
    sweeps = [trained(state, model, given.whole_epochs, given.images) for model in MODELS]
    few = subset(state / "mnist", given.train, given.test)
    settings = {
        "run": ",".join(MODELS),
        "data": str(few),
        "variables": ("significand",),
        "epochs": given.epochs,
        "depths": (1,),
        "widths": (8,),
    }
    training = swept(state / "training", "precision sweep", settings)
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(state / "training" / "sweep.svg", RESULTS / "precision_sweep_training.svg")
    shutil.copyfile(state / MODELS[-1] / "sweep.svg", RESULTS / "precision_sweep_lenet5.svg")
    (RESULTS / "precision_sweep.json").write_text(json.dumps({"training": training, "trained": sweeps}, indent=1) + "\n")
    text = page(training, sweeps, given)
    (RESULTS / "precision_sweep.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
