"""Networks of timm, none of which is in the zoo: the engine against torch, and what it lacks is named."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from convsmith import compiler, models
from convsmith.errors import UnsupportedError
from convsmith.interop import pytorch

pytestmark = [pytest.mark.extra, pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")]


@pytest.mark.parametrize("name", ["regnety_002", pytest.param("hrnet_w18_small", marks=pytest.mark.slow)])
def test_the_engine_equals_torch(name: str) -> None:
    torch.manual_seed(0)
    module = models.load(f"timm/{name}", classes=10, input_size=(96, 96)).eval()
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    actual = compiler.build(pytorch.read(module, (1, 3, 96, 96)), threads=1)(x.numpy())
    with torch.no_grad():
        expected = module(x).numpy()
    # float32 sums in another order, through up to 100 layers
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_what_is_not_supported_is_named_with_its_module() -> None:
    module = models.load("timm/edgenext_xx_small", classes=10, input_size=(64, 64)).eval()
    with pytest.raises(
        UnsupportedError, match=r"operator aten\.zeros\.default in module 'stages\.1\.blocks\.1\.pos_embd' is not supported"
    ):
        pytorch.read(module, (1, 3, 64, 64))
