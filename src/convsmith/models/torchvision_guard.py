"""Make torchvision importable beside a build of torch that its compiled library does not fit."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_fragments: list[torch.library.Library] = []


def guard() -> bool:
    """Define the two operators whose absence stops `import torchvision`; return whether that was needed.

    The PyPI build of torchvision is compiled for CUDA; with a CPU build of torch its library does not load and its import
    fails with "operator torchvision::nms does not exist". Models and transforms need neither operator. Nothing is defined
    where the library loads or torchvision is absent. Safe to call twice.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _fragments or _library_loads(Path(spec.origin).parent):
        return bool(_fragments)
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _fragments.append(library)
    return True


def _library_loads(package: Path) -> bool:
    for library in sorted(package.glob("_C*")):
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
