"""A program as one file: a safetensors file of the weights whose metadata hold everything else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from convsmith.compiler.choices import Decisions
from convsmith.compiler.trials import Choice
from convsmith.errors import ConvsmithError, DataError
from convsmith.graph import Graph
from convsmith.graph.files import replace_file
from convsmith.graph.narrow_arrays import narrow, widen
from convsmith.graph.store import from_dict, to_dict

VERSION: Final = 2
READ_VERSIONS: Final = (1, 2)
KEY: Final = "convsmith.program"
SUM: Final = "convsmith.sha256"

Array = np.ndarray[Any, Any]


def save(path: Path | str, graph: Graph, decisions: Decisions, metadata: Mapping[str, str]) -> None:
    """Write the file; an existing one is replaced at once, never half."""
    arrays, packed = narrow({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in graph.weights.items()})
    content = json.dumps(
        {
            "version": VERSION,
            "graph": to_dict(graph),
            "packed": packed,
            "decisions": {key: [choice.algorithm, choice.threads] for key, choice in sorted(decisions.items())},
            "metadata": dict(metadata),
        }
    )
    data = serialise(arrays, metadata={KEY: content, SUM: checksum(content, arrays)})
    replace_file(Path(path), data)


def load(path: Path | str) -> tuple[Graph, dict[str, Choice], dict[str, str]]:
    """Return graph, decisions and metadata; ``DataError`` for a file that ``save`` did not write or that was changed since."""
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a compiled program: {error}") from error
    content = header.get(KEY)
    if content is None:
        raise DataError(f"{path} is a safetensors file without a program in it; Program.save writes one")
    if header.get(SUM) != checksum(content, arrays):
        raise DataError(f"{path} was changed or damaged after it was written: its checksum differs; compile it again")
    try:
        fields = json.loads(content)
        if fields["version"] not in READ_VERSIONS:
            read = " and ".join(map(str, READ_VERSIONS))
            raise DataError(f"it has version {fields['version']}; this Convsmith reads versions {read}")
        decisions = {key: Choice(str(name), int(threads)) for key, (name, threads) in fields["decisions"].items()}
        return from_dict(fields["graph"], widen(arrays, fields.get("packed", {}))), decisions, dict(fields["metadata"])
    except (ValueError, KeyError, TypeError, ConvsmithError) as error:
        raise DataError(f"{path} holds a program that cannot be read: {error}") from error


def checksum(content: str, arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of the description and of every array's name, type, shape and bytes, by name."""
    total = hashlib.sha256(content.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).tobytes())
    return total.hexdigest()
