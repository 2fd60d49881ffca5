"""Networks of the Caffe Model Zoo, .prototxt and .caffemodel, become a ``Graph``; needs neither Caffe nor protobuf.

The graph computes what Caffe computes: pooling rounds sizes up (``ceil_mode``), average pooling counts the padding, and the input
stays blue, green, red on the scale 0..255 less a mean (`convention`).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from convsmith.errors import DataError, UnsupportedError, UsageError, near
from convsmith.graph import Graph, Value, infer_shapes
from convsmith.interop import caffe_text, caffe_wire
from convsmith.interop.caffe_builder import Builder
from convsmith.interop.caffe_layers import HANDLERS, LOSSES
from convsmith.interop.caffe_net import DATA_LAYERS, arrays, inputs, layers, many, one, part
from convsmith.interop.caffe_wire import Message
from convsmith.models.convention import CAFFE, Convention

__all__ = ["convention", "read"]

MAX_TEXT_BYTES = 32 * 2**20


def read(prototxt: str | os.PathLike[str] | None, caffemodel: str | os.PathLike[str]) -> Graph:
    """Return the network of a test pass; arrays go to layers by name, as in Caffe.

    ``prototxt=None`` takes the description that the .caffemodel carries. Layers that only train (losses, accuracy) are left out.

    Raises: DataError for files that are missing, cut off, hostile or do not fit together; UnsupportedError naming every layer that is
    not known.
    """
    weights = _guarded(Path(caffemodel), _binary)
    net = weights if prototxt is None else _guarded(Path(prototxt), _text)
    label = str(caffemodel if prototxt is None else prototxt)
    found = layers(net)
    if not found:
        raise DataError(f"{label} describes no layer")
    _refuse_unknown(found, label)
    given = inputs(net)
    if not given:
        raise DataError(f"{label} has no input; give the deploy.prototxt")
    try:
        return _graph(str(one(net, "name", "") or Path(label).stem), given, found, arrays(weights))
    except DataError as error:
        raise DataError(f"{label} with {caffemodel}: {error}") from None


def convention(prototxt: str | os.PathLike[str]) -> Convention:
    """Return how the network wants its input: the size of the description, and the mean and scale of its data layer where it has one.

    A deploy.prototxt says nothing of the mean; that of the Model Zoo (104, 117, 123 for blue, green, red) stands for it.
    """
    net = _guarded(Path(prototxt), _text)
    shape = next(iter(inputs(net).values()), (-1, 3, 224, 224))
    height, width = shape[2:] if len(shape) == 4 else (224, 224)
    found = CAFFE.resized(height, width)
    for layer in layers(net):
        transform = part(layer, "transform_param")
        if one(layer, "type", "") in DATA_LAYERS and transform:
            bgr, scale = [float(number) for number in many(transform, "mean_value")], float(one(transform, "scale", 1.0))
            means = tuple(reversed(bgr * 3 if len(bgr) == 1 else bgr)) if bgr else (0.0, 0.0, 0.0)
            found = found.replaced(mean=tuple(mean / 255 for mean in means), std=(1 / (255 * scale),) * 3)
    return found


def _graph(name: str, given: dict[str, tuple[int, ...]], found: list[Message], blobs: dict[str, list[np.ndarray[Any, Any]]]) -> Graph:
    builder = Builder(given, found, blobs)
    for layer in found:
        if (kind := one(layer, "type", "")) in HANDLERS:
            builder.add(layer, HANDLERS[kind])
    entries = tuple(Value(value, shape) for value, shape in given.items())
    ends = tuple(Value(value, (-1,)) for value in builder.unread())
    graph = Graph(name, entries, ends, tuple(builder.nodes), builder.weights)
    try:
        shapes = infer_shapes(graph)
    except UsageError as error:
        raise DataError(str(error)) from None
    return dataclasses.replace(graph, outputs=tuple(Value(value.name, (-1, *shapes[value.name][1:])) for value in ends))


def _refuse_unknown(found: list[Message], label: str) -> None:
    known = {*HANDLERS, *LOSSES, *DATA_LAYERS, "Input"}
    unknown = [f"{one(layer, 'type', '')} (layer {one(layer, 'name', '')!r})" for layer in found if one(layer, "type", "") not in known]
    if unknown:
        shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        hint = near(unknown[0].split(" ")[0], HANDLERS)
        raise UnsupportedError(f"{label} has unknown layers: {shown}.{hint} Supported are {', '.join(sorted(HANDLERS))}")


def _guarded(path: Path, parse: Any) -> Message:
    try:
        found: Message = parse(path.read_bytes())
        return found
    except FileNotFoundError:
        raise DataError(f"there is no file {str(path)!r}") from None
    except (DataError, UnicodeDecodeError) as error:
        kind = "network description (.prototxt)" if parse is _text else "Caffe model (.caffemodel)"
        raise DataError(f"{str(path)!r} is not a whole {kind}: {error}") from None
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def _text(data: bytes) -> Message:
    if len(data) > MAX_TEXT_BYTES:
        raise DataError(f"{len(data):,} bytes; a description has at most {MAX_TEXT_BYTES:,}")
    return caffe_text.parse(data.decode("utf-8"))


def _binary(data: bytes) -> Message:
    found = caffe_wire.parse(data)
    if not found.get("layer") and not found.get("layers"):
        raise DataError("it holds no layer")
    return found
