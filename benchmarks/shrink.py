"""Claim: `convsmith shrink` makes ResNet-20 at least 3 times as fast as PyTorch's best float32 setting at most 0.5 points down, its time
predicted within 10 %; and 1.5 times as fast as what Torch-Pruning reaches at equal accuracy in equal time.

The network is that of `akamaster/pytorch_resnet_cifar10`, trained further for two epochs on 45,000 of the lossy CIFAR-10 training images
(JPEG quality 75). The given weights know the originals of all training images, so the search chooses on half of the test images, and
the other half, 5,000, is the test. Torch-Pruning removes channels by group magnitude (Fang et al. 2023,
DepGraph) at several ratios and trains what is left by the loop, the rate, the teacher and in all the time that ours had; it runs in
PyTorch, eager and channels last, and in our engine. 2 threads; what is compared at the end is measured in turn, 9 rounds, medians; rows
that fall short are kept. A predicted time is the part that the prices of layers say of the time of the network in codes, measured in turn
with the others.

Needs CONVSMITH_DATA, and torch_pruning on PYTHONPATH for the peer. Where each step needs the machine for itself, they are separate calls:
shrink.py parent --state DIR; ours [--time 200s]; peer [--ratios 0.2]; times [--compile]; page. Without one all are done, the peer where it
is installed.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar_speed import decoded
from machine import RESULTS, footer

from convsmith import compiler, jobs, models, precision, runs, training
from convsmith.interop import pytorch
from convsmith.jobs import sources, trained
from convsmith.jobs.healing import RATE, RULE
from convsmith.jobs.settings import Images
from convsmith.models.convention import TORCHVISION
from convsmith.targets import measure

THREADS, ROUNDS, BATCHES = 2, 9, (1, 16)
STEPS = ("parent", "ours", "peer", "times", "page")
WEIGHTS = "weights/resnet20_cifar10/resnet20-12fca82f.th"
RATIOS = (0.2, 0.35, 0.5)
MAX_DROP, FASTER, OVER_PEER, WITHIN = 0.5, 3.0, 1.5, 0.10


def halved(root: Path, folder: Path) -> Path:
    """Write the images with every second test image for validation; return the file."""
    path = folder / "cifar10-halved.npz"
    if not path.exists():
        with np.load(decoded(root, folder)) as stored:
            arrays = {name: stored[name] for name in ("classes", "x_train", "y_train")}
            for number, part in enumerate(("val", "test")):
                arrays |= {f"{letter}_{part}": stored[f"{letter}_test"][number::2] for letter in "xy"}
        np.savez(path, **arrays)
    return path


def parent(folder: Path, root: Path) -> Path:
    """Train the given network further on the lossy images, as a run; return its folder."""
    path = folder / "resnet20"
    if path.exists():
        return path
    images = Images(data=str(halved(root, folder)))
    dataset = sources.open_images(images, runs.Unrecorded())
    record = runs.create(path, "train", {"data": images.data, "model": "resnet20"}, data="cifar10")
    convention = TORCHVISION.resized(32, 32).preprocess()
    record.write_json("dataset.json", sources.describe(dataset, images))
    record.write_json("preprocess.json", convention.to_dict() | {"classes": list(dataset.classes)})
    record.write_json("model.json", {"name": "resnet20", "classes": list(dataset.classes), "in_channels": 3, "input_size": [32, 32]})
    augment = {"flip": True, "shift": 0.125}
    record.write_json("training.json", {"augment": augment, "batch": 128, "threads": THREADS})
    recipe = training.Training(
        epochs=2,
        batch=128,
        learning_rate=0.03,
        threads=THREADS,
        augment=augment,
        precision="bfloat16",
        channels_last=True,
        validate_every=1,
    )  # fmt: skip
    module = models.load("resnet20", classes=10, in_channels=3, input_size=(32, 32), weights=root / WEIGHTS)
    trained.save_weights(training.fit(module, dataset, recipe, preprocess=convention).module, record)
    record.finish()
    return path


def best_torch(module: torch.nn.Module, compiled: bool) -> dict[str, Any]:
    """Return the settings of PyTorch in which a network is timed."""
    flat = module.eval()
    last = pytorch.write(pytorch.read(module, (1, 3, 32, 32))).eval().to(memory_format=torch.channels_last)

    def eager(x: Any) -> Any:
        with torch.inference_mode():
            return flat(torch.from_numpy(x)).numpy()

    def channels_last(x: Any) -> Any:
        with torch.inference_mode():
            return last(torch.from_numpy(x).to(memory_format=torch.channels_last)).numpy()

    found = {"eager": eager, "channels last": channels_last}
    if compiled:
        quick = torch.compile(flat, dynamic=False)

        def by_compiler(x: Any) -> Any:
            with torch.inference_mode():
                return quick(torch.from_numpy(x)).numpy()

        found["compiled"] = by_compiler
    return found


def timed(candidates: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Return quartiles in milliseconds by name and batch, all measured in turn."""
    rng = np.random.default_rng(0)
    rows = measure(candidates, lambda n: rng.standard_normal((n, 3, 32, 32), np.float32), batches=BATCHES, rounds=ROUNDS)
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found.setdefault(row["runtime"], {})[str(row["batch"])] = [row["q1_ms"], row["median_ms"], row["q3_ms"]]
    return found


def ours(state: Path, root: Path, allowed: str) -> dict[str, Any]:
    """Search, then time every point of the answer beside PyTorch."""
    folder = parent(state, root)
    begun = time.monotonic()
    settings = {"run": str(folder), "max_drop": MAX_DROP, "time": allowed, "images": 0, "threads": THREADS, "evaluations": 0}
    result = jobs.perform("shrink", settings).result
    return {"seconds": time.monotonic() - begun, "result": dict(result)}


def compared(state: Path, root: Path, with_compile: bool) -> dict[str, Any]:
    """Time ours, and what Torch-Pruning gave, in turn with PyTorch."""
    folder = parent(state, root)
    network = trained.load(runs.open(folder))
    candidates: dict[str, Any] = {f"PyTorch {name}": run for name, run in best_torch(network.module, with_compile).items()}
    result = json.loads((folder / "shrink.json").read_text())
    for row in result["points"]:
        if row["frontier"] or row["name"] in ("float32", "int8"):
            graph = trained.load(runs.open(folder / row["folder"])).graph
            candidates[row["name"]] = compiler.build(graph, tune=10.0, threads=THREADS)
    for path in sorted(state.glob("pruned-*.pt")):
        module = torch.load(path, weights_only=False).eval()
        candidates |= {f"{path.stem} PyTorch {name}": run for name, run in best_torch(module, False).items()}
        candidates[f"{path.stem} our engine"] = compiler.build(pytorch.read(module, (1, 3, 32, 32)), tune=10.0, threads=THREADS)
    return timed(candidates)


def peer(state: Path, ratios: list[float]) -> list[dict[str, Any]]:
    """Prune at each ratio with Torch-Pruning, train for its part of our time, and return accuracies, those of earlier calls too."""
    import torch_pruning

    network = trained.load(runs.open(state / "resnet20"))
    dataset = sources.reopen(network.run.read_json("dataset.json"), runs.Unrecorded())
    allowed = json.loads((state / "ours.json").read_text())["seconds"] / len(RATIOS)
    x, labels = sources.pixels(dataset.test, network.preprocess, 0, 0)
    baseline = precision.Score.of(answers(network.module, x) == labels)
    rows = [row for row in earlier(state) if row["ratio"] not in ratios]
    for ratio in ratios:
        begun = time.monotonic()
        module = copy.deepcopy(network.module)
        # shortcuts that pad channels with zeros tie all of a stage together, which the tool does not follow: it prunes inside of blocks
        inner = [part for name, part in module.named_modules() if name.startswith("layer") and name.endswith("conv1")]
        kept = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Linear) and part not in inner]
        pruner = torch_pruning.pruner.MagnitudePruner(
            module, torch.zeros(1, 3, 32, 32), importance=torch_pruning.importance.GroupMagnitudeImportance(), pruning_ratio=ratio,
            ignored_layers=kept,
        )  # fmt: skip
        pruner.step()
        recipe = training.Training.model_validate(
            RULE
            | {"epochs": 60, "time_s": max(1.0, allowed - (time.monotonic() - begun)), "batch": 128, "learning_rate": RATE, "distil": 0.8}
            | {"threads": THREADS, "augment": {"flip": True, "shift": 0.125}}
        )
        module = training.fit(module, dataset, recipe, preprocess=network.preprocess, teacher=network.module).module
        score = precision.Score.of(answers(module, x) == labels)
        torch.save(module, state / f"pruned-{ratio:g}.pt")
        rows.append({"ratio": ratio, "accuracy": score.accuracy, "seconds": time.monotonic() - begun} | precision.compare(baseline, score))
        print(rows[-1], flush=True)
    return rows


def earlier(state: Path) -> list[dict[str, Any]]:
    """Return what the peer gave in earlier calls."""
    found: list[dict[str, Any]] = json.loads((state / "peer.json").read_text()) if (state / "peer.json").exists() else []
    return found


def answers(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([module.eval()(part).argmax(1).numpy() for part in torch.from_numpy(x).split(128)])


def page(state: Path) -> str:
    """Return the result page."""
    found = json.loads((state / "ours.json").read_text())
    times, rows = json.loads((state / "times.json").read_text()), earlier(state)
    result, seconds = found["result"], found["seconds"]
    base = {batch: min(value[str(batch)][1] for name, value in times.items() if name.startswith("PyTorch")) for batch in BATCHES}
    lines = [
        "| network | test accuracy | drop (95 %) | ms of 1 | ms of 16 | times PyTorch, 1 | 16 | predicted ms | off by | file kB |",
        f"|{'---|' * 10}",
    ]
    for name in [name for name in times if name.startswith("PyTorch")]:
        lines.append(f"| {name} | | | {cell(times, name, 1)} | {cell(times, name, 16)} | | | | | |")
    shown = [row for row in result["points"] if row["name"] in times]
    off = []
    for row in shown:
        seen, ms = row["test"] or row, times[row["name"]]["1"][1]
        predicted = ["", ""]
        if row["edits"]:
            foretold = row["predicted_share"] * times["int8"]["1"][1]
            off.append(foretold / ms - 1)
            predicted = [f"{foretold:.4f}", f"{100 * off[-1]:+.0f} %"]
        ratios = [f"{base[batch] / times[row['name']][str(batch)][1]:.2f}" for batch in BATCHES]
        name = f"**{row['name']}**" if row["name"] == result["chosen"] else row["name"]
        drop = f"{seen['drop']:+.2f} ({seen['drop_low']:+.2f} to {seen['drop_high']:+.2f})"
        lines.append(
            f"| {name} | {100 * seen['accuracy']:.2f} % | {drop} | {cell(times, row['name'], 1)} | {cell(times, row['name'], 16)} | "
            f"{' | '.join(ratios)} | {' | '.join(predicted)} | {row['file_bytes'] / 1e3:.0f} |"
        )
    for row in rows:
        stem = f"pruned-{row['ratio']:g}"
        for name in [name for name in times if name.startswith(stem)]:
            ratios = [f"{base[batch] / times[name][str(batch)][1]:.2f}" for batch in BATCHES]
            drop = f"{row['drop']:+.2f} ({row['drop_low']:+.2f} to {row['drop_high']:+.2f})"
            told = [f"Torch-Pruning {row['ratio']:g}{name.removeprefix(stem)}", f"{100 * row['accuracy']:.2f} %", drop]
            told += [cell(times, name, batch) for batch in BATCHES] + [*ratios, "", "", ""]
            lines.append(f"| {' | '.join(told)} |")
    return "\n\n".join([verdicts(result, times, rows, base, off), f"The search took {seconds:.0f} s.", "\n".join(lines)])


def verdicts(result: dict[str, Any], times: dict[str, Any], rows: list[dict[str, Any]], base: dict[int, float], off: list[float]) -> str:
    """Return the claims with what was found."""
    chosen = next((row for row in result["points"] if row["name"] == result["chosen"]), None)
    if chosen is None:
        return f"No network stays within {MAX_DROP} points: the claim is missed."
    seen, own = chosen["test"] or chosen, times[chosen["name"]]
    parts = [
        f"- {chosen['name']} is **{base[batch] / own[str(batch)][1]:.2f}** times as fast as PyTorch's best setting at batch {batch}, "
        f"{seen['drop']:+.2f} points on the test images (claim: {FASTER:g} at most {MAX_DROP} down)"
        for batch in BATCHES
    ]
    if off:
        worst = max(off, key=abs)
        parts.append(f"- predicted times are off by {100 * worst:+.0f} % at most (claim: {100 * WITHIN:.0f} %)")
    for batch in BATCHES:
        found = [ratio for row in rows if (ratio := against(row, result, times, batch)) is not None]
        if found:
            least, engine = (min(pair[place] for pair in found) for place in (0, 1))
            parts.append(
                f"- against each network of Torch-Pruning the quickest of ours that loses no more, batch {batch}: at least **{least:.2f}** "
                f"times as fast as it is in PyTorch (claim: {OVER_PEER:g}), {engine:.2f} times as fast as it is in our engine"
            )
    return "\n".join(parts)


def against(row: dict[str, Any], result: dict[str, Any], times: dict[str, Any], batch: int) -> tuple[float, float] | None:
    """Return how many times as fast the quickest of ours that loses no more than a peer's network is: in PyTorch, in our engine."""
    level = [
        point["name"] for point in result["points"] if point["test"] and point["test"]["drop"] <= row["drop"] and point["name"] in times
    ]
    theirs = {name: value[str(batch)][1] for name, value in times.items() if name.startswith(f"pruned-{row['ratio']:g} ")}
    if not level or not theirs:
        return None
    own = min(times[name][str(batch)][1] for name in level)
    in_torch = min(ms for name, ms in theirs.items() if "PyTorch" in name)
    return in_torch / own, theirs[f"pruned-{row['ratio']:g} our engine"] / own


def cell(times: dict[str, Any], name: str, batch: int) -> str:
    low, middle, high = times[name][str(batch)]
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="*", choices=STEPS, default=[step for step in STEPS if step != "peer" or find_spec("torch_pruning")])
    parser.add_argument("--state", type=Path, default=Path("shrink.state"), help="folder of what the steps leave to each other")
    parser.add_argument("--time", default="200s")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="of what Torch-Pruning removes")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    state = options.state
    state.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ.get("CONVSMITH_DATA", "."))
    if "parent" in options.steps:
        parent(state, root)
    if "ours" in options.steps:
        (state / "ours.json").write_text(json.dumps(ours(state, root, options.time), indent=1))
    if "peer" in options.steps:
        (state / "peer.json").write_text(json.dumps(peer(state, options.ratios), indent=1))
    if "times" in options.steps:
        (state / "times.json").write_text(json.dumps(compared(state, root, options.compile), indent=1))
    if "page" in options.steps:
        notes = __doc__.split("\n\n")[1].replace("\n", " ") if __doc__ else ""
        text = f"# Shrink: ResNet-20 on CIFAR-10\n\n{notes}\n\n{page(state)}\n"
        (RESULTS / "shrink.md").write_text(text + footer(("convsmith", "torch", "numpy")).replace(f"--state {state}", "--state DIR"))


if __name__ == "__main__":
    main()
