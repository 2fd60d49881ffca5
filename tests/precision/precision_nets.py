"""Small graphs for the precision tests."""

from __future__ import annotations

import numpy as np

from convsmith.graph.network import Graph, Node, Value


def residual_graph(seed: int = 0, classes: int = 3, bias: bool = True) -> Graph:
    """Stem conv -> ReLU -> conv, added to the stem -> ReLU -> max pool -> global average -> flatten -> Gemm; input 3x8x8."""
    rng = np.random.default_rng(seed)
    weights = {
        "stem.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "block.conv.weight": (rng.standard_normal((4, 4, 1, 1)) / 2).astype(np.float32),
        "fc.weight": rng.standard_normal((classes, 4)).astype(np.float32),
    }
    if bias:
        weights["stem.bias"] = rng.standard_normal(4).astype(np.float32)
        weights["fc.bias"] = rng.standard_normal(classes).astype(np.float32)
    stem = ("x", "stem.weight", "stem.bias") if bias else ("x", "stem.weight")
    fc = ("flatten", "fc.weight", "fc.bias") if bias else ("flatten", "fc.weight")
    nodes = (
        Node("stem", "Conv", stem, ("stem",), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}),
        Node("relu", "Relu", ("stem",), ("relu",)),
        Node("block.conv", "Conv", ("relu", "block.conv.weight"), ("block.conv",), {"kernel_shape": (1, 1)}),
        Node("block.add", "Add", ("block.conv", "relu"), ("block.add",)),
        Node("block.relu", "Relu", ("block.add",), ("block.relu",)),
        Node("pool", "MaxPool", ("block.relu",), ("pool",), {"kernel_shape": (2, 2), "strides": (2, 2)}),
        Node("average", "GlobalAveragePool", ("pool",), ("average",)),
        Node("flatten", "Flatten", ("average",), ("flatten",), {"axis": 1}),
        Node("fc", "Gemm", fc, ("fc",), {"transB": 1}),
    )
    return Graph("residual", (Value("x", (-1, 3, 8, 8)),), (Value("fc", (-1, classes)),), nodes, weights)


def pictures(count: int = 16, seed: int = 1) -> np.ndarray:
    """Normalised float32 images (count, 3, 8, 8)."""
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)
