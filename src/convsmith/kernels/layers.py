"""Convolution, products, pooling and normalisation in NumPy, as ONNX defines them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.kernels.algorithms import ALGORITHMS
from convsmith.kernels.geometry import convolution_shape
from convsmith.kernels.windows import Array, resolve, view

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]


def optional(inputs: Inputs, index: int) -> Any:
    return inputs[index] if len(inputs) > index else None


def along_channels(values: Array, rank: int) -> Array:
    """Return a per-channel vector shaped to broadcast over NCHW of ``rank`` axes."""
    return values.reshape(-1, *(1,) * (rank - 2))


def conv(inputs: Inputs, a: Attributes, algorithm: str = "im2col") -> Array:
    x, w = inputs[0], inputs[1]
    if x.ndim == 3:
        raised = {key: (1, *value) if key in ("strides", "dilations", "kernel_shape") else value for key, value in a.items()}
        if "pads" in a:
            raised["pads"] = (0, a["pads"][0], 0, a["pads"][1])
        return conv((x[:, :, None], w[:, :, None], *inputs[2:]), raised, algorithm)[:, :, 0]
    shape = convolution_shape(x.shape, w.shape, a, str(x.dtype))
    method = ALGORITHMS[algorithm]
    y: Array = method.run(x, method.prepare(w, shape), shape)
    bias = optional(inputs, 2)
    return y if bias is None else y + along_channels(bias, 4)


def conv_transpose(inputs: Inputs, a: Attributes) -> Array:
    """Scatter every input pixel times the kernel; the adjoint of ``conv`` with the same attributes."""
    x, w, bias = inputs[0], inputs[1], optional(inputs, 2)
    strides, dilations = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    pads, extra, groups = a.get("pads", (0, 0, 0, 0)), a.get("output_padding", (0, 0)), a.get("group", 1)
    (n, channels, height, width), (rows, columns) = x.shape, w.shape[2:]
    full = [
        (size - 1) * s + d * (k - 1) + 1 + e
        for size, s, d, k, e in zip((height, width), strides, dilations, (rows, columns), extra, strict=True)
    ]
    breadth = w.shape[1]
    y = np.zeros((n, breadth * groups, *full), x.dtype)
    x_g, w_g = x.reshape(n, groups, channels // groups, height, width), w.reshape(groups, channels // groups, *w.shape[1:])
    for r, c in np.ndindex(rows, columns):
        part = np.einsum("ngchw,gck->ngkhw", x_g, w_g[..., r, c]).reshape(n, -1, height, width)
        top, left = r * dilations[0], c * dilations[1]
        y[:, :, top : top + strides[0] * height : strides[0], left : left + strides[1] * width : strides[1]] += part
    y = y[:, :, pads[0] : full[0] - pads[2], pads[1] : full[1] - pads[3]]
    return y if bias is None else y + along_channels(bias, 4)


def gemm(inputs: Inputs, a: Attributes) -> Array:
    x, w, bias = inputs[0], inputs[1], optional(inputs, 2)
    product: Array = (x.T if a.get("transA", 0) else x) @ (w.T if a.get("transB", 0) else w)
    product = product if a.get("alpha", 1.0) == 1 else a["alpha"] * product
    return product if bias is None else product + (bias if a.get("beta", 1.0) == 1 else a["beta"] * bias)


def max_pool(inputs: Inputs, a: Attributes) -> Array:
    x = inputs[0]
    windows = resolve(a, x.shape[2:], tuple(a["kernel_shape"]))
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.asarray(view(x, windows, least).max(axis=(4, 5)))


def average_pool(inputs: Inputs, a: Attributes) -> Array:
    """Average over the pixels of each window, padding counted when ``count_include_pad``; never what ceiling mode adds."""
    x = inputs[0]
    windows = resolve(a, x.shape[2:], tuple(a["kernel_shape"]))
    counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
    total = view(x, windows, 0.0).sum(axis=(4, 5))
    if a.get("count_include_pad", 0):
        counted = np.pad(counted, ((0, 0), (0, 0), *zip(windows.before, windows.after, strict=True)), constant_values=1)
        # the same windows: over a padded image of its own, ceiling mode would find one more that starts in the end padding
        windows = dataclasses.replace(windows, before=(0, 0), after=(0, 0))
    return np.asarray(total / view(counted, windows, 0.0).sum(axis=(4, 5)))


def batch_norm(inputs: Inputs, a: Attributes) -> Array:
    x: Array = inputs[0]
    scale, shift, mean, variance = (along_channels(vector.astype(x.dtype), x.ndim) for vector in inputs[1:5])
    return np.asarray((x - mean) * (scale / np.sqrt(variance + a.get("epsilon", 1e-5))) + shift)


def layer_norm(inputs: Inputs, a: Attributes) -> Array:
    x: Array = inputs[0]
    scale, shift = inputs[1], optional(inputs, 2)
    axes = tuple(range(a.get("axis", -1) % x.ndim, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    y: Array = centred / np.sqrt(np.mean(centred**2, axis=axes, keepdims=True) + a.get("epsilon", 1e-5)) * scale
    return y if shift is None else y + shift


def local_response_norm(inputs: Inputs, a: Attributes) -> Array:
    """Divide by ``(bias + alpha / size * sum of squares over near channels) ** beta``.

    References: Krizhevsky, Sutskever, Hinton 2012, section 3.3.
    """
    x: Array = inputs[0]
    size = a["size"]
    before, after = (size - 1) // 2, size // 2
    squares = np.pad(x**2, ((0, 0), (before, after), *((0, 0),) * (x.ndim - 2)))
    near = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(axis=-1)
    return np.asarray(x / (a.get("bias", 1.0) + a.get("alpha", 1e-4) / size * near) ** a.get("beta", 0.75))


def resize(inputs: Inputs, a: Attributes) -> Array:
    """Repeat pixels; ``UnsupportedError`` for anything but nearest neighbour by whole factors."""
    scales = optional(inputs, 2)
    exact = a.get("coordinate_transformation_mode") == "asymmetric" and a.get("nearest_mode") == "floor"
    if a.get("mode", "nearest") != "nearest" or scales is None or not exact or any(s != int(s) for s in scales):
        raise UnsupportedError("Resize other than nearest, asymmetric, floor, by whole scales")
    x = inputs[0]
    for axis, scale in enumerate(scales):
        x = np.repeat(x, int(scale), axis=axis)
    return np.asarray(x)
