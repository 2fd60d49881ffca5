"""Graphs as ONNX files: the checker accepts them, ONNX Runtime computes what torch does, and reading gives the graph back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from convsmith import models
from convsmith.compiler import interpret
from convsmith.errors import DataError, UnsupportedError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import onnx as interop_onnx
from convsmith.interop import pytorch


def run(data: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
    """Run a model without graph optimisation, so that what is tested is the file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [("smallnet", 1, 28), ("lenet5", 1, 28), ("resnet20", 3, 32), ("squeezenet1_0", 3, 64), ("mobilenet_v2", 3, 32), ("googlenet", 3, 64)],
)
def test_zoo_networks_run_in_onnx_runtime(name: str, channels: int, size: int) -> None:
    torch.manual_seed(0)
    module = models.load(name, classes=7, in_channels=channels, input_size=(size, size)).eval()
    graph = pytorch.read(module, (1, channels, size, size))
    data = interop_onnx.write(graph)
    assert interop_onnx.read(data) == graph
    x = image(3, channels, size, size)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    (y,) = run(data, x)
    # float32 sums in another order: 1e-5 of the largest score, ten times the most seen
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class Mixture(nn.Module):
    """Operators that no zoo network has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding="same")
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.norm = nn.LocalResponseNorm(3)
        self.layer_norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.norm(self.up(F.gelu(self.conv(x)))))
        x = F.avg_pool2d(F.max_pool2d(x, 3, 2, ceil_mode=True), 3, 1, 1, count_include_pad=False)
        a, b = x.split([1, 3], 1)
        x = torch.cat([F.pad(a, (1, 0), value=0.5)[..., 1:], F.silu(b), F.gelu(b, approximate="tanh")], 1)
        x = F.adaptive_avg_pool2d(x, (5, 6)) * torch.sigmoid(x.mean((2, 3), keepdim=True))
        x = F.leaky_relu(F.elu(self.linear(self.layer_norm(x))), 0.3)
        return F.softmax(F.interpolate(x, scale_factor=2, mode="nearest").flatten(1), 1)


def test_other_operators_run_in_onnx_runtime() -> None:
    torch.manual_seed(0)
    module = Mixture().eval()
    graph = pytorch.read(module, (1, 4, 8, 6))
    x = image(3, 4, 8, 6)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    for opset in (18, 20):
        data = interop_onnx.write(graph, opset=opset)
        np.testing.assert_allclose(run(data, x)[0], expected, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(interpret(interop_onnx.read(data))(x), expected, rtol=2e-5, atol=1e-7)
    assert interop_onnx.read(interop_onnx.write(graph, opset=20)) == graph


def preprocessing() -> Graph:
    """Return what an exported file puts before a network: bytes NHWC of any size to floats NCHW."""
    nodes = (
        Node("floats", "Cast", ("image",), ("floats",), {"to": TensorProto.FLOAT}),
        Node("planes", "Transpose", ("floats",), ("planes",), {"perm": (0, 3, 1, 2)}),
        Node("shape", "Shape", ("image",), ("shape",)),
        Node("rows", "Gather", ("shape", "one"), ("rows",), {"axis": 0}),
        Node("positions", "Range", ("zero", "rows", "one"), ("positions",)),
        Node("real", "Cast", ("positions",), ("real",), {"to": TensorProto.FLOAT}),
        Node("column", "Unsqueeze", ("real", "last"), ("column",)),
        Node("scaled", "Mul", ("planes", "column"), ("scaled",)),
        Node("floored", "Floor", ("scaled",), ("floored",)),
        Node("clipped", "Clip", ("floored", "low", "high"), ("clipped",)),
        Node("scores", "ReduceSum", ("clipped", "spatial"), ("scores",), {"keepdims": 0}),
    )
    weights = {
        "one": np.asarray(1, np.int64),
        "zero": np.asarray(0, np.int64),
        "last": np.asarray([1], np.int64),
        "low": np.asarray(3, np.float32),
        "high": np.asarray(200, np.float32),
        "spatial": np.asarray([2, 3], np.int64),
    }
    return Graph("pre", (Value("image", (-1, -1, -1, 3), "uint8"),), (Value("scores", (-1, 3)),), nodes, weights)


def test_other_types_and_free_sizes_are_written() -> None:
    names = {"image": ["N", "H", "W", "C"]}
    data = interop_onnx.write(preprocessing(), metadata={"labels": "a\nb\nc"}, axis_names=names)
    model = onnx.load_from_string(data)
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["N", "H", "W", 3]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"labels": "a\nb\nc"}
    assert (model.opset_import[0].version, model.producer_name) == (18, "convsmith")
    for rows, columns in ((4, 5), (9, 2)):
        x = np.random.default_rng(1).integers(0, 256, (2, rows, columns, 3), dtype=np.uint8)
        expected = np.clip(x.astype(np.float32) * np.arange(rows, dtype=np.float32)[:, None, None], 3, 200).sum((1, 2))
        np.testing.assert_allclose(run(data, x)[0], expected, rtol=1e-6)


def test_default_axis_names_say_the_value() -> None:
    model = onnx.load_from_string(interop_onnx.write(preprocessing()))
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "image_1", "image_2", ""]


def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    data = interop_onnx.write(preprocessing(), path)
    assert path.read_bytes() == data

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        interop_onnx.write(preprocessing(), path, metadata={"labels": "other"})
    assert path.read_bytes() == data and len(list(tmp_path.iterdir())) == 1


def test_invalid_graphs_are_not_written() -> None:
    graph = dataclasses.replace(preprocessing(), nodes=(Node("scores", "Concat", ("image", "image"), ("scores",)),))
    with pytest.raises(UnsupportedError, match=r"graph 'pre' is not valid ONNX of operator set 18: .*axis"):
        interop_onnx.write(graph)
    with pytest.raises(UnsupportedError, match="operator set 17; allowed are 18 and newer"):
        interop_onnx.write(preprocessing(), opset=17)


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    opset: int,
    shape: list[int | str],
    result: list[int | str],
    domain: str = "",
) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in (("x", shape), ("y", result))]
    arrays = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], arrays)
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_old_operator_sets_are_converted() -> None:
    nodes = [
        helper.make_node("Clip", ["x"], ["c"], min=-1.0, max=1.0),
        helper.make_node("Unsqueeze", ["c"], ["u"], axes=[1]),
        helper.make_node("ReduceMean", ["u"], ["y"], axes=[2], keepdims=0),
    ]
    data = model_of(nodes, {}, 9, ["N", 3, 4], ["N", 1, 4]).SerializeToString()
    graph = interop_onnx.read(data)
    x = image(2, 3, 4) * 2
    np.testing.assert_allclose(interpret(graph)(x), np.clip(x, -1, 1)[:, None].mean(2), rtol=1e-6)
    np.testing.assert_allclose(interpret(graph)(x), run(data, x)[0], rtol=1e-6)


def test_exported_reshapes_fold_to_constants() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["raised"]),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(np.asarray([12], np.int64))),
        helper.make_node("Concat", ["raised", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"]),
    ]
    graph = interop_onnx.read(model_of(nodes, {"w": image(12, 2)}, 18, ["N", 3, 4], ["N", 2]).SerializeToString())
    assert [(node.name, node.op) for node in graph] == [("flat", "Reshape"), ("y", "Gemm")]
    x = image(3, 3, 4)
    with torch.no_grad():
        np.testing.assert_allclose(pytorch.write(graph)(torch.from_numpy(x)).numpy(), interpret(graph)(x), rtol=1e-5, atol=1e-6)


def test_unknown_operators_are_all_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["a"], name="first"),
        helper.make_node("Fancy", ["a"], ["y"], domain="org.other"),
    ]
    path = tmp_path / "odd.onnx"
    path.write_bytes(model_of(nodes, {}, 18, [2, 3], [2, 3], "org.other").SerializeToString())
    with pytest.raises(UnsupportedError) as caught:
        interop_onnx.read(path)
    assert str(caught.value).startswith(
        f"{path} has unknown operators: NonZero (node 'first'), org.other.Fancy (node 'y'). Supported are Abs, Add, And"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "it holds no network"), (b"\x89PNG\r\n\x1a\n not a model", "not a whole ONNX model"), (b"\x00" * 100, "not a whole ONNX model")],
)
def test_broken_files_are_told(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        interop_onnx.read(path)
    with pytest.raises(DataError, match="the given bytes are not a whole ONNX model"):
        interop_onnx.read(data)


def test_truncated_and_missing_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    data = interop_onnx.write(pytorch.read(nn.Conv2d(3, 8, 3), (1, 3, 8, 8)))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="is not a whole ONNX model"):
        interop_onnx.read(path)
    with pytest.raises(DataError, match=r"none.onnx is not a file; give the path of an .onnx file"):
        interop_onnx.read(tmp_path / "none.onnx")


def test_subgraphs_are_refused() -> None:
    body = helper.make_graph([], "body", [], [])
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="odd", then_branch=body)]
    model = model_of(nodes, {}, 18, [2], [2])
    with pytest.raises((UnsupportedError, DataError), match="attribute"):
        interop_onnx.read(model.SerializeToString())
