"""Claim: none; the tables of convnet-benchmarks and cnn-benchmarks as this machine gives them, losing rows kept.

convnet-benchmarks (Chintala 2014-2016): five layers and four networks, each library's forward and backward pass and total, quickest first.
cnn-benchmarks (Johnson 2016): networks, forward, backward, total. Theirs are on one GPU at batch 128 and 16; here two threads of a
processor have what is stated, small enough that every row takes under two seconds. Contestants: torch NCHW, torch channels_last, and torch
with our convolutions (`kernels=native`, which takes the quicker of torch's way and ours in each pass of each layer); of layers also ours
alone, the quickest native algorithm of each pass. A percentage is that of the measured multiply-add peak, the direct algorithm's
operations counted: Winograd and Fourier may pass 100 %. float32, in turn in one process, medians of 7 rounds. GoogLeNet trains two heads
more, which its operations leave out; OverFeat and the ResNets deeper than 101 are not in the zoo.
Usage: convnet_tables.py [--layers] [--networks [name ...]]
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import convolution_training as layers
import torch
from machine import RESULTS, footer
from peak import fma_gflops

from convsmith import models
from convsmith.training.native_convolution import native_convolutions

ROUNDS, THREADS = 7, 2
#: name, in channels, out channels, side, kernel, stride, padding, as in convnet-benchmarks, which has a batch of 128
LAYERS = {
    "L1": (3, 96, 128, 11, 1, 0), "L2": (64, 128, 64, 9, 1, 0), "L3": (128, 128, 32, 9, 1, 0), "L4": (128, 128, 16, 7, 1, 0),
    "L5": (384, 384, 13, 3, 1, 0),
}  # fmt: skip
LAYER_BATCH, BATCH = 4, 2
#: name in the zoo: its name in the tables of convnet-benchmarks and cnn-benchmarks, empty where it has none
NETWORKS = {
    "alexnet": ("AlexNet", "AlexNet"), "vgg11": ("VGG-A", ""), "googlenet": ("GoogLeNet V1", "Inception-V1"), "vgg16": ("", "VGG-16"),
    "vgg19": ("", "VGG-19"), "resnet18": ("", "ResNet-18"), "resnet34": ("", "ResNet-34"), "resnet50": ("", "ResNet-50"),
    "resnet101": ("", "ResNet-101"),
}  # fmt: skip
Times = dict[str, list[float]]
"""Forward and backward milliseconds of each library."""


def layer_times(layer: tuple[int, ...]) -> Times:
    found: Times = {}
    passes = {step: layers.measure(runs) for step, runs in layers.contestants(LAYER_BATCH, layer).items()}
    for name in ("torch NCHW", "torch channels_last"):
        found[name] = [passes["forward"][name], passes["image"][name] + passes["weights"][name]]
    ours = {step: layers.best(times, True)[0] for step, times in passes.items()}
    found["ours"] = [ours["forward"], ours["image"] + ours["weights"]]
    chosen = {step: min(ours[step], passes[step]["torch channels_last"]) for step in passes}
    found["torch with ours"] = [chosen["forward"], chosen["image"] + chosen["weights"]]
    return found


def network_times(name: str) -> Times:
    """Return the medians of forward and backward passes in training mode, without what an optimizer does."""
    entry = models.ZOO[name]
    torch.manual_seed(0)
    module = models.load(name, classes=entry.classes).train()
    x = torch.randn(BATCH, *entry.input)
    last = x.contiguous(memory_format=torch.channels_last)

    ours = copy.deepcopy(module)

    def passes(network: torch.nn.Module, images: torch.Tensor) -> list[float]:
        network.to(memory_format=torch.channels_last if images is last else torch.contiguous_format)
        network.zero_grad()
        start = time.perf_counter()
        answer = network(images)
        total = sum(part.sum() for part in answer) if isinstance(answer, tuple) else answer.sum()
        middle = time.perf_counter()
        total.backward()
        return [1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)]

    runs: dict[str, Callable[[], list[float]]] = {
        "torch NCHW": lambda: passes(module, x), "torch channels_last": lambda: passes(module, last),
        "torch with ours": lambda: passes(ours, last),
    }  # fmt: skip
    with native_convolutions(ours):
        return medians(runs)


def medians(runs: dict[str, Callable[[], list[float]]]) -> Times:
    """Return the medians of both passes of each, measured in turn after one that is not counted, in which ways are chosen."""
    samples: dict[str, list[list[float]]] = {key: [] for key in runs}
    for run in runs.values():
        run()
    for turn in range(ROUNDS):
        for key in list(runs)[turn % 3 :] + list(runs)[: turn % 3]:
            samples[key].append(runs[key]())
    return {key: [statistics.median(part) for part in zip(*rows, strict=True)] for key, rows in samples.items()}


def rows_of(found: dict[str, Any], key: str, peak: float) -> list[str]:
    """Return a row for each library, the quickest first."""
    row = found[key]
    ordered = sorted(row["times"].items(), key=lambda item: sum(item[1]))
    shares = [[100 * n * row["gflop"] / (ms * 1e-3) / peak for n, ms in ((1, f), (2, b), (3, f + b))] for _, (f, b) in ordered]
    return [
        f"| {name} | {f + b:.1f} | {f:.1f} | {b:.1f} | {share[2]:.0f} % | {share[0]:.0f} % | {share[1]:.0f} % |"
        for (name, (f, b)), share in zip(ordered, shares, strict=True)
    ]


def page(found: dict[str, Any], peak: float) -> str:
    head = ["| library | total (ms) | forward (ms) | backward (ms) | % of peak | forward | backward |", "|---|---|---|---|---|---|---|"]
    parts = []
    for place, title in ((0, "convnet-benchmarks"), (1, "cnn-benchmarks")):
        for name, labels in NETWORKS.items():
            if labels[place] and name in found:
                shape = "x".join(map(str, (BATCH, *models.ZOO[name].input)))
                parts += [f"### {title}: {labels[place]} - input {shape}\n", *head, *rows_of(found, name, peak), ""]
        if place == 0:
            for name, (c, k, side, kernel, *_) in LAYERS.items():
                if name in found:
                    what = f"input {LAYER_BATCH}x{c}x{side}x{side}, {c} to {k} maps, kernel {kernel}x{kernel}, stride 1"
                    parts += [f"### {title}: {name} - {what}\n", *head, *rows_of(found, name, peak), ""]
    best = {
        name: min(sum(row["times"][key]) for key in ("torch NCHW", "torch channels_last")) / sum(row["times"]["torch with ours"])
        for name, row in found.items()
    }
    summary = ", ".join(f"{name} {ratio:.2f}" for name, ratio in best.items())
    left = [label for name, labels in NETWORKS.items() if name not in found for label in labels if label]
    summary += f". Not measured yet: {', '.join(left)}" if left else ""
    return f"Best of torch's two layouts over torch with ours, total: {summary}.\n\n" + "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", action="store_true", help="measure the layers only")
    parser.add_argument("--networks", nargs="*", help="measure these networks only, or all")
    options = parser.parse_args()
    everything = not options.layers and options.networks is None
    torch.set_num_threads(THREADS)
    peak, store = fma_gflops(THREADS), RESULTS / "convnet_tables.json"
    found = json.loads(store.read_text()) if store.exists() else {}
    names = [*(LAYERS if everything or options.layers else ()), *(NETWORKS if everything else options.networks or ())]
    names += list(NETWORKS) if options.networks == [] else []
    for name in names:
        if name in LAYERS:
            c, k, side, kernel, *_ = LAYERS[name]
            gflop, times = 2e-9 * LAYER_BATCH * c * k * kernel**2 * (side - kernel + 1) ** 2, layer_times(LAYERS[name])
        else:
            gflop, times = 2e-9 * BATCH * (models.ZOO[name].macs or 0), network_times(name)
        found[name] = {"gflop": gflop, "times": times}
        print(name, {key: [round(v, 2) for v in value] for key, value in times.items()}, flush=True)
        store.write_text(json.dumps(found, indent=1) + "\n")
        text = f"# Tables of convnet-benchmarks and cnn-benchmarks\n\n{str(__doc__).split('Usage:')[0].strip()}\n\n"
        text += f"Peak {peak:.0f} GFLOP/s. " + page(found, peak)
        (RESULTS / "convnet_tables.md").write_text(text + footer())


if __name__ == "__main__":
    main()
