"""Measuring: the arithmetic on a simulated clock, the order of the candidates, the errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from target_nets import small_graph

from convsmith import targets
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError


class Machine:
    """A clock that only the candidates move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now

    def candidate(self, name: str, seconds: list[float]):
        state = {"call": 0}

        def run(x):
            self.calls.append(name)
            self.now += seconds[min(state["call"], len(seconds) - 1)] * len(x)
            state["call"] += 1

        return run


def test_median_quartiles_and_throughput() -> None:
    machine = Machine()
    samples = [0.5, 0.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 9.0]  # two to warm up, then seven rounds of one call, the last disturbed
    rows = targets.measure({"a": machine.candidate("a", samples)}, lambda n: np.zeros(n), batches=(2,), rounds=7, clock=machine.clock)
    assert rows == [
        {
            "runtime": "a",
            "batch": 2,
            "median_ms": pytest.approx(800),
            "q1_ms": pytest.approx(500),
            "q3_ms": pytest.approx(1100),
            "images_per_s": pytest.approx(2.5),
            "rounds": 7,
            "calls": 1,
        }
    ]
    json.dumps(rows)


def test_candidates_take_turns() -> None:
    machine = Machine()
    runs = {name: machine.candidate(name, [1.0]) for name in "abc"}
    targets.measure(runs, lambda n: np.zeros(n), batches=(1,), rounds=7, clock=machine.clock)
    warm, timed = machine.calls[:6], machine.calls[6:]
    assert warm == list("aabbcc")
    assert ["".join(timed[i : i + 3]) for i in range(0, 21, 3)] == ["abc", "bca", "cab", "abc", "bca", "cab", "abc"]


def test_a_fast_call_is_repeated_until_the_clock_can_see_it() -> None:
    machine = Machine()
    rows = targets.measure({"a": machine.candidate("a", [0.0005])}, lambda n: np.zeros(n), batches=(1,), rounds=7, clock=machine.clock)
    assert rows[0]["calls"] == 20 and rows[0]["median_ms"] == pytest.approx(0.5)


def test_errors() -> None:
    with pytest.raises(UsageError, match="rounds is 3; give at least 7"):
        targets.measure({"a": np.sum}, np.zeros, rounds=3)
    with pytest.raises(UsageError, match="nothing to measure: 0 candidates"):
        targets.measure({}, np.zeros)


def test_bench_reports_network_and_file(tmp_path) -> None:
    graph = small_graph()
    targets.export(graph, Preprocess(12, 10, 3), tuple("abcd"), tmp_path / "m.onnx")
    result = targets.bench(graph, tmp_path / "m.onnx", image_size=(30, 40), torch_run=lambda x: x.sum(), batches=(1, 2), rounds=7)
    names = {row["runtime"] for row in result["network"]}
    assert {"torch", "onnxruntime"} <= names
    assert {(row["runtime"], row["batch"]) for row in result["file"]} >= {("onnxruntime", 1), ("onnxruntime", 2)}
    assert all(0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"] for row in result["network"] + result["file"])
    assert "median ms" in targets.table(result["network"])
    json.dumps(result)
