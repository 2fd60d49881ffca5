"""Claim: on packed signs, 8192^3 runs at 18 times the best sgemm of the machine (24 times MKL's) and at 75 % of its popcount limit.

Further claims: 2048^3 with the packing of one operand included at 12 times the best sgemm; 8192^3 at 3.5 times int8 (torch); binary 3x3
convolutions, C = K = 128 to 512 at 56 to 7 pixels, batch 1 and 16, packed in and out, at 12 times the best float32 peer of each, 3 times
OpenVINO int8, and 50 % of the popcount limit. The limit counts one xor, one population count and one add of 64 signs per step, on
registers, on all threads. Peers: torch.mm (MKL), NumPy (OpenBLAS), oneDNN (a 1x1 convolution in its own layout); for convolutions those of
convolutions.py and OpenVINO on a QDQ file, whose request keeps its memory as our bound call does. One process, 2 threads, the order of
contestants rotates, medians over rounds.

The page is written from docs/results/binary_kernels.json, which grows by the pieces that are run:
    python benchmarks/binary_kernels.py products
    python benchmarks/binary_kernels.py --batch 16 convolutions
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from convolutions import Contestants, race, runtime_peers, torch_peers
from machine import RESULTS, footer, quartiles
from onnx import TensorProto, helper, numpy_helper

from convsmith.kernels import binary, convolution_shape
from convsmith.kernels.binary_convolution import bind_convolution, convolve_signs, pack_groups, prepare_convolution

ROUNDS, THREADS = 7, 2
LAYERS = [(c, side) for c in (128, 256, 512) for side in (56, 28, 14, 7)]

LIMIT = r"""
#include <immintrin.h>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>
constexpr int kSums = 12;
constexpr long kTurns = 10000000;
static void work() {
    __m512i sums[kSums] = {}, words = _mm512_set1_epi64(0x123456789abcdef), others[kSums];
    for (int i = 0; i < kSums; ++i) others[i] = _mm512_set1_epi64(i * 77777);
    for (long turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
        for (int i = 0; i < kSums; ++i) {
            __m512i v = _mm512_xor_si512(words, others[i & 7]);
            asm volatile("" : "+v"(v));
            sums[i] = _mm512_add_epi64(sums[i], _mm512_popcnt_epi64(v));
        }
        asm volatile("" : "+v"(words));
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+v"(sums[i]));
    }
}
int main(int count, char**) {
    double best = 1e30;
    for (int round = 0; round < 5; ++round) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> threads;
        for (int i = 1; i < count; ++i) threads.emplace_back(work);
        for (auto& thread : threads) thread.join();
        const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (s < best) best = s;
    }
    std::printf("%.1f\n", 2.0 * 512 * (count - 1) * kTurns * kSums / best * 1e-9);
}
"""


def popcount_gops(threads: int) -> float:
    """Return billions of operations on signs a second (a product and its sum count as 2), the best of 5 rounds."""
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler, "a C++ compiler is needed to measure the limit"
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "limit.cc", Path(folder) / "limit"
        source.write_text(LIMIT)
        subprocess.run([compiler, "-O3", "-march=native", "-o", program, source, "-pthread"], check=True)
        return float(subprocess.run([program, *["-"] * threads], check=True, capture_output=True, text=True).stdout)


def timed(contestants: Contestants) -> dict[str, list[float]]:
    """Return the milliseconds of one call in each round: these calls are long. The pause lets the last contestant's threads go to sleep."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        contestants[name]()
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(0.3)
            start = time.perf_counter()
            contestants[name]()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def product(n: int) -> dict[str, Any]:
    """Race the matrix products of n x n x n."""
    rng = np.random.default_rng(n)
    a, b = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
    left, right = binary.pack_signs(a), binary.prepare(binary.pack_signs(b))
    rows = slice(0, 64)
    expected = np.where(a[rows] < 0, -1, 1).astype(np.float32) @ np.where(b < 0, -1, 1).T.astype(np.float32)
    assert np.array_equal(binary.multiply_signs(left, right, threads=THREADS)[rows], expected)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    conv = torch.nn.Conv2d(n, n, 1, bias=False)
    image = x.t().reshape(1, n, n, 1).contiguous().to_mkldnn()
    blocked = torch.utils.mkldnn.to_mkldnn(conv)
    # all but oneDNN write into memory that they have had before
    sums, out, out_b, out_c = (
        np.empty((n, n), np.int32),
        torch.empty(n, n),
        np.empty((n, n), np.float32),
        torch.empty(n, n, dtype=torch.int32),
    )
    pack = partial(binary.pack_signs, threads=THREADS)
    bytes_a, bytes_b = x.sign().to(torch.int8), y.sign().to(torch.int8)
    with torch.inference_mode():
        times = timed({
            "convsmith, both packed": lambda: binary.multiply_signs(left, right, out=sums, threads=THREADS),
            "convsmith, packing one": lambda: binary.multiply_signs(pack(a), right, out=sums, threads=THREADS),
            "torch.mm (MKL)": lambda: torch.mm(x, y.t(), out=out),
            "NumPy (OpenBLAS)": lambda: np.matmul(a, b.T, out=out_b),
            "oneDNN 1x1": lambda: blocked(image),
            "torch int8": lambda: torch._int_mm(bytes_a, bytes_b.t(), out=out_c),
        })  # fmt: skip
    return {"n": n, "ms": times}


def int8_layer(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """Return OpenVINO's run of the layer with 8-bit activations, weights and output (a QDQ file)."""

    def tensor(name: str, value: np.ndarray) -> Any:
        return numpy_helper.from_array(value, name)

    one, value = np.float32(0.05), helper.make_tensor_value_info
    weights = [
        tensor("s", np.array(one)), tensor("z", np.array(0, np.uint8)), tensor("zs", np.array(0, np.int8)),
        tensor("w", np.sign(w).astype(np.int8)), tensor("so", np.array(np.float32(2.0))), tensor("zo", np.array(128, np.uint8)),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]), helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "zs"], ["wd"]), helper.make_node("Conv", ["xd", "wd"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "so", "zo"], ["cq"]), helper.make_node("DequantizeLinear", ["cq", "so", "zo"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "layer", [value("x", TensorProto.FLOAT, x.shape)], [value("y", TensorProto.FLOAT, None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model.SerializeToString()), "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return request.infer


def convolution(c: int, side: int, batch: int) -> dict[str, Any]:
    """Race one binary 3x3 layer, packed in and packed out, against the float32 and the int8 layer of the same sizes."""
    torch.manual_seed(c + side)
    conv = torch.nn.Conv2d(c, c, 3, 1, 1).eval()
    x = torch.randn(batch, c, side, side).relu_().numpy()
    w = conv.weight.detach().numpy()
    shape = convolution_shape(x.shape, w.shape, {"pads": (1, 1, 1, 1)})
    packed, weights = (
        pack_groups(np.ascontiguousarray(np.random.default_rng(c).normal(size=(batch, side, side, c)), np.float32)),
        prepare_convolution(w, shape),
    )
    thresholds = binary.Thresholds(np.ones(c, np.int32), np.zeros(c, np.int32))
    bound = bind_convolution(packed, weights, shape, thresholds, threads=THREADS)
    with torch.inference_mode():
        times = race({
            "convsmith": bound, **torch_peers(torch.from_numpy(x), conv), **runtime_peers(x, conv), "OpenVINO int8": int8_layer(x, w),
        })  # fmt: skip
    return {"c": c, "side": side, "batch": batch, "gop": 2e-9 * math.prod(shape.output) * shape.products, "ms": times}


def overhead(c: int, side: int) -> dict[str, Any]:
    """Time one layer at batch 1 as a checked and as a bound call, on one thread and on two."""
    rng = np.random.default_rng(c + side)
    w = rng.normal(size=(c, c, 3, 3)).astype(np.float32)
    shape = convolution_shape((1, c, side, side), w.shape, {"pads": (1, 1, 1, 1)})
    x, weights = pack_groups(rng.normal(size=(1, side, side, c)).astype(np.float32)), prepare_convolution(w, shape)
    thresholds = binary.Thresholds(np.ones(c, np.int32), np.zeros(c, np.int32))
    calls: dict[str, Callable[[], object]] = {}
    for threads in (1, 2):
        calls[f"checked, {threads}"] = partial(convolve_signs, x, weights, shape, thresholds=thresholds, threads=threads)
        calls[f"bound, {threads}"] = bind_convolution(x, weights, shape, thresholds, threads=threads)
    return {"c": c, "side": side, "gop": 2e-9 * math.prod(shape.output) * shape.products, "ms": race(calls)}


def verdict(value: float, goal: float) -> str:
    return f"{value:.1f} ({goal:g} {'met' if value >= goal else 'missed'})"


def product_lines(rows: list[dict[str, Any]], limit: float) -> list[str]:
    lines = ["## Matrix products\n", "| n | | ms, median (quartiles) | Gop/s | % of the popcount limit |", "|---|---|---|---|---|"]
    ratios = []
    for row in rows:
        n, medians = row["n"], {name: statistics.median(ms) for name, ms in row["ms"].items()}
        for name, ms in row["ms"].items():
            low, middle, high = quartiles(ms)
            gops = 2e-6 * n**3 / middle
            share = f"{100 * gops / limit:.0f}" if name.startswith("convsmith") else ""
            lines.append(f"| {n} | {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {gops:.0f} | {share} |")
        best = min(medians[name] for name in ("torch.mm (MKL)", "NumPy (OpenBLAS)", "oneDNN 1x1"))
        if n == 8192:
            mine = medians["convsmith, both packed"]
            parts = [
                f"{verdict(best / mine, 18)} the best sgemm", f"{verdict(medians['torch.mm (MKL)'] / mine, 24)} MKL's",
                f"{verdict(medians['torch int8'] / mine, 3.5)} int8", f"{verdict(2e-4 * n**3 / mine / limit, 75)} % of the limit",
            ]  # fmt: skip
            ratios.append(f"{n}^3, both packed, times: " + ", ".join(parts) + ".")
        else:
            ratios.append(f"{n}^3, packing one operand, times: {verdict(best / medians['convsmith, packing one'], 12)} the best sgemm.")
    return [*lines, "", *ratios, ""]


def convolution_lines(rows: list[dict[str, Any]], limit: float) -> list[str]:
    lines = [
        f"## Binary 3x3 convolutions, batch {rows[0]['batch']}\n",
        "| channels @ pixels | best float32 peer, ms | OpenVINO int8, ms | ours, ms (quartiles) | times float32 | times int8 | % limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        medians = {name: statistics.median(ms) for name, ms in row["ms"].items()}
        low, mine, high = quartiles(row["ms"]["convsmith"])
        floats = {name: ms for name, ms in medians.items() if name not in ("convsmith", "OpenVINO int8")}
        peer = min(floats, key=lambda name: floats[name])
        int8 = medians["OpenVINO int8"]
        lines.append(
            f"| {row['c']} @ {row['side']} | {peer} {floats[peer]:.3f} | {int8:.3f} | {mine:.4f} ({low:.4f}-{high:.4f}) "
            f"| {verdict(floats[peer] / mine, 12)} | {verdict(int8 / mine, 3)} "
            f"| {verdict(100 * row['gop'] / mine * 1e3 / limit, 50)} |"
        )
    return [*lines, ""]


def overhead_lines(rows: list[dict[str, Any]], limit: float) -> list[str]:
    lines = [
        "## Where the time of small layers goes\n",
        "Microseconds of one layer at batch 1, medians. A checked call (`convolve_signs`) allocates its result and looks at sizes; a",
        "bound one (`bind_convolution`, and a step of a compiled program) does not. A second thread costs about 5 microseconds, so the",
        "kernel takes one from 8 microseconds of work on. What remains with 128 channels are 18 words a window: taking sums out of the",
        "registers, comparing them, and the correction of the border (24 of the 49 windows at 7 pixels) take as long as the counting.\n",
        "| channels @ pixels | checked, 1 thread | bound, 1 thread | checked, 2 threads | bound, 2 threads | limit of one thread |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        medians = [f"{1e3 * statistics.median(ms):.1f}" for ms in row["ms"].values()]
        lines.append(f"| {row['c']} @ {row['side']} | {' | '.join(medians)} | {2e6 * row['gop'] / limit:.1f} |")
    return [*lines, ""]


def write(data: dict[str, Any]) -> None:
    lines = ["# Packed signs: matrix products and convolutions\n", str(__doc__).split("\n\nThe page")[0] + "\n"]
    lines.append(f"Measured limit: {data['limit']:.0f} billion operations a second on {THREADS} threads.\n")
    if "products" in data:
        lines += product_lines(data["products"], data["limit"])
    for batch in (1, 16):
        if f"convolutions {batch}" in data:
            lines += convolution_lines(data[f"convolutions {batch}"], data["limit"])
    if "overhead" in data:
        lines += overhead_lines(data["overhead"], data["limit"])
    lines.append(footer(("convsmith", "torch", "numpy", "onnxruntime", "openvino")))
    (RESULTS / "binary_kernels.md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "pieces", nargs="*", choices=("products", "convolutions", "overhead"), default=("products", "convolutions", "overhead")
    )
    parser.add_argument("--batch", type=int, choices=(1, 16), nargs="*", default=(1, 16))
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    path = RESULTS / "binary_kernels.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    data["limit"] = max(popcount_gops(THREADS), data.get("limit", 0.0))
    if "products" in given.pieces:
        data["products"] = [product(n) for n in (2048, 8192)]
    for batch in given.batch if "convolutions" in given.pieces else ():
        data[f"convolutions {batch}"] = [convolution(c, side, batch) for c, side in LAYERS]
    if "overhead" in given.pieces:
        data["overhead"] = [overhead(c, side) for c, side in ((128, 7), (128, 14), (128, 28), (256, 7), (256, 14), (512, 7))]
    path.write_text(json.dumps(data))
    write(data)
    print((RESULTS / "binary_kernels.md").read_text())


if __name__ == "__main__":
    main()
