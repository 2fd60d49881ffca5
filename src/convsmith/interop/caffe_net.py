"""A Caffe network as messages: which layers take part in a test pass, under today's names, and the arrays of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.errors import DataError, UnsupportedError
from convsmith.interop.caffe_schema import V1_NAMES
from convsmith.interop.caffe_wire import Message

Array = np.ndarray[Any, Any]


def one(message: Message, key: str, default: Any) -> Any:
    """Return the value of a field that occurs once (of more, the last counts, as in protocol buffers)."""
    value = message[key][-1] if message.get(key) else default
    return float(value.reshape(-1)[-1]) if isinstance(value, np.ndarray) and value.size else value


def many(message: Message, key: str) -> list[Any]:
    """Return all values of a field, numbers as Python numbers."""
    return [number for value in message.get(key, []) for number in (value.tolist() if isinstance(value, np.ndarray) else [value])]


def part(message: Message, key: str) -> Message:
    """Return a message inside a message, empty when it is absent."""
    found: Message = one(message, key, {})
    return found


def layers(net: Message) -> list[Message]:
    """Return the layers of a test pass in order.

    Raises: UnsupportedError for the layer format of 2013 (V0), which Caffe's own tools upgrade.
    """
    old = net.get("layers", [])
    if any("layer" in layer for layer in old):
        raise UnsupportedError("the description is in Caffe's format of 2013 (V0); upgrade it with Caffe's upgrade_net_proto_text")
    return [layer for layer in [*map(_renamed, old), *net.get("layer", [])] if _takes_part(layer)]


def _renamed(layer: Message) -> Message:
    kind = str(one(layer, "type", "NONE"))
    return {**layer, "type": [V1_NAMES.get(kind, kind.capitalize())]}


def _takes_part(layer: Message) -> bool:
    def meets(rule: Message) -> bool:
        return one(rule, "phase", "TEST") == "TEST" and not rule.get("stage")

    include, exclude = layer.get("include", []), layer.get("exclude", [])
    return (not include or any(map(meets, include))) and not any(map(meets, exclude))


def blob(message: Message, where: str) -> Array:
    """Return the array of a BlobProto, float32, in its own shape or the old (num, channels, height, width).

    Raises: DataError when shape and numbers do not agree.
    """
    chunks = message.get("data") or message.get("double_data") or []
    numbers = np.concatenate([np.atleast_1d(np.asarray(chunk, np.float32)) for chunk in chunks]) if chunks else np.zeros(0, np.float32)
    if "shape" in message:
        shape = tuple(many(part(message, "shape"), "dim"))
    else:
        shape = tuple(int(one(message, key, 1)) for key in ("num", "channels", "height", "width"))
    total = 1
    for side in shape:
        total *= side
    if any(side < 0 for side in shape) or total != numbers.size:
        raise DataError(f"{where} announces {' x '.join(map(str, shape))} numbers and holds {numbers.size:,}")
    return numbers.reshape(shape)


def arrays(net: Message) -> dict[str, list[Array]]:
    """Return the arrays of every layer that has some, by the layer's name."""
    found = {}
    for layer in [*net.get("layers", []), *net.get("layer", [])]:
        name = str(one(layer, "name", ""))
        blobs = [blob(message, f"array {number} of layer {name!r}") for number, message in enumerate(layer.get("blobs", []))]
        if blobs:
            found[name] = blobs
    return found


def inputs(net: Message) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input by its name, the batch as -1.

    Inputs are ``Input`` layers, the old ``input`` fields, and the first top of data layers, whose size is that of their crop.

    Raises: DataError when a size is nowhere given.
    """
    found: dict[str, tuple[int, ...]] = {}
    names, shapes, sides = many(net, "input"), net.get("input_shape", []), many(net, "input_dim")
    for place, name in enumerate(names):
        found[name] = _sized(name, many(shapes[place], "dim") if place < len(shapes) else sides[4 * place : 4 * place + 4])
    for layer in layers(net):
        kind, tops = one(layer, "type", ""), many(layer, "top")
        if kind == "Input":
            given = part(layer, "input_param").get("shape", [])
            for place, top in enumerate(tops):
                found[top] = _sized(top, many(given[min(place, len(given) - 1)], "dim") if given else [])
        elif kind in DATA_LAYERS and tops:
            found[tops[0]] = _sized(tops[0], _data_size(layer))
    return found


DATA_LAYERS = ("Data", "ImageData", "MemoryData", "HDF5Data", "WindowData", "DummyData")


def _data_size(layer: Message) -> list[int]:
    memory, side = part(layer, "memory_data_param"), int(one(part(layer, "transform_param"), "crop_size", 0))
    if memory:
        return [1, *(int(one(memory, key, 0)) for key in ("channels", "height", "width"))]
    return [1, 3, side, side] if side else []


def _sized(name: str, sides: list[int]) -> tuple[int, ...]:
    if len(sides) < 2 or any(side < 1 for side in sides[1:]):
        raise DataError(f"input {name!r} has no size; give the deploy.prototxt, which says it (input_param {{ shape {{ dim: ... }} }})")
    return (-1, *sides[1:])
