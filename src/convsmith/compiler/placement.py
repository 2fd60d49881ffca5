"""Which values are written straight into the concatenation that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from convsmith.graph import Graph, Shape

WRITERS: Final = frozenset(
    {"FusedConv", "FusedGemm", "Conv", "Gemm", "ConvTranspose", "MaxPool", "AveragePool", "Concat", "Add", "Mul", "Sub", "LRN"}
    | {"IntegerConv", "IntegerAveragePool"}
)
"""Operators whose step can write a slice of a wider array, and never only give another view of an old one."""


@dataclass(frozen=True)
class Placement:
    """A value lies in the result of node output ``concat``, from element ``first`` of its ``axis`` on."""

    concat: str
    axis: int
    first: int


def placements(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Placement]:
    """Return the place of each value that can be written into a concatenation; of several concatenations the first counts.

    Outputs of the graph are arrays of their own, and stay out.
    """
    producers = {output: node.op for node in graph for output in node.outputs}
    outputs = {value.name for value in graph.outputs}
    found: dict[str, Placement] = {}
    for node in graph:
        if node.op != "Concat":
            continue
        rank = len(shapes[node.outputs[0]])
        axis, first = int(node.attributes["axis"]) % rank, 0  # type: ignore[arg-type]
        for name in node.inputs:
            # only slices of the innermost axis leave the rows of a matrix, or the pixels of an image, evenly spaced
            if axis == 1 and rank in (2, 4) and producers.get(name) in WRITERS and name not in outputs and name not in found:
                found[name] = Placement(node.outputs[0], axis, first)
            first += shapes[name][axis]
    return found
