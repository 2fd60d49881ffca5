"""Engines compared on one network of codes: equal where they are, and named where one is not."""

from __future__ import annotations

import numpy as np
import torch

from convsmith import compiler, models, precision
from convsmith.graph import Graph
from convsmith.interop import pytorch
from convsmith.redesign import fold_batch_norm


def codes_of(name: str, size: int) -> tuple[Graph, np.ndarray]:
    torch.manual_seed(0)
    graph = pytorch.read(models.load(name, classes=10, in_channels=3, input_size=(size, size)).eval(), (1, 3, size, size))
    x = np.random.default_rng(0).standard_normal((4, 3, size, size), np.float32)
    folded, plan = fold_batch_norm(graph), precision.candidate("int8", precision.layout(graph)).plan
    return precision.quantise(folded, plan, precision.calibrate(folded, x)), x


def test_torch_and_onnx_runtime_beside_the_engine() -> None:
    codes, x = codes_of("squeezenet1_1", 64)
    module = pytorch.write(compiler.simplify(codes))

    def by_torch(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(images)).numpy())

    found = compiler.compare_engines(codes, x, {"torch": by_torch}, threads=1)
    by_name = {engine["engine"]: engine for engine in found["engines"]}
    assert by_name["torch"]["different"] == 0 and by_name["onnxruntime"]["other_class"] == 0
    assert "torch gives the bits of the native engine for all 4 images." in found["text"]
    for layer in found["layers"]:  # a tie moves a code to the next one, and says why
        assert layer["largest"] == 1 and layer["reason"] in found["text"] + str(layer)


def test_an_engine_that_differs_is_told() -> None:
    codes, x = codes_of("squeezenet1_1", 64)
    program = compiler.build(codes, threads=1)

    def wrong(images: np.ndarray) -> np.ndarray:
        y = program(images).copy()
        y[1] = y[1].max() - y[1]
        return np.asarray(y)

    (engine,) = [e for e in compiler.compare_engines(codes, x, {"wrong": wrong}, threads=1)["engines"] if e["engine"] == "wrong"]
    assert (engine["different"], engine["other_class"]) == (1, 1)
