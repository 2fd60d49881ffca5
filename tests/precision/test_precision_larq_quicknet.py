"""Larq's QuickNet under its plan of signs: the engine against PyTorch's emulation."""

from __future__ import annotations

import numpy as np
import torch

from convsmith import compiler, models, precision
from convsmith.interop import pytorch
from convsmith.precision.binary_plan import binary_plan


def test_the_engine_computes_what_emulation_makes_of_it() -> None:
    """Float32 layers between signs round in another order: 1e-5 of the largest score; no sign of these inputs is that close to 0."""
    torch.manual_seed(0)
    net = models.load("larq_quicknet", classes=10, in_channels=3, input_size=(64, 64), widths=(16, 32, 64), depths=(1, 2, 1))
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        net.train()(torch.randn(16, 3, 64, 64))
    plan = binary_plan(net.eval())
    with torch.no_grad():
        expected = precision.emulate(net, plan, x).eval()(x).numpy()
    program = compiler.build(pytorch.read(net, (1, 3, 64, 64)), plan)
    steps = [step for step in program.executable(tuple(x.shape)).steps if step.kind == "binary_convolution"]
    assert len(steps) == 4 and all(step.detail.endswith("a border of ones") for step in steps)
    assert np.abs(program(x.numpy()) - expected).max() < 1e-5 * np.abs(expected).max()
