"""A graph as one file: its structure as JSON and its arrays, in a safetensors file.

The structure is the ``convsmith.graph`` entry of the file's metadata, so that the arrays open in any safetensors reader.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from convsmith.errors import ConvsmithError, DataError
from convsmith.graph.files import replace_file
from convsmith.graph.narrow_arrays import narrow, widen
from convsmith.graph.network import Graph, Node, Value

KEY = "convsmith.graph"
PACKED = "convsmith.packed"
VERSION = 1


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the graph, its arrays in as few bits as they need; an existing file is replaced at once, never half."""
    arrays, packed = narrow({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in graph.weights.items()})
    data = serialise(arrays, metadata={KEY: json.dumps(to_dict(graph)), PACKED: json.dumps(packed)})
    replace_file(Path(path), data)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a graph that ``save`` wrote, bit for bit; ``DataError`` for any other file."""
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            structure, packed = header.get(KEY), header.get(PACKED, "{}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a saved graph: {error}") from error
    if structure is None:
        raise DataError(f"{path} is a safetensors file without a graph in it")
    try:
        return from_dict(json.loads(structure), widen(arrays, json.loads(packed)))
    except (ValueError, KeyError, TypeError, ConvsmithError) as error:
        raise DataError(f"{path} holds a broken graph: {error}") from error


def to_dict(graph: Graph) -> dict[str, Any]:
    """Return the structure without arrays, as plain JSON data."""
    return {
        "version": VERSION,
        "name": graph.name,
        "inputs": [value_to_dict(value) for value in graph.inputs],
        "outputs": [value_to_dict(value) for value in graph.outputs],
        "nodes": [
            {"name": n.name, "op": n.op, "inputs": list(n.inputs), "outputs": list(n.outputs), "attributes": dict(n.attributes)}
            for n in graph
        ],
    }


def from_dict(structure: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> Graph:
    """Return the graph of a structure and its arrays."""
    if structure["version"] != VERSION:
        raise DataError(f"it has version {structure['version']}; this Convsmith reads version {VERSION}")
    nodes = tuple(
        Node(n["name"], n["op"], tuple(n["inputs"]), tuple(n["outputs"]), {key: tupled(v) for key, v in n["attributes"].items()})
        for n in structure["nodes"]
    )
    inputs, outputs = (tuple(value_from_dict(fields) for fields in structure[key]) for key in ("inputs", "outputs"))
    return Graph(structure["name"], inputs, outputs, nodes, arrays)


def value_to_dict(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape), "dtype": value.dtype}


def value_from_dict(fields: dict[str, Any]) -> Value:
    return Value(fields["name"], tuple(fields["shape"]), fields["dtype"])


def tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
