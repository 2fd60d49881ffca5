"""Weights rounded up or down so that each layer's output, not each weight, is nearest to what it was.

A weight may take the code below or above. Which one is a sigmoid between 0 and 1 that descent pushes to either end.

References: Nagel et al. 2020, Up or down? Adaptive rounding for post-training quantization, arXiv 2004.10568, equations 21 to 25.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from convsmith.errors import DataError
from convsmith.graph import Graph, Value, prune, with_weights
from convsmith.interop import pytorch
from convsmith.kernels.windows import resolve
from convsmith.precision.code_layers import CodeLayer, code_layers

if TYPE_CHECKING:
    from torch import Tensor

    from convsmith.graph.network import Node

STRETCH: Final = (-0.1, 1.1)
"""Ends of the stretched sigmoid, so that 0 and 1 are reached (equation 23)."""

WARM: Final = 0.2
"""Part of the steps without the push to the ends."""

BETA: Final = (20.0, 2.0)
"""The exponent of the push, high at first, so that it acts near the ends alone (equation 24)."""

PUSH: Final = (0.01, 10.0)
"""The weight of the push, against an error of 1 of nearest rounding: it grows until nothing is left between the ends. The paper's is
constant, over 20 times as many steps."""

RATE: Final = 3e-2
ROWS: Final = 4096
"""Places of the output, over all images, that a layer is fitted on."""
BATCH: Final = 512


def round_adaptively(
    codes: Graph,
    graph: Graph,
    x_nchw: Any,
    *,
    steps: int = 500,
    seed: int = 0,
    progress: Callable[[int, int, str], Any] | None = None,
) -> Graph:
    """Return a graph of codes, made from the float32 ``graph``, with the weights of its layers rounded up or down anew.

    Layer after layer: what goes in is what the layers rounded before give, what should come out is what the float32 network gives.
    A layer whose rounding did not come nearer on the places it was fitted on keeps the codes it has.

    Shapes: ``x_nchw`` float32 ``(n, c, h, w)``; a few hundred images are enough.
    """
    x = torch.as_tensor(x_nchw)
    if x.ndim != 4 or not len(x):
        raise DataError(f"weights are rounded on images (n, channels, height, width), at least one; got shape {tuple(x.shape)}")
    layers = [layer for layer in code_layers(codes) if layer.node.op in ("Conv", "Gemm")]
    for number, layer in enumerate(layers):
        if progress is not None:
            progress(number, len(layers), layer.node.name)
        rows, target = _material(codes, graph, layer, x, torch.Generator().manual_seed(seed))
        found = _Fit(codes, graph, layer, rows, target).run(steps, seed)
        codes = with_weights(codes, {layer.codes: found.numpy().astype(codes.weights[layer.codes].dtype)})
    return codes


def _material(codes: Graph, graph: Graph, layer: CodeLayer, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return sampled places: inputs ``(places, groups, terms)`` from the rounded network, outputs ``(places, channels)`` from the other."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    before = layer.node.inputs[0]

    def keep(node: Node, output: Tensor) -> Tensor:
        if before in node.outputs:
            inputs.append(output)
        return output

    def note(node: Node, output: Tensor) -> Tensor:
        if node.name == layer.node.name:
            outputs.append(output)
        return output

    rounded, original = (
        pytorch.write(_until(codes, before)).eval(),
        pytorch.write(_until(graph, graph.node(layer.node.name).outputs[0])).eval(),
    )
    rounded.on_output, original.on_output = keep, note
    rows, targets = [], []
    share = -(-ROWS // -(-len(x) // 32))
    with torch.no_grad():
        for part in torch.split(x, 32):
            inputs.clear()
            outputs.clear()
            if before == codes.inputs[0].name:
                inputs.append(part)
            rounded(part)
            original(part)
            patches, wanted = _places(inputs[0], outputs[0], layer.node)
            chosen = torch.randperm(len(patches), generator=generator)[:share]
            rows.append(patches[chosen])
            targets.append(wanted[chosen])
    return torch.cat(rows), torch.cat(targets)


def _until(graph: Graph, value: str) -> Graph:
    """Return the part of a graph that a value needs, or one node of it where the value is the input itself."""
    known = value if any(value in node.outputs for node in graph) else graph.nodes[0].outputs[0]
    return prune(dataclasses.replace(graph, outputs=(Value(known, (-1,)),)))


def _places(x: Tensor, y: Tensor, node: Node) -> tuple[Tensor, Tensor]:
    """Return what each place of an output is computed from, by group, and the output there."""
    if node.op == "Gemm":
        return x[:, None, :], y
    given: Mapping[str, Any] = node.attributes
    groups = int(given.get("group", 1))
    windows = resolve(given, tuple(x.shape[2:]), tuple(given["kernel_shape"]))
    (top, left), (bottom, right) = windows.before, windows.after
    padded = F.pad(x, (left, right, top, bottom))
    patches = F.unfold(padded, windows.kernel, windows.dilations, 0, windows.strides)  # (n, c k k, places)
    terms = patches.shape[1]
    return patches.transpose(1, 2).reshape(-1, groups, terms // groups), y.flatten(2).transpose(1, 2).reshape(-1, y.shape[1])


class _Fit:
    """The rounding of one layer, fitted on rows ``(places, groups, terms)`` and the outputs wanted of them."""

    def __init__(self, codes: Graph, graph: Graph, layer: CodeLayer, rows: Tensor, target: Tensor) -> None:
        w = graph.weights[graph.node(layer.node.name).inputs[1]]
        old, scale = codes.weights[layer.codes], layer.steps(codes)
        multiple = torch.from_numpy((w.astype(np.float64) / scale).astype(np.float32))
        self.rows, self.target, self.old = rows, target, torch.from_numpy(old.astype(np.float32))
        self.floor, self.share = multiple.floor(), multiple - multiple.floor()
        self.spread = torch.from_numpy(np.broadcast_to(scale, w.shape).copy())
        self.most = max(1.0, float(self.old.abs().max()))
        self.bias = torch.from_numpy(_bias(codes, layer, target.shape[1]))
        self.transposed = layer.node.op == "Gemm" and not layer.node.attributes.get("transB", 0)

    def outputs(self, whole: Tensor, rows: Tensor) -> Tensor:
        """Return what the layer gives with codes, which need not be whole yet."""
        values = whole.clamp(-self.most, self.most) * self.spread
        matrix, groups = values.t() if self.transposed else values, rows.shape[1]
        grouped = matrix.reshape(groups, matrix.shape[0] // groups, -1)
        return torch.einsum("pgc,gkc->pgk", rows, grouped).flatten(1) + self.bias

    def error(self, whole: Tensor) -> float:
        with torch.no_grad():
            return float((self.outputs(whole, self.rows) - self.target).square().mean())

    def run(self, steps: int, seed: int) -> Tensor:
        """Return the codes found, those of nearest rounding where they are as good."""
        nearest = self.error(self.old)
        if not nearest:
            return self.old
        (low, high), share = STRETCH, self.share.clamp(1e-3, 1 - 1e-3)
        v = torch.nn.Parameter(-torch.log((high - low) / (share - low) - 1))  # begin at the weights themselves
        optimizer, generator = torch.optim.Adam([v], lr=RATE), torch.Generator().manual_seed(seed)
        for step in range(steps):
            chosen = torch.randint(len(self.rows), (min(BATCH, len(self.rows)),), generator=generator)
            h = _stretched(v)
            loss = (self.outputs(self.floor + h, self.rows[chosen]) - self.target[chosen]).square().mean() / nearest
            place = (step / steps - WARM) / (1 - WARM)
            if place >= 0:
                beta, push = BETA[1] + (BETA[0] - BETA[1]) * (1 - place), PUSH[0] * (PUSH[1] / PUSH[0]) ** place
                loss = loss + push * (1 - (2 * h - 1).abs().pow(beta)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found = (self.floor + (_stretched(v.detach()) >= 0.5)).clamp(-self.most, self.most)
        return found if self.error(found) < nearest else self.old


def _stretched(v: Tensor) -> Tensor:
    low, high = STRETCH
    return (torch.sigmoid(v) * (high - low) + low).clamp(0, 1)


def _bias(codes: Graph, layer: CodeLayer, channels: int) -> NDArray[np.float32]:
    if not layer.bias:
        return np.zeros(channels, np.float32)
    bias = codes.weights[layer.bias]
    return (bias if layer.bias_step is None else bias.astype(np.float32) * layer.bias_step).astype(np.float32)
