"""A small ConvNet as a graph, and its forward pass in NumPy float64."""

from __future__ import annotations

import numpy as np

from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.graph.network import Graph, Node, Value


def small_graph(channels: int = 3, side: tuple[int, int] = (12, 10), classes: int = 4, seed: int = 0) -> Graph:
    """Conv 3x3 -> ReLU -> global average -> flatten -> Gemm."""
    rng = np.random.default_rng(seed)
    weights = {
        "conv.weight": rng.standard_normal((6, channels, 3, 3)).astype(np.float32),
        "conv.bias": rng.standard_normal(6).astype(np.float32),
        "fc.weight": rng.standard_normal((classes, 6)).astype(np.float32),
        "fc.bias": rng.standard_normal(classes).astype(np.float32),
    }
    nodes = (
        Node("conv", "Conv", ("x", "conv.weight", "conv.bias"), ("conv",), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}),
        Node("relu", "Relu", ("conv",), ("relu",)),
        Node("pool", "GlobalAveragePool", ("relu",), ("pool",)),
        Node("flatten", "Flatten", ("pool",), ("flatten",), {"axis": 1}),
        Node("fc", "Gemm", ("flatten", "fc.weight", "fc.bias"), ("fc",), {"transB": 1}),
    )
    inputs = (Value("x", (-1, channels, *side)),)
    return Graph("small", inputs, (Value("fc", (-1, classes)),), nodes, weights)


def logits(graph: Graph, preprocess: Preprocess, images: list[np.ndarray]) -> np.ndarray:
    """What the graph says of decoded images, computed directly in float64."""
    w = graph.weights
    x = normalise(np.stack([resize(image, preprocess) for image in images]), preprocess).astype(np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    conv = np.einsum("nchwij,kcij->nkhw", windows, w["conv.weight"].astype(np.float64)) + w["conv.bias"][None, :, None, None]
    return np.maximum(conv, 0).mean(axis=(2, 3)) @ w["fc.weight"].T.astype(np.float64) + w["fc.bias"]


def images(count: int, channels: int = 3, seed: int = 1, largest: int = 50) -> list[np.ndarray]:
    """Random uint8 images of odd sizes, neighbours of one size among them."""
    rng = np.random.default_rng(seed)
    sizes = np.repeat(rng.integers(1, largest, (count, 2)), 2, axis=0)[:count]
    return [rng.integers(0, 256, (int(h), int(w), channels), dtype=np.uint8) for h, w in sizes]
