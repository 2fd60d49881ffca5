"""Claim: a 512 x 512 x 512 matrix product with every multiply and add rounded takes a small multiple of MKL's plain sgemm, on 2 threads.

At most 2.5 times for truncation (e8m10), 7 for exact fp16, 12 for any float format to nearest even with subnormals and saturation, 8 for
16-bit fixed point <8,8> with stochastic rounding; convolutions, forward and backward, within 1.3 times of that cost per multiply-add.
Factors are normal, mean 0, deviation 1, rounded to the format first. Rounds are interleaved, their order rotates.

Peers: torch.mm in float32 (the unit), torch.mm in float16, and QPyTorch's quantiser after every rank-1 product and sum, for as many terms
as the time allows and scaled to all (optional: pip install qtorch==0.3.0 ninja).

Results: docs/results/rounded_matmul.md (machine, versions, medians, quartiles, n).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import RESULTS, footer, quartiles
from peak import fma_gflops

from convsmith import formats
from convsmith.kernels import convolution_shape
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.machine import instruction_set
from convsmith.kernels.rounded import matmul
from convsmith.kernels.rounded_convolution import convolve, input_gradient, weight_gradient

SIZE = 512
#: name: (format, rounding, overflow, goal against torch.mm)
PRODUCTS: dict[str, tuple[str, formats.Rounding, formats.Overflow, float]] = {
    "truncation, e8m10": ("e8m10", "toward_zero", "saturate", 2.5),
    "fp16, infinities": ("fp16", "nearest_even", "infinity", 7),
    "fp16, saturating": ("fp16", "nearest_even", "saturate", 7),
    "tf32 nearest even": ("e8m10", "nearest_even", "saturate", 12),
    "e4m3fn nearest even": ("e4m3fn", "nearest_even", "saturate", 12),
    "e6m15 nearest even": ("e6m15", "nearest_even", "saturate", 12),
    "e7m21 nearest even": ("e7m21", "nearest_even", "saturate", 12),
    "e8m22 nearest even": ("e8m22", "nearest_even", "saturate", 12),
    "fixed <8,8> stochastic": ("q8.8", "stochastic", "saturate", 8),
    "fp16 stochastic": ("fp16", "stochastic", "saturate", 0),
    "fp16 upward": ("fp16", "up", "saturate", 0),
}
ORDERS: dict[str, Arithmetic] = {
    "fp16, fused multiply-add": Arithmetic(formats.CATALOGUE["fp16"], None),
    "fp16, pairwise": Arithmetic(formats.CATALOGUE["fp16"], order="pairwise"),
    "fp16, blocks of 64": Arithmetic(formats.CATALOGUE["fp16"], order="blocked"),
    "fp16, Kahan": Arithmetic(formats.CATALOGUE["fp16"], order="kahan"),
}
#: name: images, weights, attributes of a convolution
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]] = {
    "3x3, 64 to 64 @ 28": ((4, 64, 28, 28), (64, 64, 3, 3), {"pads": (1, 1, 1, 1)}),
    "3x3 stride 2, 61 to 67 @ 27": ((4, 61, 27, 27), (67, 61, 3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
    "5x5, 6 to 16 @ 14 (LeNet)": ((32, 6, 14, 14), (16, 6, 5, 5), {}),
}

#: What the page says of the rows that miss their goal.
TRIED = """What was tried for the missed rows:

- LeNet's convolutions are 7.7 million multiply-adds, half a millisecond at the matrix product's cost. Images and errors are read with the
  image as the last axis where a vector holds more than a row of the maps, for the gradient of the weights with the channels last, so that
  panels are filled by copies of whole pieces; taps that are padding for all outputs of a panel are left out; tables, small factors and
  the look at the factors stay on one thread. That took the gradient of the input from 3.3 (fp16) to 1.8 and that of the weights from 3.0
  to 1.4. What remains is less than 0.1 ms of each call: tables handed from Python, waking the second thread, transposing. The gradient of
  the input sums 400 terms for each pixel, of which half are padding by definition; with two pixels of 32 images in a panel, 8 % more than
  half are computed.
- QPyTorch computes rank-1 terms, 512 of them, each two passes of its scalar quantiser over 512 x 512 numbers. To be 500 times sooner than
  that is to be below 1.7 times torch.mm in float32 for two exact roundings of each term, of which each takes at least two vector
  instructions (fp16 with infinities: conversion there and back) beside the multiply and the add."""

Timed = dict[str, Callable[[], object]]


def rounded(shape: tuple[int, ...], fmt: formats.Format, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return normal numbers of a format."""
    return formats.round_array(np.random.default_rng(seed).normal(size=shape).astype(np.float32), fmt)


def products(threads: int) -> Timed:
    """Return the matrix products, by name."""
    arithmetics = {name: Arithmetic(formats.parse(text), "same", mode, overflow) for name, (text, mode, overflow, _) in PRODUCTS.items()}
    timed: Timed = {}
    a, b = (torch.from_numpy(rounded((SIZE, SIZE), formats.CATALOGUE["fp32"], seed)) for seed in (0, 1))
    half, out, half_out = (a.half(), b.half()), torch.empty_like(a), torch.empty_like(a).half()
    timed["torch.mm, float32"] = lambda: torch.mm(a, b, out=out)
    timed["torch.mm, float16"] = lambda: torch.mm(*half, out=half_out)

    def ours(arithmetic: Arithmetic) -> Callable[[], object]:
        x, y = rounded((SIZE, SIZE), arithmetic.format, 0), rounded((SIZE, SIZE), arithmetic.format, 1)
        result = np.empty((SIZE, SIZE), np.float32)
        return lambda: matmul(x, y, arithmetic, out=result, threads=threads)

    for name, arithmetic in (arithmetics | ORDERS).items():
        timed[name] = ours(arithmetic)
    return timed


def layers(threads: int) -> tuple[Timed, dict[str, tuple[str, int]]]:
    """Return the three products of each layer, and which matrix product each compares with and its multiply-adds."""
    timed: Timed = {}
    costs: dict[str, tuple[str, int]] = {}
    for text, base in (("fp16", "fp16, saturating"), ("q8.8", "fixed <8,8> stochastic")):
        arithmetic = Arithmetic(formats.parse(text), rounding=PRODUCTS[base][1])
        for layer, (x_shape, w_shape, attributes) in LAYERS.items():
            shape = convolution_shape(x_shape, w_shape, attributes)
            x, w, dy = (rounded(size, arithmetic.format, 2) for size in (x_shape, w_shape, shape.output))
            count = int(np.prod(shape.output)) * shape.products
            calls: Timed = {
                "forward": lambda x=x, w=w, s=shape, a=arithmetic: convolve(x, w, s, a, threads=threads),
                "input gradient": lambda d=dy, w=w, s=shape, a=arithmetic: input_gradient(d, w, s, a, threads=threads),
                "weight gradient": lambda x=x, d=dy, s=shape, a=arithmetic: weight_gradient(x, d, s, a, threads=threads),
            }
            for kind, call in calls.items():
                timed[f"{text} {layer}, {kind}"] = call
                costs[f"{text} {layer}, {kind}"] = (base, count)
    return timed, costs


def measure(timed: Timed, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each in each round; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            timed[name]()
            if turn > 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def qpytorch(terms: int) -> float | None:
    """Return the seconds of the whole product through QPyTorch's quantiser, from so many of its terms; None where it is not installed."""
    try:
        from qtorch import FloatingPoint
        from qtorch.quant import float_quantize
    except Exception:  # it compiles its kernels when imported, which may fail in many ways
        return None
    assert FloatingPoint
    a, b, s = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE), torch.zeros(SIZE, SIZE)

    def add(t: int) -> None:
        nonlocal s
        s = float_quantize(s + float_quantize(torch.outer(a[:, t], b[t]), 5, 10, "nearest"), 5, 10, "nearest")

    add(0)
    began = time.perf_counter()
    for t in range(1, terms + 1):
        add(t)
    return (time.perf_counter() - began) * SIZE / terms


def page(seconds: dict[str, list[float]], costs: dict[str, tuple[str, int]], rounds: int, threads: int, theirs: float | None) -> list[str]:
    """Return the lines of the result page."""
    peak = fma_gflops(threads)
    unit = quartiles(seconds["torch.mm, float32"])[1]
    lines = [
        "# Matrix products and convolutions with every multiply and add rounded",
        "",
        f"{rounds} interleaved rounds, {threads} threads on as many cores, kernels: {instruction_set()}. The limit is",
        f"{peak:.0f} GFLOP/s, measured, of fused multiply-adds without any rounding; a rounding after every multiply and every add",
        "makes of one instruction many. 512^3:",
        "",
        "| | ms, median (quartiles) | times torch.mm | ns per multiply-add and thread | % of limit | goal |",
        "|---|---|---|---|---|---|",
    ]
    each = threads / SIZE**3 * 1e9

    def share(products: float, taken_s: float) -> float:
        return 2e-7 * products / taken_s / peak

    for name in seconds:
        if name in costs:
            continue
        low, middle, high = quartiles(seconds[name])
        goal = PRODUCTS[name][3] if name in PRODUCTS else 0
        met = f"{goal:g} {'met' if middle / unit <= goal else 'missed'}" if goal else ""
        row = f"{1e3 * middle:.2f} ({1e3 * low:.2f} to {1e3 * high:.2f}) | {middle / unit:.2f} | {middle * each:.4f}"
        lines.append(f"| {name} | {row} | {share(SIZE**3, middle):.1f} | {met} |")
    if theirs is not None:
        ours = quartiles(seconds["fp16, saturating"])[1]
        met = "met" if theirs / ours >= 500 else "missed"
        row = f"{1e3 * theirs:.0f} | {theirs / unit:.0f} | | {share(SIZE**3, theirs):.2g}"
        row += f" | ours 500 times sooner: {met} ({theirs / ours:.0f})"
        lines.append(f"| QPyTorch 0.3.0, e5m10, rank-1 terms | {row} |")
    lines += ["", "Convolutions, per multiply-add against the matrix product of the same arithmetic; the goal is 1.3:", ""]
    lines += ["| | ms, median (quartiles) | times the matrix product's cost | % of limit | goal |", "|---|---|---|---|---|"]
    for name, (base, count) in costs.items():
        low, middle, high = quartiles(seconds[name])
        ratio = middle / count / (quartiles(seconds[base])[1] / SIZE**3)
        met = "met" if ratio <= 1.3 else "missed"
        lines.append(
            f"| {name} | {1e3 * middle:.2f} ({1e3 * low:.2f} to {1e3 * high:.2f}) | {ratio:.2f} | {share(count, middle):.1f} | 1.3 {met} |"
        )
    return [*lines, "", TRIED, footer(("convsmith", "torch", "numpy", "qtorch"))]


def main() -> None:
    """Measure, print and write docs/results/rounded_matmul.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)
    timed, costs = layers(arguments.threads)
    seconds = measure(products(arguments.threads) | timed, arguments.rounds)
    lines = page(seconds, costs, arguments.rounds, arguments.threads, qpytorch(8))
    print("\n".join(lines))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "rounded_matmul.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
