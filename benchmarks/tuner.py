"""Claim: what the tuner chooses is never more than 3 % slower than the library's own direct algorithm, on a machine that is not quiet.

For each layer the tuner chooses while another process takes a processor in bursts of 20 to 200 milliseconds, half of the time. After that,
quiet, choice and direct algorithm are measured in turn, 15 rounds. The same with every candidate that can, as before the rule by cost
that leaves out what needs 2.2 times the multiplications of the cheapest, and one thread for large layers: how long choosing takes. Two
threads, float32, a fresh cache of decisions. Usage: tuner.py
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["CONVSMITH_TUNING"] = str(Path(tempfile.mkdtemp()) / "tuning.json")

from machine import RESULTS, footer, quartiles

from convsmith.compiler import choices
from convsmith.compiler.trials import Choice, stopwatch
from convsmith.kernels import ConvolutionShape, convolution_shape, instruction_set

THREADS, ROUNDS, LIMIT_S = 2, 15, 4.0
#: batch, in channels, out channels, side, kernel, stride, groups
LAYERS = [
    (1, 64, 64, 56, 3, 1, 1), (1, 256, 256, 14, 3, 1, 1), (1, 512, 512, 7, 3, 1, 1), (1, 64, 192, 27, 5, 1, 1), (1, 64, 64, 56, 7, 1, 1),
    (1, 256, 64, 56, 1, 1, 1), (1, 512, 2048, 7, 1, 1, 1), (1, 128, 128, 56, 3, 2, 1), (1, 3, 64, 224, 7, 2, 1), (1, 16, 16, 32, 3, 1, 1),
    (1, 1, 6, 28, 5, 1, 1), (1, 144, 144, 56, 3, 1, 144), (1, 960, 160, 7, 1, 1, 1), (16, 128, 128, 28, 3, 1, 1),
    (16, 512, 128, 28, 1, 1, 1), (1, 3, 16, 32, 3, 1, 1),
]  # fmt: skip


def burn(seed: int) -> None:
    """Take a processor in bursts, for ever."""
    generator = random.Random(seed)
    while True:
        end = time.perf_counter() + generator.uniform(0.02, 0.2)
        while time.perf_counter() < end:
            pass
        time.sleep(generator.uniform(0.02, 0.2))


def shape_of(layer: tuple[int, ...]) -> ConvolutionShape:
    n, c, k, side, kernel, stride, groups = layer
    attributes = {"strides": (stride, stride), "pads": (kernel // 2,) * 4, "group": groups}
    return convolution_shape((n, c, side, side), (k, c // groups, kernel, kernel), attributes)


def chosen(shape: ConvolutionShape) -> tuple[Choice, float]:
    """Return what the tuner chooses, without a memory of earlier choices, and the seconds it took."""
    start = time.perf_counter()
    chooser = choices.Chooser(THREADS, instruction_set(), tune=LIMIT_S)
    chooser._remembered = {}
    return chooser(shape), time.perf_counter() - start


def compared(shape: ConvolutionShape, choice: Choice, direct: Choice) -> tuple[list[float], list[float]]:
    """Return the seconds of both, measured in turn."""
    measure = stopwatch(shape, list(dict.fromkeys([choice, direct])), instruction_set())
    samples: dict[Choice, list[float]] = {choice: [], direct: []}
    for turn in range(ROUNDS):
        for one in list(samples)[:: 1 if turn % 2 else -1]:
            samples[one].append(statistics.median(measure(one) for _ in range(3)))
    return samples[choice], samples[direct]


def measured(layer: tuple[int, ...]) -> dict[str, Any]:
    shape = shape_of(layer)
    names = choices.candidates(shape, instruction_set(), None)
    direct = choices.by_rule(shape, [next(name for name in choices.DIRECT if name in names)], THREADS)
    noise = multiprocessing.Process(target=burn, args=(sum(layer),), daemon=True)
    noise.start()
    try:
        choice, seconds = chosen(shape)
        by_cost, shared = choices.promising, choices.SHARED
        try:
            choices.promising, choices.SHARED = lambda _, given: [name for name in given if "loops" not in name], 1 << 60
            all_choice, all_seconds = chosen(shape)
        finally:
            choices.promising, choices.SHARED = by_cost, shared
    finally:
        noise.kill()
        noise.join()
    time.sleep(0.1)
    times, direct_times = compared(shape, choice, direct)
    return {
        "layer": list(layer), "choice": [choice.algorithm, choice.threads], "direct": [direct.algorithm, direct.threads],
        "all": [all_choice.algorithm, all_choice.threads], "seconds": seconds, "all_seconds": all_seconds, "candidates": len(names),
        "kept": len(by_cost(shape, names)), "times": times, "direct_times": direct_times,
    }  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| layer | batch | chosen (threads) | µs (quartiles) | direct | µs | chosen / direct | seconds to choose | with all candidates |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for row in rows:
        n, c, k, side, kernel, stride, groups = row["layer"]
        low, middle, high = (1e6 * value for value in quartiles(row["times"]))
        base = 1e6 * statistics.median(row["direct_times"])
        ratios.append(middle / base)
        what = f"{c}-{k} {kernel}x{kernel}{f' stride {stride}' if stride > 1 else ''}{' depthwise' if groups > 1 else ''} @{side}"
        mark = f"**{ratios[-1]:.2f}**" if ratios[-1] > 1.03 else f"{ratios[-1]:.2f}"
        lines.append(
            f"| {what} | {n} | {row['choice'][0]} ({row['choice'][1]}) | {middle:.1f} ({low:.1f}-{high:.1f}) | {row['direct'][0]} "
            f"({row['direct'][1]}) | {base:.1f} | {mark} | {row['seconds']:.2f} | {row['all_seconds']:.2f} |"
        )
    over = sum(ratio > 1.03 for ratio in ratios)
    took, before = (sum(row[key] for row in rows) for key in ("seconds", "all_seconds"))
    verdict = f"{over} of {len(rows)} choices were more than 3 % slower than the direct algorithm; the largest ratio is {max(ratios):.2f}."
    return f"{verdict} Choosing took {took:.1f} s in all, with every candidate {before:.1f} s.\n\n" + "\n".join(lines)


def main() -> None:
    rows = []
    for layer in LAYERS:
        rows.append(measured(layer))
        print({key: value for key, value in rows[-1].items() if "times" not in key}, flush=True)
    (RESULTS / "tuner.json").write_text(json.dumps(rows, indent=1) + "\n")
    text = f"# The tuner on a busy machine\n\n{str(__doc__).split(' Usage:')[0]}\n\n{page(rows)}\n"
    (RESULTS / "tuner.md").write_text(text + footer(("convsmith", "numpy")))


if __name__ == "__main__":
    main()
