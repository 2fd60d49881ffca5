"""Whole networks in float32, batch 1 and 16, against torch (eager, channels last, compiled), ONNX Runtime and OpenVINO float32.

Claim: with 2 threads the native engine, tuned beforehand, is at least 2.0 times the best peer on VGG-16, 1.6 on ResNet-18, 1.2 on
ResNet-50, 1.3 on SqueezeNet 1.1, 1.0 on MobileNetV2, and 2.0 on CIFAR ResNet-20 and LeNet at batch 1. Medians and quartiles of 9 rounds
in turn in one process; rows that fall short are kept. Usage: networks.py [--batches 1 16] [--no-compile] [name ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer
from peak import fma_gflops

from convsmith import analysis, compiler, models
from convsmith.interop import pytorch
from convsmith.targets import measure, network_bytes, onnxruntime_run, openvino_run

THREADS, ROUNDS = 2, 9
NETWORKS: dict[str, tuple[int, int, float]] = {
    "lenet5": (1, 28, 2.0), "resnet20": (3, 32, 2.0), "squeezenet1_1": (3, 224, 1.3), "mobilenet_v2": (3, 224, 1.0),
    "resnet18": (3, 224, 1.6), "resnet50": (3, 224, 1.2), "vgg16": (3, 224, 2.0),
}  # fmt: skip
"""Channels, side of the image, and the goal as a multiple of the best peer."""

Run = Callable[[Any], Any]


def torch_run(module: Any, channels_last: bool = False) -> Run:
    """Return a function from NumPy NCHW to the module's answer."""

    def run(x_nchw: Any) -> Any:
        x = torch.from_numpy(x_nchw)
        with torch.inference_mode():
            return module(x.to(memory_format=torch.channels_last) if channels_last else x)

    return run


def contestants(name: str, with_compile: bool) -> tuple[dict[str, Run], Any]:
    """Return the engine and its peers for one network, and its graph."""
    channels, side, _ = NETWORKS[name]
    torch.manual_seed(0)
    module = models.load(name, classes=10 if side < 64 else 1000, in_channels=channels, input_size=(side, side)).eval()
    graph = pytorch.read(module, (1, channels, side, side))
    onnx = network_bytes(graph)
    runs: dict[str, Run] = {"convsmith": compiler.build(graph, tune=60.0, threads=THREADS), "torch eager": torch_run(module)}
    runs["torch channels_last"] = torch_run(module.to(memory_format=torch.channels_last), True)
    if with_compile:
        runs["torch compile"] = torch_run(torch.compile(module, dynamic=False))
    runs["onnxruntime"] = onnxruntime_run(onnx, THREADS)[0]
    runs["openvino f32"] = openvino_run(onnx, THREADS)[0]
    return runs, graph


def measured(name: str, batch: int, with_compile: bool, peak_gflops: float) -> dict[str, Any]:
    """Return milliseconds of every contestant for one network and batch."""
    channels, side, goal = NETWORKS[name]
    runs, graph = contestants(name, with_compile)
    x = np.random.default_rng(0).standard_normal((batch, channels, side, side), np.float32)
    expected = np.asarray(runs["torch eager"](x))
    difference = float(np.abs(runs["convsmith"](x) - expected).max() / np.abs(expected).max())
    rows = measure(runs, lambda n: x, batches=(batch,), rounds=ROUNDS)
    times = {row["runtime"]: [row["q1_ms"], row["median_ms"], row["q3_ms"]] for row in rows}
    best = min(times[other][1] for other in times if other != "convsmith")
    operations = 2 * batch * analysis.analyse(graph, batch=1).macs
    share = operations / (times["convsmith"][1] * 1e-3) / 1e9 / peak_gflops
    return {"name": name, "batch": batch, "times": times, "ratio": best / times["convsmith"][1], "goal": goal, "share": share,
            "peak": peak_gflops, "difference": difference}  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    """Return the result page."""
    names = list(rows[0]["times"])
    for row in rows:
        names += [name for name in row["times"] if name not in names]
    head = ["network", "batch", *names, "best peer / ours", "goal", "% of FMA peak", "difference"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = ["{1:.3g} ({0:.3g}-{2:.3g})".format(*row["times"][name]) if name in row["times"] else "-" for name in names]
        reached = f"**{row['ratio']:.2f}**" if row["ratio"] >= row["goal"] else f"{row['ratio']:.2f}"
        tail = [reached, f"{row['goal']:.1f}", f"{100 * row['share']:.0f}", f"{row['difference']:.0e}"]
        lines.append(f"| {' | '.join([row['name'], str(row['batch']), *cells, *tail])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for, add it to the numbers measured before, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    peak = fma_gflops(THREADS)
    store = RESULTS / "networks.json"
    found = json.loads(store.read_text()) if store.exists() else {}
    for name in options.names:
        for batch in options.batches:
            found[f"{name} {batch}"] = row = measured(name, batch, not options.no_compile, peak)
            medians = {key: round(value[1], 3) for key, value in row["times"].items()}
            print(name, batch, f"{row['ratio']:.2f} of the best peer", medians, flush=True)
            store.write_text(json.dumps(found, indent=1) + "\n")
            write_page(found)


def write_page(found: dict[str, Any]) -> None:
    """Write all rows measured so far, those of earlier calls included."""
    rows = [found[f"{name} {batch}"] for name in NETWORKS for batch in (1, 16) if f"{name} {batch}" in found]
    peak = max(row["peak"] for row in rows)
    notes = (
        f"Milliseconds, median (quartiles) of {ROUNDS} rounds in turn in one process, {THREADS} threads. Bold where the goal is reached; "
        f"a percentage above 100 is possible where Winograd saves operations (the peak is {peak:.0f} GFLOP/s). Difference: of our "
        "scores from torch's, relative to the largest. What is missing was not measured yet."
    )
    missed = (
        "Where a goal is missed: of ResNet-50's 15.8 ms for one image 54 % are 1x1 layers and 19 % strided ones, which no algorithm "
        "computes with fewer operations; single ones run at 80 to 91 % of the peak, and only the 3x3 layers, 24 %, win by Winograd. Tried "
        "there: pixels multiplied where they lie instead of packed (1x1 layers of up to 512 channels 1.1 to 1.5 times as fast, kept), huge "
        "pages (4 to 14 % of the whole, kept), asking for weights ahead of their use (up to a tenth slower, dropped)."
    )
    packages = ("convsmith", "torch", "onnxruntime", "openvino")
    (RESULTS / "networks.md").write_text(f"# Whole networks, float32\n\n{notes}\n\n{missed}\n\n{page(rows)}\n{footer(packages)}")


if __name__ == "__main__":
    main()
