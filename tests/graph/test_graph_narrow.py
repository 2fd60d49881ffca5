"""Arrays in few bits come back bit for bit, and take what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsmith.graph import Graph, Node, Value, load, save
from convsmith.graph.narrow_arrays import narrow, pack, unpack, widen


@given(st.integers(2, 7), st.integers(64, 300), st.integers(0, 1000))
def test_codes_of_every_width(bits: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count).astype(np.int8)
    codes[0] = -(2 ** (bits - 1))
    packed, described = narrow({"w": codes.reshape(1, -1)})
    assert described["w"] == ["codes", bits, [1, count]]
    assert packed["w"].nbytes == -(-count * bits // 8)
    np.testing.assert_array_equal(widen(packed, described)["w"], codes.reshape(1, -1))


def test_the_bits_lie_from_the_lowest_on() -> None:
    np.testing.assert_array_equal(pack(np.int8([1, -1, 2, -4]), 3), np.uint8([0b10_111_001, 0b1000]))
    np.testing.assert_array_equal(unpack(np.uint8([0b10_111_001, 0b1000]), 3, 4), np.int8([1, -1, 2, -4]))


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_halves_keep_every_bit(kind: str) -> None:
    raw = np.arange(1 << 16, dtype=np.uint32)
    numbers = (raw << 16).view(np.float32) if kind == "bf16" else raw.astype(np.uint16).view(np.float16).astype(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    if kind == "fp16":
        numbers = np.append(numbers, np.float32(1 + 2**-10))  # no bf16
    packed, described = narrow({"w": numbers})
    assert described["w"][:2] == [kind, 16] and packed["w"].nbytes == 2 * numbers.size
    np.testing.assert_array_equal(widen(packed, described)["w"].view(np.uint32), numbers.view(np.uint32))


def test_signs_of_one_magnitude_a_row_take_a_bit_each() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.uniform(0.1, 3, (7, 1, 1, 1)).astype(np.float32)
    w = np.where(rng.integers(0, 2, (7, 5, 3, 3)) == 1, sizes, -sizes)
    packed, described = narrow({"w": w})
    assert described["w"] == ["signs", 1, [7, 5, 3, 3]] and packed["w"].nbytes == 4 * 7 + -(-w.size // 8)
    np.testing.assert_array_equal(widen(packed, described)["w"].view(np.uint32), w.view(np.uint32))
    w[3] = 0  # a channel that is switched off has no sign
    assert narrow({"w": w})[1] == {}


def test_what_does_not_fit_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "floats": rng.standard_normal(100).astype(np.float32),
        "infinite": np.full(100, np.inf, np.float32),
        "full": np.int8([-128, 127] * 50),
        "whole": np.arange(100),
        "few": np.zeros(4, np.int8),
    }
    packed, described = narrow(arrays)
    assert not described and all(packed[name] is array for name, array in arrays.items())
    with pytest.raises(ValueError, match="packed as 'e4m3', which this Convsmith does not know"):
        widen(arrays, {"few": ["e4m3", 8, [4]]})


def test_a_saved_graph_is_small_and_the_same(tmp_path: Path) -> None:
    w = np.random.default_rng(0).integers(-7, 8, (64, 64)).astype(np.int8)
    nodes = (
        Node("w.dequantise", "DequantizeLinear", ("w", "s"), ("w.numbers",), {"axis": 0}),
        Node("y", "Gemm", ("x", "w.numbers"), ("y",), {"transB": 1}),
    )
    weights = {"w": w, "s": np.random.default_rng(1).random(64).astype(np.float32)}
    graph = Graph("g", (Value("x", (-1, 64)),), (Value("y", (-1, 64)),), nodes, weights)
    save(graph, tmp_path / "g.safetensors")
    assert load(tmp_path / "g.safetensors") == graph
    assert (tmp_path / "g.safetensors").stat().st_size < 64 * 64 // 2 + 64 * 4 + 1200
