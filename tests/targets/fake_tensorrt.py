"""TensorRT 10 and the CUDA runtime as far as the engine calls them: the GPU's memory is host memory, the engine ONNX Runtime."""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

import numpy as np
import pytest

from convsmith import targets
from convsmith.targets import tensorrt_engine

SHAPES = {"x": (-1, 3, 12, 10), "fc": (-1, 4)}


class Cuda:
    """cudaMalloc, cudaMemcpy and cudaFree on host memory."""

    def __init__(self, held: dict[int, Any]) -> None:
        self.held = held

    def cudaMalloc(self, place: Any, size: ctypes.c_size_t) -> int:
        memory = ctypes.create_string_buffer(size.value)
        address = ctypes.addressof(memory)
        place._obj.value = address
        self.held[address] = memory
        return 0

    def cudaMemcpy(self, to: ctypes.c_void_p, source: ctypes.c_void_p, size: ctypes.c_size_t, way: int) -> int:
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    def cudaFree(self, place: ctypes.c_void_p) -> int:
        del self.held[place.value]
        return 0


def install(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Put the package and the runtime in place; returns what was asked of them."""
    seen = types.SimpleNamespace(profile={}, cleared=[], batches=[], held={}, network=b"")

    class Context:
        def __init__(self) -> None:
            self.places: dict[str, int] = {}

        def set_tensor_address(self, name: str, address: int) -> None:
            self.places[name] = address

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
            self.shape = tuple(shape)

        def execute_async_v3(self, stream: int) -> bool:
            seen.batches.append(self.shape[0])
            count = int(np.prod(self.shape))
            x = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.places["x"])).reshape(self.shape)
            found = targets.onnxruntime_run(seen.network)[0](x)[0]
            ctypes.memmove(self.places["fc"], found.ctypes.data, found.nbytes)
            return True

    names = list(SHAPES)
    engine = types.SimpleNamespace(
        num_io_tensors=2, get_tensor_name=names.__getitem__, get_tensor_shape=SHAPES.__getitem__, create_execution_context=Context
    )
    profile = types.SimpleNamespace(set_shape=lambda name, low, usual, high: seen.profile.update({name: (low, usual, high)}))
    config = types.SimpleNamespace(clear_flag=seen.cleared.append, add_optimization_profile=lambda given: 0)
    definition = types.SimpleNamespace(get_input=lambda index: types.SimpleNamespace(name="x", shape=SHAPES["x"]))

    def parse(network: bytes) -> bool:
        seen.network = network
        return True

    module: Any = types.ModuleType("tensorrt")
    module.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
    module.BuilderFlag = types.SimpleNamespace(TF32="TF32")
    module.OnnxParser = lambda network, logger: types.SimpleNamespace(parse=parse, num_errors=0)
    module.Builder = lambda logger: types.SimpleNamespace(
        create_network=lambda flags: definition,
        create_builder_config=lambda: config,
        create_optimization_profile=lambda: profile,
        build_serialized_network=lambda network, given: b"plan",
    )
    module.Runtime = lambda logger: types.SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(tensorrt_engine, "cuda_runtime", lambda: Cuda(seen.held))
    return seen
