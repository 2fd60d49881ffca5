"""Integer codes of whole arrays, and codes of any width packed into bytes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError
from convsmith.formats.carrier import as_carrier
from convsmith.formats.code_specification import decode_scalar, nan_code
from convsmith.formats.format import Format
from convsmith.formats.native import choose
from convsmith.formats.validity import largest_code, lowest_exponent

_TABLE_BITS: Final = 16
_ONE: Final = np.uint64(1)


def code_type(bits: int) -> type[np.uint8] | type[np.uint16] | type[np.uint32] | type[np.uint64]:
    """Return the narrowest unsigned type that holds codes of so many bits."""
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32 if bits <= 32 else np.uint64


def decode(codes: ArrayLike, fmt: Format) -> NDArray[Any]:
    """Return the values of integer codes in the format's carrier; `decode_scalar` says which.

    Raises: UsageError for what are no codes of the format, and for block formats, whose codes `unpack_tensor` reads.
    """
    array = np.asarray(codes)
    _refuse_blocks(fmt)
    if array.dtype.kind not in "iu" or (array.size and (int(array.min()) < 0 or int(array.max()) >> fmt.bits)):
        raise UsageError(f"Codes of {fmt} are integers from 0 to {(1 << fmt.bits) - 1}; got {array.dtype} out of that range.")
    if fmt.bits <= _TABLE_BITS and array.size > 1 << fmt.bits:
        table = _decoded(np.arange(1 << fmt.bits, dtype=np.uint64), fmt)
        return np.take(table, array)
    return _decoded(array.astype(np.uint64), fmt)


def encode(x: ArrayLike, fmt: Format) -> NDArray[Any]:
    """Return the codes of values that are in the format, as the narrowest unsigned integers; round first.

    Raises: UsageError naming the first number that is not in the format, NaN included where it has none.
    """
    array = as_carrier(x)
    _refuse_blocks(fmt)
    codes = _encoded(array.astype(np.float64), fmt).astype(code_type(fmt.bits))
    back = decode(codes, fmt)
    wrong = ~((back == array) | (np.isnan(array) & np.isnan(back)))
    if wrong.any():
        where = tuple(map(int, np.argwhere(wrong)[0]))
        raise UsageError(f"x[{', '.join(map(str, where))}] = {array[where]} is not a value of {fmt}; round it first.")
    return codes


def _refuse_blocks(fmt: Format) -> None:
    if fmt.element is not None:
        raise UsageError(f"{fmt} has codes for scales and elements; pack_tensor makes them.")


def _decoded(codes: NDArray[np.uint64], fmt: Format) -> NDArray[Any]:
    if fmt.kind == "binary":
        return np.where(codes == 1, np.float32(1), np.float32(-1))
    if fmt.kind != "float":
        sign = np.int64(1 << (fmt.bits - 1)) if fmt.signed else np.int64(0)
        whole = (codes.astype(np.int64) ^ sign) - sign
        return np.ldexp(whole.astype(np.float64), -fmt.fraction_bits).astype(fmt.carrier)
    m = np.uint64(fmt.significand_bits)
    top = _ONE << np.uint64(fmt.exponent_bits + fmt.significand_bits)
    rest = codes & (top - _ONE)
    negative = (codes & top) != 0 if fmt.signed else np.zeros(codes.shape, np.bool_)
    normal = ((rest + np.uint64((1023 - fmt.bias) << fmt.significand_bits)) << (np.uint64(52) - m)).view(np.float64)
    low = np.ldexp(rest.astype(np.float64), 1 - fmt.bias - fmt.significand_bits) * fmt.subnormals
    size = np.where(rest >> m == 0, low, normal) if not fmt.all_normal else np.where((rest == 0) & fmt.zero, 0.0, normal)
    most = np.uint64(largest_code(fmt))
    beyond = np.where((rest == most + _ONE) & fmt.has_infinity, np.inf, np.nan)
    size = np.where(rest > most, beyond, size)
    if not fmt.negative_zero:
        size = np.where(negative & (rest == 0), np.nan, size)
        return np.where(np.isnan(size), np.nan, np.where(negative, -size, size)).astype(fmt.carrier)
    return np.where(negative, -size, size).astype(fmt.carrier)


def _encoded(x: NDArray[np.float64], fmt: Format) -> NDArray[np.uint64]:
    """Return codes, right for values of the format and anything for others."""
    if fmt.kind == "binary":
        return (x > 0).astype(np.uint64)
    if fmt.kind != "float":
        limit = 2.0**62
        whole: NDArray[np.int64] = np.clip(np.nan_to_num(np.ldexp(x, fmt.fraction_bits)), -limit, limit).astype(np.int64)
        return whole.astype(np.uint64) & np.uint64((1 << fmt.bits) - 1)
    m, e = fmt.significand_bits, fmt.exponent_bits
    size: NDArray[np.float64] = np.where(np.isfinite(x), np.abs(x), 0.0)
    normal = (size.view(np.uint64) >> np.uint64(52 - m)) - np.uint64((1023 - fmt.bias) << m)
    least = 2.0 ** lowest_exponent(fmt)
    low = np.ldexp(np.minimum(size, least), fmt.bias + m - 1).astype(np.uint64)
    code = np.where(size >= least, normal, 0 if fmt.all_normal else low).astype(np.uint64)
    code = np.where(np.isinf(x), np.uint64(largest_code(fmt) + 1 if fmt.has_infinity else 0), code)
    negative = np.signbit(x) & fmt.signed & ((x != 0) | fmt.negative_zero) & ~np.isnan(x)
    code = code | negative.astype(np.uint64) << np.uint64(e + m)
    mask = np.uint64((1 << fmt.bits) - 1)
    codes: NDArray[np.uint64] = np.where(np.isnan(x), np.uint64(nan_code(fmt) if fmt.has_nan else 0), code & mask)
    return codes


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes ``count`` codes of ``bits`` bits take."""
    return -(-count * bits // 8)


def pack(codes: ArrayLike, bits: int) -> NDArray[np.uint8]:
    """Return codes of ``bits`` bits, 1 to 64, one after the other in bytes, the low bits first; the last byte is filled with zeros.

    Bit ``j`` of code ``i`` is bit ``(i * bits + j) % 8`` of byte ``(i * bits + j) // 8``, bit 0 being a byte's lowest.
    Raises: UsageError for a width that is not 1 to 64, or codes that it does not hold.
    """
    array = np.asarray(codes)
    _check_width(bits)
    if array.dtype.kind not in "iu" or (array.size and (int(array.min()) < 0 or int(array.max()) >> bits)):
        raise UsageError(f"Codes of {bits} bits are integers from 0 to {(1 << bits) - 1}; got {array.dtype} out of that range.")
    flat = np.ascontiguousarray(array, code_type(bits)).reshape(-1)
    result = np.zeros(packed_bytes(flat.size, bits), np.uint8)
    native = choose()
    if native is not None:
        native.module.pack(flat, result, bits, native.threads(None, flat.size))
        return result
    spread = (flat[:, None].astype(np.uint64) >> np.arange(bits, dtype=np.uint64)) & _ONE
    return np.packbits(spread.astype(np.uint8).reshape(-1), bitorder="little")


def unpack(packed: ArrayLike, bits: int, count: int) -> NDArray[Any]:
    """Return the first ``count`` codes of ``bits`` bits that `pack` put into bytes, as the narrowest unsigned integers.

    Raises: UsageError for a width that is not 1 to 64, or fewer bytes than the codes need.
    """
    array = np.ascontiguousarray(packed)
    _check_width(bits)
    if array.dtype != np.uint8 or array.ndim != 1 or count < 0 or array.size < packed_bytes(count, bits):
        raise UsageError(
            f"{count} codes of {bits} bits take {packed_bytes(max(count, 0), bits)} bytes; got {array.dtype} of shape {array.shape}."
        )
    native = choose()
    if native is not None:
        result = np.empty(count, code_type(bits))
        native.module.unpack(array, result, bits, native.threads(None, count))
        return result
    flags = np.unpackbits(array[: packed_bytes(count, bits)], bitorder="little")[: count * bits].reshape(count, bits)
    codes: NDArray[Any] = (flags.astype(np.uint64) << np.arange(bits, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return codes.astype(code_type(bits))


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 64:
        raise UsageError(f"Codes have 1 to 64 bits; got {bits}.")


__all__ = ["code_type", "decode", "decode_scalar", "encode", "pack", "packed_bytes", "unpack"]
