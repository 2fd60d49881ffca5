"""Times of nodes: whose they are, that they add up, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convsmith import compiler
from convsmith.errors import UsageError
from convsmith.interop import pytorch


def test_times_belong_to_nodes_of_the_graph_and_work_shows() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.Flatten(), nn.Linear(64 * 256, 2)
    ).eval()
    graph = pytorch.read(module, (1, 3, 16, 16))
    program = compiler.build(graph, threads=1)
    found = compiler.profile(program, (4, 3, 16, 16), rounds=7)
    assert set(found.seconds) == {"0", "3", "4", "5"}  # norm and activation are fused; flattening reorders what lies by pixels
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.seconds["3"] > 3 * found.seconds["0"]  # 21 times the work
    assert set(found.algorithms) <= set(found.seconds) and "3" in found.algorithms
    # the parts are the whole, but for the clock and for what other work on the machine does to either
    assert 0.3 * found.total_s < sum(found.seconds.values()) < 3 * found.total_s
    assert found.constants_bytes >= 4 * 64 * 64 * 9 and found.values_bytes >= 4 * 4 * 64 * 256
    assert found.rounds == 7


def test_it_ends_when_its_time_is_over() -> None:
    program = compiler.build(pytorch.read(nn.Conv2d(3, 4, 1).eval(), (1, 3, 4, 4)))
    ticks = iter(range(1000))
    # the clock is asked at the beginning and, from the fifth round on, before each: it says 10 before the fifteenth
    assert compiler.profile(program, rounds=100, budget_s=10, clock=lambda: float(next(ticks))).rounds == 14
    with pytest.raises(UsageError, match="rounds is 3; give at least 5"):
        compiler.profile(program, rounds=3)
