"""An exported file opened in its runtime: what it reads, what its scores are called, and a function that runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.data.preprocess import Preprocess
from convsmith.errors import DataError, UnsupportedError, UsageError, near
from convsmith.targets import qonnx, tensorrt
from convsmith.targets.places import at
from convsmith.targets.shipment import PREFIX, Confidence

Run = Callable[[NDArray[Any]], list[NDArray[Any]]]

NO_OPENVINO = "OpenVINO is not installed; install the extra: pip install 'convsmith[openvino]'"


@dataclass(frozen=True)
class Session:
    """An exported file, ready to run.

    ``run``: uint8 ``(n, h, w, channels)``, all images of one size, to ``[scores, logits]``, float32 ``(n, classes)``.
    """

    path: Path
    runtime: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    metadata: Mapping[str, str]
    run: Run

    @property
    def confidence(self) -> Confidence:
        """The temperature of the scores, and below which of them no class is named; those of older files are 1 and 0."""
        return Confidence(float(self.metadata.get("temperature", 1)), float(self.metadata.get("threshold", 0)))


def load(path: Path | str, *, runtime: str | None = None, threads: int | None = None) -> Session:
    """Open a file that ``export`` wrote, by default in the runtime that its ending stands for.

    Raises: ``DataError`` when the file is missing, unreadable or not an exported one; ``UnsupportedError`` without its runtime.
    """
    path = Path(path)
    chosen = runtime or RUNTIME_OF.get(path.suffix, "onnxruntime")
    if chosen not in RUNTIMES:
        raise UsageError(f"no runtime {chosen!r}; allowed are {', '.join(RUNTIMES)}.{near(chosen, RUNTIMES)}")
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}; export writes one")
    return session_of(path, chosen, *RUNTIMES[chosen](path, threads))


def session_of(path: Path, runtime: str, run: Run, metadata: Mapping[str, str]) -> Session:
    """Return what was opened as a session; ``DataError`` when it carries no labels and preprocessing."""
    fields = {key.removeprefix(PREFIX): value for key, value in metadata.items()}
    if not {"labels", "preprocess"} <= set(fields):
        raise DataError(f"{path.name} carries no labels and preprocessing; only files that convsmith exported can be run on images")
    preprocess = Preprocess.from_dict(json.loads(fields["preprocess"]))
    return Session(path, runtime, tuple(json.loads(fields["labels"])), preprocess, fields, run)


def onnxruntime_run(model: Path | bytes, threads: int | None = None) -> tuple[Run, dict[str, str]]:
    """Return a function that runs the model's first input in ONNX Runtime on the CPU, and the metadata.

    Threads wait without spinning, so that runtimes measured in turn do not slow one another.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads:
        options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes share no base below Exception
        raise DataError(f"ONNX Runtime cannot open {_name(model)}: {_first_line(error)}") from None
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x}), dict(session.get_modelmeta().custom_metadata_map)


def openvino_module() -> Any:
    """Return the package; `UnsupportedError` when it is not installed."""
    try:
        import openvino
    except ImportError:
        raise UnsupportedError(NO_OPENVINO) from None
    return openvino


@cache
def openvino_core() -> Any:
    """Return the process's one OpenVINO core; it lives as long as the process.

    Its CPU plugin gives the thread an alternate stack for signal handlers and, when unloaded, leaves the thread with the address of
    memory that is gone: the next signal, such as Ctrl-C, then ends the process with a segmentation fault (seen with 2026.4).
    """
    return openvino_module().Core()


def openvino_run(model: Path | bytes, threads: int | None = None, precision: str = "f32") -> tuple[Run, dict[str, str]]:
    """Return a function that runs the model's first input in OpenVINO on the CPU, and the metadata.

    ``precision`` is the hint to its CPU plugin: ``f32``, or ``bf16``, which it would choose by itself where the processor has it.
    """
    openvino_module()
    core = openvino_core()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        network = core.read_model(model)
        compiled = core.compile_model(network, "CPU", settings)
    except RuntimeError as error:
        raise DataError(f"OpenVINO cannot open {_name(model)}: {_first_line(error)}") from None
    request, count = compiled.create_infer_request(), len(compiled.outputs)

    def run(x: NDArray[Any]) -> list[NDArray[Any]]:
        request.infer([np.ascontiguousarray(x)])
        return [request.get_output_tensor(index).data.copy() for index in range(count)]

    return run, _openvino_metadata(network)


def _openvino_metadata(network: Any) -> dict[str, str]:
    """Return what a network carries: what was read from ONNX under ``framework``, an IR of ours under its own name without the prefix."""
    found: dict[str, str] = {}
    for place, prefix in (("framework", ""), (PREFIX.rstrip("."), PREFIX)):
        if network.has_rt_info(place):
            found |= {f"{prefix}{key}": value.astype(str) for key, value in network.get_rt_info()[place].items()}
    return found


def _name(model: Path | bytes) -> str:
    return "the network" if isinstance(model, bytes) else model.name


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _qonnx_run(path: Path, threads: int | None) -> tuple[Run, dict[str, str]]:
    return onnxruntime_run(qonnx.read(path).SerializeToString(), threads)


RUNTIMES: dict[str, Callable[[Path, int | None], tuple[Run, dict[str, str]]]] = {
    "onnxruntime": onnxruntime_run,
    "openvino": openvino_run,
    "native": at("convsmith.compiler.shipping:opened"),
    "qonnx": _qonnx_run,
    "torchscript": at("convsmith.interop.torch_files:open_torchscript"),
    "torch-export": at("convsmith.interop.torch_files:open_exported"),
    "tensorrt": tensorrt.open_engine,
}

RUNTIME_OF = {
    ".onnx": "onnxruntime",
    ".xml": "openvino",
    ".program": "native",
    ".qonnx": "qonnx",
    ".ts": "torchscript",
    ".pt2": "torch-export",
    ".engine": "tensorrt",
}
