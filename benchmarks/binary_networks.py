"""Binary networks, packed from sign to sign, against their float32 twins in PyTorch's best setting and in our own float engine.

Claim: with 2 threads VGG-small, batch 1 and 16, is at least 8 times as fast as its float twin in PyTorch (eager, channels last, compiled:
the best of them) and 3 times as fast as in our float engine; BinaryNet's perceptron for MNIST (3 x 4096) at least 7 times; files at most
1/25. Random weights: the time does not depend on them. ONNX Runtime and OpenVINO on the float twin are shown as well. Medians and quartiles
of 9 rounds in turn in one process; rows that fall short are kept. Usage: binary_networks.py [--batches 1 16] [name ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer
from networks import torch_run

from convsmith import compiler, models
from convsmith.interop import pytorch
from convsmith.precision.binary_plan import binary_plan
from convsmith.targets import measure, network_bytes, onnxruntime_run, openvino_run

THREADS, ROUNDS = 2, 9
NETWORKS: dict[str, tuple[int, int, float, float]] = {
    "binarynet_mlp": (1, 28, 7.0, 0.0), "vgg_small": (3, 32, 8.0, 3.0), "binarynet_cifar": (3, 32, 8.0, 3.0),
    "bireal18": (3, 224, 0.0, 0.0), "reactnet_a": (3, 224, 0.0, 0.0),
}  # fmt: skip
"""Channels, side, and the goals against the best of PyTorch and against our float engine; 0: none was set."""
PEERS = ("torch eager", "torch channels_last", "torch compile")


def measured(name: str, batch: int) -> dict[str, Any]:
    """Return milliseconds of every contestant, and the sizes of the files."""
    channels, side, *goals = NETWORKS[name]
    torch.manual_seed(0)
    module = models.load(name, classes=10 if side < 64 else 1000, in_channels=channels, input_size=(side, side)).eval()
    graph = pytorch.read(module, (1, channels, side, side))
    binary = compiler.build(graph, binary_plan(module), threads=THREADS, tune=20.0)
    floats = compiler.build(graph, threads=THREADS, tune=20.0)
    onnx = network_bytes(graph)
    runs = {"binary": binary, "float": floats, "torch eager": torch_run(module)}
    runs["torch channels_last"] = torch_run(module.to(memory_format=torch.channels_last), True)
    runs["torch compile"] = torch_run(torch.compile(module, dynamic=False))
    runs |= {"onnxruntime": onnxruntime_run(onnx, THREADS)[0], "openvino f32": openvino_run(onnx, THREADS)[0]}
    x = np.random.default_rng(0).standard_normal((batch, channels, side, side), np.float32)
    rows = measure(runs, lambda n: x, batches=(batch,), rounds=ROUNDS)
    times = {row["runtime"]: [row["q1_ms"], row["median_ms"], row["q3_ms"]] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        for program in (binary, floats):
            program.save(Path(folder) / "net.program")
            sizes.append((Path(folder) / "net.program").stat().st_size)
    ours = times["binary"][1]
    return {"name": name, "batch": batch, "times": times, "torch": min(times[peer][1] for peer in PEERS) / ours, "goals": goals,
            "engine": times["float"][1] / ours, "sizes": sizes}  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    """Return the result page."""
    names = list(rows[0]["times"])
    head = ["network", "batch", *names, "of PyTorch's best", "goal", "of our float", "goal", "file, kB", "float file / it"]
    lines = [
        "# Binary networks, whole",
        "",
        f"Milliseconds, median (quartiles) of {ROUNDS} rounds in turn, {THREADS} threads; random weights.",
    ]
    lines += ["Bold where a goal is reached; - where none was set.", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = ["{1:.3g} ({0:.3g}-{2:.3g})".format(*row["times"][name]) for name in names]
        for key, goal in zip(("torch", "engine"), row["goals"], strict=True):
            cells += [f"**{row[key]:.1f}**" if goal and row[key] >= goal else f"{row[key]:.1f}", f"{goal:.0f}" if goal else "-"]
        cells += [f"{row['sizes'][0] / 1000:.0f}", f"{row['sizes'][1] / row['sizes'][0]:.1f}"]
        lines.append(f"| {' | '.join([row['name'], str(row['batch']), *cells])} |")
    return "\n".join(lines) + "\n" + footer(("convsmith", "torch", "onnxruntime", "openvino"))


def main() -> None:
    """Measure what is asked for, add it to the numbers measured before, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    store = RESULTS / "binary_networks.json"
    found = json.loads(store.read_text()) if store.exists() else {}
    for name in options.names:
        for batch in options.batches:
            found[f"{name} {batch}"] = row = measured(name, batch)
            print(name, batch, f"{row['torch']:.1f} of torch, {row['engine']:.1f} of our float", row["times"], flush=True)
            store.write_text(json.dumps(found, indent=1) + "\n")
            ordered = [found[f"{known} {n}"] for known in NETWORKS for n in (1, 16) if f"{known} {n}" in found]
            (RESULTS / "binary_networks.md").write_text(page(ordered))


if __name__ == "__main__":
    main()
