"""Claim: 3x3 and 5x5 stride-1 float32 layers run at 2.4 times (batch 1) and 2.5 times (batch 16) the best peer of each, geometric mean.

Layers: the distinct ones of VGG-19, ResNet-50, AlexNet and Inception. Second claim: 1x1, strided and first layers reach 0.95 times the
best peer. Third: 7x7 to 21x21 at stride 1 reach 1.0 times the best peer each, 1.3 times in the geometric mean. Peers, each at its
best of these settings: torch eager NCHW, channels_last, oneDNN's own layout, torch.compile; NNPACK through torch; ONNX Runtime; OpenVINO
f32. Ours is the best algorithm of the table, NHWC in and out; weights of all are prepared beforehand, every one adds a bias. All on 2
threads in one process; each round visits every contestant, the order rotates; medians over rounds.

The page is written from docs/results/convolutions.json, which grows by the layers that are run; a call may stop early and be resumed:
    python benchmarks/convolutions.py --batch 1 --kind spatial --resume --seconds 200
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from machine import RESULTS, footer
from onnx import TensorProto, helper, numpy_helper
from peak import fma_gflops
from torch.utils import mkldnn

from convsmith import _native
from convsmith.compiler.choices import FLOAT32
from convsmith.kernels import ALGORITHMS, ConvolutionShape, convolution_shape, native

Contestants = dict[str, Callable[[], object]]
ROUNDS, THREADS, BLOCK_S, PAUSE_S = 9, 2, 0.004, 0.02

#: name, in channels, out channels, side, kernel, stride, padding
Layer = tuple[str, int, int, int, int, int, int]
SPATIAL: list[Layer] = [
    *(("VGG", c, k, side, 3, 1, 1) for c, k, side in [
        (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56), (256, 512, 28), (512, 512, 28), (512, 512, 14)]),
    *(("ResNet", c, c, side, 3, 1, 1) for c, side in [(64, 56), (128, 28), (256, 14), (512, 7)]),
    ("AlexNet", 64, 192, 27, 5, 1, 2), ("AlexNet", 192, 384, 13, 3, 1, 1), ("AlexNet", 384, 256, 13, 3, 1, 1),
    ("Inception", 32, 96, 28, 5, 1, 2), ("Inception", 48, 64, 35, 5, 1, 2),
]  # fmt: skip
OTHER: list[Layer] = [
    *(("ResNet", c, k, side, 1, 1, 0) for c, k, side in [
        (64, 64, 56), (64, 256, 56), (256, 64, 56), (128, 512, 28), (512, 128, 28), (256, 1024, 14), (1024, 256, 14), (512, 2048, 7),
        (2048, 512, 7)]),
    ("ResNet", 256, 512, 56, 1, 2, 0), ("ResNet", 128, 128, 56, 3, 2, 1), ("ResNet", 256, 256, 28, 3, 2, 1),
    ("ResNet", 512, 512, 14, 3, 2, 1), ("ResNet", 3, 64, 224, 7, 2, 3), ("VGG", 3, 64, 224, 3, 1, 1),
]  # fmt: skip
LARGE: list[Layer] = [("large", c, c, side, kernel, 1, kernel // 2) for c, side in [(64, 56), (128, 28)] for kernel in (7, 9, 11, 15, 21)]
KINDS = {"spatial": SPATIAL, "other": OTHER, "large": LARGE}


def torch_peers(x: torch.Tensor, conv: torch.nn.Conv2d) -> Contestants:
    last = x.to(memory_format=torch.channels_last)
    conv_last = type(conv)(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)  # type: ignore[arg-type]
    conv_last.load_state_dict(conv.state_dict())
    conv_last = conv_last.to(memory_format=torch.channels_last).eval()
    blocked, conv_blocked = x.to_mkldnn(), mkldnn.to_mkldnn(conv)
    torch._dynamo.reset()
    compiled = torch.compile(conv, options={"freezing": True})
    found: Contestants = {
        "torch": lambda: conv(x),
        "torch channels_last": lambda: conv_last(last),
        "torch mkldnn": lambda: conv_blocked(blocked),
        "torch compile": lambda: compiled(x),
    }
    # asking whether it is there starts NNPACK, which else refuses every layer
    if torch._nnpack_available() and conv.stride == (1, 1) and conv.kernel_size[0] > 1:
        found["NNPACK"] = lambda: torch._nnpack_spatial_convolution(x, conv.weight, conv.bias, conv.padding, conv.stride)
    return found


def onnx_layer(x: np.ndarray, conv: torch.nn.Conv2d) -> bytes:
    weights = [numpy_helper.from_array(p.detach().numpy(), name) for name, p in conv.named_parameters()]
    pads = [int(p) for p in conv.padding] * 2
    node = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], strides=list(conv.stride), pads=pads)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "layer", [value("x", TensorProto.FLOAT, x.shape)], [value("y", TensorProto.FLOAT, ["n", "k", "i", "j"])], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def runtime_peers(x: np.ndarray, conv: torch.nn.Conv2d) -> Contestants:
    layer = onnx_layer(x, conv)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(layer, options, providers=["CPUExecutionProvider"])
    bound = session.io_binding()
    bound.bind_cpu_input("x", x)
    bound.bind_output("y")
    core = openvino.Core()
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(layer), "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return {"ONNX Runtime": lambda: session.run_with_iobinding(bound), "OpenVINO": request.infer}


def ours(x: np.ndarray, conv: torch.nn.Conv2d, shape: ConvolutionShape) -> Contestants:
    """Return every algorithm that takes the layer, after comparing its output with torch's in float64.

    The stated accuracies are those of layers of VGG-19, at most 4,608 products a sum; rounding grows with more.
    """
    x_nhwc, w = native.aligned_floats(x.size).reshape(np.take(x.shape, (0, 2, 3, 1))), conv.weight.detach().numpy()
    x_nhwc[...] = x.transpose(0, 2, 3, 1)  # where the engine's memory would be
    assert conv.bias is not None
    bias = conv.bias.detach().numpy()
    doubles = (torch.from_numpy(a).double() for a in (x, w, bias))
    expected = torch.nn.functional.conv2d(*doubles, conv.stride, conv.padding).numpy().transpose(0, 2, 3, 1)  # type: ignore[arg-type]
    found: Contestants = {}
    for name in native.names(native.instruction_set()):
        if not native.supports(name, shape) or ALGORITHMS[name].accuracy > FLOAT32:
            continue
        y = native.aligned_floats(expected.size).reshape(expected.shape)  # as the engine's memory
        run = engine_step(name, x_nhwc.reshape(-1), w, bias, y.reshape(-1), shape)
        run()
        most = 2 * ALGORITHMS[name].accuracy * max(1, shape.products / 4608)
        assert np.max(np.abs(y - expected)) <= most * np.max(np.abs(expected)), name
        found[f"convsmith {name}"] = run
    return found


def engine_step(name: str, x: np.ndarray, w: np.ndarray, bias: np.ndarray, y: np.ndarray, shape: ConvolutionShape) -> Callable[[], object]:
    """Return the layer as the native engine runs it: a program of one step, on arrays that stay."""
    level = native.instruction_set()
    program = _native.Program(level, native.workspace_bytes(name, shape, THREADS) // 4 + 16, [x.size], [y.size])
    program.constant(native.prepare(name, w, shape, level).values)
    program.constant(bias)
    # output, input, weights, bias, no residual, scratch memory; the numbers are those of native/steps.cc
    places = [(3, 0, 0), (2, 0, 0), (1, 0, 0), (1, 1, 0), (4, 0, 0), (0, 0, 0)]
    program.add("convolution", name, places, [*native.sizes(shape), 0, 0], [0.0, 0.0], THREADS)
    return lambda: program.run([x], [y])


def race(contestants: Contestants) -> dict[str, list[float]]:
    """Return the milliseconds of each contestant in each round: the mean of as many calls as fill a block, after an untimed one.

    The pause before lets the waiting threads of the last contestant go to sleep: they would keep a processor busy for milliseconds.
    """
    calls: dict[str, int] = {}
    for name, call in contestants.items():
        call()
        start = time.perf_counter()
        call()
        calls[name] = max(1, math.ceil(BLOCK_S / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(PAUSE_S)
            contestants[name]()
            start = time.perf_counter()
            for _ in range(calls[name]):
                contestants[name]()
            times[name].append((time.perf_counter() - start) / calls[name] * 1e3)
    return times


def measure(layer: Layer, batch: int) -> dict[str, Any]:
    _, c, k, side, kernel, stride, pad = layer
    torch.manual_seed(c + k + side)
    conv = torch.nn.Conv2d(c, k, kernel, stride, pad).eval()
    x = torch.randn(batch, c, side, side).relu_().numpy()
    shape = convolution_shape(x.shape, tuple(conv.weight.shape), {"strides": (stride, stride), "pads": (pad,) * 4})
    with torch.inference_mode():
        times = race({**ours(x, conv, shape), **torch_peers(torch.from_numpy(x), conv), **runtime_peers(x, conv)})
    gflop = 2e-9 * math.prod(shape.output) * shape.products
    return {"layer": list(layer), "batch": batch, "gflop": gflop, "ms": times}


def best(row: dict[str, Any], mine: bool) -> tuple[str, float]:
    """Return the name and the median of the fastest of ours or of the peers."""
    medians = {name: statistics.median(ms) for name, ms in row["ms"].items() if name.startswith("convsmith") == mine}
    name = min(medians, key=lambda n: medians[n])
    return name, medians[name]


def table(rows: list[dict[str, Any]], peak: float) -> list[str]:
    lines = [
        "| layer | best peer | ms | GFLOP/s (% of peak) | convsmith | ms (quartiles) | GFLOP/s (% of peak) | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for row in rows:
        net, c, k, side, kernel, stride, _ = row["layer"]
        (peer, theirs), (name, mine) = best(row, False), best(row, True)
        low, _, high = statistics.quantiles(row["ms"][name], n=4, method="inclusive")
        ratios.append(theirs / mine)
        speeds = [f"{row['gflop'] / ms * 1e3:.0f} ({row['gflop'] / ms * 1e5 / peak:.0f} %)" for ms in (theirs, mine)]
        step = f"/{stride}" if stride > 1 else ""
        lines.append(
            f"| {net} {c}-{k} {kernel}x{kernel}{step} @{side} | {peer} | {theirs:.3f} | {speeds[0]} | {name.removeprefix('convsmith ')} "
            f"| {mine:.3f} ({low:.3f}-{high:.3f}) | {speeds[1]} | **{ratios[-1]:.2f}** |"
        )
    lines.append(f"\nGeometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}, most {max(ratios):.2f}.\n")
    return lines


def write(data: dict[str, Any]) -> None:
    lines = ["# Convolutions, float32\n", str(__doc__).split("\n\nThe page")[0] + "\n"]
    lines.append(
        f"Measured limit: {data['peak']:.0f} GFLOP/s of fused multiply-adds on {THREADS} threads. GFLOP/s count the direct algorithm's"
    )
    lines.append("operations, so a Winograd convolution may exceed the limit. Medians of " + f"{ROUNDS} rounds.\n")
    titles = {"spatial": "3x3 and 5x5, stride 1", "other": "1x1, strided and first layers", "large": "7x7 to 21x21, stride 1"}
    for kind, title in titles.items():
        for batch in (1, 4, 16):
            rows = data["pieces"].get(f"{kind} {batch}")
            if rows:
                note = data.get("notes", {}).get(f"{kind} {batch}")
                lines += [f"## {title}, batch {batch}\n", *([note + "\n"] if note else []), *table(rows, data["peak"])]
    lines.append(footer(("convsmith", "torch", "numpy", "onnxruntime", "openvino")))
    (RESULTS / "convolutions.md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, choices=(1, 4, 16), nargs="*", default=(1, 4, 16))
    parser.add_argument("--kind", choices=tuple(KINDS), nargs="*", default=tuple(KINDS))
    parser.add_argument("--resume", action="store_true", help="keep the layers that were measured before")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no layer after so long")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    path, start = RESULTS / "convolutions.json", time.perf_counter()
    data = json.loads(path.read_text()) if path.exists() else {"pieces": {}}
    data["peak"] = max(fma_gflops(THREADS), data.get("peak", 0.0))
    for kind, batch in itertools.product(given.kind, given.batch):
        rows = data["pieces"].get(f"{kind} {batch}", []) if given.resume else []
        done = [tuple(row["layer"]) for row in rows]
        for layer in KINDS[kind]:
            if layer in done or time.perf_counter() - start > given.seconds:
                continue
            rows.append(measure(layer, batch))
            (peer, theirs), (name, mine) = best(rows[-1], False), best(rows[-1], True)
            print(*layer, "batch", batch, f"{peer} {theirs:.3f} ms, {name} {mine:.3f} ms: {theirs / mine:.2f}", flush=True)
            data["pieces"][f"{kind} {batch}"] = rows
            data.get("notes", {}).pop(f"{kind} {batch}", None)
            path.write_text(json.dumps(data))
            write(data)


if __name__ == "__main__":
    main()
