"""The limits of the machine: the native passes against NumPy, what is remembered, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convsmith import _native
from convsmith.errors import UsageError
from convsmith.kernels import instruction_sets
from convsmith.kernels.machine_speed import Speed, machine_speed


@pytest.mark.parametrize("level", instruction_sets())
@pytest.mark.parametrize("count", [1, 15, 16, 1037])
def test_a_pass_adds_every_element_and_none_beyond(level: str, count: int) -> None:
    rng = np.random.default_rng(count)
    x, z = (rng.standard_normal(count, np.float32) for _ in range(2))
    held = np.full(count + 64, np.nan, np.float32)
    assert _native.time_triad(level, x, z, held[:count], 2, 3) > 0
    # float32 of one product and one sum, contracted or not: half a unit of each
    np.testing.assert_allclose(held[:count], x.astype(np.float64) + 0.5 * z, rtol=2**-23, atol=2**-23)
    assert np.isnan(held[count:]).all()


@pytest.mark.parametrize("level", instruction_sets())
def test_arithmetic_takes_time_in_proportion(level: str) -> None:
    rates = [max(_native.time_multiply_adds(level, turns, 1) for _ in range(7)) for turns in (1 << 16, 1 << 18)]
    # a loop that the compiler had dropped would give a rate that grows with the turns
    assert rates[1] < 2 * rates[0]
    assert 1e8 < rates[1] < 1e13


def test_wrong_arguments_are_refused() -> None:
    x = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="no such level: sse9"):
        _native.time_multiply_adds("sse9", 1, 1)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _native.time_multiply_adds("portable", 1, 0)
    with pytest.raises(ValueError, match="the arrays differ in length"):
        _native.time_triad("portable", x, x[:4], x.copy(), 1, 1)
    with pytest.raises(UsageError, match="threads is 0; give at least 1"):
        machine_speed(0)


def test_what_was_measured_is_remembered_and_a_broken_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "speed.json"
    first = machine_speed(1, path)
    assert machine_speed(1, path) == first
    content = json.loads(path.read_text())
    (key,) = content["speeds"]
    content["speeds"][key]["flops_per_s"] = 1.0
    path.write_text(json.dumps(content))
    assert machine_speed(1, path).flops_per_s == 1.0
    content["speeds"][key]["flops_per_s"] = -1.0
    path.write_text(json.dumps(content))
    assert machine_speed(1, path).flops_per_s > 1e8
    rates = [rate for _, rate in first.bandwidths]
    assert max(rates[:2]) > rates[-1]  # a cache is faster than the memory


def test_bandwidth_is_that_of_the_level_the_data_fit_in() -> None:
    speed = Speed("p", "l", 1, 1e9, ((100, 8.0), (1000, 4.0), (10000, 1.0)))
    assert [speed.bytes_per_s(n) for n in (0, 100, 101, 1000, 5000, 10**9)] == [8, 8, 4, 4, 1, 1]
    assert Speed.from_dict(json.loads(json.dumps(speed.to_dict()))) == speed
