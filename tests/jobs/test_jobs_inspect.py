"""The inspect verb: layers against the machine, in a run's, a file's or the zoo's network."""

from __future__ import annotations

import pytest

from convsmith import jobs
from convsmith.jobs import inspect


def test_layers_have_limits_times_and_shares() -> None:
    outcome = jobs.perform("inspect", {"network": "lenet5", "batch": 4})
    result = outcome.result
    rows = {row["name"]: row for row in result["layers"]}
    timed = [row for row in rows.values() if row["measured_s"] is not None]
    assert sum(row["share"] for row in timed) == pytest.approx(1)
    assert {row["op"] for row in timed} >= {"Conv", "Gemm"} and all(row["fused"] == (row["measured_s"] is None) for row in rows.values())
    assert all(row["bound"] in ("compute", "memory", "overhead") for row in rows.values())
    convolution = next(row for row in timed if row["op"] == "Conv")
    assert convolution["compute_s"] == pytest.approx(2 * convolution["macs"] / result["machine"]["flops_per_s"])
    assert convolution["algorithm"] and convolution["weight_bytes"] == 4 * convolution["parameters"]
    text = inspect.lines(result)
    assert "bound by" in text and "native engine:" in text and "billion operations/s" in text
    assert "for 4 images, median of" in text


def test_without_measuring_the_costs_alone_remain() -> None:
    result = jobs.perform("inspect", {"network": "lenet5", "measure": False}).result
    assert "machine" not in result and "measured_s" not in result["layers"][0]
    assert inspect.lines(result) == result["text"]
