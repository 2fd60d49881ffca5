"""Caffe's binary files: the wire format of protocol buffers, read by a schema and with every length checked.

References: Protocol Buffers documentation, Encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from convsmith.errors import DataError
from convsmith.interop.caffe_schema import ENUMS, SCHEMA

Message = dict[str, list[Any]]
MAX_DEPTH = 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_NUMBERS: dict[str, tuple[int, int, str]] = {"float": (FIXED32, 4, "<f4"), "double": (FIXED64, 8, "<f8")}
_BY_NUMBER = {name: {number: (key, kind) for key, (number, kind) in fields.items()} for name, fields in SCHEMA.items()}


def parse(data: bytes, message: str = "NetParameter") -> Message:
    """Return the fields of a message as lists by name; numbers of ``float`` and ``double`` as arrays, in order.

    Fields that the schema does not list are skipped. A field may come packed or one by one.

    Raises: DataError for bytes that are cut off, lengths beyond the end, unknown wire types and nesting deeper than 16.
    """
    return _parse(memoryview(data), message, 0)


def _parse(data: memoryview, message: str, depth: int) -> Message:
    if depth > MAX_DEPTH:
        raise DataError(f"messages nested deeper than {MAX_DEPTH}")
    fields, found = _BY_NUMBER[message], Message()
    for number, wire, value in walk(data):
        if number not in fields:
            continue
        key, kind = fields[number]
        found.setdefault(key, []).extend(_values(kind, wire, value, f"{message}.{key}", depth))
    return found


def walk(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield field number, wire type and value: an int of a varint, a view of the bytes of the others."""
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise DataError(f"field number {number} at byte {position}")
        if wire == VARINT:
            value, position = varint(data, position)
            yield number, wire, value
            continue
        if wire == BYTES:
            length, position = varint(data, position)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise DataError(f"wire type {wire} at byte {position}")
        if length > len(data) - position:
            raise DataError(f"{length:,} bytes announced at byte {position:,}, {len(data) - position:,} are left")
        yield number, wire, data[position : position + length]
        position += length


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return the number that begins at ``position`` (7 bits a byte, low ones first, at most 10 bytes) and where it ends."""
    value = 0
    for place in range(10):
        if position >= len(data):
            raise DataError("the file ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise DataError(f"a number of more than 10 bytes at byte {position}")


def _values(kind: str, wire: int, value: Any, where: str, depth: int) -> list[Any]:
    if kind in SCHEMA:
        if wire != BYTES:
            raise DataError(f"{where} is a message, and comes as wire type {wire}")
        return [_parse(value, kind, depth + 1)]
    if kind == "string":
        if wire != BYTES:
            raise DataError(f"{where} is a text, and comes as wire type {wire}")
        return [bytes(value).decode("utf-8", "replace")]
    if kind in _NUMBERS:
        return [_numbers(kind, wire, value, where)]
    if wire == BYTES:
        return [_whole(kind, number) for number in _packed(value)]
    if wire != VARINT:
        raise DataError(f"{where} is a whole number, and comes as wire type {wire}")
    return [_whole(kind, value)]


def _numbers(kind: str, wire: int, value: Any, where: str) -> np.ndarray[Any, Any]:
    single, size, dtype = _NUMBERS[kind]
    if wire not in (single, BYTES) or len(value) % size:
        raise DataError(f"{where} comes as wire type {wire} with {len(value) if wire != VARINT else 0} bytes")
    numbers: np.ndarray[Any, Any] = np.frombuffer(value, dtype)
    return numbers


def _packed(data: memoryview) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = varint(data, position)
        yield value


def _whole(kind: str, value: int) -> Any:
    if kind == "bool":
        return bool(value)
    if kind in ENUMS:
        return ENUMS[kind].get(value, str(value))
    signed: int = struct.unpack("<q", struct.pack("<Q", value))[0]
    return signed
