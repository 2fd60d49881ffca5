"""Claim: on CUDA, rounding 100 million float32 in place moves as many bytes a second as a torch `copy_`.

The claim is a goal: no GPU was at hand when this was written, so there is no result page. Each number is read and written once; the
percentage compares with `copy_`, and with the fastest contestant. Times are of CUDA events, rounds are interleaved, their order rotates;
the kernels are compiled in a first round that does not count. Before timing, a million results are compared bit for bit with the
processor's. Without a CUDA device the file says so in one line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from machine import RESULTS, footer, quartiles

from convsmith import formats
from convsmith.precision import round_tensor

SIZE = 100_000_000
FORMATS = ("bf16", "fp16", "e4m3fn", "e2m1", "q4.12", "int8")
MODES: tuple[formats.Rounding, ...] = ("nearest_even", "stochastic")


def check() -> None:
    """Compare a million numbers with the processor's bits."""
    x = torch.randn(1_000_003)
    for name in FORMATS:
        for mode in MODES:
            want = round_tensor(x, formats.CATALOGUE[name], mode, seed=1, stream=2)
            got = round_tensor(x.cuda(), formats.CATALOGUE[name], mode, seed=1, stream=2).cpu()
            assert torch.equal(got.view(torch.int32), want.view(torch.int32)), f"{name} {mode}: other bits than on the processor"


def contestants(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    other = torch.empty_like(x)

    def ours(name: str, mode: formats.Rounding) -> Callable[[], object]:
        return lambda: round_tensor(x, formats.CATALOGUE[name], mode, out=x)

    found: dict[str, Callable[[], object]] = {"torch copy_": lambda: other.copy_(x), "torch neg_": x.neg_}
    return found | {f"convsmith, {name} {mode}": ours(name, mode) for mode in MODES for name in FORMATS}


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each contestant in each round."""
    source = torch.randn(SIZE, device="cuda")
    x = source.clone()
    timed = contestants(x)
    names = list(timed)
    milliseconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            x.copy_(source)
            began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            began.record()
            timed[name]()
            ended.record()
            torch.cuda.synchronize()
            if turn > 0:
                milliseconds[name].append(began.elapsed_time(ended))
    return milliseconds


def main() -> None:
    """Measure, print and write docs/results/gpu_rounding.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA device here: nothing was measured.")
        return
    check()
    milliseconds = measure(arguments.rounds)
    medians = {name: quartiles(values)[1] for name, values in milliseconds.items()}
    rows = ["| | ms, median (quartiles) | times copy_ | GB/s | share of the fastest |", "|---|---|---|---|---|"]
    for name, values in milliseconds.items():
        low, middle, high = quartiles(values)
        rows.append(
            f"| {name} | {middle:.3f} ({low:.3f} to {high:.3f}) | {middle / medians['torch copy_']:.2f} "
            f"| {8e-6 * SIZE / middle:.0f} | {100 * min(medians.values()) / middle:.0f} % |"
        )
    head = f"{arguments.rounds} interleaved rounds on {torch.cuda.get_device_name()}."
    page = ["# Rounding 100 million float32 on CUDA", "", head, "", *rows, footer(("convsmith", "torch", "triton"))]
    print("\n".join(page))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "gpu_rounding.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
