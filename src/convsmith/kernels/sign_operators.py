"""Operators on signs as the compiler makes them: the plain interpretation, on arrays of -1 and 1.

``PackSigns``, ``UnpackSigns``, ``BinaryConv`` and ``SignPool`` are the compiler's own. Weights are bits ``[k, r, s, bytes, planes]``, of
channels from the lowest bit of each byte on: a set bit of the first plane is -1, and of the second, if there is one, says "not zero".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from convsmith.errors import DataError
from convsmith.kernels import layers
from convsmith.kernels.windows import Array

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]


def refuse_nan(count: int, size: int) -> None:
    """Raise ``DataError`` where numbers that become signs are NaN."""
    if count:
        raise DataError(f"{count} of {size} numbers are NaN and have no sign; look for the layer that made them with an earlier output")


def pack_signs(inputs: Inputs, a: Attributes) -> Array:
    """Return -1 for negative numbers and 1 for all others, both zeros among them."""
    x: Array = inputs[0]
    refuse_nan(int(np.isnan(x).sum()), x.size)
    return np.where(x < 0, np.asarray(-1, x.dtype), np.asarray(1, x.dtype))


def weights_of(bits: Array, channels: int) -> Array:
    """Return the weights -1, 0 and 1 as float32 KCRS."""
    planes = np.unpackbits(np.ascontiguousarray(np.moveaxis(bits, 4, 0)), axis=-1, bitorder="little")[..., :channels]
    w_krsc = 1 - 2 * planes[0].astype(np.float32)
    if len(planes) > 1:
        w_krsc *= planes[1]
    return np.ascontiguousarray(w_krsc.transpose(0, 3, 1, 2))


def rows_as_images(x: Array, channels: int) -> Array:
    """Return rows of numbers, channel after channel, as images of one line."""
    return x.reshape(len(x), channels, 1, -1)


def binary_conv(inputs: Inputs, a: Attributes) -> Array:
    """Convolve signs by weights of -1, 0 and 1, with zeros around the images, or ones where ``border`` is "one".

    ``rows``: a product of rows by weights.

    ``result`` "float32": sums times the third input plus the fourth; "signs": -1 where the third input times a sum is less than the fourth.
    """
    x, w = inputs[0], weights_of(inputs[1], a["channels"])
    if a["rows"]:
        x = rows_as_images(x, a["channels"])
    if a.get("border") == "one":
        top, left, bottom, right = a["pads"]
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=1)
        a = {**a, "pads": (0, 0, 0, 0)}
    sums = layers.conv((x.astype(np.float64), w.astype(np.float64)), a)
    first, second = (layers.along_channels(values, 4) for values in inputs[2:4])
    if a["result"] == "signs":
        y = np.where(first * sums < second, np.asarray(-1, x.dtype), np.asarray(1, x.dtype))
    else:
        y = first.astype(x.dtype) * sums.astype(x.dtype) + second.astype(x.dtype)
    return y[:, :, 0, 0] if a["rows"] else y


def sign_pool(inputs: Inputs, a: Attributes) -> Array:
    """Return the largest sign of each window, or the smallest in the channels that the second input marks."""
    turn = layers.along_channels(1 - 2 * inputs[1].astype(inputs[0].dtype), 4)
    return np.asarray(layers.max_pool((inputs[0] * turn,), a) * turn)


OPERATORS: Final[dict[str, Callable[[Inputs, Attributes], Array]]] = {
    "PackSigns": pack_signs,
    "UnpackSigns": lambda inputs, a: inputs[0],
    "BinaryConv": binary_conv,
    "SignPool": sign_pool,
}
