"""Rooflines against sums done by hand, MACs against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convsmith import models
from convsmith.analysis import Layer, Report, analyse, columns, roofline
from convsmith.analysis.memory import Peak
from convsmith.interop import pytorch
from convsmith.kernels.machine_speed import Speed

SPEED = Speed("p", "l", 1, 1e9, ((1000, 1e9), (10**9, 1e8)))


def layer(name: str, macs: int, parameters: int, traffic: int) -> Layer:
    return Layer(name, "Conv", (1, 1, 1, 1), parameters, macs, 0, traffic, None)


def test_limits_are_work_over_rates() -> None:
    layers = (layer("a", 500, 10, 540), layer("b", 1, 0, 800), layer("c", 10**6, 1000, 5000))
    report = Report("net", 1, (1, 1, 1, 1), layers, Peak(0, ""))
    a, b, c = roofline(report, SPEED, {"a": 2e-6, "b": 1e-5})
    # 1,010 weights are 4,040 bytes and come from beyond the first cache
    assert a.compute_s == pytest.approx(1e-6) and a.memory_s == pytest.approx(500 / 1e9 + 40 / 1e8)
    assert (a.bound, b.bound, c.bound) == ("compute", "overhead", "compute")
    assert b.roofline_s == pytest.approx(8e-7)
    assert c.memory_s == pytest.approx(1000 / 1e9 + 4000 / 1e8)
    assert a.to_dict(1.2e-5)["share"] == pytest.approx(1 / 6) and c.to_dict(1.2e-5)["share"] is None
    roof, measured, share, bound = columns((a, b, c))
    assert list(bound.cells) == ["compute", "overhead", "fused"]
    assert list(share.cells) == ["16.7 %", "83.3 %", ""] and measured.total == "12 us" and list(roof.cells) == ["1 us", "0.8 us", ""]
    assert report.table((bound,)).splitlines()[0].endswith("bound by")
    (unmeasured, _) = columns(roofline(report, SPEED))
    assert unmeasured.total == "2 ms"


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("mobilenet_v2", 64), ("googlenet", 64)])
def test_macs_are_those_of_torchs_counter(name: str, size: int) -> None:
    torch.manual_seed(0)
    module = models.load(name, classes=7, in_channels=3, input_size=(size, size)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(2, 3, size, size))
    assert 2 * analyse(pytorch.read(module, (1, 3, size, size)), 2).macs == counter.get_total_flops()
