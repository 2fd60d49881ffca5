"""Largest and least along axes, read from torch: in the engine and in the plain interpretation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import compiler
from convsmith.interop import pytorch


class Extreme(nn.Module):
    def __init__(self, name: str, axes: tuple[int, ...], keep: bool) -> None:
        super().__init__()
        self.name, self.axes, self.keep = name, axes, keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(torch, self.name)(x, self.axes, self.keep)


@pytest.mark.parametrize(("name", "axes", "keep"), [("amax", (2, 3), False), ("amin", (1,), True), ("amax", (-1,), False)])
def test_extremes_are_read(name: str, axes: tuple[int, ...], keep: bool) -> None:
    module = Extreme(name, axes, keep)
    graph = pytorch.read(module, (1, 5, 4, 7))
    x = np.random.default_rng(0).standard_normal((3, 5, 4, 7), np.float32)
    expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(compiler.build(graph)(x), expected)
    np.testing.assert_array_equal(compiler.interpret(graph)(x), expected)
