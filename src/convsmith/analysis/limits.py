"""What bounds each layer: the least time its arithmetic and its traffic need on a machine, beside the time it was measured to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from convsmith.analysis.cost_report import Column, Layer, Report
from convsmith.kernels.machine_speed import Speed

OVERHEAD: Final = 4
"""A layer that takes more than so many times its roofline is bound by neither limit: calls, transforms, shapes that fill no vector."""

Bound = Literal["compute", "memory", "overhead"]


@dataclass(frozen=True)
class Limit:
    """One layer against the machine.

    ``compute_s``: its multiply-accumulates at the peak rate, directly summed, so that Winograd may be quicker. ``memory_s``: inputs,
    weights and outputs once each; weights come from where all weights of the network fit, activations from where the layer's fit.
    ``measured_s``: None where it was not measured or is done within another layer's step.
    """

    name: str
    compute_s: float
    memory_s: float
    measured_s: float | None = None

    @property
    def roofline_s(self) -> float:
        return max(self.compute_s, self.memory_s)

    @property
    def bound(self) -> Bound:
        """What keeps it from being faster; without a measurement the larger of the two limits."""
        if self.measured_s is not None and self.measured_s > OVERHEAD * self.roofline_s:
            return "overhead"
        return "compute" if self.compute_s >= self.memory_s else "memory"

    def to_dict(self, total_s: float) -> dict[str, Any]:
        """Return plain numbers; ``share`` is of ``total_s``, the time of all measured layers."""
        return {
            "compute_s": self.compute_s,
            "memory_s": self.memory_s,
            "roofline_s": self.roofline_s,
            "measured_s": self.measured_s,
            "share": None if self.measured_s is None or not total_s else self.measured_s / total_s,
            "bound": self.bound,
        }


def roofline(report: Report, speed: Speed, measured: Mapping[str, float] | None = None) -> tuple[Limit, ...]:
    """Return the limit of each layer in order; ``measured``: seconds by layer.

    References: Williams, Waterman, Patterson 2009, Roofline, doi:10.1145/1498765.1498785; with a bandwidth for each size of data.
    """
    return tuple(limit(layer, speed, report.weight_bytes, (measured or {}).get(layer.name)) for layer in report.layers)


def limit(layer: Layer, speed: Speed, all_weights_bytes: int, measured_s: float | None = None) -> Limit:
    """Return the limit of one layer of a network that has so many bytes of weights in all."""
    moved = max(0, layer.traffic_bytes - layer.weight_bytes)
    memory_s = moved / speed.bytes_per_s(moved) + layer.weight_bytes / speed.bytes_per_s(all_weights_bytes)
    return Limit(layer.name, 2 * layer.macs / speed.flops_per_s, memory_s, measured_s)


def columns(limits: Sequence[Limit]) -> tuple[Column, ...]:
    """Return roofline time, measured time, share of the measured sum and what bounds each layer, as columns of the report's table."""
    total_s = sum(limit.measured_s or 0.0 for limit in limits)
    alone = [x.measured_s is not None or not total_s for x in limits]
    least_s = sum(x.roofline_s for x, own in zip(limits, alone, strict=True) if own)
    roofs = [duration(x.roofline_s) if own else "" for x, own in zip(limits, alone, strict=True)]
    shown = [Column("roofline", roofs, duration(least_s))]
    if total_s:
        shown += [
            Column("measured", ["" if x.measured_s is None else duration(x.measured_s) for x in limits], duration(total_s)),
            Column("share", ["" if x.measured_s is None else f"{100 * x.measured_s / total_s:.1f} %" for x in limits]),
        ]
    return (*shown, Column("bound by", [x.bound if own else "fused" for x, own in zip(limits, alone, strict=True)]))


def duration(seconds: float) -> str:
    """Return three significant digits with s, ms or us; nothing for less than a nanosecond."""
    for limit_s, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= 0.9995 * limit_s:
            return f"{seconds / limit_s:.3g} {unit}"
    return f"{seconds / 1e-6:.2g} us" if seconds >= 1e-9 else ""
