"""Claim: the forward and backward passes of 3x3 layers run faster natively than in torch, where the native way is faster; else torch's is.

The layout is that of convnet-benchmarks: forward, gradient of the image, gradient of the weights, total, in milliseconds. Contestants:
torch NCHW, torch channels_last, ours (channels last) with the quickest native algorithm of each pass, its weights prepared in each call as
training does. The column "chosen" is what `kernels=native` gets: the quicker of ours and torch's own in each pass. float32, 2 threads, one
process; rounds visit every contestant in turn; medians of 9. Usage: convolution_training.py [--batch 16]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from machine import RESULTS, footer
from peak import fma_gflops

from convsmith.training import convolution_ways as ways
from convsmith.training.native_convolution import image_names, sizes_of, torch_gradients

ROUNDS, THREADS = 9, 2
#: in channels, out channels, side, kernel, stride, padding
LAYERS = [
    (64, 64, 56, 3, 1, 1), (128, 128, 28, 3, 1, 1), (256, 256, 14, 3, 1, 1), (512, 512, 7, 3, 1, 1),
    (64, 128, 56, 3, 2, 1), (256, 512, 14, 3, 2, 1), (64, 256, 56, 1, 1, 0), (256, 64, 56, 1, 1, 0),
    (512, 128, 28, 1, 1, 0), (16, 16, 32, 3, 1, 1), (64, 64, 8, 3, 1, 1), (64, 64, 32, 3, 1, 1),
]  # fmt: skip
PASSES = ("forward", "image", "weights")
Run = Callable[[], Any]


def contestants(n: int, layer: tuple[int, ...]) -> dict[str, dict[str, Run]]:
    """Return, for each pass, the ways there are."""
    c, k, side, kernel, stride, pad = layer
    torch.manual_seed(0)
    sizes = sizes_of([stride] * 2, [pad] * 2, [1, 1], 1)
    x, w = torch.randn(n, c, side, side), torch.randn(k, c, kernel, kernel) / math.sqrt(c * kernel**2)
    dy = torch.randn_like(torch.nn.functional.conv2d(x, w, None, stride, pad))
    last = {name: t.contiguous(memory_format=torch.channels_last) for name, t in (("x", x), ("w", w), ("dy", dy))}
    found: dict[str, dict[str, Run]] = {name: {} for name in PASSES}
    for label, (a, b, d) in {"torch NCHW": (x, w, dy), "torch channels_last": (last["x"], last["w"], last["dy"])}.items():
        found["forward"][label] = lambda a=a, b=b: torch.nn.functional.conv2d(a, b, None, stride, pad)  # type: ignore[misc]
        found["image"][label] = lambda a=a, b=b, d=d: torch_gradients(d, a, b, sizes, [True, False])  # type: ignore[misc]
        found["weights"][label] = lambda a=a, b=b, d=d: torch_gradients(d, a, b, sizes, [False, True])  # type: ignore[misc]
    for name in ways.names_for(tuple(x.shape), tuple(w.shape), sizes.attributes()):
        found["forward"][name] = lambda name=name: ways.convolve(name, last["x"], w, sizes.attributes())  # type: ignore[misc]
    for name in image_names(dy, w, sizes):
        way: Run = lambda name=name: ways.input_gradient(last["dy"], tuple(x.shape), w, sizes, lambda *given: ways.convolve(name, *given))  # type: ignore[misc]  # noqa: E731
        found["image"][name] = way
    for name in ways.gradient_names(tuple(x.shape), tuple(w.shape), sizes):
        found["weights"][name] = lambda name=name: ways.weight_gradient(name, last["dy"], last["x"], tuple(w.shape), sizes)  # type: ignore[misc]
    return found


def measure(runs: dict[str, Run]) -> dict[str, float]:
    """Return the median milliseconds of each."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for run in runs.values():
        run()
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            runs[name]()
            samples[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in samples.items()}


def best(times: dict[str, float], ours: bool) -> tuple[float, str]:
    return min((value, name) for name, value in times.items() if name.startswith("torch") != ours)


def page(found: dict[str, Any], peak: float) -> str:
    columns = [
        "layer",
        "batch",
        "pass",
        "torch NCHW",
        "torch channels_last",
        "ours",
        "way",
        "best torch / ours",
        "best torch / chosen",
        "% of FMA peak",
    ]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    totals = []
    for row in found.values():
        c, k, side, kernel, stride, pad = row["layer"]
        out = (side + 2 * pad - kernel) // stride + 1
        gflop = 2e-9 * row["batch"] * c * k * kernel**2 * out**2
        name = f"{c}-{k} {kernel}x{kernel}{f' stride {stride}' if stride > 1 else ''} @{side}"
        sums = {"torch NCHW": 0.0, "torch channels_last": 0.0, "ours": 0.0, "chosen": 0.0}
        for step in PASSES:
            times = row["times"][step]
            (ours, way), (theirs, _) = best(times, True), best(times, False)
            both = times["torch NCHW"], times["torch channels_last"]
            for key, value in zip(sums, (*both, ours, min(ours, both[1])), strict=True):
                sums[key] += value
            share = 100 * gflop / (ours * 1e-3) / peak
            lines.append(
                f"| {name} | {row['batch']} | {step} | {both[0]:.2f} | {both[1]:.2f} | {ours:.2f} | {way} | {theirs / ours:.2f} | "
                f"{theirs / min(ours, both[1]):.2f} | {share:.0f} |"
            )
        theirs = min(sums["torch NCHW"], sums["torch channels_last"])
        totals.append((theirs / sums["ours"], theirs / sums["chosen"]))
        share = 100 * 3 * gflop / (sums["ours"] * 1e-3) / peak
        lines.append(
            f"| {name} | {row['batch']} | **total** | {sums['torch NCHW']:.2f} | {sums['torch channels_last']:.2f} "
            f"| {sums['ours']:.2f} | | **{totals[-1][0]:.2f}** | **{totals[-1][1]:.2f}** | {share:.0f} |"
        )
    means = [math.exp(statistics.mean(math.log(pair[i]) for pair in totals)) for i in range(2)]
    lines.append(f"| geometric mean of totals | | | | | | | {means[0]:.2f} | {means[1]:.2f} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[16])
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    peak, store = fma_gflops(THREADS), RESULTS / "convolution_training.json"
    found = json.loads(store.read_text()) if store.exists() else {}
    for batch in options.batch:
        for layer in LAYERS:
            times = {step: measure(runs) for step, runs in contestants(batch, layer).items()}
            found[f"{batch} {layer}"] = {"layer": list(layer), "batch": batch, "times": times}
            print(
                batch,
                layer,
                {step: {name: round(value, 2) for name, value in values.items()} for step, values in times.items()},
                flush=True,
            )
            store.write_text(json.dumps(found, indent=1) + "\n")
    notes = (
        f"Milliseconds, medians of {ROUNDS} rounds in turn in one process, {THREADS} threads, float32. Ours is the quickest native "
        f"algorithm of each pass; chosen what training gets, which takes torch's channels_last way where that is quicker. "
        f"FMA peak {peak:.0f} GFLOP/s; "
        "Winograd may pass 100 %."
    )
    (RESULTS / "convolution_training.md").write_text(f"# Convolutions in training\n\n{notes}\n\n{page(found, peak)}\n{footer()}")


if __name__ == "__main__":
    main()
