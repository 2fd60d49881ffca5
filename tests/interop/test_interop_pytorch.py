"""Torch modules read as graphs and written back: same names, same numbers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convsmith import models
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import pytorch


def with_statistics(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch normalisations statistics unlike those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def same_outputs(module: nn.Module, shape: tuple[int, ...], tolerance: float = 0.0) -> Graph:
    """Check module, graph written back and graph read again on a batch unlike the traced one; return the graph."""
    graph = pytorch.read(module, shape)
    x = image(3, *shape[1:])
    with torch.no_grad():
        expected, written = module(x), pytorch.write(graph).eval()
        # tolerance 0: the same torch functions run in the same order
        torch.testing.assert_close(written(x), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
    assert pytorch.read(written, shape) == graph
    return graph


class Wrapped(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "clamp": lambda x: x.clamp(min=-0.5),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool_ceil": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool_ceil": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "adaptive_global": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive_same": lambda x: F.adaptive_avg_pool2d(x, (8, 6)),
    "adaptive_divisible": lambda x: F.adaptive_avg_pool2d(x, (4, 2)),
    "adaptive_uneven": lambda x: F.adaptive_avg_pool2d(x, (5, 9)),
    "adaptive_max": lambda x: F.adaptive_max_pool2d(x, (4, 1)),
    "flatten": lambda x: torch.flatten(x, 1),
    "flatten_some": lambda x: torch.flatten(x, 2),
    "view": lambda x: x.view(x.size(0), -1),
    "shuffle": lambda x: x.view(x.shape[0], 2, 2, 8, 6).transpose(1, 2).reshape(x.shape),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "cat": lambda x: torch.cat([x, -x], 1),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split": lambda x: x.split([1, 3], 1)[1],
    "slice": lambda x: x[:, :, ::2, 1:-1],
    "select": lambda x: x[:, 2],
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"),
    "mean": lambda x: x.mean((2, 3)),
    "mean_all": lambda x: x.mean(-1, keepdim=True) + 1,
    "sum": lambda x: x.sum((2, 3), keepdim=True),
    "arithmetic": lambda x: (2 * x - 1) / (x * x + 3) + (1 - x) ** 2,
    "add_alpha": lambda x: torch.add(x, x, alpha=3),
    "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1).unsqueeze(1),
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 2, 3),
    "upsample": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "inplace": lambda x: F.relu_(x * 1).add_(1).mul_(2),
    "identity": lambda x: x.contiguous(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_read(name: str) -> None:
    # silu and averages over uneven windows run as other torch functions
    tolerance = 1e-6 if name in ("silu", "adaptive_uneven", "arithmetic", "avg_pool_ceil", "gelu_tanh") else 1e-7
    same_outputs(Wrapped(FUNCTIONS[name]), (1, 4, 8, 6), tolerance)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "same_padding": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(2, 1), bias=False), (1, 4, 8, 6)),
    "valid_padding": (lambda: nn.Conv2d(4, 6, 3, padding="valid", stride=2, dilation=2), (1, 4, 8, 6)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, padding=(1, 0), groups=2), (1, 4, 8, 6)),
    "padding_mode": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"), (1, 4, 8, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), (1, 4, 8, 6)),
    "linear_over_axes": (lambda: nn.Linear(6, 5), (1, 4, 8, 6)),
    "linear_without_bias": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False)), (1, 4, 8, 6)),
    "norm_without_scale": (lambda: nn.BatchNorm2d(4, affine=False), (1, 4, 8, 6)),
    "norm_of_vectors": (lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192)), (1, 4, 8, 6)),
    "layer_norm": (lambda: nn.LayerNorm((8, 6)), (1, 4, 8, 6)),
    "response_norm": (lambda: nn.LocalResponseNorm(5, 0.1, 0.5, 2), (1, 4, 8, 6)),
    "prelu": (lambda: nn.PReLU(4), (1, 4, 8, 6)),
    "dropout": (lambda: nn.Sequential(nn.Dropout2d(), nn.ReLU(), nn.Dropout()), (1, 4, 8, 6)),
    "conv1d": (lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 5, 3, 2, 1)), (1, 4, 8, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_read(name: str) -> None:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    same_outputs(build().eval(), shape, 1e-6)


@pytest.mark.parametrize(
    ("name", "channels", "size", "tolerance"),
    [
        ("smallnet", 1, 28, 0.0),
        ("resnet20", 3, 32, 0.0),
        ("squeezenet1_1", 3, 64, 0.0),
        ("mobilenet_v2", 3, 32, 0.0),
        ("lenet5", 1, 28, 0.0),
    ],
)
def test_zoo_networks_are_read_bit_exactly(name: str, channels: int, size: int, tolerance: float) -> None:
    torch.manual_seed(0)
    module = with_statistics(models.load(name, classes=7, in_channels=channels, input_size=(size, size)))
    graph = same_outputs(module, (1, channels, size, size), tolerance)
    state = module.state_dict()
    assert {key for key in state if key.endswith(".weight")} <= set(graph.weights)
    assert all(np.array_equal(graph.weights[key], state[key].numpy()) for key in state if key in graph.weights)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.conv(x))
        y = y + x
        return self.relu(y)


def test_nodes_are_named_by_module_path() -> None:
    module = nn.Sequential(nn.Sequential(Block(), Block()), nn.Flatten(), nn.Linear(48, 2)).eval()
    assert [node.name for node in pytorch.read(module, (1, 3, 4, 4))] == [
        "0.0.conv", "0.0.relu", "0.0.add", "0.0.relu_1", "0.1.conv", "0.1.relu", "0.1.add", "0.1.relu_1", "1", "2",
    ]  # fmt: skip


def test_reading_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    module.train()
    module[1].eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    pytorch.read(module, (1, 1, 8, 8))
    assert [part.training for part in module] == [True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_input_axis_for_the_batch_is_free() -> None:
    graph = pytorch.read(nn.Flatten(), (5, 2, 3, 3))
    assert (graph.inputs, graph.outputs[0].shape) == ((Value("input", (-1, 2, 3, 3)),), (-1, 18))


class Nested(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stage = Wrapped(function)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage(x)


def change_under_a_view(x: torch.Tensor) -> torch.Tensor:
    base = x * 1
    rows = base.view(x.shape[0], -1)
    base.add_(1)
    return rows


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.fft.fft2, r"operator aten.fft_fft2.default in module 'stage' is not supported"),
        (
            change_under_a_view,
            r"a view is read after its base was changed in place \(the return of the module\); use the operation out of place",
        ),
        (lambda x: F.adaptive_max_pool2d(x, 3), r"adaptive max pooling from \(8, 6\) to \(3, 3\).* in module 'stage'"),
        (lambda x: x.view(-1, 2, *x.shape[1:]).transpose(0, 1), r"where|works for a batch"),
        (lambda x: F.adaptive_max_pool2d(x, 1, return_indices=True)[1], "output 1 of aten.adaptive_max_pool2d.default is read"),
        (lambda x: x[:2] if x.sum() > 0 else x, "Nested cannot be traced with input"),
        (lambda x: x.reshape(2, 4, 48), "works for a batch of 2 only: it uses the batch size as a constant"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), "average pooling with divisor_override"),
    ],
)
def test_what_cannot_be_read_is_named(function: Callable[[torch.Tensor], torch.Tensor], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        pytorch.read(Nested(function), (1, 4, 8, 6))


def test_half_precision_modules_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"a module of torch.bfloat16; allowed are float32 and float64: call module.float\(\) first"):
        pytorch.read(nn.Conv2d(1, 1, 1).bfloat16(), (1, 1, 4, 4))


def test_statistics_of_the_batch_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"batch normalisation by the batch's own statistics.*in module '0'"):
        pytorch.read(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), (1, 2, 4, 4))


def small() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Dropout(), nn.Linear(144, 3)))


def test_written_module_trains_its_parameters_only() -> None:
    module = pytorch.write(pytorch.read(small(), (1, 1, 8, 8)))
    assert {name for name, _ in module.named_parameters()} == {"0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias"}
    before = module.to_graph()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    F.cross_entropy(module(image(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    after = pytorch.read(module, (1, 1, 8, 8))
    changed = {name for name in before.weights if not np.array_equal(before.weights[name], after.weights[name])}
    assert changed == {name for name, _ in module.named_parameters()}
    assert after.nodes == before.nodes


def test_visitors_see_and_change_weights_and_outputs() -> None:
    module = pytorch.write(pytorch.read(small(), (1, 1, 8, 8)))
    seen: list[str] = []

    def weight(node: Node, name: str, tensor: torch.Tensor) -> torch.Tensor:
        seen.append(name)
        return torch.zeros_like(tensor) if name == "5.weight" else tensor

    def output(node: Node, tensor: torch.Tensor) -> torch.Tensor:
        seen.append(node.name)
        return tensor + 1 if node.name == "5" else tensor

    module.on_weight, module.on_output = weight, output
    y = module(image(2, 1, 8, 8))
    torch.testing.assert_close(y, (module.weight("5.bias") + 1).expand(2, 3))
    assert seen.index("0.weight") < seen.index("0") < seen.index("1.running_var") < seen.index("1") < seen.index("5")


def test_ordinary_hooks_work_on_nodes() -> None:
    module = pytorch.write(pytorch.read(small(), (1, 1, 8, 8)))
    shapes: list[tuple[int, ...]] = []
    module.node_modules["2"].register_forward_hook(lambda *arguments: shapes.append(tuple(arguments[2].shape)))
    module(image(2, 1, 8, 8))
    assert shapes == [(2, 4, 6, 6)]


def test_written_module_checks_its_inputs_and_operators() -> None:
    module = pytorch.write(pytorch.read(small(), (1, 1, 8, 8)))
    with pytest.raises(UsageError, match="takes 1 inputs, got 2"):
        module(image(1, 1, 8, 8), image(1, 1, 8, 8))
    graph = Graph("g", (Value("x", (2,)),), (Value("y", (2,)),), (Node("n", "Attention", ("x",), ("y",)),), {})
    with pytest.raises(UnsupportedError, match=r"no torch operator for Attention \(node 'n'\); supported are Abs, Add"):
        pytorch.write(graph)


def test_names_that_torch_reserves_are_kept_in_the_graph() -> None:
    nodes = (
        Node("forward", "Mul", ("x", "train"), ("forward",)),
        Node("a", "Relu", ("forward",), ("a",)),
        Node("a.b", "Add", ("a", "a.weight"), ("y",)),
    )
    weights = {"train": np.full(2, 3, np.float32), "a.weight": np.ones(2, np.float32)}
    graph = Graph("g", (Value("x", (-1, 2)),), (Value("y", (-1, 2)),), nodes, weights)
    module = pytorch.write(graph)
    torch.testing.assert_close(module(torch.tensor([[1.0, -1.0]])), torch.tensor([[4.0, 1.0]]), rtol=0, atol=0)
    assert module.to_graph() == graph


@pytest.mark.extra
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", pytest.param("efficientnet_b0", marks=pytest.mark.slow)])
def test_timm_networks_are_read(name: str) -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    torch.manual_seed(0)
    module = with_statistics(models.load(f"timm/{name}", classes=5, input_size=(64, 64)))
    # 1e-5: squeeze-and-excite multiplies, silu runs as x * sigmoid(x)
    same_outputs(module, (1, 3, 64, 64), 1e-5)
