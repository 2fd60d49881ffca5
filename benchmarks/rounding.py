"""Claim: rounding 10 million float32 in place on 2 threads takes at most 1.15 (nearest) and 1.4 (stochastic) times a torch `copy_`.

For any float or fixed format with AVX-512; affine int8, block and MX formats 1.5 times, blocks and groups along any axis. At least 30
times (nearest) and 100 times (stochastic) as fast as QPyTorch's kernels, and 5 times as fast as the best version in torch operations.
Numbers are normal, mean 0, deviation 1, so that a part of them is subnormal in e4m3fn and e2m1; one row has all of them subnormal. Every
timing starts from the same restored array, rounds are interleaved, their order rotates.

Peers: torch `copy_` into another array (the unit), the same rounding in torch operations on int32 views (eager, in place where torch can,
and compiled), the cast to an ml_dtypes type and back, and QPyTorch 0.3.0 where it is installed (`pip install qtorch ninja`; it compiles
itself when it is first imported). "Bandwidth" counts 80 MB (each number read and written once) and compares with NumPy negating the array
in place on one and on as many threads, and with `copy_`: the fastest of them is 100 %.

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
NEAREST_GOAL, STOCHASTIC_GOAL, SHARED_GOAL = 1.15, 1.4, 1.5
MODES: tuple[formats.Rounding, ...] = ("nearest_even", "stochastic")
FORMATS = ("bf16", "fp16", "e5m2", "e4m3fn", "e2m1", "q4.12", "q8.8", "int8")
BLOCKS = ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8", "msfp12")
#: Ours, the peers of which the fastest counts, how many times as fast ours shall be.
RATIOS = (
    ("fp16 nearest_even", ("QPyTorch, fp16 nearest",), 30),
    ("fp16 stochastic", ("QPyTorch, fp16 stochastic",), 100),
    ("q4.12 nearest_even", ("QPyTorch, q4.12 nearest",), 30),
    ("q4.12 stochastic", ("QPyTorch, q4.12 stochastic",), 100),
    ("fp16 nearest_even", ("torch operations, fp16 nearest",), 5),
    ("fp16 nearest_even", ("torch.compile, fp16 nearest",), 5),
    ("fp16 stochastic", ("torch operations, fp16 stochastic", "torch.compile, fp16 stochastic"), 5),
)

LIMITS = """## What limits it

Nearest modes, affine scales by tensor and blocks along the last axis take the time of their 80 MB. Stochastic modes add the generator:
Philox with 7 rounds is 78 vector instructions for 64 numbers, against 40 to 50 for everything else (counted in the code, not measured).
Compiled torch rounds to nearest in one pass too, so 5 times as fast cannot be there.

Of the rows that miss: blocks along the first axis pass twice over their rows, 16 kB apart; one tile of 64 columns at a time with
prefetching of the next, and strips of 1024 columns, showed no difference beyond the noise. Channels along the last axis, and groups along
the first, read a factor and a zero point for every number. Stochastic blocks and groups add the generator to a search for the largest
magnitude, or to a division. No counters were read: this is what the code suggests."""

Contestants = dict[str, Callable[[], object]]
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


def qpytorch(x: torch.Tensor) -> Contestants:
    """Return QPyTorch's kernels, which give new tensors; none where it is not installed."""
    try:
        from qtorch.quant import fixed_point_quantize, float_quantize
    except ImportError as error:
        print(f"QPyTorch is left out: {error} (pip install qtorch ninja)")
        return {}
    found: Contestants = {}
    for mode in ("nearest", "stochastic"):
        found[f"QPyTorch, fp16 {mode}"] = lambda mode=mode: float_quantize(x, 5, 10, rounding=mode)
        found[f"QPyTorch, q4.12 {mode}"] = lambda mode=mode: fixed_point_quantize(x, 16, 12, rounding=mode)
    return found


def peers(x: F32, threads: int) -> Contestants:
    """Return what others do."""
    tensor = torch.from_numpy(x)
    other = torch.empty_like(tensor).copy_(tensor)
    pool = ThreadPoolExecutor(threads)
    largest = formats.max_value(formats.CATALOGUE["fp16"])
    found: Contestants = {
        "torch copy_": lambda: other.copy_(tensor),
        "numpy negative, 1 thread": lambda: np.negative(x, out=x),
        f"numpy negative, {threads} threads": lambda: negate(x, pool, threads),
        "ml_dtypes, e4m3fn nearest": lambda: x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32),
    }
    for name, function in (("nearest", torch_nearest), ("stochastic", torch_stochastic)):
        compiled = torch.compile(function)
        found[f"torch operations, fp16 {name}"] = lambda function=function: function(tensor, 10, largest)
        found[f"torch.compile, fp16 {name}"] = lambda compiled=compiled: compiled(tensor, 10, largest)
    return found | qpytorch(tensor)


def shared(x: F32, threads: int) -> Contestants:
    """Return our rounding with scales: affine int8 by tensor, channel and group, and block formats along either axis."""
    rows, images, int8 = x.reshape(2500, 4000), x.reshape(100, 100, 1000), formats.CATALOGUE["int8"]
    random = np.random.default_rng(1)

    def affine(array: F32, mode: formats.Rounding, axis: int | None, group: int | None, *shape: int) -> Callable[[], object]:
        scale = random.uniform(0.02, 0.04, shape).astype(np.float32)
        zeros = random.integers(-9, 9, shape)
        return lambda: formats.round_array(
            array, int8, mode, scale=scale, zero_point=zeros, axis=axis, group=group, out=array, threads=threads
        )

    def blocks(name: str, mode: formats.Rounding, axis: int) -> Callable[[], object]:
        return lambda: formats.round_array(rows, formats.CATALOGUE[name], mode, axis=axis, out=rows, threads=threads)

    found: Contestants = {}
    for mode in MODES:
        found[f"convsmith, affine int8 by tensor {mode}"] = affine(x, mode, None, None)
        found[f"convsmith, affine int8 by channel, first axis {mode}"] = affine(rows, mode, 0, None, 2500)
        found[f"convsmith, affine int8 by channel, middle axis {mode}"] = affine(images, mode, 1, None, 100)
        found[f"convsmith, affine int8 by channel, last axis {mode}"] = affine(rows, mode, 1, None, 4000)
        found[f"convsmith, affine int8 by groups of 128, last axis {mode}"] = affine(rows, mode, 1, 128, 2500, 32)
        found[f"convsmith, affine int8 by groups of 128, first axis {mode}"] = affine(rows, mode, 0, 128, 20, 4000)
        for name in BLOCKS:
            found[f"convsmith, {name} {mode}"] = blocks(name, mode, 1)
        for name in ("mxfp8_e4m3", "mxint8"):
            found[f"convsmith, {name}, first axis {mode}"] = blocks(name, mode, 0)
    return found


def contestants(x: F32, tiny: F32, threads: int) -> Contestants:
    """Return what is timed, by name; each works on ``x`` in place, or on ``tiny``."""
    found = peers(x, threads)

    def ours(fmt: formats.Format, mode: formats.Rounding, array: F32) -> Callable[[], object]:
        return lambda: formats.round_array(array, fmt, mode, out=array, threads=threads)

    for mode in MODES:
        for name in FORMATS:
            found[f"convsmith, {name} {mode}"] = ours(formats.CATALOGUE[name], mode, x)
        found[f"convsmith, e4m3fn {mode}, all subnormal"] = ours(formats.CATALOGUE["e4m3fn"], mode, tiny)
    return found | shared(x, threads)


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
        goal = (
            SHARED_GOAL if "affine" in name or "mx" in name or "ms" in name else STOCHASTIC_GOAL if "stochastic" in name else NEAREST_GOAL
        )
        met = f"{goal} {'met' if ratio <= goal else 'missed'}" if name.startswith("convsmith") else ""
        speed = f"{8e-6 * SIZE / middle:.0f} | {100e3 * traffic / middle:.0f} %"
        rows.append(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {ratio:.2f} | {speed} | {met} |")
    return rows


def ratios(seconds: dict[str, list[float]]) -> list[str]:
    """Return the Markdown rows of how many times as fast as peers ours is."""
    rows = ["| | peer | times as fast | goal |", "|---|---|---|---|"]
    for name, others, goal in RATIOS:
        there = {other: quartiles(seconds[other])[1] for other in others if other in seconds}
        if there:
            best = min(there, key=lambda other: there[other])
            ratio = there[best] / quartiles(seconds[f"convsmith, {name}"])[1]
            rows.append(f"| convsmith, {name} | {best} | {ratio:.1f} | {goal} {'met' if ratio >= goal else 'missed'} |")
    return rows


def main() -> None:
    """Measure, print and write docs/results/rounding.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)
    seconds = measure(arguments.rounds, arguments.threads)
    level = instruction_set()
    page = [
        "# Rounding 10 million float32 in place",
        "",
        f"{arguments.rounds} interleaved rounds, {arguments.threads} threads on as many cores, kernels: {level}.",
        "",
        *table(seconds),
        "",
        "## Against other implementations",
        "",
        *ratios(seconds),
        "",
        LIMITS,
        footer(("convsmith", "torch", "numpy", "ml-dtypes", "qtorch")),
    ]
    print("\n".join(page))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "rounding.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
