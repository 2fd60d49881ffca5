"""The network reads smaller images.

Convolutions and pooling do not mind; the cost of all of them falls with the number of pixels. What was trained at one size is another
function at the next, and objects look smaller to it: accuracy falls without training at the new size. Preprocessing must change too.

Cost: ``(height width) / (old height old width)`` of the multiplications before the classifier, up to rounding in strides.
References: Howard et al. 2017, arXiv:1704.04861, section 3.4 (resolution multiplier); Touvron et al. 2019, arXiv:1906.06423.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from convsmith.analysis import analyse
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, infer_shapes
from convsmith.redesign.edit import Edit

SHARES: Final = (0.75, 0.875)
"""Sides that proposals try, as parts of the old one."""


def apply(graph: Graph, edit: Edit) -> Graph:
    """Give the only image input another ``height`` and ``width``."""
    height, width = edit.whole("height"), edit.whole("width")
    value = graph.inputs[0]
    if len(graph.inputs) != 1 or len(value.shape) != 4:
        raise UnsupportedError("only a network with one input of images can read smaller ones")
    changed = dataclasses.replace(graph, inputs=(dataclasses.replace(value, shape=(*value.shape[:2], height, width)),))
    before = infer_shapes(graph)
    try:
        after = infer_shapes(changed)
    except UsageError as error:
        raise UnsupportedError(f"images of {height}x{width} do not fit the network: {error}") from None
    if any(before[output.name] != after[output.name] for output in graph.outputs):
        raise UnsupportedError(f"images of {height}x{width} change the shape of the network's output; it has no global pooling")
    return changed


def propose(graph: Graph) -> list[Edit]:
    """Propose three quarters and seven eighths of the side, where the network allows it and it saves something."""
    edits = []
    shape = graph.inputs[0].shape if graph.inputs else ()
    if len(graph.inputs) == 1 and len(shape) == 4 and min(shape[2:]) >= 16:
        for share in SHARES:
            edit = Edit("input", "", {"height": round(shape[2] * share), "width": round(shape[3] * share)})
            try:
                if analyse(apply(graph, edit)).macs < analyse(graph).macs:
                    edits.append(edit)
            except UnsupportedError:
                continue
    return edits
