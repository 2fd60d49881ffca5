"""What a file of a network carries: the graph, what pixels become first, labels, and how far its scores can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from convsmith import __version__
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.graph.network import Graph
from convsmith.redesign import fold_batch_norm

FILE_VERSION = 2
PREFIX = "convsmith."


class Quantiser(Protocol):
    """What decides on the number formats of a graph: ``precision.Plan``, which this room must not know, since it reaches torch."""

    def quantise(self, graph: Graph, ranges: Any = None) -> Graph:
        """Return the graph with QuantizeLinear and DequantizeLinear where tensors become codes."""
        ...

    def quant_nodes(self, graph: Graph, ranges: Any = None) -> Graph:
        """Return the graph with QONNX's Quant and BipolarQuant after every tensor that is rounded."""
        ...


@dataclass(frozen=True)
class Confidence:
    """How scores are made of logits, and when no class is named.

    ``temperature``: logits are divided by it before the softmax. ``threshold``: an image whose best score is below it gets no class.
    """

    temperature: float = 1.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 <= self.threshold <= 1):
            raise UsageError(f"temperature {self.temperature} must be above 0, threshold {self.threshold} from 0 to 1")


@dataclass(frozen=True)
class Shipment:
    """A network with everything a file of it needs. ``plan`` and its ``ranges``: number formats, for the targets that speak them."""

    graph: Graph
    preprocess: Preprocess
    classes: tuple[str, ...]
    confidence: Confidence = field(default_factory=Confidence)
    metadata: Mapping[str, str] = field(default_factory=dict)
    plan: Quantiser | None = None
    ranges: Any = None

    @property
    def folded(self) -> Graph:
        """The graph without batch norm."""
        return fold_batch_norm(self.graph)

    @property
    def planned(self) -> Graph:
        """The folded graph, with QuantizeLinear and DequantizeLinear where there is a plan."""
        return self.folded if self.plan is None else self.plan.quantise(self.graph, self.ranges)

    def fields(self) -> dict[str, str]:
        """Return the metadata that every file carries: what was given, labels, preprocessing, temperature and threshold."""
        return {
            **self.metadata,
            "file_version": str(FILE_VERSION),
            "version": __version__,
            "labels": json.dumps(list(self.classes)),
            "preprocess": json.dumps(self.preprocess.to_dict()),
            "temperature": repr(float(self.confidence.temperature)),
            "threshold": repr(float(self.confidence.threshold)),
        }
