"""The fast network for small images: whitened patches, identity at the start, and what the rest of the flow makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import models
from convsmith.errors import UsageError
from convsmith.interop import pytorch


def images(n: int = 40, side: int = 16) -> torch.Tensor:
    """Smooth noise whose neighbours and colours are alike, as in photos."""
    torch.manual_seed(0)
    grey = nn.functional.interpolate(torch.randn(n, 1, side // 4, side // 4), size=side, mode="bilinear")
    return grey + 0.3 * torch.randn(n, 3, side, side)


def test_whitened_patches_are_uncorrelated_and_of_variance_one() -> None:
    network, x = models.load("speednet", classes=5, input_size=(16, 16)), images()
    network.whiten(x)
    with torch.no_grad():
        found = network.whitening(x)
    assert found.shape == (40, 24, 15, 15)
    rows = found.permute(1, 0, 2, 3).flatten(1)[:12].double().numpy()
    # 5e-4 is added to each variance, whose least here is near 0.09
    np.testing.assert_allclose(np.cov(rows), np.eye(12), atol=0.02)
    torch.testing.assert_close(found[:, 12:], -found[:, :12], atol=1e-5, rtol=1e-5)
    # the first direction is that of most variance: what all twelve numbers of a patch have in common
    first = network.whitening.weight[0].flatten()
    assert torch.equal(first.sign().abs().sum(), first.sign().sum().abs())
    with pytest.raises(UsageError, match="whitening needs images"):
        network.whiten(x[:0])


def test_convolutions_begin_as_the_identity_and_whitening_stays() -> None:
    network = models.load("speednet", classes=5, input_size=(16, 16))
    layer = network.features[1][0]
    x = torch.randn(2, 32, 7, 7)
    torch.testing.assert_close(layer(x)[:, :32], x, atol=1e-6, rtol=0)
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    assert "whitening.weight" not in trainable and {"whitening.bias", "features.0.0.weight"} <= trainable


@pytest.mark.parametrize("side", [16, 32, 45])
def test_it_reads_other_sizes_and_its_graph_answers_alike(side: int) -> None:
    network = models.load("speednet", classes=5, input_size=(side, side)).eval()
    x = torch.randn(1, 3, side, side)
    graph = pytorch.read(network, (1, 3, side, side))
    from convsmith import compiler

    with torch.inference_mode():
        np.testing.assert_allclose(compiler.interpret(graph)(x.numpy()), network(x), rtol=1e-3, atol=1e-4)
