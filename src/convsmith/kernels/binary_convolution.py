"""Convolutions of packed signs: weights prepared once, sums, scaled sums or packed signs out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convsmith.errors import UsageError
from convsmith.kernels.binary import (
    PLANES,
    Signs,
    Thresholds,
    aligned_words,
    binary_level,
    column_base,
    pack_signs,
    pack_ternary,
    planes_of,
    word_count,
)
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.machine import processor_count
from convsmith.kernels.native import sizes

Array = np.ndarray[Any, Any]

BORDERS: Final = ("zero", "one")
"""What taps outside of the image see: nothing, as a convolution of float numbers, or +1, as binary networks without zeros."""


@dataclass(frozen=True)
class BinaryWeights:
    """The weights of one convolution in the layout of one instruction set."""

    level: str
    values: Array
    base_k: Array
    tap_sums_rsk: Array
    planes: int
    border: str


def prepare_convolution(
    w_kcrs: Array,
    shape: ConvolutionShape,
    *,
    ternary: bool = False,
    left_ternary: bool = False,
    border: str = "zero",
    level: str | None = None,
) -> BinaryWeights:
    """Return the signs of float32 weights KCRS, or their signs and zeros where ``ternary``, in the kernels' layout.

    Raises: ``UsageError`` for an unknown border or weights of another shape; ``DataError`` for a NaN.
    """
    if border not in BORDERS:
        raise UsageError(f"border is {border!r}, must be one of {', '.join(BORDERS)}")
    k, c, (r, s) = shape.out_channels, shape.in_channels // shape.groups, shape.windows.kernel
    if w_kcrs.shape != (k, c, r, s):
        raise UsageError(f"weights have shape {w_kcrs.shape}, must be {(k, c, r, s)}")
    native, level = importlib.import_module("convsmith._native"), level or binary_level()
    w_krsc = np.ascontiguousarray(w_kcrs.transpose(0, 2, 3, 1), np.float32)
    both = ternary or left_ternary
    signs = pack_ternary(w_krsc if ternary else np.where(w_krsc < 0, np.float32(-1), np.float32(1))) if both else pack_signs(w_krsc)
    planes, per_group, words = planes_of(left_ternary, both), k // shape.groups, r * s * word_count(c)
    count = native.binary_prepared_words(level, per_group, words, planes)
    values = aligned_words(count * shape.groups)
    for group in range(shape.groups):
        part = np.ascontiguousarray(signs.words[group * per_group : (group + 1) * per_group]).reshape(-1)
        packed = aligned_words(count)
        native.binary_prepare(level, per_group, words, planes, part, packed)
        values[group * count : (group + 1) * count] = packed
    steps = np.sign(w_krsc) if ternary else np.where(w_krsc < 0, -1, 1)
    tap_sums = np.ascontiguousarray(steps.sum(axis=3).transpose(1, 2, 0), np.int32)
    return BinaryWeights(level, values, column_base(signs, planes), tap_sums, planes, border)


def prepare(algorithm: str, w_kcrs: Array, shape: ConvolutionShape, level: str) -> BinaryWeights:
    """Return weights for "binary" or "ternary", as the other kinds of kernels prepare theirs."""
    return prepare_convolution(w_kcrs, shape, ternary=algorithm == "ternary", level=level)


def workspace_bytes(shape: ConvolutionShape, planes: int, threads: int, level: str | None = None) -> int:
    return int(importlib.import_module("convsmith._native").binary_workspace_bytes(level or binary_level(), sizes(shape), planes, threads))


def convolve_signs(
    x_nhwc: Signs,
    weights: BinaryWeights,
    shape: ConvolutionShape,
    *,
    affine_k: tuple[Array, Array] | None = None,
    thresholds: Thresholds | None = None,
    threads: int | None = None,
) -> Array | Signs:
    """Convolve packed images [n, h, w, c] and return NHWK: int32 sums, ``scale * sum + shift`` as float32, or packed signs.

    With groups, ``x_nhwc.words`` are packed group by group, [n, h, w, groups * words] (see ``pack_groups``).

    Raises: ``UsageError`` when sizes, planes or the values per channel do not fit.
    """
    groups, left_ternary = shape.groups, weights.planes == PLANES.index("ternary")
    expected = (shape.batch, *shape.size, groups * word_count(shape.in_channels // groups), *((2,) if left_ternary else ()))
    if x_nhwc.words.shape != expected:
        raise UsageError(f"packed images have words of shape {x_nhwc.words.shape}, this convolution needs {expected}")
    if affine_k is not None and thresholds is not None:
        raise UsageError("give affine_k for scaled sums or thresholds for packed signs, not both")
    for name, given in (("affine_k", affine_k), ("thresholds", thresholds and (thresholds.direction_k, thresholds.threshold_k))):
        for values in given or ():
            if values.shape != (shape.out_channels,):
                raise UsageError(f"{name} holds values of shape {values.shape}, must be ({shape.out_channels},)")
    native, numbers, count = importlib.import_module("convsmith._native"), sizes(shape), threads or processor_count()
    batch, k, *size = shape.output
    packed = thresholds is not None
    y = np.empty((batch, *size, word_count(k)), np.uint64) if packed else np.empty((batch, *size, k), np.float32 if affine_k else np.int32)
    workspace = np.empty(-(-workspace_bytes(shape, weights.planes, count, weights.level) // 8), np.uint64)
    scale, shift = (np.ascontiguousarray(v, np.float32) for v in affine_k) if affine_k else (None, None)
    direction, threshold = (
        (np.ascontiguousarray(v, np.int32) for v in (thresholds.direction_k, thresholds.threshold_k)) if thresholds else (None, None)
    )
    native.binary_convolve(
        weights.level, numbers, weights.planes, weights.border == "zero", np.ascontiguousarray(x_nhwc.words).reshape(-1), weights.values,
        weights.base_k, weights.tap_sums_rsk.reshape(-1), 2 if packed else 1 if affine_k else 0, scale, shift, direction, threshold,
        y.reshape(-1).view(np.uint8), workspace, count,
    )  # fmt: skip
    return Signs(y, k) if packed else y


def bind_convolution(
    x_nhwc: Signs, weights: BinaryWeights, shape: ConvolutionShape, thresholds: Thresholds, *, threads: int | None = None
) -> Callable[[], Signs]:
    """Return a call that convolves what ``x_nhwc`` holds then into packed signs that it owns and the next call overwrites.

    Nothing is checked or allocated in it, as in a compiled program: `convolve_signs` spends some 10 microseconds on that, more than the
    smallest layers take.
    """
    first = convolve_signs(x_nhwc, weights, shape, thresholds=thresholds, threads=threads)
    assert isinstance(first, Signs)
    native, count = importlib.import_module("convsmith._native"), threads or processor_count()
    workspace = np.empty(-(-workspace_bytes(shape, weights.planes, count, weights.level) // 8), np.uint64)
    arguments = (
        weights.level, sizes(shape), weights.planes, weights.border == "zero", np.ascontiguousarray(x_nhwc.words).reshape(-1),
        weights.values, weights.base_k, weights.tap_sums_rsk.reshape(-1), 2, None, None,
        np.ascontiguousarray(thresholds.direction_k, np.int32), np.ascontiguousarray(thresholds.threshold_k, np.int32),
        first.words.reshape(-1).view(np.uint8), workspace, count,
    )  # fmt: skip

    def run() -> Signs:
        native.binary_convolve(*arguments)
        return first

    return run


def pack_groups(x_nhwc: Array, groups: int = 1, *, ternary: bool = False) -> Signs:
    """Return float32 images [n, h, w, c] packed group by group, as convolutions with groups read them."""
    n, h, w, c = x_nhwc.shape
    pack = pack_ternary if ternary else pack_signs
    packed = pack(np.ascontiguousarray(x_nhwc).reshape(n, h, w, groups, c // groups))
    tail = (2,) if ternary else ()
    return Signs(packed.words.reshape(n, h, w, groups * packed.words.shape[4], *tail), c, ternary)


def fold_thresholds(normalise: Any, most: int, channels: int) -> Thresholds:
    """Return the integer thresholds of ``sign(normalise(sums))``, equal to it for every sum from ``-most`` to ``most``.

    ``normalise`` maps float32 sums [count, channels] to what the sign is taken of, monotonically in every channel: a batch norm
    with positive, negative or zero gamma. Found by bisection over the integers with the function itself, so that rounding in
    its float arithmetic is respected exactly.
    """

    def negative(sums: Array) -> Array:
        return np.asarray(normalise(sums.astype(np.float32)[None, :])[0] < 0)

    ends = [negative(np.full(channels, end, np.int64)) for end in (-most, most)]
    rising, falling = ends[0] & ~ends[1], ~ends[0] & ends[1]
    direction = np.where(falling, -1, 1)
    # invariant of the bisection, on direction * sum: negative at low, not negative at high
    low, high = np.full(channels, -most, np.int64), np.full(channels, most, np.int64)
    while np.any((high - low > 1) & (rising | falling)):
        middle = (low + high) // 2
        below = negative(middle * direction)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    constant = np.where(ends[0], most + 1, -most)
    return Thresholds(direction.astype(np.int32), np.where(rising | falling, high, constant).astype(np.int32))
