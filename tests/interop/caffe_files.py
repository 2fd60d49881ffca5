"""Caffe files made for tests: a writer of the wire format of its own, and networks of single layers with random arrays."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Array = np.ndarray


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def chunk(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array: Array, old: bool = False, packed: bool = True) -> bytes:
    """BlobProto: shape 7 (dim 1) or the old num, channels, height, width 1 to 4; data 5."""
    if old:
        sides = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(varint(number << 3) + varint(side) for number, side in enumerate(sides, 1))
    else:
        shape = chunk(7, chunk(1, b"".join(map(varint, array.shape))))
    numbers = array.astype("<f4")
    data = chunk(5, numbers.tobytes()) if packed else b"".join(varint(5 << 3 | 5) + struct.pack("<f", n) for n in numbers.reshape(-1))
    return shape + data


def caffemodel(arrays: Mapping[str, Sequence[Array]], old: bool = False, packed: bool = True) -> bytes:
    """NetParameter with LayerParameter 100 (name 1, blobs 7), or with V1LayerParameter 2 (name 4, blobs 6)."""
    layer, name, blobs = (2, 4, 6) if old else (100, 1, 7)
    return chunk(1, b"made") + b"".join(
        chunk(layer, chunk(name, key.encode()) + b"".join(chunk(blobs, blob(array, old, packed)) for array in values))
        for key, values in arrays.items()
    )


HEADER = 'name: "made"\nlayer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'


def description(layers: str, shape: Sequence[int] = (2, 3, 13, 11)) -> str:
    return HEADER.format(dims=" ".join(f"dim: {side}" for side in shape)) + layers


def write(folder: Path, layers: str, arrays: Mapping[str, Sequence[Array]], shape: Sequence[int] = (2, 3, 13, 11)) -> tuple[Path, Path]:
    text, binary = folder / "net.prototxt", folder / "net.caffemodel"
    text.write_text(description(layers, shape))
    binary.write_bytes(caffemodel(arrays or {"none": [np.zeros(1)]}))
    return text, binary
