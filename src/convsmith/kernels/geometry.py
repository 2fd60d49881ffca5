"""The sizes of one convolution: all that an algorithm may ask before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convsmith.errors import UsageError
from convsmith.kernels.windows import Windows, resolve


@dataclass(frozen=True)
class ConvolutionShape:
    """Sizes of one 2-D convolution; ``dtype`` is the NumPy name of the type it sums in."""

    batch: int
    in_channels: int
    size: tuple[int, ...]
    out_channels: int
    groups: int
    windows: Windows
    dtype: str = "float32"

    @property
    def output(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.windows.output)

    @property
    def products(self) -> int:
        """Return the number of products in one output."""
        rows, columns = self.windows.kernel
        return self.in_channels // self.groups * rows * columns


def convolution_shape(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: Mapping[str, Any], dtype: str = "float32"
) -> ConvolutionShape:
    """Return the sizes of a convolution of NCHW by KCRS; ``UsageError`` when the channels do not fit."""
    groups = int(attributes.get("group", 1))
    if x_shape[1] != w_shape[1] * groups or w_shape[0] % groups:
        raise UsageError(f"input {x_shape} has {x_shape[1]} channels, weights {w_shape} in {groups} groups need {w_shape[1] * groups}")
    windows = resolve(attributes, tuple(x_shape[2:]), tuple(w_shape[2:]))
    return ConvolutionShape(x_shape[0], x_shape[1], tuple(x_shape[2:]), w_shape[0], groups, windows, dtype)
