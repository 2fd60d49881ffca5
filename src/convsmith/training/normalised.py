"""A network whose batch normalisation was folded, with one again behind every convolution, so that it can be trained further.

Without them the layers of an edited network differ in size by orders of magnitude, and an update that heals one breaks the next: a
ResNet-20 at a rate that training needs forgets what it knew. What is put in changes nothing at first: mean and deviation are those of
the convolution's output, and the normalisation's own scale and shift give them back. After the training they are folded again.

References: Ioffe, Szegedy 2015, arXiv:1502.03167, section 3.1 (scale and shift that restore what was there).
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convsmith.errors import DataError
from convsmith.graph import Graph, Node, with_weights
from convsmith.interop import pytorch
from convsmith.interop.torch_module import GraphModule
from convsmith.training.correction import correctable, moments, moved

Array = np.ndarray[Any, Any]

EPSILON: Final = 1e-5
SILENT: Final = 1e-6
"""Variance, as a part of the largest of the layer, at and below which a channel counts as constant and is left as it is."""


class NormalisedNetwork(nn.Module):
    """A graph as a torch module with trainable batch normalisation behind its convolutions; ``to_graph`` folds them.

    ``x_nchw``: images whose statistics it begins with; in evaluation mode it then computes what the graph does, to rounding.

    Raises: DataError without images.
    """

    def __init__(self, graph: Graph, x_nchw: NDArray[np.float32]) -> None:
        super().__init__()
        if not len(x_nchw):
            raise DataError("statistics are taken from images, at least one; got none")
        self.inner = pytorch.write(graph)
        assert isinstance(self.inner, GraphModule)
        self.norms = nn.ModuleList()
        self.places: dict[str, int] = {}
        self.inner.on_output = self._measure
        with torch.no_grad():
            self.inner.eval()(torch.from_numpy(x_nchw))
        self.inner.on_output = self._normalise

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.inner(x))

    def to_graph(self) -> Graph:
        """Return the graph with the weights as they are now, the normalisations in them."""
        graph = self.inner.to_graph()
        changed: dict[str, Array] = {}
        for name, place in self.places.items():
            gamma, beta, mean, variance = (vector.detach().double() for vector in vectors(self.norms[place]))
            scale = gamma / torch.sqrt(variance + EPSILON)
            changed |= moved(graph, graph.node(name), scale.numpy(), (beta - mean * scale).numpy())
        return with_weights(graph, changed)

    def _measure(self, node: Node, output: Tensor) -> Tensor:
        """Add a normalisation with the statistics of a convolution's output that gives the same output back."""
        if node.op != "Conv" or not correctable(self.inner.graph, node):
            return output
        mean, deviation = moments(output)
        variance = deviation.square()
        constant = variance <= SILENT * variance.max()
        # a channel that hardly moves would be blown up by what is left of it in a batch: it keeps a deviation of one
        variance = torch.where(constant, torch.ones_like(variance), variance)
        norm = nn.BatchNorm2d(output.shape[1], eps=EPSILON)
        for vector, value in zip(vectors(norm), (torch.sqrt(variance + EPSILON), mean, mean, variance), strict=True):
            vector.data.copy_(value)
        self.places[node.name] = len(self.norms)
        self.norms.append(norm)
        return output

    def _normalise(self, node: Node, output: Tensor) -> Tensor:
        place = self.places.get(node.name)
        return output if place is None else self.norms[place](output)


def vectors(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scale, shift, mean and variance of a batch normalisation."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    return norm.weight, norm.bias, norm.running_mean, norm.running_var
