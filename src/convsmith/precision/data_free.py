"""A trained network becomes codes without a single image: what its batch norms remember stands for what its layers give.

A layer before a batch norm gives numbers of mean ``beta`` and deviation ``|gamma|`` behind it, whatever the images. Normal numbers of that
kind are drawn in its place, and the network computes everything else from them: activations, additions, poolings, layers without a norm.
Ranges are taken from these numbers; channels are equalised; and the bias of each layer is moved by what rounding its weights does to the
mean of its output, which is the error of the weights times the mean of the input.

Half of the variance is one number for a whole channel and half is drawn for each pixel: neighbours in a feature map are alike, and a mean
over the map must keep a part of what varies from image to image.

References: Nagel et al. 2019, Data-free quantization through weight equalization and bias correction, arXiv 1906.04721, sections 4.1 and
4.2 (there with moments of clipped normal numbers in closed form, for ReLU alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph
from convsmith.precision.bias_correction import channel_means
from convsmith.precision.calibration import Ranges, calibrate
from convsmith.precision.code_layers import code_layers, with_bias_moved
from convsmith.precision.equalisation import equalise_by, pairs, reached, without_limits
from convsmith.precision.post_training import Coded, Recipe, ranged
from convsmith.precision.quantisation import quantise
from convsmith.redesign import fold_batch_norm
from convsmith.redesign.fold import producer

if TYPE_CHECKING:
    from torch import Tensor

    from convsmith.graph.network import Node
    from convsmith.precision.plan import Plan

Array = NDArray[np.float64]

DRAWN: Final = 32
"""Images' worth of numbers that are drawn: of a channel of 8 by 8 some 2,000, whose largest lie beyond three deviations."""


@dataclass(frozen=True)
class Normal:
    """Mean and deviation of each output channel of a layer."""

    mean: Array
    deviation: Array

    def divided(self, factor: Array | None) -> Normal:
        """Return what is known once each channel was divided by a factor."""
        return self if factor is None else Normal(self.mean / factor, self.deviation / factor)


def normals(graph: Graph) -> dict[str, Normal]:
    """Return what is known of the outputs of layers, by name, from the batch norms that will be folded into them."""
    found = {}
    for norm in graph:
        layer = producer(graph, norm) if norm.op == "BatchNormalization" else None
        if layer is not None:
            gamma, beta = (graph.weights[name].astype(np.float64) for name in norm.inputs[1:3])
            found[layer.name] = Normal(beta, np.abs(gamma))
    return found


def draw(graph: Graph, known: Mapping[str, Normal], low: Array, high: Array, seed: int = 0) -> tuple[Ranges, dict[str, Array]]:
    """Return the ranges of all activations and the mean of every value by channel, from numbers drawn in place of images.

    ``graph``: batch norm folded; ``low``, ``high``: of each channel of its input.
    """
    import torch

    generator = np.random.default_rng(seed)
    shape = (DRAWN, *graph.inputs[0].shape[1:])
    along = (1, -1, 1, 1)
    x = generator.uniform(low.reshape(along), high.reshape(along), shape)
    x[0], x[1] = low.reshape(along[1:]), high.reshape(along[1:])
    means = {graph.inputs[0].name: np.asarray((low + high) / 2)}

    def stand_in(node: Node, output: Tensor) -> Tensor:
        if node.name in known:
            normal, rank = known[node.name], output.dim() - 2
            shared = generator.standard_normal((*output.shape[:2], *[1] * rank))
            numbers = (shared + generator.standard_normal(tuple(output.shape))) / np.sqrt(2) if rank else shared
            spread = [values.reshape([1, -1] + [1] * rank) for values in (normal.mean, normal.deviation)]
            output = torch.from_numpy((spread[0] + spread[1] * numbers).astype(np.float32))
        if output.dim() > 1:
            means[node.outputs[0]] = channel_means(output)
        return output

    ranges = calibrate(graph, x.astype(np.float32), batch=DRAWN, stand_in=stand_in)
    return Ranges(ranges.tensors, 0), means


def move_biases(codes: Graph, graph: Graph, means: Mapping[str, Array]) -> Graph:
    """Return codes whose biases take back what rounding the weights of ``graph`` added to the mean outputs; borders are neglected."""
    moves = {}
    for layer in code_layers(codes):
        weight = graph.weights[graph.node(layer.node.name).inputs[1]].astype(np.float64)
        rounded = codes.weights[layer.codes].astype(np.float64) * layer.steps(codes)
        error, mean = rounded - weight, means[graph.node(layer.node.name).inputs[0]]
        if layer.node.op == "Conv":
            by_input = error.sum(axis=tuple(range(2, error.ndim)))
            groups = int(layer.node.attributes.get("group", 1))  # type: ignore[arg-type]
            read = np.repeat(mean.reshape(groups, -1), len(error) // groups, axis=0)
            moves[layer.node.name] = -(by_input * read).sum(axis=1)
        else:
            moves[layer.node.name] = -(mean @ (error.T if layer.node.attributes.get("transB", 0) else error))
    return with_bias_moved(codes, moves)


def without_images(graph: Graph, plan: Plan, low: Any, high: Any, *, seed: int = 0) -> Coded:
    """Return codes of a network with batch norms, made without images. ``low``, ``high``: what its input can be, by channel.

    Raises: UnsupportedError for a network that has no batch norm behind a layer.
    """
    known = normals(graph)
    if not known:
        raise UnsupportedError(
            "codes without images need the statistics of batch norms behind layers, and this network has none (they may be folded already);"
            " give at least two images"
        )
    folded, ends = fold_batch_norm(graph), (np.asarray(low, np.float64), np.asarray(high, np.float64))
    limitless = without_limits(folded, reached(folded, draw(folded, known, *ends, seed)[0]))
    paired = bool(pairs(limitless))
    made, factors = equalise_by(limitless) if paired else (folded, {})
    known = {name: normal.divided(factors.get(name)) for name, normal in known.items()}
    ranges, means = draw(made, known, *ends, seed)
    coded_plan = ranged(plan, "max")
    codes = move_biases(quantise(made, coded_plan, ranges), made, means)
    return Coded(codes, made, coded_plan, Recipe("max", ("equalise", "bias") if paired else ("bias",)))
