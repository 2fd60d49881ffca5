"""Export: a graph becomes a file that reads pixels, is run on real images, and is kept only when it agrees."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.data.preprocess import Preprocess
from convsmith.errors import ResourceError, UsageError, near
from convsmith.graph.network import Graph
from convsmith.targets import tensorrt, writers
from convsmith.targets.agreement import Parity, parity, require
from convsmith.targets.places import at
from convsmith.targets.shipment import Confidence, Quantiser, Shipment
from convsmith.targets.target import Target

TARGETS: dict[str, Target] = {
    "onnx": Target("model.onnx", "onnxruntime", writers.write_onnx, help="ONNX, float32"),
    "qdq": Target("model.qdq.onnx", "onnxruntime", writers.write_onnx, "must", "ONNX with codes of 8 bits (QuantizeLinear)"),
    "qonnx": Target("model.qonnx", "qonnx", writers.write_qonnx, "must", "QONNX: any width of integers and fixed point"),
    "native": Target("model.program", "native", at("convsmith.compiler.shipping:write"), "may", "Convsmith's own engine"),
    "openvino": Target("model.xml", "openvino", writers.write_openvino, help="OpenVINO's IR, float32"),
    "torchscript": Target("model.ts", "torchscript", writers.write_torchscript, help="TorchScript"),
    "torch-export": Target("model.pt2", "torch-export", writers.write_torch_export, help="torch.export"),
    "tensorrt": Target("model.engine", "tensorrt", tensorrt.write_engine, help="TensorRT engine of this machine's GPU"),
    "tensorrt-script": Target("build_engine.py", None, tensorrt.write_script, help="script that builds and checks the engine elsewhere"),
}


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
    confidence: Confidence | None = None,
    plan: Quantiser | None = None,
    ranges: Any = None,
    images: Iterable[NDArray[np.uint8]] | None = None,
    expected_logits: NDArray[np.floating[Any]] | None = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the graph, batch norm folded, as a file with resize, crop, normalisation, labels and confidence inside.

    ``plan`` and its ``ranges``: number formats, for the targets that speak them. With ``images`` (decoded, uint8 ``(h, w, c)``) and the
    ``expected_logits`` of the trained network, under the plan if there is one, the file is run on them and kept only when it agrees; else
    it is left as ``*.failed``. It appears under its name only when complete.

    Raises: ``ParityError`` when it predicts another class than the network (ties aside); ``UsageError`` for a file that exists,
    an unknown target, a plan that does not belong to it, or labels that do not fit; ``UnsupportedError`` for an operator or a format
    that the target lacks, or for a target whose software is not here.
    """
    path = Path(path)
    chosen = _target(target, path, overwrite, planned=plan is not None)
    if (images is None) != (expected_logits is None):
        raise UsageError("parity needs both images and expected_logits, or neither")
    shipped = Shipment(graph, preprocess, tuple(classes), confidence or Confidence(), metadata or {}, plan, ranges)
    result = None
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            files = chosen.write(shipped, Path(folder) / path.name)
            size_bytes = sum(file.stat().st_size for file in files)
            if images is not None and expected_logits is not None and chosen.runtime is not None:
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


def _target(name: str, path: Path, overwrite: bool, *, planned: bool) -> Target:
    if name not in TARGETS:
        raise UsageError(f"no target {name!r}; allowed are {', '.join(TARGETS)}.{near(name, TARGETS)}")
    chosen = TARGETS[name]
    if planned and chosen.plans == "none":
        able = ", ".join(known for known, other in TARGETS.items() if other.plans != "none")
        raise UsageError(f"target {name!r} takes no plan of number formats; those that do are {able}")
    if not planned and chosen.plans == "must":
        raise UsageError(f"target {name!r} needs a plan of number formats, such as int8")
    if path.suffix != chosen.suffix:
        raise UsageError(f"target {name!r} writes *{chosen.suffix} files, but the path is {path.name!r}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; remove it, choose another name, or ask to overwrite it (--overwrite)")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; create it first")
    return chosen


def register(name: str, target: Target) -> None:
    """Add a target; ``UsageError`` when the name is taken."""
    if name in TARGETS:
        raise UsageError(f"target {name!r} exists already; choose another name")
    TARGETS[name] = target
