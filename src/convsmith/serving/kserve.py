"""Requests and answers of the KServe (Open Inference) protocol, version 2: JSON, and the extension for binary tensors.

References: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol; binary_tensor_data of Triton.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.serving.frames import Reply
from convsmith.serving.http import Refused, as_json
from convsmith.serving.limits import Limits

PIXELS, ENCODED = "image", "encoded"
OUTPUTS: Final = {"scores": "FP32", "logits": "FP32", "label": "BYTES", "sure": "BOOL"}


@dataclass(frozen=True)
class Wanted:
    """A request that was read: encoded images or pixels ``(n, h, w, c)``, and the outputs asked for, each binary or not."""

    images: list[bytes] | NDArray[np.uint8]
    outputs: Mapping[str, bool]
    id: str | None


def describe(name: str, channels: int, classes: int) -> dict[str, Any]:
    """Return the metadata of the model."""
    inputs = [
        {"name": PIXELS, "datatype": "UINT8", "shape": [-1, -1, -1, channels]},
        {"name": ENCODED, "datatype": "BYTES", "shape": [-1]},
    ]
    sizes = {"scores": [-1, classes], "logits": [-1, classes], "label": [-1], "sure": [-1]}
    outputs = [{"name": key, "datatype": kind, "shape": sizes[key]} for key, kind in OUTPUTS.items()]
    return {"name": name, "versions": ["1"], "platform": "convsmith", "inputs": inputs, "outputs": outputs}


def read(body: bytes, json_bytes: int, limits: Limits) -> Wanted:
    """Read a request; `Refused` says what is wrong with it."""
    try:
        fields = json.loads(body[: json_bytes or len(body)])
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("inputs"), list) or len(fields["inputs"]) != 1:
        raise Refused(400, f"give one input, {PIXELS!r} of UINT8 or {ENCODED!r} of BYTES")
    given = fields["inputs"][0]
    name = given.get("name") if isinstance(given, dict) else None
    expected = {PIXELS: ("UINT8", 4), ENCODED: ("BYTES", 1)}
    if name not in expected or given.get("datatype") != expected[name][0]:
        raise Refused(400, f"give one input, {PIXELS!r} of UINT8 or {ENCODED!r} of BYTES")
    shape: Any = given.get("shape")
    if not _is_shape(shape, expected[name][1]):
        raise Refused(400, f"the shape of {name!r} has {expected[name][1]} whole numbers above 0")
    if shape[0] > limits.images:
        raise Refused(413, f"{shape[0]} images in one request; at most {limits.images} are taken")
    raw = _raw(given, body[json_bytes:] if json_bytes else b"", bool(json_bytes))
    images: Any = _pixels(shape, given, raw, limits) if name == PIXELS else _encoded(shape[0], given, raw)
    return Wanted(images, _outputs(fields), fields.get("id") if isinstance(fields.get("id"), str) else None)


def _is_shape(shape: Any, rank: int) -> bool:
    return isinstance(shape, list) and len(shape) == rank and all(type(size) is int and 0 < size < 2**31 for size in shape)


def _parameters(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = fields.get("parameters")
    return found if isinstance(found, dict) else {}


def _raw(given: Mapping[str, Any], tail: bytes, binary: bool) -> bytes | None:
    """Return the bytes of a tensor that stands behind the JSON; None when it stands in it."""
    size = _parameters(given).get("binary_data_size")
    if size is None:
        return None
    if not binary or type(size) is not int or size != len(tail):
        raise Refused(400, f"binary_data_size is {size!r}, and {len(tail)} bytes follow the JSON (Inference-Header-Content-Length)")
    return tail


def _pixels(shape: Sequence[int], given: Mapping[str, Any], raw: bytes | None, limits: Limits) -> NDArray[np.uint8]:
    if shape[3] not in (1, 3) or shape[0] * shape[1] * shape[2] > limits.pixels:
        raise Refused(
            413 if shape[3] in (1, 3) else 400, f"images of shape {list(shape[1:])}: 1 or 3 channels, {limits.pixels:,} pixels at most"
        )
    count = int(np.prod(shape, dtype=np.int64))
    if raw is not None:
        if len(raw) != count:
            raise Refused(400, f"{len(raw)} bytes for the shape {list(shape)}, which has {count}")
        return np.frombuffer(raw, np.uint8).reshape(shape)
    try:
        values = np.asarray(given.get("data"))
    except (ValueError, OverflowError):
        values = np.zeros(0)
    if values.dtype.kind not in "iu" or values.size != count or values.min() < 0 or values.max() > 255:
        raise Refused(400, f"data are not {count} whole numbers from 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _encoded(count: int, given: Mapping[str, Any], raw: bytes | None) -> list[bytes]:
    if raw is not None:
        return _pieces(raw, count)
    data = given.get("data")
    if not isinstance(data, list) or len(data) != count or not all(isinstance(item, str) for item in data):
        raise Refused(400, f"data are not {count} texts, each an image file in base64")
    try:
        return [base64.b64decode(item, validate=True) for item in data]
    except (binascii.Error, ValueError):
        raise Refused(400, "data are not base64") from None


def _pieces(raw: bytes, count: int) -> list[bytes]:
    """Return the elements of a binary tensor of BYTES: each has its length in 4 bytes before it."""
    found, place = [], 0
    for _ in range(count):
        if place + 4 > len(raw):
            break
        (size,) = struct.unpack_from("<I", raw, place)
        found.append(raw[place + 4 : place + 4 + size])
        place += 4 + size
    if len(found) != count or place != len(raw):
        raise Refused(400, f"the binary data are not {count} elements, each with its length before it")
    return found


def _outputs(fields: Mapping[str, Any]) -> dict[str, bool]:
    """Return the outputs wanted, and whether each is to be binary; by default all but the logits."""
    binary = _parameters(fields).get("binary_data_output") is True
    asked = fields.get("outputs")
    if asked is None:
        return {name: binary for name in OUTPUTS if name != "logits"}
    if not isinstance(asked, list) or not all(isinstance(item, dict) and item.get("name") in OUTPUTS for item in asked):
        raise Refused(400, f"outputs are some of {', '.join(OUTPUTS)}")
    return {item["name"]: _parameters(item).get("binary_data", binary) is True for item in asked}


def write(name: str, wanted: Wanted, found: Mapping[str, NDArray[Any]]) -> Reply:
    """Return the answer; binary tensors follow the JSON in the order of the outputs."""
    outputs, tail = [], []
    for key, binary in wanted.outputs.items():
        array = found[key]
        described: dict[str, Any] = {"name": key, "datatype": OUTPUTS[key], "shape": list(array.shape)}
        if binary:
            tail.append(_binary(array))
            described["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            described["data"] = array.reshape(-1).tolist()
        outputs.append(described)
    head: dict[str, Any] = {"model_name": name, "model_version": "1", **({"id": wanted.id} if wanted.id is not None else {})}
    text = as_json(head | {"outputs": outputs})
    images = len(found["sure"])
    return Reply(200, text + b"".join(tail), images, len(text) if tail else 0)


def _binary(array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).tobytes()
    texts = [str(item).encode() for item in array]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
