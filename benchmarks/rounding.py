"""Claim: rounding 10 million float32 in place on 2 threads takes at most 1.15 (nearest) and 1.4 (stochastic) times a torch `copy_`.

For any float or fixed format with AVX-512. Numbers are normal, mean 0, deviation 1, so that a part of them is subnormal in e4m3fn and
e2m1; one row has all of them subnormal. Every timing starts from the same restored array, rounds are interleaved, their order rotates.

Peers: torch `copy_` into another array (the unit), the same rounding in torch operations on int32 views (eager, in place where torch can),
the cast to an ml_dtypes type and back. "Bandwidth" counts 80 MB (each number read and written once) and compares with NumPy negating the
array in place on one and on as many threads, and with `copy_`: the fastest of them is 100 %.

Results: docs/results/rounding.md (machine, versions, medians, quartiles, n).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import torch
from machine import RESULTS, footer, quartiles
from numpy.typing import NDArray

from convsmith import formats
from convsmith.kernels.machine import instruction_set

SIZE = 10_000_000
NEAREST_GOAL, STOCHASTIC_GOAL = 1.15, 1.4
FORMATS = ("bf16", "fp16", "e5m2", "e4m3fn", "e2m1", "q4.12", "q8.8", "int8")

F32 = NDArray[np.float32]


def torch_nearest(x: torch.Tensor, significand_bits: int, largest: float) -> None:
    """Round normal numbers to nearest even in place by integer operations; no subnormals, so cheaper than what it stands for."""
    code = x.view(torch.int32)
    cut = 23 - significand_bits
    code.add_(((code >> cut) & 1).add_((1 << (cut - 1)) - 1)).bitwise_and_(-1 << cut)
    x.clamp_(-largest, largest)


def torch_stochastic(x: torch.Tensor, significand_bits: int, largest: float) -> None:
    """Round normal numbers stochastically in place with torch's generator; no subnormals."""
    cut = 23 - significand_bits
    x.view(torch.int32).add_(torch.randint(1 << cut, x.shape, dtype=torch.int32)).bitwise_and_(-1 << cut)
    x.clamp_(-largest, largest)


def negate(x: F32, pool: ThreadPoolExecutor, threads: int) -> None:
    """Change every sign in place: the traffic of rounding in place with next to no arithmetic."""
    list(pool.map(lambda part: np.negative(part, out=part), np.array_split(x, 4 * threads)))


def contestants(x: F32, tiny: F32, threads: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; each works on ``x`` in place, or on ``tiny``."""
    tensor = torch.from_numpy(x)
    other = torch.empty_like(tensor).copy_(tensor)
    pool = ThreadPoolExecutor(threads)
    fp16_largest = formats.max_value(formats.CATALOGUE["fp16"])
    found: dict[str, Callable[[], object]] = {
        "torch copy_": lambda: other.copy_(tensor),
        "numpy negative, 1 thread": lambda: np.negative(x, out=x),
        f"numpy negative, {threads} threads": lambda: negate(x, pool, threads),
        "torch operations, fp16 nearest": lambda: torch_nearest(tensor, 10, fp16_largest),
        "torch operations, fp16 stochastic": lambda: torch_stochastic(tensor, 10, fp16_largest),
        "ml_dtypes, e4m3fn nearest": lambda: x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32),
    }

    def ours(fmt: formats.Format, mode: formats.Rounding, array: F32) -> Callable[[], object]:
        return lambda: formats.round_array(array, fmt, mode, out=array, threads=threads)

    modes: tuple[formats.Rounding, ...] = ("nearest_even", "stochastic")
    for mode in modes:
        for name in FORMATS:
            found[f"convsmith, {name} {mode}"] = ours(formats.CATALOGUE[name], mode, x)
        found[f"convsmith, e4m3fn {mode}, all subnormal"] = ours(formats.CATALOGUE["e4m3fn"], mode, tiny)
    return found


def measure(rounds: int, threads: int) -> dict[str, list[float]]:
    """Return the seconds of each contestant in each round."""
    source = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    x, tiny = source.copy(), source * np.float32(2**-9)
    small_source = tiny.copy()
    timed = contestants(x, tiny, threads)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            np.copyto(x, source)
            np.copyto(tiny, small_source)
            began = time.perf_counter()
            timed[name]()
            if turn > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Return the Markdown rows: time, ratio to copy_, share of the bandwidth, goal."""
    copy = quartiles(seconds["torch copy_"])[1]
    traffic = min(quartiles(values)[1] for name, values in seconds.items() if name.startswith(("torch copy_", "numpy")))
    rows = ["| | ms, median (quartiles) | times copy_ | GB/s | bandwidth | goal |", "|---|---|---|---|---|---|"]
    for name, values in seconds.items():
        low, middle, high = (1e3 * value for value in quartiles(values))
        ratio = middle / 1e3 / copy
        goal = STOCHASTIC_GOAL if "stochastic" in name else NEAREST_GOAL
        met = f"{goal} {'met' if ratio <= goal else 'missed'}" if name.startswith("convsmith") else ""
        speed = f"{8e-6 * SIZE / middle:.0f} | {100e3 * traffic / middle:.0f} %"
        rows.append(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {ratio:.2f} | {speed} | {met} |")
    return rows


def main() -> None:
    """Measure, print and write docs/results/rounding.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)
    rows = table(measure(arguments.rounds, arguments.threads))
    level = instruction_set()
    page = [
        "# Rounding 10 million float32 in place",
        "",
        f"{arguments.rounds} interleaved rounds, {arguments.threads} threads on as many cores, kernels: {level}.",
        "",
        *rows,
        footer(("convsmith", "torch", "numpy", "ml-dtypes")),
    ]
    print("\n".join(page))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "rounding.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
