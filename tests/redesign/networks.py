"""Small graphs, and ways to run them that share nothing with the edits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
import torch
from torch import nn

from convsmith.graph import Graph, Node, Value, infer_shapes
from convsmith.interop import onnx, pytorch


def run_onnx(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Run a graph with ONNX Runtime in float32."""
    session = onnxruntime.InferenceSession(onnx.write(graph), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {graph.inputs[0].name: x.astype(np.float32)})[0])


def same_function(before: Graph, after: Graph, seed: int = 0, tolerance: float = 2e-5) -> None:
    """Assert equal outputs on random images: float32 sums of a few thousand products differ by about 1e-5 of the largest."""
    x = np.random.default_rng(seed).standard_normal((2, *before.inputs[0].shape[1:]))
    y, z = run_onnx(before, x), run_onnx(after, x)
    assert y.shape == z.shape
    np.testing.assert_allclose(z, y, rtol=0, atol=tolerance * max(float(np.abs(y).max()), 1e-6))


def one_convolution(w_kcrs: np.ndarray, size: int = 12, **attributes: object) -> Graph:
    """Return a graph of one float64 convolution with a bias."""
    outputs, inputs = w_kcrs.shape[0], w_kcrs.shape[1] * int(attributes.get("group", 1))  # type: ignore[call-overload]
    bias = np.random.default_rng(9).standard_normal(outputs)
    node = Node("conv", "Conv", ("x", "w", "b"), ("y",), {"kernel_shape": w_kcrs.shape[2:], **attributes})  # type: ignore[arg-type]
    x = Value("x", (-1, inputs, size, size))
    draft = Graph("g", (x,), (Value("y", (-1, outputs, 1, 1)),), (node,), {"w": w_kcrs.astype(np.float32), "b": bias.astype(np.float32)})
    shape = infer_shapes(draft)["y"]
    return Graph("g", (x,), (Value("y", (-1, *shape[1:])),), draft.nodes, draft.weights)


def read(module: nn.Module, shape: Sequence[int]) -> Graph:
    """Read a module, its batch norms given statistics and scales that are not trivial."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
    return pytorch.read(module.eval(), tuple(shape))
