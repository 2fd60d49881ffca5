"""Where the factors of rounded products lie: matrix products and convolutions as one gathered matrix product.

Output (i, j) of group g is the sum over the terms t, in ascending order, of the products

    a[g a_group + a_rows[i] + a_terms[t]] * b[g b_group + b_columns[j] + b_terms[t]]

where the second factor is 0 unless ``column_y[j] + term_y[t]`` is in [0, height) and ``column_x[j] + term_x[t]`` in [0, width), which is
how padding comes in. It is stored at ``out[g out_group + out_rows[i] + out_columns[j]]``, and that position is its number for random bits.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.kernels.geometry import ConvolutionShape

I64 = NDArray[np.int64]

#: The tables, in the order in which native/bind_rounded.cc takes them.
TABLES: Final = (
    *("a_rows", "a_terms", "b_columns", "column_y", "column_x"),
    *("b_terms", "term_y", "term_x", "out_rows", "out_columns"),
)

#: Images that fill a vector, and the width of maps up to which `images_last` pays.
_LEAST_IMAGES: Final = 16
_WIDEST: Final = 32


@dataclass(frozen=True, eq=False)
class Product:
    """The tables of one gathered matrix product; offsets in elements."""

    a_rows: I64
    a_terms: I64
    b_columns: I64
    column_y: I64
    column_x: I64
    b_terms: I64
    term_y: I64
    term_x: I64
    height: int
    width: int
    out_rows: I64
    out_columns: I64
    groups: int = 1
    a_group: int = 0
    b_group: int = 0
    out_group: int = 0


def _steps(*axes: tuple[int, int]) -> I64:
    """Return the offsets of all index tuples in C order, from the (count, stride) of each axis."""
    total = np.zeros(1, np.int64)
    for count, stride in axes:
        total = (total[:, None] + np.arange(count, dtype=np.int64) * stride).reshape(-1)
    return total


@functools.lru_cache(maxsize=64)
def matrix(m: int, n: int, k: int, a_strides: tuple[int, int], b_strides: tuple[int, int]) -> Product:
    """Return the tables of an ordinary product; strides are those of ``a[i, k]`` and ``b[k, j]``."""
    none_n, none_k = np.zeros(n, np.int64), np.zeros(k, np.int64)
    return Product(
        _steps((m, a_strides[0])),
        _steps((k, a_strides[1])),
        _steps((n, b_strides[1])),
        none_n,
        none_n,
        _steps((k, b_strides[0])),
        none_k,
        none_k,
        1,
        1,
        _steps((m, n)),
        _steps((n, 1)),
    )


@functools.lru_cache(maxsize=64)
def along_axes(shape: tuple[int, ...], summed: tuple[int, ...]) -> Product:
    """Return the tables of a sum over some axes in C order, as the product of a one with every element."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    terms = _steps(*((shape[axis], strides[axis]) for axis in summed))
    columns = _steps(*((shape[axis], strides[axis]) for axis in range(len(shape)) if axis not in summed))
    none_n, none_k, zero = np.zeros_like(columns), np.zeros_like(terms), np.zeros(1, np.int64)
    return Product(zero, none_k, columns, none_n, none_n, terms, none_k, none_k, 1, 1, zero, _steps((columns.size, 1)))


@functools.lru_cache(maxsize=64)
def forward(shape: ConvolutionShape, last: bool = False) -> Product:
    """Return the tables of a convolution: ``a`` are the weights, ``b`` the images, with ``last`` in the order (c, y, x, n).

    Terms run over (c, r, s).
    """
    w, (depth, breadth) = shape.windows, _channels(shape)
    (height, width), (p, q) = _two(shape.size), _two(w.output)
    pixels, products, n = p * q, shape.products, shape.batch
    # A value's neighbour in memory is the next pixel, or the same pixel of the next image.
    step, images = (n, 1) if last else (1, shape.in_channels * height * width)
    column_y = _columns(shape, w.output, 0, w.strides[0], 0, last) - w.before[0]
    column_x = _columns(shape, w.output, 0, 0, w.strides[1], last) - w.before[1]
    taps, term_y, term_x = _taps_of(shape)
    return Product(
        a_rows=_steps((breadth, products)),
        a_terms=_steps((products, 1)),
        b_columns=_columns(shape, w.output, images, 0, 0, last) + (column_y * width + column_x) * step,
        column_y=column_y,
        column_x=column_x,
        b_terms=(taps + term_y * width + term_x) * step,
        term_y=term_y,
        term_x=term_x,
        height=height,
        width=width,
        out_rows=_steps((breadth, pixels)),
        out_columns=_columns(shape, w.output, shape.out_channels * pixels, q, 1, last),
        groups=shape.groups,
        a_group=breadth * products,
        b_group=depth * height * width * step,
        out_group=breadth * pixels,
    )


def _columns(shape: ConvolutionShape, sides: tuple[int, ...], of_image: int, of_y: int, of_x: int, last: bool) -> I64:
    """Return offsets of the pixels of all images, in the order (n, y, x) or, with ``last``, (y, x, n)."""
    y_x = ((sides[0], of_y), (sides[1], of_x))
    return _steps(*y_x, (shape.batch, of_image)) if last else _steps((shape.batch, of_image), *y_x)


def _taps_of(shape: ConvolutionShape) -> tuple[I64, I64, I64]:
    """Return for each (c, r, s) the offset of the channel's map, and how far the tap is from a window's first pixel."""
    w, (depth, _), (rows, columns) = shape.windows, _channels(shape), _two(shape.windows.kernel)
    term_y = _steps((depth, 0), (rows, w.dilations[0]), (columns, 0))
    term_x = _steps((depth, 0), (rows, 0), (columns, w.dilations[1]))
    return _steps((depth, int(np.prod(shape.size))), (rows * columns, 0)), term_y, term_x


@functools.lru_cache(maxsize=64)
def weight_gradient(shape: ConvolutionShape, channels_last: bool = False) -> Product:
    """Return the tables of the gradient of the weights: ``a`` are the errors, ``b`` the images, terms run over (n, p, q).

    With ``channels_last``, for one group, the images are in the order (n, y, x, c), and the columns in the order (r, s, c): a window's row
    lies in one piece.
    """
    f, (depth, breadth) = forward(shape), _channels(shape)
    pixels, (_, width) = int(np.prod(shape.windows.output)), _two(shape.size)
    order = np.arange(f.b_terms.size)
    offsets, terms = f.b_terms, f.b_columns
    if channels_last:
        order = order.reshape(depth, -1).T.reshape(-1)
        offsets = (f.term_y * width + f.term_x) * depth + _steps((depth, 1), (f.term_y.size // depth, 0))
        images = _columns(shape, shape.windows.output, int(np.prod(shape.size)), 0, 0, False)
        terms = (images + f.column_y * width + f.column_x) * depth
    return Product(
        a_rows=_steps((breadth, pixels)),
        a_terms=f.out_columns,
        b_columns=offsets[order],
        column_y=f.term_y[order],
        column_x=f.term_x[order],
        b_terms=terms,
        term_y=f.column_y,
        term_x=f.column_x,
        height=f.height,
        width=f.width,
        out_rows=f.a_rows,
        out_columns=f.a_terms[order],
        groups=shape.groups,
        a_group=f.out_group,
        b_group=f.b_group,
        out_group=f.a_group,
    )


def images_last(shape: ConvolutionShape) -> bool:
    """Tell whether the images, or their errors, are sooner read with the image as the last axis.

    Then neighbouring outputs are the same pixel of several images: they lie in one piece, and a tap that is beyond the edge is so for all
    of them, and is left out by native kernels. That pays for small maps, of which a vector holds more than a row.
    """
    return shape.batch >= _LEAST_IMAGES and max(shape.windows.output[1], shape.size[1]) <= _WIDEST


@functools.lru_cache(maxsize=64)
def input_gradient(shape: ConvolutionShape, last: bool = False) -> tuple[Product, ...]:
    """Return the tables of the gradient of the images, one for each phase of the strides that any output reaches.

    ``a`` are the weights, ``b`` the errors, with ``last`` in the order (k, p, q, n). Terms run over (k, r, s): those taps at which this
    phase meets outputs.
    """
    w = shape.windows
    phases = [(y, x) for y in range(min(w.strides[0], shape.size[0])) for x in range(min(w.strides[1], shape.size[1]))]
    found = (_phase(shape, y, x, last) for y, x in phases)
    return tuple(product for product in found if product is not None)


def _phase(shape: ConvolutionShape, first_y: int, first_x: int, last: bool) -> Product | None:
    """Return the tables of pixels (first_y + i stride, first_x + j stride); None where no output reaches them."""
    w, (depth, breadth) = shape.windows, _channels(shape)
    (height, width), (rows, columns), (p, q) = _two(shape.size), _two(w.kernel), _two(w.output)
    taps_y, shift_y = _taps(first_y + w.before[0], rows, w.dilations[0], w.strides[0])
    taps_x, shift_x = _taps(first_x + w.before[1], columns, w.dilations[1], w.strides[1])
    if not (taps_y.size and taps_x.size and breadth):
        return None
    count_y, count_x = -(-(height - first_y) // w.strides[0]), -(-(width - first_x) // w.strides[1])
    kernel, pixels = rows * columns, p * q
    each_y, each_x = np.repeat(shift_y, shift_x.size), np.tile(shift_x, shift_y.size)
    taps = np.repeat(taps_y * columns, taps_x.size) + np.tile(taps_x, taps_y.size)
    term_y, term_x = np.tile(each_y, breadth), np.tile(each_x, breadth)
    n, image, sides = shape.batch, shape.in_channels * height * width, (count_y, count_x)
    step, errors = (n, 1) if last else (1, shape.out_channels * pixels)
    column_y, column_x = _columns(shape, sides, 0, 1, 0, last), _columns(shape, sides, 0, 0, 1, last)
    return Product(
        a_rows=_steps((depth, kernel)),
        a_terms=(_steps((breadth, depth * kernel))[:, None] + taps).reshape(-1),
        b_columns=_columns(shape, sides, errors, 0, 0, last) + (column_y * q + column_x) * step,
        column_y=column_y,
        column_x=column_x,
        b_terms=(_steps((breadth, pixels), (taps.size, 0)) + term_y * q + term_x) * step,
        term_y=term_y,
        term_x=term_x,
        height=p,
        width=q,
        out_rows=_steps((depth, height * width)),
        out_columns=_columns(shape, sides, image, width * w.strides[0], w.strides[1], last) + first_y * width + first_x,
        groups=shape.groups,
        a_group=breadth * depth * kernel,
        b_group=breadth * pixels * step,
        out_group=depth * height * width,
    )


def _taps(position: int, count: int, dilation: int, stride: int) -> tuple[I64, I64]:
    """Return the taps that hit an output from a padded position, and which output, relative to the pixel's count in its phase."""
    taps = np.arange(count, dtype=np.int64)
    distance = position - taps * dilation
    hit = distance % stride == 0
    return taps[hit], distance[hit] // stride


def _channels(shape: ConvolutionShape) -> tuple[int, int]:
    """Return the channels of one group, in and out."""
    return shape.in_channels // shape.groups, shape.out_channels // shape.groups


def _two(sides: tuple[int, ...]) -> tuple[int, int]:
    first, second = sides
    return first, second
