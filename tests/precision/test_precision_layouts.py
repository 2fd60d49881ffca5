"""Stochastic rounding of channels_last maps in their own memory: the bits of C order."""

from __future__ import annotations

import pytest
import torch

from convsmith.formats import CATALOGUE
from convsmith.formats.native import native_module
from convsmith.precision import round_tensor

MODULE = native_module()
LEVELS = MODULE.levels() if MODULE else []


@pytest.mark.parametrize(
    "shape", [(3, 5, 40, 41), (1, 3, 70, 64), (9, 70, 3, 3), (2, 2, 1, 5000), (40, 16, 12, 12), (2, 3, 4, 5, 6), (0, 3, 2, 2)]
)
@pytest.mark.parametrize("level", LEVELS)
def test_channels_last_has_the_bits_of_c_order(shape: tuple[int, ...], level: str) -> None:
    order = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(memory_format=order)
    for name in ("q4.12", "e4m3fn"):
        want = round_tensor(x.contiguous(), CATALOGUE[name], "stochastic", seed=2, stream=3, isa="reference")
        for threads in (1, 2):
            got = round_tensor(x, CATALOGUE[name], "stochastic", seed=2, stream=3, isa=level, threads=threads)
            assert got.stride() == x.stride() and torch.equal(got.contiguous().view(torch.int32), want.view(torch.int32))
        own = x.clone()
        assert round_tensor(own, CATALOGUE[name], "stochastic", seed=2, stream=3, isa=level, out=own) is own
        assert own.stride() == x.stride() and torch.equal(own.contiguous().view(torch.int32), want.view(torch.int32))
