"""Claim: `round_tensor` costs at most 2 microseconds a call more than `torch.clone`, and rounds 10 million numbers in its time.

Contiguous float32 tensors of 100 to 10 million elements; numbers are normal, mean 0, deviation 1. A call is timed within a loop that lasts
about 20 ms; rounds are interleaved, their order rotates. Peers: `torch.clone` (allocates and copies, as `round_tensor` does without out),
`torch.Tensor.copy_` (as with out=x), `formats.round_array` on the tensor's memory, and nearest rounding by torch operations on int32 views
(normal numbers only). `round_counted` counts in the same pass.

Results: docs/results/tensor_rounding.md (machine, versions, medians, quartiles, n).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch
from machine import RESULTS, footer, quartiles
from torch import nn

from convsmith import formats
from convsmith.kernels.machine import instruction_set
from convsmith.precision import round_counted, round_tensor, round_tensors

SIZES = (100, 1_000, 10_000, 100_000, 10_000_000)
OVERHEAD_GOAL_US, LARGE_GOAL = 2.0, 1.0
LOOP_S = 0.02
FP16, FIXED = formats.CATALOGUE["fp16"], formats.CATALOGUE["q4.12"]


def torch_operations(x: torch.Tensor) -> torch.Tensor:
    """Round normal numbers to 10 fraction bits, nearest even."""
    code = x.view(torch.int32)
    rounded = ((code + (((code >> 13) & 1) + 4095)) & -8192).view(torch.float32)
    return rounded.clamp_(-65504.0, 65504.0)


def contestants(size: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    torch.manual_seed(0)
    x = torch.randn(size)
    other, own, image = torch.empty_like(x), x.clone(), x.clone()
    if size >= 10_000:
        image = x[: size // 1600 * 1600].view(-1, 16, 10, 10).contiguous(memory_format=torch.channels_last)
    found: dict[str, Callable[[], object]] = {
        "torch clone": x.clone,
        "torch copy_": lambda: other.copy_(x),
        "torch operations, fp16 nearest": lambda: torch_operations(x),
        "round_array, fp16 nearest": lambda: formats.round_array(x.numpy(), FP16),
        "round_tensor, fp16 nearest": lambda: round_tensor(x, FP16),
        "round_tensor, fp16 nearest, out=x": lambda: round_tensor(own, FP16, out=own),
        "round_tensor, fp16 stochastic": lambda: round_tensor(x, FP16, "stochastic", seed=1, stream=2),
        "round_tensor, q4.12 stochastic": lambda: round_tensor(x, FIXED, "stochastic", seed=1, stream=2),
        "round_tensor, q4.12 stochastic, out=x": lambda: round_tensor(own, FIXED, "stochastic", seed=1, stream=2, out=own),
        "round_tensor, int8 nearest, scale": lambda: round_tensor(x, formats.CATALOGUE["int8"], scale=0.03),
        "round_counted, fp16 nearest": lambda: round_counted(x, FP16),
        "round_counted, q4.12 stochastic": lambda: round_counted(x, FIXED, "stochastic", seed=1, stream=2),
    }
    if size >= 10_000:
        found["channels_last: clone"] = image.clone
        found["channels_last: round_tensor, fp16 nearest"] = lambda: round_tensor(image, FP16)
        found["channels_last: round_tensor, fp16 stochastic"] = lambda: round_tensor(image, FP16, "stochastic", seed=1, stream=2)
    return found


def many() -> dict[str, Callable[[], object]]:
    """Return ways to round the 10 parameters of a LeNet, of 6 to 30,720 numbers, in place."""
    net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10))
    small = [p.detach() for p in net.parameters()]
    streams = list(range(len(small)))

    def one_by_one() -> None:
        for stream, x in enumerate(small):
            round_tensor(x, FIXED, "stochastic", seed=1, stream=stream, out=x)

    return {
        "round_tensor, q4.12 stochastic, 10 calls": one_by_one,
        "round_tensors, q4.12 stochastic, 1 call": lambda: round_tensors(
            small, FIXED, "stochastic", seed=1, streams=streams, in_place=True
        ),
    }


def measure(size: int, rounds: int) -> dict[str, list[float]]:
    """Return the microseconds of a call of each contestant in each round; size 0: the parameters of a LeNet."""
    timed = contestants(size) if size else many()
    names, loops = list(timed), {}
    for name, call in timed.items():
        for _ in range(3):
            call()
        began = time.perf_counter()
        call()
        loops[name] = max(1, int(LOOP_S / max(time.perf_counter() - began, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            call = timed[name]
            began = time.perf_counter()
            for _ in range(loops[name]):
                call()
            found[name].append(1e6 * (time.perf_counter() - began) / loops[name])
    return found


def table(size: int, microseconds: dict[str, list[float]]) -> list[str]:
    """Return the Markdown rows of one size: time, difference and ratio to the peer, goal."""
    rows = [
        f"\n## {size:,} elements\n",
        "| | us a call, median (quartiles) | less clone, us | times clone | goal |",
        "|---|---|---|---|---|",
    ]
    medians = {name: quartiles(values)[1] for name, values in microseconds.items()}
    for name, values in microseconds.items():
        low, middle, high = quartiles(values)
        clone = medians["channels_last: clone" if name.startswith("channels_last") else "torch clone"]
        goal = ""
        if name == "round_tensor, fp16 nearest" and size <= 1_000:
            goal = f"+{OVERHEAD_GOAL_US:.0f} us {'met' if middle - clone <= OVERHEAD_GOAL_US else 'missed'}"
        if name == "round_tensor, fp16 nearest" and size >= 10_000_000:
            goal = f"{LARGE_GOAL:.2f} {'met' if middle / clone <= LARGE_GOAL else 'missed'}"
        rows.append(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {middle - clone:+.2f} | {middle / clone:.2f} | {goal} |")
    return rows


def main() -> None:
    """Measure, print and write docs/results/tensor_rounding.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)
    page = [
        "# Rounding tensors: the cost of a call",
        "",
        f"{arguments.rounds} interleaved rounds, {arguments.threads} threads on as many cores, kernels: {instruction_set()}.",
    ]
    for size in SIZES:
        page += table(size, measure(size, arguments.rounds))
    page += ["", "## The parameters of a LeNet, in place", "", "| | us, median (quartiles) |", "|---|---|"]
    for name, values in measure(0, arguments.rounds).items():
        low, middle, high = quartiles(values)
        page.append(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    page.append(footer())
    print("\n".join(page))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "tensor_rounding.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
