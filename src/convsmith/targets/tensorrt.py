"""TensorRT: an engine of this machine's GPU with its metadata beside it, and the script that builds one elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import DataError, UnsupportedError
from convsmith.interop.onnx import write
from convsmith.targets import tensorrt_engine
from convsmith.targets.places import at
from convsmith.targets.scores import softmax
from convsmith.targets.shipment import Shipment

#: Inputs of the build script's own check, and how far logits may differ, relative to the largest: float32 sums in another order.
CHECKED: Final = 16
TOLERANCE: Final = 1e-3
ELSEWHERE: Final = "`convsmith export RUN --to tensorrt-script` writes what builds the engine where TensorRT 10, CUDA and an NVIDIA GPU are"


def write_engine(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Build the network's engine for this machine's GPU; the fields of the shipment go beside it, as ``.engine.json``.

    Raises: ``UnsupportedError`` without TensorRT, CUDA or a GPU.
    """
    try:
        path.write_bytes(tensorrt_engine.build(write(shipped.folded)))
    except tensorrt_engine.Unavailable as missing:
        raise UnsupportedError(f"{missing}; {ELSEWHERE}") from None
    fields = _beside(path)
    fields.write_text(_text(shipped), encoding="utf-8")
    return path, fields


def write_script(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Write the script that builds and checks the engine, with the network and inputs whose logits ONNX Runtime gave."""
    network = write(shipped.folded)
    p = shipped.preprocess
    x = np.random.default_rng(0).standard_normal((CHECKED, p.channels, p.height, p.width), np.float32)
    run, _ = at("convsmith.targets.sessions:onnxruntime_run")(network)
    logits = run(x)[0]
    tolerance = TOLERANCE * float(np.abs(logits).max())
    path.write_text(Path(tensorrt_engine.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    path.with_suffix(".onnx").write_bytes(network)
    with path.with_suffix(".npz").open("wb") as file:
        np.savez(file, x_nchw=x, logits=logits, tolerance=tolerance, fields=_text(shipped))
    return path, path.with_suffix(".onnx"), path.with_suffix(".npz")


def open_engine(path: Path, threads: int | None = None) -> tuple[Callable[[NDArray[Any]], list[NDArray[Any]]], dict[str, str]]:
    """Return a function that runs an engine on pixels, and its metadata; ``threads`` means nothing to a GPU.

    Raises: ``UnsupportedError`` without TensorRT or a GPU; ``DataError`` without the file beside the engine.
    """
    try:
        fields: dict[str, str] = json.loads(_beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{_beside(path).name}, which belongs beside {path.name}, cannot be read: {error}") from None
    try:
        engine = tensorrt_engine.Engine(path.read_bytes())
    except tensorrt_engine.Unavailable as missing:
        raise UnsupportedError(f"{missing}; {ELSEWHERE}") from None
    preprocess, temperature = Preprocess.from_dict(json.loads(fields["preprocess"])), float(fields["temperature"])

    def run(images: NDArray[Any]) -> list[NDArray[Any]]:
        logits = engine(normalise(np.stack([resize(image, preprocess) for image in images]), preprocess))
        return [softmax(logits, temperature), logits]

    return run, fields


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _text(shipped: Shipment) -> str:
    return json.dumps(shipped.fields(), indent=1)
