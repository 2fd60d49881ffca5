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
def forward(shape: ConvolutionShape) -> Product:
    """Return the tables of a convolution: ``a`` are the weights, ``b`` the images, terms run over (c, r, s)."""
    w, (depth, breadth) = shape.windows, _channels(shape)
    (height, width), (rows, columns), (p, q) = _two(shape.size), _two(w.kernel), _two(w.output)
    pixels, products = p * q, shape.products
    column_y = _steps((shape.batch, 0), (p, w.strides[0]), (q, 0)) - w.before[0]
    column_x = _steps((shape.batch, 0), (p, 0), (q, w.strides[1])) - w.before[1]
    term_y = _steps((depth, 0), (rows, w.dilations[0]), (columns, 0))
    term_x = _steps((depth, 0), (rows, 0), (columns, w.dilations[1]))
    image = shape.in_channels * height * width
    return Product(
        a_rows=_steps((breadth, products)),
        a_terms=_steps((products, 1)),
        b_columns=_steps((shape.batch, image), (pixels, 0)) + column_y * width + column_x,
        column_y=column_y,
        column_x=column_x,
        b_terms=_steps((depth, height * width), (rows * columns, 0)) + term_y * width + term_x,
        term_y=term_y,
        term_x=term_x,
        height=height,
        width=width,
        out_rows=_steps((breadth, pixels)),
        out_columns=_steps((shape.batch, shape.out_channels * pixels), (pixels, 1)),
        groups=shape.groups,
        a_group=breadth * products,
        b_group=depth * height * width,
        out_group=breadth * pixels,
    )


@functools.lru_cache(maxsize=64)
def weight_gradient(shape: ConvolutionShape) -> Product:
    """Return the tables of the gradient of the weights: ``a`` are the errors, ``b`` the images, terms run over (n, p, q)."""
    f, (_, breadth) = forward(shape), _channels(shape)
    pixels = int(np.prod(shape.windows.output))
    return Product(
        a_rows=_steps((breadth, pixels)),
        a_terms=f.out_columns,
        b_columns=f.b_terms,
        column_y=f.term_y,
        column_x=f.term_x,
        b_terms=f.b_columns,
        term_y=f.column_y,
        term_x=f.column_x,
        height=f.height,
        width=f.width,
        out_rows=f.a_rows,
        out_columns=f.a_terms,
        groups=shape.groups,
        a_group=f.out_group,
        b_group=f.b_group,
        out_group=f.a_group,
    )


@functools.lru_cache(maxsize=64)
def input_gradient(shape: ConvolutionShape) -> tuple[Product, ...]:
    """Return the tables of the gradient of the images, one for each phase of the strides that any output reaches.

    ``a`` are the weights, ``b`` the errors, terms run over (k, r, s): those taps at which this phase meets outputs.
    """
    w = shape.windows
    phases = [(y, x) for y in range(min(w.strides[0], shape.size[0])) for x in range(min(w.strides[1], shape.size[1]))]
    found = (_phase(shape, y, x) for y, x in phases)
    return tuple(product for product in found if product is not None)


def _phase(shape: ConvolutionShape, first_y: int, first_x: int) -> Product | None:
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
    column_y, column_x = _steps((shape.batch, 0), (count_y, 1), (count_x, 0)), _steps((shape.batch, 0), (count_y, 0), (count_x, 1))
    image = shape.in_channels * height * width
    return Product(
        a_rows=_steps((depth, kernel)),
        a_terms=(_steps((breadth, depth * kernel))[:, None] + taps).reshape(-1),
        b_columns=_steps((shape.batch, shape.out_channels * pixels), (count_y * count_x, 0)) + column_y * q + column_x,
        column_y=column_y,
        column_x=column_x,
        b_terms=_steps((breadth, pixels), (taps.size, 0)) + term_y * q + term_x,
        term_y=term_y,
        term_x=term_x,
        height=p,
        width=q,
        out_rows=_steps((depth, height * width)),
        out_columns=_steps((shape.batch, image), (count_y, width * w.strides[0]), (count_x, w.strides[1])) + first_y * width + first_x,
        groups=shape.groups,
        a_group=breadth * depth * kernel,
        b_group=breadth * pixels,
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
