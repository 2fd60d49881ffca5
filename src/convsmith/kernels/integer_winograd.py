"""Winograd's convolution of 8-bit codes in NumPy, rounded to 8 bits at each point: what ``int8_winograd_`` must equal bit for bit.

Windows of codes less their zero point are transformed in whole numbers. At each point a tile's transforms are scaled by their largest over
all channels to 127 and rounded, halves to even; weights likewise by their largest of the point and output channel. The products of both are
summed exactly; float32 of the sum, times the product of both scales, is transformed back, and the nearest whole number is the sum.

References: Li, Jia, Feng, Wang 2021, LoWino: Towards Efficient Low-Precision Winograd Convolutions on Modern CPUs (ICPP).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from convsmith.kernels import integers
from convsmith.kernels.geometry import ConvolutionShape

Array = np.ndarray[Any, Any]
F = np.float32

SIDES: Final = {"int8_winograd_2x2_3x3": 2, "int8_winograd_4x4_3x3": 4}
"""Outputs of a tile's side."""

#: By outputs of a side, what kernels are multiplied with at 0, at infinity and at each pair of points, and the powers of the pair's.
POINTS: Final = {
    2: (F(1), F(1), ((F(0.5), (F(1), F(1), F(1), F(1))),)),
    4: (
        F(0.5),
        F(0.5),
        (
            (F(-2.0) / F(3), (F(1), F(0.707106781), F(0.5), F(0.353553391))),
            (F(1) / F(12), (F(1), F(1.414213562), F(2), F(2.828427125))),
        ),
    ),
}


def window_axis(d: Array, m: int) -> Array:
    """Transform the first axis of whole numbers; those times the root of 1/2 are rounded as by the processor's 16-bit multiplication."""

    def rooted(v: Array) -> Array:
        return np.asarray((v * 23170 + (1 << 14)) >> 15)

    if m == 2:
        return np.stack([d[0] - d[2], d[2] + d[1], d[2] - d[1], d[3] - d[1]])
    even1, odd1 = d[4] - 2 * d[2], rooted(d[3] - 2 * d[1])
    even2, odd2 = 2 * d[4] - d[2], rooted(2 * (2 * d[3] - d[1]))
    pairs = [even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2]
    return np.stack([2 * (d[0] + d[4]) - 5 * d[2], *pairs, 2 * (d[1] + d[5]) - 5 * d[3]])


def kernel_axis(g: Array, m: int) -> Array:
    """Transform the first axis of three taps to the points, in float32."""
    zero, last, pairs = POINTS[m]
    found = [zero * g[0]]
    for scale, powers in pairs:
        even, odd = scale * g[0] + scale * powers[2] * g[2], scale * powers[1] * g[1]
        found += [even + odd, even - odd]
    return np.stack([*found, last * g[2]])


def output_axis(t: Array, m: int) -> Array:
    """Transform the first axis of points back to ``m`` outputs, in float32."""
    pairs = POINTS[m][2]
    both = [(t[1 + 2 * i] + t[2 + 2 * i], t[1 + 2 * i] - t[2 + 2 * i]) for i in range(len(pairs))]
    found = []
    for i in range(m):
        total = pairs[0][1][i] * both[0][i % 2]
        for (_, powers), parts in zip(pairs[1:], both[1:], strict=True):
            total = total + powers[i] * parts[i % 2]
        if i == 0:
            total = total + t[0]
        found.append(total + t[-1] if i == m - 1 else total)
    return np.stack(found)


def rounded(values: Array, largest: Array) -> Array:
    """Return the codes -127 to 127 of values scaled by their largest; of zeros zeros."""
    with np.errstate(divide="ignore"):
        factor = np.where(largest > 0, F(127) / largest.astype(F), F(0))
    return np.asarray(np.rint(values.astype(F) * factor)).astype(np.int64)


def weight_points(w_kcrs: Array, m: int) -> tuple[Array, Array]:
    """Return the codes ``(a, a, k, c)`` of transformed weights, and the scales ``(a, a, k)``."""
    taps = w_kcrs.astype(F).transpose(2, 3, 0, 1)
    points = kernel_axis(kernel_axis(taps, m).swapaxes(0, 1), m).swapaxes(0, 1)
    largest = np.abs(points).max(axis=-1, keepdims=True)
    return rounded(points, largest), (largest / F(127))[..., 0]


def window_points(x_nhwc: Array, zero: int, shape: ConvolutionShape, m: int) -> tuple[Array, Array]:
    """Return the codes ``(a, a, n, tiles down, tiles across, c)`` of transformed windows, and the scales without the channels."""
    a, (rows, columns), (top, left) = m + 2, shape.windows.output, shape.windows.before
    down, across = -(-rows // m), -(-columns // m)
    padded = np.zeros((shape.batch, down * m + 2, across * m + 2, shape.in_channels), np.int64)
    seen = x_nhwc.astype(np.int64)[:, : padded.shape[1] - top, : padded.shape[2] - left] - zero
    padded[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
    windows = np.lib.stride_tricks.sliding_window_view(padded, (a, a), (1, 2))[:, ::m, ::m]
    points = window_axis(window_axis(windows.transpose(4, 5, 0, 1, 2, 3), m).swapaxes(0, 1), m).swapaxes(0, 1)
    largest = np.abs(points).max(axis=-1, keepdims=True)
    return rounded(points, largest), (largest.astype(F) / F(127))[..., 0]


def sums(name: str, x_nhwc: Array, zero: int, w_kcrs: Array, shape: ConvolutionShape) -> Array:
    """Return the whole sums NHWK, without bias."""
    m, (rows, columns) = SIDES[name], shape.windows.output
    (x, x_scale), (w, w_scale) = window_points(x_nhwc, zero, shape, m), weight_points(w_kcrs, m)
    products = np.einsum("ijnuvc,ijkc->ijnuvk", x, w).astype(F) * (x_scale[..., None] * w_scale[:, :, None, None, None, :])
    y = output_axis(output_axis(products, m).swapaxes(0, 1), m).swapaxes(0, 1)
    whole = np.rint(y).astype(np.int64).transpose(2, 3, 0, 4, 1, 5)
    n, down, _, across, _, k = whole.shape
    return np.ascontiguousarray(whole.reshape(n, down * m, across * m, k)[:, :rows, :columns])


def convolve(name: str, x_nhwc: Array, zero: int, w_kcrs: Array, shape: ConvolutionShape, epilogue: integers.IntegerEpilogue) -> Array:
    """Return NHWK of the epilogue's type from codes of either sign; padding counts as ``zero``."""
    return integers.finish(sums(name, x_nhwc, zero, w_kcrs, shape), epilogue)
