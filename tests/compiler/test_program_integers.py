"""Compiled programs on 8-bit codes: bit for bit the plain integer interpretation, and ONNX Runtime on the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

from convsmith import compiler, formats, models, precision
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import onnx, pytorch
from convsmith.kernels import instruction_sets
from convsmith.precision import Plan, Rule
from convsmith.redesign import fold_batch_norm

Array = np.ndarray[Any, Any]


def network(name: str, channels: int, size: int) -> tuple[Graph, Array]:
    torch.manual_seed(0)
    module = models.load(name, classes=10, in_channels=channels, input_size=(size, size)).eval()
    x = np.random.default_rng(0).standard_normal((8, channels, size, size), np.float32)
    return pytorch.read(module, (1, channels, size, size)), x


def int8_plan(graph: Graph) -> Plan:
    return precision.candidate("int8", precision.layout(graph)).plan


def compiled(name: str, channels: int, size: int) -> tuple[Graph, Plan, precision.Ranges, Array]:
    graph, x = network(name, channels, size)
    return graph, int8_plan(graph), precision.calibrate(fold_batch_norm(graph), x), x


def session(data: bytes, optimised: bool = True) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


NETWORKS = [
    ("lenet5", 1, 28), ("resnet20", 3, 32), ("mobilenet_v2", 3, 32), ("squeezenet1_1", 3, 64), ("googlenet", 3, 64), ("resnet50", 3, 64),
]  # fmt: skip


@pytest.mark.parametrize(("name", "channels", "size"), NETWORKS)
def test_networks_equal_the_plain_integer_interpretation(name: str, channels: int, size: int) -> None:
    """Every layer computes on codes, and every bit is that of NumPy's whole numbers; the file as ONNX gives the same program.

    ONNX Runtime adds and averages codes in another order of float32 operations, so that a code at a tie may be the next one there. Such
    a code moves the logits by about a step of the layers behind it; 2 % of the largest logit holds for these random networks.
    """
    graph, plan, ranges, x = compiled(name, channels, size)
    program = compiler.build(graph, plan, ranges=ranges)
    assert not {"Conv", "Gemm", "MatMul", "Add", "BatchNormalization", "Clip"} & {node.op for node in program.graph}
    y = program(x)
    np.testing.assert_array_equal(y[:3], compiler.interpret(program.graph)(x[:3]))
    data = onnx.write(precision.quantise(fold_batch_norm(graph), plan, ranges))
    np.testing.assert_array_equal(compiler.build(onnx.read(data))(x), y)
    runtime = session(data)
    theirs = runtime.run(None, {runtime.get_inputs()[0].name: x})[0]
    assert np.abs(y - theirs).max() <= 0.02 * np.abs(theirs).max()
    np.testing.assert_array_equal(y.argmax(1), theirs.argmax(1))


def test_every_level_and_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits do not depend on the instruction set, where sums are whole; the last layer's factors are the same everywhere too."""
    graph, plan, ranges, x = compiled("googlenet", 3, 64)
    found = []
    for level in instruction_sets():
        monkeypatch.setenv("CONVSMITH_ISA", level)
        found += [
            compiler.build(graph, plan, ranges=ranges, threads=threads)(x[:1]) for threads in ((1,) if level == "reference" else (1, 3))
        ]
    for y in found[1:]:
        np.testing.assert_array_equal(y, found[0])


def test_the_file_holds_bytes(tmp_path: Path) -> None:
    """Weights are int8 in the file, a quarter of float32, and what is loaded gives the same bits."""
    graph, plan, ranges, x = compiled("resnet20", 3, 32)
    program = compiler.build(graph, plan, ranges=ranges)
    program.save(tmp_path / "small.program")
    compiler.build(graph).save(tmp_path / "large.program")
    assert (tmp_path / "small.program").stat().st_size < 0.35 * (tmp_path / "large.program").stat().st_size
    kinds = {array.dtype.name for name, array in load_file(tmp_path / "small.program").items() if name.endswith(".weight")}
    assert kinds == {"int8"}
    np.testing.assert_array_equal(compiler.load(tmp_path / "small.program")(x), program(x))


def test_tuned_programs_give_the_same_bits() -> None:
    graph, plan, ranges, x = compiled("resnet20", 3, 32)
    program = compiler.build(graph, plan, ranges=ranges, tune=2.0, threads=2)
    expected = compiler.build(graph, plan, ranges=ranges)(x[:1])
    np.testing.assert_array_equal(program(x[:1]), expected)
    assert any(key.split(" | ")[-1].startswith("conv int8") for key in program.decisions)
    assert "int8_" in program.describe()


def test_what_the_plan_exempts_stays_float32() -> None:
    """A layer in float32 between integer ones: within float32 rounding of torch emulating the same plan, but for codes at ties."""
    graph, x = network("resnet20", 3, 32)
    kept = next(node.name for node in graph if node.op == "Conv" and "layer2" in node.name)
    rules = (
        *int8_plan(graph).rules,
        Rule(kept, "weight", None),
    )
    plan = Plan(rules, "mixed")
    ranges = precision.calibrate(fold_batch_norm(graph), x)
    program = compiler.build(graph, plan, ranges=ranges)
    assert [node.name for node in program.graph if node.op == "Conv"] == [kept]
    emulated = precision.emulate(graph, plan, ranges)(torch.from_numpy(x)).numpy()
    assert np.abs(program(x) - emulated).max() <= 0.02 * np.abs(emulated).max()
    interpreted = compiler.interpret(program.graph)(x)
    assert np.abs(program(x) - interpreted).max() <= 0.02 * np.abs(emulated).max()


def test_it_computes_what_the_plan_emulated() -> None:
    """The emulation rounds the same tensors with the same steps; its sums are float32, so a code may be the next one."""
    graph, plan, ranges, x = compiled("resnet18", 3, 64)
    emulated = precision.emulate(graph, plan, ranges)(torch.from_numpy(x)).numpy()
    y = compiler.build(graph, plan, ranges=ranges)(x)
    assert np.abs(y - emulated).max() <= 0.02 * np.abs(emulated).max()
    np.testing.assert_array_equal(y.argmax(1), emulated.argmax(1))


def small(nodes: list[Node], weights: dict[str, Array], output: str = "y") -> Graph:
    """Return a graph whose input is quantised with scale 0.0473 and zero point 120 as ``x`` and whose output is ``y`` by default."""
    fixed = {"xs": np.asarray(0.0473, np.float32), "xz": np.asarray(120, np.uint8), **weights}
    head = [
        Node("q", "QuantizeLinear", ("input", "xs", "xz"), ("xq",)),
        Node("dq", "DequantizeLinear", ("xq", "xs", "xz"), ("x",)),
    ]
    return Graph("small", (Value("input", (-1, 4, 6, 6)),), (Value(output, (-1, -1, -1, -1)),), (*head, *nodes), fixed)


def rounded(source: str, name: str, zero: Array, scale: float = 0.03) -> tuple[list[Node], dict[str, Array]]:
    """Return nodes that make codes of a value and numbers of those, called ``name``."""
    weights = {f"{name}.s": np.asarray(scale, np.float32), f"{name}.z": zero}
    names = (f"{name}.s", f"{name}.z")
    nodes = [
        Node(f"{name}.q", "QuantizeLinear", (source, *names), (f"{name}.c",)),
        Node(f"{name}.d", "DequantizeLinear", (f"{name}.c", *names), (name,)),
    ]
    return nodes, weights


@pytest.mark.parametrize("zero", [np.asarray(99, np.uint8), np.asarray(-28, np.int8)])
@pytest.mark.parametrize(
    "op", ["Relu", "Sigmoid", "HardSwish", "Tanh", "Elu", "Clip", "AveragePool", "MaxPool", "Concat", "Add", "Transpose"]
)
def test_operators_on_codes_equal_their_meaning(op: str, zero: Array) -> None:
    """Against ONNX Runtime without its integer kernels, which computes in float32 between the codes: at most one code apart, and rarely.

    Where nothing is summed there is no other order of operations, and codes are equal.
    """
    more: dict[str, Any] = {
        "AveragePool": {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)},
        "Concat": {"axis": 1},
        "Transpose": {"perm": (0, 1, 3, 2)},
    }
    more["MaxPool"] = {"kernel_shape": (2, 2), "strides": (2, 2)}
    constants = {"low": np.asarray(-0.7, np.float32), "high": np.asarray(2.0, np.float32)} if op == "Clip" else {}
    other, other_weights = rounded("input", "b", np.asarray(77, np.uint8), 0.041)
    inputs = ("x", "b") if op in ("Add", "Concat") else ("x", *constants)
    tail, tail_weights = rounded("v", "y", zero)
    nodes = [*(other if "b" in inputs else []), Node("op", op, inputs, ("v",), more.get(op, {})), *tail]
    graph = small(nodes, {**constants, **(other_weights if "b" in inputs else {}), **tail_weights})
    program = compiler.build(graph)
    assert op in ("MaxPool", "Concat", "Transpose") or op not in {node.op for node in program.graph}
    x = np.random.default_rng(1).normal(0, 3, (2, 4, 6, 6)).astype(np.float32)
    y = program(x)
    np.testing.assert_array_equal(y, compiler.interpret(program.graph)(x))
    runtime = session(onnx.write(graph), optimised=False)
    codes = np.abs(y - runtime.run(None, {"input": x})[0]) / np.float32(0.03)
    assert codes.max() < 1.001 and np.mean(codes > 0.5) <= (0.005 if op in ("Add", "AveragePool") else 0)


def test_layers_that_have_no_integer_form_compute_in_float32() -> None:
    """Weights with a zero point of their own, and a function of the sums that is no limit."""
    w = np.random.default_rng(2).integers(0, 256, (5, 4, 3, 3)).astype(np.uint8)
    weights = {"w": w, "ws": np.asarray(0.01, np.float32), "wz": np.asarray(100, np.uint8)}
    tail, tail_weights = rounded("v", "y", np.asarray(128, np.uint8))
    nodes = [
        Node("wd", "DequantizeLinear", ("w", "ws", "wz"), ("wf",)),
        Node("conv", "Conv", ("x", "wf"), ("c",)),
        Node("act", "Sigmoid", ("c",), ("v",)),
        *tail,
    ]
    for zero, op in ((100, "Conv"), (128, "IntegerConv")):
        graph = small(nodes, {**weights, "wz": np.asarray(zero, np.uint8), **tail_weights})
        program = compiler.build(graph)
        assert op in {node.op for node in program.graph} and "Sigmoid" in {node.op for node in program.graph}
        x = np.random.default_rng(1).normal(0, 2, (2, 4, 6, 6)).astype(np.float32)
        expected = session(onnx.write(graph), optimised=False).run(None, {"input": x})[0]
        codes = np.abs(program(x) - expected) / np.float32(0.03)
        assert codes.max() < 1.001 and np.mean(codes > 0.5) < 0.01


def test_what_cannot_be_is_refused() -> None:
    graph, x = network("lenet5", 1, 28)
    int8 = formats.parse("int8")
    with pytest.raises(UsageError, match=r"needs its range: give ranges, those of precision\.calibrate on some images"):
        compiler.build(graph, int8_plan(graph))
    with pytest.raises(UnsupportedError, match=r"e4m3fn nearest_even with scale 'none'; the engine runs scaled int8"):
        compiler.build(graph, Plan((Rule("*", "weight", formats.parse("e4m3fn")),)))
    with pytest.raises(UnsupportedError, match="int8; the engine's weights are symmetric, of at most 8 bits, such as int8:symmetric"):
        compiler.build(graph, Plan((Rule("*", "weight", int8, scale="channel"),)))
    ranges = precision.calibrate(fold_batch_norm(graph), x)
    with pytest.raises(UnsupportedError, match="int6; the engine's activations have 8 bits"):
        compiler.build(graph, Plan((Rule("*", "activation", formats.parse("int6"), scale="tensor"),)), ranges=ranges)
    with pytest.raises(
        UnsupportedError, match="output 'xq' is made of codes; the engine returns float32: end the graph with DequantizeLinear"
    ):
        compiler.build(small([], {}, "xq"))
    scales = {"xs": np.full(4, 0.05, np.float32), "xz": np.full(4, 120, np.uint8)}
    with pytest.raises(UnsupportedError, match=r"node 'q' \(QuantizeLinear\) has 4 scales; activations take one for the whole tensor"):
        compiler.build(small([], scales, "x"))
