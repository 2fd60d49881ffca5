"""Builds a TensorRT engine of an ONNX file and runs it. Needs only tensorrt 10, numpy and a GPU: a copy of this file is the build script.

As a script, ``python build_engine.py`` reads the .onnx and .npz of its own name, builds the .engine, and keeps it only when its logits are
those of the .npz within the tolerance that lies there.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_BATCH = 64
USUAL_BATCH = 16
TO_DEVICE, TO_HOST = 1, 2
RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


class Unavailable(Exception):
    """TensorRT, CUDA or a GPU is missing; the text says which."""


def tensorrt_module() -> Any:
    """Return the package; Unavailable when it is not installed."""
    try:
        import tensorrt
    except ImportError:
        raise Unavailable("TensorRT is not installed here") from None
    return tensorrt


def cuda_runtime() -> ctypes.CDLL:
    """Return the CUDA runtime as a ctypes library; Unavailable without it or without a GPU."""
    for name in RUNTIMES:
        try:
            cuda = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if cuda.cudaGetDeviceCount(ctypes.byref(count)) != 0 or count.value == 0:
            raise Unavailable("there is no NVIDIA GPU that CUDA can use")
        return cuda
    raise Unavailable("the CUDA runtime (libcudart) is not installed here")


def build(network: bytes) -> bytes:
    """Return the engine of a network from float32 NCHW to logits, for batches of 1 to 64, computed in float32 without TF32."""
    trt = tensorrt_module()
    cuda_runtime()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    definition = builder.create_network(0)
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(network):
        raise Unavailable("TensorRT cannot read the network: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    pixels = definition.get_input(0)
    sizes = tuple(pixels.shape)[1:]
    profile.set_shape(pixels.name, (1, *sizes), (USUAL_BATCH, *sizes), (LARGEST_BATCH, *sizes))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        raise Unavailable("TensorRT could not build an engine of the network")
    return bytes(plan)


class Engine:
    """An engine with its memory on the GPU."""

    def __init__(self, plan: bytes) -> None:
        trt = tensorrt_module()
        self.cuda = cuda_runtime()
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise Unavailable("TensorRT cannot open the engine; it was built for another GPU or version")
        self.context = self.engine.create_execution_context()
        self.names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.places = {name: ctypes.c_void_p() for name in self.names}
        self.sizes = {name: tuple(self.engine.get_tensor_shape(name))[1:] for name in self.names}
        for name in self.names:
            count = 4 * LARGEST_BATCH * int(np.prod(self.sizes[name]))
            self._checked(self.cuda.cudaMalloc(ctypes.byref(self.places[name]), ctypes.c_size_t(count)), "cudaMalloc")
            self.context.set_tensor_address(name, self.places[name].value)

    def __call__(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits of any number of images, float32."""
        parts = [self._run(x_nchw[first : first + LARGEST_BATCH]) for first in range(0, len(x_nchw), LARGEST_BATCH)]
        return np.concatenate(parts)

    def _run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        given, found = self.names
        pixels = np.ascontiguousarray(x_nchw, np.float32)
        logits = np.empty((len(pixels), *self.sizes[found]), np.float32)
        self._copy(self.places[given], ctypes.c_void_p(pixels.ctypes.data), pixels.nbytes, TO_DEVICE)
        self.context.set_input_shape(given, pixels.shape)
        if not self.context.execute_async_v3(0):
            raise RuntimeError("TensorRT could not run the engine")
        self._copy(ctypes.c_void_p(logits.ctypes.data), self.places[found], logits.nbytes, TO_HOST)
        return logits

    def _copy(self, to: ctypes.c_void_p, source: ctypes.c_void_p, count: int, way: int) -> None:
        """Copy on the default stream, which waits for what was begun before."""
        self._checked(self.cuda.cudaMemcpy(to, source, ctypes.c_size_t(count), way), "cudaMemcpy")

    def _checked(self, code: int, what: str) -> None:
        if code != 0:
            raise RuntimeError(f"{what} failed with CUDA error {code}")

    def close(self) -> None:
        """Give the memory back."""
        for place in self.places.values():
            self.cuda.cudaFree(place)


def main() -> int:
    """Build, compare with the stored logits, keep."""
    here = Path(__file__)
    stored = np.load(here.with_suffix(".npz"))
    try:
        plan = build(here.with_suffix(".onnx").read_bytes())
        found = Engine(plan)(stored["x_nchw"])
    except Unavailable as missing:
        print(f"{missing}; run this where TensorRT 10, CUDA and an NVIDIA GPU are", file=sys.stderr)
        return 2
    largest = float(np.abs(found - stored["logits"]).max())
    agree = bool((found.argmax(1) == stored["logits"].argmax(1)).all())
    print(f"{len(found)} inputs, largest difference of logits {largest:.3g}, classes {'agree' if agree else 'DIFFER'}")
    if not agree or largest > float(stored["tolerance"]):
        return 3
    here.with_suffix(".engine").write_bytes(plan)
    here.with_suffix(".engine.json").write_text(str(stored["fields"]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
