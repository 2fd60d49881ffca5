"""Products of signs packed 64 to a word: packing, matrix products and convolutions on the native kernels.

A set bit is -1, a clear one +1; ``sign(0)`` is +1, of both zeros. A ternary operand is two planes of words, ``[..., word, plane]``:
the signs, and a set bit where the number is not zero.

References: Courbariaux et al. 2016, Binarized Neural Networks (arXiv 1602.02830); Rastegari et al. 2016, XNOR-Net
(arXiv 1603.05279); Li et al. 2016, Ternary Weight Networks (arXiv 1605.04711).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.formats.native import choose
from convsmith.kernels.machine import processor_count
from convsmith.kernels.native import aligned_bytes

Array = np.ndarray[Any, Any]

PLANES: Final = ("binary", "ternary_right", "ternary")
"""Which operands have two planes, in the order of ``Planes`` in native/binary.h: none, the weights, both."""


@dataclass(frozen=True)
class Signs:
    """Packed signs: ``words`` uint64 [..., ceil(channels / 64)], with a last axis of 2 planes where ``ternary``."""

    words: Array
    channels: int
    ternary: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        leading = self.words.shape[: -2 if self.ternary else -1]
        return (*leading, self.channels)


@dataclass(frozen=True)
class Thresholds:
    """What turns sums into signs, for every output channel k: -1 where ``direction[k] * sum < threshold[k]``, else +1."""

    direction_k: Array
    threshold_k: Array


@dataclass(frozen=True)
class PreparedSigns:
    """The right operand of a product in the layout of one instruction set, with each column's greatest sum."""

    level: str
    values: Array
    base: Array
    words: int
    columns: int
    planes: int
    channels: int


def binary_level() -> str:
    """Return the instruction set in use: the one of CONVSMITH_ISA, else the best one.

    Raises: ``UnsupportedError`` without the native module, or for an instruction set that is not there.
    """
    native = choose()
    if native is None:
        raise UnsupportedError("packed signs need the native module; install Convsmith with a C++ compiler (g++ 12 or newer)")
    return native.level


def word_count(channels: int) -> int:
    return -(-channels // 64)


def aligned_words(count: int) -> Array:
    return aligned_bytes(8 * count).view(np.uint64)


def pack_signs(x: Array, *, level: str | None = None, threads: int | None = None) -> Signs:
    """Return the signs of float32 numbers along their last axis.

    Raises: ``DataError`` for a NaN, which has no sign to learn or compute with; ``UsageError`` for another type or no axis.
    """
    if x.dtype != np.float32 or x.ndim == 0 or x.shape[-1] == 0:
        raise UsageError(f"signs are packed from float32 with at least one channel in the last axis, given {x.dtype} {x.shape}")
    packed = np.empty((*x.shape[:-1], word_count(x.shape[-1])), np.uint64)
    native, flat = importlib.import_module("convsmith._native"), np.ascontiguousarray(x).reshape(-1)
    valid = native.binary_pack_signs(level or binary_level(), flat, x.shape[-1], packed.reshape(-1), threads or processor_count())
    if not valid:
        count = int(np.isnan(x).sum())
        raise DataError(f"{count} of {x.size} numbers are NaN and have no sign; look for the layer that made them with an earlier output")
    return Signs(packed, x.shape[-1])


def pack_ternary(x: Array) -> Signs:
    """Return the two planes of numbers whose sign is all that counts: -1, 0 and +1 along the last axis."""
    signs, present = pack_signs(x), pack_signs(np.where(x == 0, np.float32(0), np.float32(-1)))
    return Signs(np.stack([signs.words & present.words, present.words], axis=-1), x.shape[-1], ternary=True)


def unpack(signs: Signs) -> Array:
    """Return -1, 0 and +1 as int8."""
    planes = signs.words if signs.ternary else signs.words[..., None]
    bits = np.unpackbits(np.ascontiguousarray(planes.swapaxes(-1, -2)).view(np.uint8), axis=-1, bitorder="little")[..., : signs.channels]
    values = 1 - 2 * bits[..., 0, :].astype(np.int8)
    return np.asarray(values * bits[..., 1, :].astype(np.int8) if signs.ternary else values)


def planes_of(left_ternary: bool, right_ternary: bool) -> int:
    """Return the index in ``PLANES``; ``UnsupportedError`` for ternary activations with binary weights."""
    if left_ternary and not right_ternary:
        raise UnsupportedError("ternary by binary: pack the binary operand with pack_ternary, or take it as the left one")
    return PLANES.index("ternary" if left_ternary else "ternary_right" if right_ternary else "binary")


def column_base(right: Signs, planes: int) -> Array:
    """Return each column's sum where no sign differs: the number of signs, of those not zero, or 0 for two ternary operands."""
    columns = right.words.shape[0]
    if planes == PLANES.index("ternary"):
        return np.zeros(columns, np.int32)
    if right.ternary:
        return np.asarray(np.bitwise_count(right.words[..., 1]).reshape(columns, -1).sum(axis=1), np.int32)
    signs = right.channels * int(np.prod(right.words.shape[1:-1], dtype=np.int64))
    return np.full(columns, signs, np.int32)


def prepare(right: Signs, *, left_ternary: bool = False, level: str | None = None) -> PreparedSigns:
    """Return the right operand [columns, ..., channels] in the layout of the kernels."""
    native, level = importlib.import_module("convsmith._native"), level or binary_level()
    planes = planes_of(left_ternary, right.ternary)
    columns = right.words.shape[0]
    words = int(np.prod(right.words.shape[1 : -1 if right.ternary else None], dtype=np.int64))
    values = aligned_words(native.binary_prepared_words(level, columns, words, planes))
    native.binary_prepare(level, columns, words, planes, np.ascontiguousarray(right.words).reshape(-1), values)
    return PreparedSigns(level, values, column_base(right, planes), words, columns, planes, right.channels)


def multiply_signs(left: Signs, right: PreparedSigns, *, out: Array | None = None, threads: int | None = None) -> Array:
    """Return the int32 sums of products of [rows, channels] by [columns, channels]: exact; in ``out`` where it is given.

    Raises: ``UsageError`` when the channels differ, or one operand is ternary where the other was prepared for binary.
    """
    if left.words.ndim != (3 if left.ternary else 2) or left.channels != right.channels or left.words.shape[1] != right.words:
        raise UsageError(f"left signs are {left.shape}, must be [rows, {right.channels}] as the right operand was prepared")
    if left.ternary != (right.planes == PLANES.index("ternary")):
        raise UsageError(f"left signs are {'ternary' if left.ternary else 'binary'}, the right operand was prepared for the other kind")
    rows = left.words.shape[0]
    sums = np.empty((rows, right.columns), np.int32) if out is None else out
    if sums.shape != (rows, right.columns) or sums.dtype != np.int32 or not sums.flags.c_contiguous:
        raise UsageError(f"out is {sums.dtype} {sums.shape}, must be contiguous int32 {(rows, right.columns)}")
    importlib.import_module("convsmith._native").binary_multiply(
        right.level, rows, right.columns, right.words, right.planes, np.ascontiguousarray(left.words).reshape(-1), right.values,
        right.base, sums.reshape(-1), threads or processor_count(),
    )  # fmt: skip
    return sums
