"""Compiled programs of signs: bit for bit the plain interpretation, PyTorch's emulation of the plan, and ONNX Runtime on the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from convsmith import compiler, models, precision
from convsmith.errors import DataError, UnsupportedError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import onnx, pytorch
from convsmith.kernels import instruction_sets
from convsmith.precision import Plan
from convsmith.training.reproductions import binary

Array = np.ndarray[Any, Any]


class Net(nn.Module):
    """A float layer, convolutions of signs with a bias, pooling and a stride, and a linear layer of signs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1, self.sign1 = nn.Conv2d(3, 70, 3, padding=1, bias=False), nn.BatchNorm2d(70), nn.Hardtanh()
        self.second, self.pool, self.norm2, self.sign2 = nn.Conv2d(70, 96, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(96), nn.Hardtanh()
        self.third, self.norm3, self.sign3 = nn.Conv2d(96, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.Hardtanh()
        self.flatten, self.last, self.norm4 = nn.Flatten(), nn.Linear(64 * 4 * 4, 10), nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.sign1(self.norm1(self.first(x)))
        x = self.sign2(self.norm2(self.pool(self.second(x))))
        x = self.sign3(self.norm3(self.third(x)))
        logits: Tensor = self.norm4(self.last(self.flatten(x)))
        return logits


PLAN = Plan(
    (*(binary.binary_weights(name) for name in ("second", "third", "last")), binary.binary_activations("sign*")), "signs but for the first"
)


def trained() -> tuple[nn.Module, Array]:
    """Return a network whose norms have every sign of gamma, zero too, and images."""
    torch.manual_seed(0)
    net = Net()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_(0, 5)
            norm.running_var.uniform_(10, 100)
            norm.weight.data[3], norm.bias.data[3] = 0.0, -1.0
            norm.weight.data[4], norm.bias.data[4] = 0.0, 0.0
    return net.eval(), np.random.default_rng(0).standard_normal((5, 3, 16, 16), np.float32)


def session(graph: Graph) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(onnx.write(graph), options, providers=["CPUExecutionProvider"])


def answers(graph: Graph, x: Array) -> Array:
    run = session(graph)
    return np.asarray(run.run(None, {run.get_inputs()[0].name: x})[0])


def test_a_plan_of_signs_is_the_emulated_network_in_every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of signs are whole numbers: only the last norm is computed in float32, in another order in each; 1e-5 of the largest score."""
    net, x = trained()
    graph = pytorch.read(net, (1, 3, 16, 16))
    emulated = precision.emulate(net, PLAN, torch.from_numpy(x)).eval()
    with torch.no_grad():
        expected = emulated(torch.from_numpy(x)).numpy()
    tolerance = 1e-5 * np.abs(expected).max()
    assert np.allclose(answers(PLAN.quantise(graph), x), expected, atol=tolerance, rtol=0)
    for level in instruction_sets():
        monkeypatch.setenv("CONVSMITH_ISA", level)
        for threads in (1, 2):
            program = compiler.build(graph, PLAN, threads=threads)
            kinds = [step.kind for step in program.executable(x.shape).steps]
            assert kinds.count("binary_convolution") == 3 and kinds.count("pack_signs") == kinds.count("sign_pooling") == 1
            assert np.allclose(program(x), expected, atol=tolerance, rtol=0), level


def test_a_program_of_signs_equals_numpy_bit_for_bit_and_its_file_holds_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = models.load("binarynet_mlp", classes=10, in_channels=1, input_size=(28, 28), hidden=(512, 512, 512)).eval()
    plan = binary.net("*.linear", "*.activation")
    x = np.random.default_rng(1).standard_normal((7, 1, 28, 28), np.float32)
    graph = pytorch.read(module, (1, 1, 28, 28))
    program = compiler.build(graph, plan)
    assert [step.kind for step in program.executable(x.shape).steps].count("binary_convolution") == 3, "the first layer reads pixels"
    assert np.array_equal(program(x), compiler.interpret(program.graph)(x))
    program.save(tmp_path / "net.program")
    again = compiler.load(tmp_path / "net.program")
    assert np.array_equal(again(x), program(x))
    hidden = sum(array.nbytes for name, array in program.graph.weights.items() if name.endswith("bits"))
    assert hidden == 2 * 512 * 512 / 8 + 10 * 512 / 8


def signed(shape: tuple[int, ...], w: Array, attributes: dict[str, Any], *, bias: Array | None = None) -> Graph:
    """Return a graph that takes signs of its input, convolves them, and gives the sums."""
    constants = {"zero": np.float32(0), "minus": np.float32(-1), "plus": np.float32(1), "w": w}
    inputs = ["s", "w"]
    if bias is not None:
        constants["b"] = bias
        inputs.append("b")
    nodes = (
        Node("less", "Less", ("x", "zero"), ("l",)),
        Node("sign", "Where", ("l", "minus", "plus"), ("s",)),
        Node("conv", "Conv", tuple(inputs), ("y",), attributes),
    )
    return Graph("signs", (Value("x", (-1, *shape[1:])),), (Value("y", (-1, len(w), -1, -1)),), nodes, constants)


CASES = [
    # channels, out, kernel, groups, strides, dilations, pads, ternary
    (1, 1, (1, 1), 1, (1, 1), (1, 1), (0, 0, 0, 0), False),
    (7, 5, (3, 3), 1, (1, 1), (1, 1), (1, 1, 1, 1), False),
    (64, 33, (3, 3), 1, (2, 2), (1, 1), (1, 1, 1, 1), False),
    (65, 64, (3, 1), 1, (1, 2), (2, 1), (2, 0, 1, 1), False),
    (130, 17, (5, 5), 1, (1, 1), (1, 1), (2, 2, 2, 2), False),
    (128, 6, (3, 3), 2, (1, 1), (1, 1), (0, 1, 2, 0), False),
    (40, 9, (3, 3), 1, (1, 1), (1, 1), (1, 1, 1, 1), True),
]


@pytest.mark.parametrize("case", CASES)
def test_convolutions_of_signs_equal_onnx_runtime_exactly(monkeypatch: pytest.MonkeyPatch, case: tuple[Any, ...]) -> None:
    c, k, kernel, groups, strides, dilations, pads, ternary = case
    rng = np.random.default_rng(c)
    w = rng.integers(-1 if ternary else 0, 2, (k, c // groups, *kernel)).astype(np.float32)
    w = w if ternary else 2 * w - 1
    graph = signed((1, c, 9, 8), w, {"kernel_shape": kernel, "group": groups, "strides": strides, "dilations": dilations, "pads": pads})
    x = rng.standard_normal((3, c, 9, 8), np.float32)
    x[0, 0, 0, :2] = 0.0, -0.0
    expected = answers(graph, x)
    for level in instruction_sets():
        monkeypatch.setenv("CONVSMITH_ISA", level)
        program = compiler.build(graph)
        assert "binary_convolution" in [step.kind for step in program.executable(x.shape).steps]
        assert np.array_equal(program(x), expected), level
    assert program(x[:0]).shape == (0, *expected.shape[1:])


def test_weights_of_another_size_in_each_channel_scale_the_sums() -> None:
    """As XNOR-Net has them; one float32 product and sum for each result, in ONNX Runtime one for each weight: 1e-6 of the largest."""
    rng = np.random.default_rng(2)
    size = rng.uniform(0.1, 2, (24, 1, 1, 1)).astype(np.float32)
    size[5] = 0
    w = np.where(rng.integers(0, 2, (24, 32, 3, 3)) == 1, size, -size).astype(np.float32)
    graph = signed((1, 32, 6, 6), w, {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}, bias=rng.standard_normal(24).astype(np.float32))
    x = rng.standard_normal((2, 32, 6, 6), np.float32)
    program, expected = compiler.build(graph), answers(graph, x)
    assert "binary_convolution" in [step.kind for step in program.executable(x.shape).steps]
    assert np.abs(program(x) - expected).max() < 1e-6 * np.abs(expected).max() * np.sqrt(288)


def test_signs_that_others_read_as_well_are_unpacked_for_them() -> None:
    rng = np.random.default_rng(3)
    w = np.where(rng.integers(0, 2, (20, 20, 3, 3)) == 1, np.float32(1), np.float32(-1))
    graph = signed((1, 20, 5, 5), w, {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)})
    both = Graph("both", graph.inputs, (Value("z", (-1, 20, 5, 5)),), (*graph.nodes, Node("add", "Add", ("y", "s"), ("z",))), graph.weights)
    x = rng.standard_normal((2, 20, 5, 5), np.float32)
    program = compiler.build(both)
    kinds = [step.kind for step in program.executable(x.shape).steps]
    assert kinds.count("unpack_signs") == kinds.count("binary_convolution") == 1
    assert np.array_equal(program(x), answers(both, x))


def test_nan_before_a_sign_is_refused_in_both_engines() -> None:
    w = np.ones((2, 3, 1, 1), np.float32)
    graph = signed((1, 3, 4, 4), w, {"kernel_shape": (1, 1)})
    program = compiler.build(graph)
    x = np.zeros((2, 3, 4, 4), np.float32)
    x[1, 2, 3, 3] = np.nan
    with pytest.raises(DataError, match="NaN has no sign; 1 of the network's inputs are NaN"):
        program(x)
    with pytest.raises(DataError, match="1 of 96 numbers are NaN and have no sign"):
        compiler.interpret(program.graph)(x)
    assert np.array_equal(program(np.zeros_like(x)), np.full((2, 2, 4, 4), 3, np.float32)), "the sign of 0 is +1"


def test_weights_drawn_at_random_have_no_graph() -> None:
    net, _ = trained()
    plan = Plan((binary.binary_weights("last", "stochastic"),))
    with pytest.raises(UnsupportedError, match="layer 'last', weight is binary at random; a graph has one sign a weight"):
        compiler.build(pytorch.read(net, (1, 3, 16, 16)), plan)
