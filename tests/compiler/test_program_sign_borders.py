"""A border of ones around signs, as Larq's networks have it: the layer that reads it makes it, bit for bit as ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from test_program_signs import answers, signed

from convsmith import compiler
from convsmith.graph import Graph, Node
from convsmith.kernels import instruction_sets


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 1, 0)])
def test_a_border_of_ones_around_signs_is_made_by_the_layer_that_reads_it(monkeypatch: pytest.MonkeyPatch, pads: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    w = np.where(rng.integers(0, 2, (9, 70, 3, 3)) == 1, np.float32(1), np.float32(-1))
    inner = signed((1, 70, 6, 7), w, {"kernel_shape": (3, 3), "strides": (2, 1)})
    top, left, bottom, right = pads
    amounts = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    less, sign, conv = inner.nodes
    nodes = (less, sign, Node("pad", "Pad", ("s", "amounts", "plus"), ("p",)), Node("conv", "Conv", ("p", "w"), ("y",), conv.attributes))
    graph = Graph("bordered", inner.inputs, inner.outputs, nodes, {**inner.weights, "amounts": amounts})
    x = rng.standard_normal((2, 70, 6, 7), np.float32)
    expected = answers(graph, x)
    for level in instruction_sets():
        monkeypatch.setenv("CONVSMITH_ISA", level)
        program = compiler.build(graph)
        kinds = [step.kind for step in program.executable(x.shape).steps]
        assert kinds.count("binary_convolution") == 1 and "unpack_signs" not in kinds
        assert np.array_equal(program(x), expected), level
    assert np.array_equal(compiler.interpret(program.graph)(x), expected)
