"""A tensor as packed codes, with its scales, in memory and as a file."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import DataError, UsageError
from convsmith.formats.blocks import layout, scale_down, shared_exponents, spread
from convsmith.formats.carrier import as_carrier, as_scale
from convsmith.formats.codes import code_type, decode, encode, pack, packed_bytes, unpack
from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value, smallest_scale_exponent
from convsmith.formats.modes import MAX_RANDOM_BITS, Overflow, Rounding
from convsmith.formats.reading import parse
from convsmith.formats.rounding import round_array

MAGIC: Final = b"CVSF\x01"


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """Codes of a tensor in C order, packed as `codes.pack` says, with what turns them back into numbers.

    ``scales``: of a block format the packed codes of the shared scales, else float32 factors or None; ``zero_points``: codes that stand
    for zero, or None.
    """

    format: Format
    shape: tuple[int, ...]
    codes: NDArray[np.uint8]
    scales: NDArray[Any] | None = None
    zero_points: NDArray[np.int32] | None = None
    axis: int | None = None
    group: int | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of codes, scales and zero points."""
        return self.codes.nbytes + sum(a.nbytes for a in (self.scales, self.zero_points) if a is not None)


def pack_tensor(
    x: ArrayLike,
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    *,
    seed: int = 0,
    stream: int = 0,
    scale: ArrayLike | None = None,
    axis: int | None = None,
    random_bits: int = MAX_RANDOM_BITS,
    zero_point: ArrayLike | None = None,
    group: int | None = None,
) -> PackedTensor:
    """Round a tensor as `round_array` does and return its packed codes; `unpack_tensor` gives back what `round_array` returns.

    Raises: UsageError as `round_array`, and for NaN or infinities that the format has no code for.
    """
    array = as_carrier(x)
    if fmt.element is not None:
        if scale is not None or zero_point is not None or group is not None:
            raise UsageError(f"{fmt} finds its own scales; leave out scale, zero_point and group.")
        return _pack_blocks(array, fmt, rounding, overflow, seed, stream, axis, random_bits)
    options: dict[str, Any] = {"seed": seed, "stream": stream, "random_bits": random_bits}
    if scale is None:
        return PackedTensor(fmt, array.shape, pack(encode(round_array(array, fmt, rounding, overflow, **options), fmt), fmt.bits))
    rounded = round_array(array, fmt, rounding, overflow, scale=scale, axis=axis, zero_point=zero_point, group=group, **options)
    along = as_scale(scale, axis, array.shape, zero_point, group)
    assert along is not None
    index = along.positions(0, array.size)
    units = (array.reshape(-1) / along.factors[index]).astype(np.float64 if fmt.carrier == "float64" else array.dtype)
    if along.zeros is None:
        values = round_array(units, fmt, rounding, overflow, **options)
    else:
        zeros = along.zeros[index]
        whole = round_array(units, Format.integer(26), rounding, **options)
        values = np.clip(whole, min_value(fmt) - zeros, max_value(fmt) - zeros) + zeros
    codes = pack(encode(values.reshape(rounded.shape), fmt), fmt.bits)
    points = None if zero_point is None else np.broadcast_to(np.asarray(zero_point, np.int32), np.shape(scale)).copy()
    return PackedTensor(fmt, array.shape, codes, np.array(scale, np.float32), points, axis, group)


def _pack_blocks(
    array: Any, fmt: Format, rounding: Rounding, overflow: Overflow, seed: int, stream: int, axis: int | None, random_bits: int
) -> PackedTensor:
    assert fmt.element is not None and fmt.scale is not None
    where = layout(array.shape, axis)
    exponents, bad = shared_exponents(array, fmt, axis)
    units = scale_down(array, fmt, where)[0]
    elements = round_array(units, fmt.element, rounding, overflow, seed=seed, stream=stream, random_bits=random_bits)
    scales = exponents - smallest_scale_exponent(fmt)
    scales = np.where(bad, (1 << fmt.scale.bits) - 1, scales).astype(np.uint32)
    codes = pack(encode(elements, fmt.element), fmt.element.bits)
    return PackedTensor(fmt, array.shape, codes, pack(scales, fmt.scale.bits), axis=where.axis)


def unpack_tensor(packed: PackedTensor) -> NDArray[Any]:
    """Return the numbers of a packed tensor, in the format's carrier."""
    fmt, count = packed.format, int(np.prod(packed.shape, dtype=np.int64))
    if fmt.element is not None:
        return _unpack_blocks(packed, fmt, count)
    values = decode(unpack(packed.codes, fmt.bits, count), fmt)
    if packed.scales is None:
        return values.reshape(packed.shape)
    along = as_scale(packed.scales, packed.axis, packed.shape, packed.zero_points, packed.group)
    assert along is not None
    index = along.positions(0, count)
    if along.zeros is not None:
        values = values - along.zeros[index]
    numbers: NDArray[Any] = (values * along.factors[index]).reshape(packed.shape)
    return numbers


def _unpack_blocks(packed: PackedTensor, fmt: Format, count: int) -> NDArray[Any]:
    assert fmt.element is not None and fmt.scale is not None and packed.scales is not None
    where = layout(packed.shape, packed.axis)
    shape = packed.shape or (1,)
    grid = (*shape[: where.axis], -(-where.length // fmt.block_size), *shape[where.axis + 1 :])
    codes = unpack(packed.scales, fmt.scale.bits, int(np.prod(grid, dtype=np.int64))).reshape(grid)
    bad = codes == (1 << fmt.scale.bits) - 1
    exponents = codes.astype(np.int32) + smallest_scale_exponent(fmt)
    elements = decode(unpack(packed.codes, fmt.bits, count), fmt.element).astype(np.float64).reshape(shape)
    with np.errstate(invalid="ignore"):
        numbers = np.ldexp(elements, spread(exponents, fmt, where.axis, where.length)).astype(np.float32)
    numbers[spread(bad, fmt, where.axis, where.length)] = np.nan
    shaped: NDArray[Any] = numbers.reshape(packed.shape)
    return shaped


def save(packed: PackedTensor, path: Path | str) -> None:
    """Write a packed tensor: five bytes of magic and version, the length of the header, the header as JSON, codes, scales, zero points.

    Numbers are little-endian: the length 32 bits, scales float32 unless they are packed codes, zero points 32-bit integers.
    """
    parts = [packed.codes.tobytes()]
    header: dict[str, Any] = {"format": str(packed.format), "shape": packed.shape}
    header |= {key: value for key, value in (("axis", packed.axis), ("group", packed.group)) if value is not None}
    if packed.scales is not None:
        header["scales"] = packed.scales.shape
        parts.append(packed.scales.astype("u1" if packed.format.element is not None else "<f4").tobytes())
    if packed.zero_points is not None:
        header["zero_points"] = packed.zero_points.shape
        parts.append(packed.zero_points.astype("<i4").tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    Path(path).write_bytes(b"".join([MAGIC, struct.pack("<I", len(text)), text, *parts]))


def load(path: Path | str) -> PackedTensor:
    """Read what `save` wrote.

    Raises: DataError for a file that is missing, of another kind or cut off.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"there is no packed tensor {str(path)!r}: {error.strerror}") from None
    if content[: len(MAGIC)] != MAGIC:
        raise DataError(f"{str(path)!r} is not a packed tensor of this version: it does not begin with {MAGIC!r}")
    begin = len(MAGIC) + 4
    try:
        end = begin + struct.unpack("<I", content[len(MAGIC) : begin])[0]
        header = json.loads(content[begin:end])
        fmt, shape = parse(header["format"]), tuple(map(int, header["shape"]))
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the header of {str(path)!r} cannot be read: {type(error).__name__}: {error}") from None
    sizes = [packed_bytes(int(np.prod(shape, dtype=np.int64)), fmt.bits)]
    sizes += [int(np.prod(header[key], dtype=np.int64)) * width for key, width in _tails(header, fmt)]
    if len(content) != end + sum(sizes):
        raise DataError(f"{str(path)!r} has {len(content)} bytes; its header asks for {end + sum(sizes)}: the file was cut off or changed")
    codes = np.frombuffer(content, np.uint8, sizes[0], end)
    tails: dict[str, NDArray[Any]] = {}
    place = end + sizes[0]
    for (key, width), size in zip(_tails(header, fmt), sizes[1:], strict=True):
        kind = "<i4" if key == "zero_points" else "<f4" if width == 4 else "u1"
        tails[key] = np.frombuffer(content, kind, size // width, place).reshape(header[key])
        place += size
    return PackedTensor(fmt, shape, codes, tails.get("scales"), tails.get("zero_points"), header.get("axis"), header.get("group"))


def _tails(header: dict[str, Any], fmt: Format) -> list[tuple[str, int]]:
    """Return the parts after the codes with the bytes of one entry."""
    widths = {"scales": 1 if fmt.element is not None else 4, "zero_points": 4}
    return [(key, width) for key, width in widths.items() if key in header]


__all__ = ["PackedTensor", "code_type", "load", "pack_tensor", "save", "unpack_tensor"]
