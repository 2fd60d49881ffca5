"""Export: a graph becomes a file that reads pixels, is run on real images, and is kept only when it agrees."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from convsmith.data.preprocess import Preprocess
from convsmith.errors import ResourceError, UsageError, near
from convsmith.graph.network import Graph
from convsmith.interop.onnx import write
from convsmith.redesign import fold_batch_norm
from convsmith.targets.agreement import Parity, parity, require
from convsmith.targets.assembly import assemble
from convsmith.targets.sessions import Runtime, openvino_core, openvino_module


@dataclass(frozen=True)
class Target:
    """A kind of file: its suffix, the runtime that checks it, and the writer, which returns every file it wrote, the main one first."""

    suffix: str
    runtime: Runtime
    write: Callable[[onnx.ModelProto, Path], tuple[Path, ...]]


@dataclass(frozen=True)
class Exported:
    """What ``export`` wrote; ``parity`` is None when no images were given to check it with."""

    path: Path
    target: str
    files: tuple[Path, ...]
    size_bytes: int
    parity: Parity | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path.name,
            "target": self.target,
            "files": [file.name for file in self.files],
            "size_bytes": self.size_bytes,
            "parity": self.parity.to_dict() if self.parity else None,
        }


def export(
    graph: Graph,
    preprocess: Preprocess,
    classes: Sequence[str],
    path: Path | str,
    *,
    target: str = "onnx",
    metadata: Mapping[str, str] | None = None,
    images: Iterable[NDArray[np.uint8]] | None = None,
    expected_logits: NDArray[np.floating[Any]] | None = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the graph, batch norm folded, as a file with resize, crop, normalisation and labels inside.

    With ``images`` (decoded, uint8 ``(h, w, c)``) and the trained network's ``expected_logits`` for them, the file is run on them and
    kept only when it agrees; else it is left as ``*.failed``. It appears under its name only when complete.

    Raises: ``ParityError`` when it predicts another class than the network (ties aside); ``UsageError`` for a file that exists,
    an unknown target or labels that do not fit; ``UnsupportedError`` for an operator that ONNX export lacks.
    """
    path = Path(path)
    chosen = _target(target, path, overwrite)
    if (images is None) != (expected_logits is None):
        raise UsageError("parity needs both images and expected_logits, or neither")
    model = assemble(_network(graph), preprocess, classes, metadata)
    result = None
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            files = chosen.write(model, Path(folder) / path.name)
            size_bytes = sum(file.stat().st_size for file in files)
            if images is not None and expected_logits is not None:
                result = parity(files[0], images, expected_logits, runtime=chosen.runtime, threads=threads)
            failed = "" if result is None or result.passed else ".failed"
            kept = tuple(path.with_name(file.name + failed) for file in files)
            for file, place in zip(reversed(files), reversed(kept), strict=True):
                file.replace(place)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from None
    if result is not None:
        require(result, path)
    return Exported(kept[0], target, kept, size_bytes, result)


def _target(name: str, path: Path, overwrite: bool) -> Target:
    if name not in TARGETS:
        raise UsageError(f"no target {name!r}; allowed are {', '.join(TARGETS)}.{near(name, TARGETS)}")
    chosen = TARGETS[name]
    if path.suffix != chosen.suffix:
        raise UsageError(f"target {name!r} writes *{chosen.suffix} files, but the path is {path.name!r}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; remove it, choose another name, or ask to overwrite it (--overwrite)")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; create it first")
    return chosen


def _network(graph: Graph) -> onnx.ModelProto:
    return onnx.load_from_string(network_bytes(graph))


def network_bytes(graph: Graph) -> bytes:
    """Return the bare network as an ONNX file, batch norm folded: float32 NCHW to logits, for any runtime."""
    return write(fold_batch_norm(graph))


def _write_onnx(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    path.write_bytes(model.SerializeToString())
    return (path,)


def _write_openvino(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Write OpenVINO's IR, float32, with the metadata as its ``rt_info``; the conversion happens in memory and offline."""
    openvino = openvino_module()
    network = openvino_core().read_model(model.SerializeToString())
    for field in model.metadata_props:
        network.set_rt_info(field.value, field.key.split(".", 1))
    openvino.save_model(network, str(path), compress_to_fp16=False)
    return path, path.with_suffix(".bin")


TARGETS: dict[str, Target] = {
    "onnx": Target(".onnx", "onnxruntime", _write_onnx),
    "openvino": Target(".xml", "openvino", _write_openvino),
}


def register(name: str, target: Target) -> None:
    """Add a target; ``UsageError`` when the name is taken."""
    if name in TARGETS:
        raise UsageError(f"target {name!r} exists already; choose another name")
    TARGETS[name] = target
