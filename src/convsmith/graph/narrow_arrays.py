"""Arrays in as few bits as their numbers need, without a change of any: how files keep codes of 2 to 7 bits, signs, and 16-bit floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

LEAST: Final = 64
"""Numbers below which an array stays as it is."""


def narrow(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, list[Any]]]:
    """Return the arrays packed, and for each packed one what `widen` needs: its kind, bits, shape.

    int8 codes whose magnitudes fit fewer bits become two's complement of that many, in a row from the lowest bit of each byte on; those of
    -1 and 1 alone one bit, set for -1. float32 numbers of one magnitude along the first axis, the weights of binary layers, become their
    signs, a bit each, after the magnitudes; those that are all fp16 or all bf16 become these, bit for bit; infinities and NaN keep an
    array as it is.
    """
    packed, described = dict(arrays), dict[str, list[Any]]()
    for name, array in arrays.items():
        if array.size < LEAST:
            continue
        if array.dtype == np.int8:
            bits = max(int(array.max()).bit_length(), int(~array.min()).bit_length() if array.min() < 0 else 0) + 1
            if bits == 2 and np.all(np.abs(array) == 1):
                packed[name], described[name] = np.packbits(array.reshape(-1) < 0, bitorder="little"), ["minus", 1, list(array.shape)]
            elif bits < 8:
                packed[name], described[name] = pack(array, bits), ["codes", bits, list(array.shape)]
        elif array.dtype == np.float32 and np.isfinite(array).all():
            found = _signs(array) or _half(array)
            if found is not None and found[0] == "signs":
                packed[name], described[name] = found[1], ["signs", 1, list(array.shape)]
            elif found is not None:
                packed[name], described[name] = found[1], [found[0], 16, list(array.shape)]
    return packed, described


def widen(arrays: Mapping[str, Array], described: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays that `narrow` packed; ``ValueError`` for a description that does not fit."""
    whole = dict(arrays)
    for name, (kind, bits, shape) in described.items():
        array = whole[name]
        if kind == "codes":
            whole[name] = unpack(array, int(bits), int(np.prod(shape))).reshape(shape)
        elif kind == "minus":
            minus = np.unpackbits(array, bitorder="little")[: int(np.prod(shape))]
            whole[name] = (1 - 2 * minus.astype(np.int8)).reshape(shape)
        elif kind == "signs":
            whole[name] = _numbers_of_signs(array, shape)
        elif kind == "fp16":
            whole[name] = array.astype(np.float32).reshape(shape)
        elif kind == "bf16":
            whole[name] = (array.astype(np.uint32) << 16).view(np.float32).reshape(shape)
        else:
            raise ValueError(f"array {name!r} is packed as {kind!r}, which this Convsmith does not know")
    return whole


def pack(codes: Array, bits: int) -> Array:
    """Return codes as bytes, ``bits`` each."""
    each = np.unpackbits(codes.reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")[:, :bits]
    return np.packbits(each.reshape(-1), bitorder="little")


def unpack(packed: Array, bits: int, count: int) -> Array:
    """Return the int8 codes of `pack`."""
    each = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    filled = np.concatenate([each, np.repeat(each[:, -1:], 8 - bits, axis=1)], axis=1)
    return np.packbits(filled, axis=1, bitorder="little").reshape(-1).view(np.int8)


def _signs(array: Array) -> tuple[str, Array] | None:
    """Return the magnitudes and a bit for each sign as bytes, where each index of the first axis has one magnitude above 0."""
    if array.ndim < 2 or array.size < 8 * len(array):
        return None
    rows = np.ascontiguousarray(array).reshape(len(array), -1)
    sizes = np.abs(rows[:, 0])
    if not (sizes > 0).all() or not np.array_equal(np.abs(rows), np.broadcast_to(sizes[:, None], rows.shape)):
        return None
    return "signs", np.concatenate([sizes.view(np.uint8), np.packbits(rows.reshape(-1) < 0, bitorder="little")])


def _numbers_of_signs(packed: Array, shape: Sequence[int]) -> Array:
    count, sizes = int(np.prod(shape)), np.ascontiguousarray(packed[: 4 * shape[0]]).view(np.float32)
    negative = np.unpackbits(packed[4 * shape[0] :], bitorder="little")[:count].reshape(shape[0], -1)
    return np.asarray(np.where(negative, -sizes[:, None], sizes[:, None]).reshape(shape))


def _half(array: Array) -> tuple[str, Array] | None:
    """Return a name and the 16-bit numbers, where they are the same."""
    raw = np.ascontiguousarray(array).view(np.uint32)
    if not (raw & 0xFFFF).any():
        return "bf16", (raw >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return ("fp16", half) if np.array_equal(half.astype(np.float32).view(np.uint32), raw) else None
