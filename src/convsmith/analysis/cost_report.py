"""The cost report: one record a layer, and its text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convsmith.analysis.memory import Peak
from convsmith.analysis.receptive_field import Field
from convsmith.graph import Shape

FLOAT32_BYTES = 4
HEADINGS = ("layer", "operator", "output", "parameters", "MACs", "memory", "sees", "stride", "starts", "ops/byte")


@dataclass(frozen=True)
class Layer:
    """The cost of one node for one batch.

    ``macs``: multiply-accumulates of convolutions and matrix products, biases not counted, as papers count them.
    ``activation_bytes``: its outputs in float32. ``traffic_bytes``: inputs, weights and outputs once each.
    ``intensity``: operations a byte of traffic, two operations a multiply-accumulate.
    """

    name: str
    op: str
    output_shape: Shape
    parameters: int
    macs: int
    activation_bytes: int
    traffic_bytes: int
    field: Field | None

    @property
    def weight_bytes(self) -> int:
        return self.parameters * FLOAT32_BYTES

    @property
    def intensity(self) -> float:
        return 2 * self.macs / self.traffic_bytes if self.traffic_bytes else 0.0


@dataclass(frozen=True)
class Column:
    """One more column of the table: a cell for each layer and one for the line of totals."""

    heading: str
    cells: Sequence[str]
    total: str = ""


@dataclass(frozen=True)
class Report:
    """The cost of a graph, layer by layer in execution order."""

    graph: str
    batch: int
    input_shape: Shape
    layers: tuple[Layer, ...]
    peak: Peak

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """All outputs together; what must be alive at once is ``peak.activation_bytes``."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        return self.parameters * FLOAT32_BYTES

    @property
    def intensity(self) -> float:
        traffic = sum(layer.traffic_bytes for layer in self.layers)
        return 2 * self.macs / traffic if traffic else 0.0

    def layer(self, name: str) -> Layer:
        """Return the layer of that node; ``KeyError`` when there is none."""
        return {layer.name: layer for layer in self.layers}[name]

    def table(self, more: Sequence[Column] = ()) -> str:
        """Return the report as text, one line a layer and one of totals, with ``more`` columns at the right."""
        return text(self, more)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and text for JSON."""
        layers = [{**asdict(layer), "weight_bytes": layer.weight_bytes, "intensity": layer.intensity} for layer in self.layers]
        names = ("parameters", "macs", "activation_bytes", "weight_bytes", "intensity")
        return {
            "graph": self.graph,
            "batch": self.batch,
            "input_shape": list(self.input_shape),
            "totals": {name: getattr(self, name) for name in names}
            | {"peak_activation_bytes": self.peak.activation_bytes, "peak_node": self.peak.node},
            "layers": layers,
        }


def text(report: Report, more: Sequence[Column] = ()) -> str:
    """Return aligned columns: one line a layer, then totals."""
    added = [column.heading for column in more]
    rows = [(*HEADINGS, *added), *((*row(layer), *(c.cells[index] for c in more)) for index, layer in enumerate(report.layers))]
    total = f"{report.parameters:,}", quantity(report.macs), size(report.activation_bytes)
    rows.append(("total", "", "", *total, "", "", "", f"{report.intensity:.1f}", *(column.total for column in more)))
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))) for line in rows
    ]
    rule = "-" * len(lines[0])
    peak = f"peak activation memory {size(report.peak.activation_bytes)} at {report.peak.node or 'the input'}"
    summary = f"{report.graph}: input {dimensions(report.input_shape)}, {peak}, weights {size(report.weight_bytes)}"
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:-1], rule, lines[-1], summary))


def row(layer: Layer) -> tuple[str, ...]:
    parameters = f"{layer.parameters:,}" if layer.parameters else ""
    macs, intensity = (quantity(layer.macs), f"{layer.intensity:.1f}") if layer.macs else ("", "")
    return (
        layer.name,
        layer.op,
        dimensions(layer.output_shape),
        parameters,
        macs,
        size(layer.activation_bytes),
        *seen(layer.field),
        intensity,
    )


def seen(field: Field | None) -> tuple[str, str, str]:
    if field is None:
        return "?", "", ""
    return both(field.size), both(field.stride) if field.axes else "", both(field.offset)


def both(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def quantity(number: int) -> str:
    """Return three significant digits with k, M or G."""
    for limit, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)


def size(amount_bytes: int) -> str:
    """Return three significant digits with KiB, MiB or GiB."""
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if amount_bytes >= limit:
            return f"{amount_bytes / limit:.3g} {unit}"
    return f"{amount_bytes} B"
