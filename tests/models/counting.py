"""A counter of multiply-adds that shares nothing with the analysis of graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and linear layers for one image of `shape` (c, h, w), seen by forward hooks.

    Biases, batch norm, activations and pooling count nothing: the convention of torchvision's table.
    """
    total = 0

    def seen(layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal total
        weights = layer.weight
        assert isinstance(weights, torch.Tensor)
        positions = output.shape[2:].numel() if isinstance(layer, nn.Conv2d) else 1
        total += weights.numel() * positions

    handles = [layer.register_forward_hook(seen) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        module.eval()(torch.zeros(1, *shape, device=next(module.parameters()).device))
    for handle in handles:
        handle.remove()
    return total
