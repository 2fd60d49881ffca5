"""Where the windows of a convolution or pooling lie: sizes, padding and stride of two axes, resolved to plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convsmith.errors import UsageError

Array = np.ndarray[Any, Any]
Sides = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """Windows over the spatial axes; ``beyond`` is what ceiling mode adds after the declared end padding."""

    kernel: Sides
    strides: Sides
    dilations: Sides
    before: Sides
    after: Sides
    beyond: Sides
    output: Sides


def resolve(attributes: Mapping[str, Any], size: Sides, kernel: Sides) -> Windows:
    """Return the windows over an image of ``size``, from ONNX attributes (``auto_pad`` and ``ceil_mode`` included).

    Raises: ``UsageError`` when no window fits.
    """
    rank = len(size)
    strides = tuple(attributes.get("strides", (1,) * rank))
    dilations = tuple(attributes.get("dilations", (1,) * rank))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    before, after = padding(attributes, size, strides, reach)
    output, beyond = [], []
    for n, k, s, b, a in zip(size, reach, strides, before, after, strict=True):
        room = n + b + a - k
        if room < 0:
            raise UsageError(f"a window of {k} does not fit in {n} with padding {b} and {a}")
        count = room // s + 1
        if attributes.get("ceil_mode", 0) and room % s and count * s < n + b:
            count += 1  # a window that would start in the end padding is dropped
        output.append(count)
        beyond.append(max(0, (count - 1) * s - room))
    return Windows(kernel, strides, dilations, before, after, tuple(beyond), tuple(output))


def padding(attributes: Mapping[str, Any], size: Sides, strides: Sides, reach: Sides) -> tuple[Sides, Sides]:
    """Return the padding before and after each axis."""
    mode, rank = attributes.get("auto_pad", "NOTSET"), len(size)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in zip(size, strides, reach, strict=True)]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        return (small, large) if mode == "SAME_UPPER" else (large, small)
    pads = tuple(attributes.get("pads", (0,) * 2 * rank)) if mode == "NOTSET" else (0,) * 2 * rank
    return pads[:rank], pads[rank:]


def view(x_nchw: Array, windows: Windows, value: float) -> Array:
    """Return a read-only view ``(n, c, out rows, out columns, kernel rows, kernel columns)`` of the input padded with ``value``."""
    ends = tuple(a + e for a, e in zip(windows.after, windows.beyond, strict=True))
    if any(windows.before) or any(ends):
        x_nchw = np.pad(x_nchw, ((0, 0), (0, 0), *zip(windows.before, ends, strict=True)), constant_values=value)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(windows.dilations, windows.kernel, strict=True))
    everywhere = np.lib.stride_tricks.sliding_window_view(x_nchw, reach, axis=(2, 3))
    (sr, sc), (dr, dc), (rows, columns) = windows.strides, windows.dilations, windows.output
    return everywhere[:, :, ::sr, ::sc, ::dr, ::dc][:, :, :rows, :columns]
