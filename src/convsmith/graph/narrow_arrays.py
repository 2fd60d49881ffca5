"""Arrays in as few bits as their numbers need, without a change of any: how files keep codes of 2 to 7 bits and 16-bit floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

LEAST: Final = 64
"""Numbers below which an array stays as it is."""


def narrow(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, list[Any]]]:
    """Return the arrays packed, and for each packed one what `widen` needs: its kind, bits, shape.

    int8 codes whose magnitudes fit fewer bits become two's complement of that many, in a row from the lowest bit of each byte on. float32
    numbers that are all fp16 or all bf16 become these, bit for bit; infinities and NaN keep an array as it is.
    """
    packed, described = dict(arrays), dict[str, list[Any]]()
    for name, array in arrays.items():
        if array.size < LEAST:
            continue
        if array.dtype == np.int8:
            bits = max(int(array.max()).bit_length(), int(~array.min()).bit_length() if array.min() < 0 else 0) + 1
            if bits < 8:
                packed[name], described[name] = pack(array, bits), ["codes", bits, list(array.shape)]
        elif array.dtype == np.float32 and np.isfinite(array).all():
            found = _half(array)
            if found is not None:
                packed[name], described[name] = found[1], [found[0], 16, list(array.shape)]
    return packed, described


def widen(arrays: Mapping[str, Array], described: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays that `narrow` packed; ``ValueError`` for a description that does not fit."""
    whole = dict(arrays)
    for name, (kind, bits, shape) in described.items():
        array = whole[name]
        if kind == "codes":
            whole[name] = unpack(array, int(bits), int(np.prod(shape))).reshape(shape)
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


def _half(array: Array) -> tuple[str, Array] | None:
    """Return a name and the 16-bit numbers, where they are the same."""
    raw = np.ascontiguousarray(array).view(np.uint32)
    if not (raw & 0xFFFF).any():
        return "bf16", (raw >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return ("fp16", half) if np.array_equal(half.astype(np.float32).view(np.uint32), raw) else None
