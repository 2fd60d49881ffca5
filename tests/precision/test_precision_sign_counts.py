"""Dead channels, saturation and flips of a network of signs, counted by hand."""

from __future__ import annotations

import torch
from torch import nn

from convsmith import precision
from convsmith.precision import Plan
from convsmith.training.reproductions import binary


def test_dead_channels_saturation_and_flips_are_counted_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.Hardtanh(), nn.Conv2d(3, 1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -0.25], [0.25, 0.25]]).reshape(3, 2, 1, 1))
        net[2].weight.fill_(0.01)
    plan = Plan((*binary.net("2", "1").rules,))
    emulated = precision.emulate(net, plan, torch.zeros(1, 2, 1, 2), count_every=2)
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=1.0), emulated)
    # channel 0 is 2, 1, -2, 0.5; channel 1 -0.25 everywhere, dead; channel 2 sees 0.75, 0.5, -0.25, 0.375
    x = torch.tensor([[[[2.0, 1.0]], [[1.0, 1.0]]], [[[-2.0, 0.5]], [[1.0, 1.0]]]])
    for _ in range(2):
        optimizer.zero_grad()
        emulated(x).sum().backward()
        optimizer.step()
    rows = [row for row in emulated.counters.rows if row.role == "activation"]
    assert [(row.step, row.n, row.dead, row.saturation) for row in rows] == [(0, 12, 4, 3)], "counted in every second update"
    # sums of the signs a weight sees: 2, -4 and 2, so at rate 1 weights go to -1 (the limit), 1 and -1
    update = next(row for row in emulated.counters.rows if row.role == "update" and row.layer == "2")
    assert (update.flips, update.n, update.saturation) == (2, 3, 3)
    found = emulated.counters.learning(0)
    assert found is not None and (found.flips, found.dead, found.saturated) == (2 / 3, 4 / 12, 3 / 12)
    assert emulated.counters.learning(1) is None, "nothing was counted since"
