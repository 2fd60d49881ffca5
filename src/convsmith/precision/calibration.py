"""The ranges that activations take on calibration images, from which integer step sizes and fixed-point integer bits follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import DataError, UsageError
from convsmith.graph.network import Graph
from convsmith.precision.assignment import tensors

if TYPE_CHECKING:
    from torch import Tensor

    from convsmith.graph.network import Node

SAMPLE: Final = 1 << 16
"""Values of one tensor that are kept for percentiles, evenly spaced in the order of computation; their number never exceeds twice this."""

FITTED: Final = 1 << 13
"""Values of one tensor from which a range of least error is found."""


@dataclass(frozen=True)
class Range:
    """The smallest and largest value seen, always including zero, and a sorted sample of the values."""

    low: float
    high: float
    sample: NDArray[np.float32]

    def inner(self, percentile: float) -> tuple[float, float]:
        """Return the range that leaves out ``100 - percentile`` percent of the values at either end; it includes zero."""
        low, high = np.percentile(self.sample, (100 - percentile, percentile)).tolist() if self.sample.size else (0.0, 0.0)
        return max(self.low, min(low, 0.0)), min(self.high, max(high, 0.0))

    def least_error(self, fmt: formats.Format) -> tuple[float, float]:
        """Return the range of 100 fractions of the whole whose rounding to an integer format has the least squared error."""
        if not self.sample.size:
            return 0.0, 0.0
        part = self.sample[:: max(1, self.sample.size // FITTED)]
        found = formats.fit_mse(np.append(part, np.array([self.low, self.high], np.float32)), fmt)
        step, zero = float(found.scale), float(found.zero_point)
        return min(0.0, (formats.min_value(fmt) - zero) * step), max(0.0, (formats.max_value(fmt) - zero) * step)


@dataclass(frozen=True)
class Ranges:
    """Ranges by tensor name, and the number of images they were seen on."""

    tensors: Mapping[str, Range]
    images: int

    def __getitem__(self, tensor: str) -> Range:
        if tensor not in self.tensors:
            raise UsageError(f"the calibration has no tensor {tensor!r}; calibrate the same network, batch norm folded, as you emulate")
        return self.tensors[tensor]

    def to_dict(self) -> dict[str, Any]:
        return {"images": self.images, "tensors": {name: [found.low, found.high] for name, found in self.tensors.items()}}


def calibrate(graph: Graph, x_nchw: Any, *, batch: int = 64, stand_in: Callable[[Node, Tensor], Tensor] | None = None) -> Ranges:
    """Run the network in float32 and return the range of every activation a plan can speak of, the input included.

    ``graph`` should have its batch norm folded, as ``emulate`` and ``scorer`` do. ``stand_in``: returns what takes the place of what a
    node gave.

    Shapes: ``x_nchw`` float32 ``(n, channels, height, width)``, a NumPy array or torch tensor.
    Raises: ``DataError`` without images or when an activation is not finite.
    """
    import torch

    from convsmith.interop import pytorch

    x = torch.as_tensor(x_nchw)
    if x.ndim != 4 or not len(x):
        raise DataError(f"calibration needs float32 images (n, channels, height, width), at least one; got shape {tuple(x.shape)}")
    wanted = {tensor.tensor for tensor in tensors(graph) if tensor.role == "activation"}
    seen = {name: _Watch() for name in wanted}
    module = pytorch.write(graph).eval()

    def note(node: Node, output: Any) -> Any:
        output = output if stand_in is None else stand_in(node, output)
        if node.outputs[0] in seen:
            seen[node.outputs[0]].add(output.detach().numpy())
        return output

    module.on_output = note
    with torch.no_grad():
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            for value in graph.inputs:
                seen[value.name].add(part.numpy())
            module(part)
    return Ranges({name: watch.range(name) for name, watch in seen.items()}, len(x))


def integer_bits(largest: float) -> int:
    """Return the integer bits, sign included, of the smallest two's complement range that holds +-``largest``; 1 for zero.

    The exponent is read from the number's bits, not from a logarithm: 1.0 needs <2,FL>, 0.99 needs <1,FL>.
    """
    if not math.isfinite(largest):
        raise UsageError(f"a range of {largest} has no fixed-point format")
    return math.frexp(abs(largest))[1] + 1 if largest else 1


class _Watch:
    """Running extremes and an evenly spaced sample whose spacing doubles when it is full."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.finite = True
        self.step = 1
        self.seen = 0
        self.parts: list[NDArray[np.float32]] = []
        self.held = 0

    def add(self, values: NDArray[np.float32]) -> None:
        flat = values.reshape(-1)
        if not flat.size:
            return
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.finite = self.finite and math.isfinite(self.low) and math.isfinite(self.high) and not np.isnan(flat).any()
        part = flat[-self.seen % self.step :: self.step].copy()
        self.seen += flat.size
        self.parts.append(part)
        self.held += part.size
        while self.held > 2 * SAMPLE:
            self.parts = [np.concatenate(self.parts)[::2]]
            self.held = self.parts[0].size
            self.step *= 2

    def range(self, name: str) -> Range:
        if not self.finite:
            raise DataError(f"activation {name!r} is not finite on the calibration images; the network or its input is broken")
        sample = np.concatenate(self.parts) if self.parts else np.empty(0, np.float32)
        return Range(self.low, self.high, np.sort(sample))
