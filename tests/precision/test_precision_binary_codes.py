"""Binary weights that read 8-bit codes: whole sums, exactly, in every instruction set; and files of a bit a weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import compiler, precision
from convsmith.formats import Format
from convsmith.graph.narrow_arrays import narrow, widen
from convsmith.interop import pytorch
from convsmith.kernels import instruction_sets
from convsmith.precision import Plan, Rule

INT8 = Format.integer(8)


def test_codes_times_signs_are_whole_sums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(5, 37, 3, 2, 1, bias=False), nn.Flatten(), nn.Linear(37 * 16, 11, bias=False)).eval()
    x = np.random.default_rng(0).standard_normal((3, 5, 8, 8), np.float32)
    weights = (Rule("0", "weight", Format.binary(), scale="channel", range="mse"), Rule("2", "weight", Format.binary()))
    codes = (Rule("input", "activation", INT8, scale="tensor"), Rule("0", "activation", INT8, scale="tensor"))
    plan, graph = Plan((*weights, *codes)), pytorch.read(net, (1, 5, 8, 8))
    ranges = precision.calibrate(graph, x)
    quantised = plan.quantise(graph, ranges)
    assert sum(array.dtype == np.int8 and set(np.unique(array)) == {-1, 1} for array in quantised.weights.values()) == 2

    def step(name: str) -> tuple[np.float32, int]:
        return np.float32(quantised.weights[f"{name}.scale"]), int(quantised.weights[f"{name}.zero"])

    names = {node.outputs[0]: node.inputs[0] for node in quantised if node.op == "QuantizeLinear"}
    (first, second) = (step(value) for value in names.values())
    w, v = (net[i].weight.detach().numpy() for i in (0, 2))
    size = np.abs(w).mean(axis=(1, 2, 3)).astype(np.float32)

    def coded(numbers: np.ndarray, given: tuple[np.float32, int]) -> np.ndarray:
        return np.clip(np.rint(numbers / given[0]) + given[1], 0, 255).astype(np.int64) - given[1]

    read = np.pad(coded(x, first), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(read, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    sums = np.einsum("nchwrs,kcrs->nkhw", windows, np.where(w < 0, -1, 1))
    hidden = coded((sums * (first[0] * size)[:, None, None]).astype(np.float32), second)
    expected = hidden.reshape(3, -1) @ np.where(v < 0, -1, 1).T
    for level in instruction_sets():
        monkeypatch.setenv("CONVSMITH_ISA", level)
        program = compiler.build(graph, plan, ranges=ranges)
        kinds = [each.kind for each in program.executable(x.shape).steps]
        assert not any("convolution" in kind and "integer" not in kind for kind in kinds), kinds
        found = program(x) / second[0]
        assert np.array_equal(np.rint(found), expected), level
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max(), "one float32 product for each whole sum"
    program.save(tmp_path / "net.program")
    assert np.array_equal(compiler.load(tmp_path / "net.program")(x), program(x))
    bits = (w.size + v.size) / 8
    assert (tmp_path / "net.program").stat().st_size < bits + 24_000, "a bit a weight, and the graph"


def test_codes_of_minus_one_and_one_take_a_bit_each() -> None:
    codes = np.where(np.random.default_rng(1).integers(0, 2, (9, 13)) == 1, 1, -1).astype(np.int8)
    packed, described = narrow({"w": codes})
    assert described["w"][0] == "minus" and packed["w"].nbytes == -(-codes.size // 8)
    assert np.array_equal(widen(packed, described)["w"], codes)
