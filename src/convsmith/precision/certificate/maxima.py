"""Maxima of windows as weighted means of their inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.graph.network import Node
from convsmith.interop.torch_operators import pooled


def windows_of(node: Node, x: Tensor) -> Tensor:
    """Return the numbers that each maximum is taken of along a last axis; padding is minus infinity."""
    if node.op == "GlobalMaxPool":
        return x.flatten(2).reshape(*x.shape[:2], 1, 1, -1)
    windows, amounts = pooled(x, node.attributes)
    reach = [d * (k - 1) + 1 for d, k in zip(windows.dilations, windows.kernel, strict=True)]
    padded = F.pad(x, amounts, value=-torch.inf)
    found = padded.unfold(2, reach[0], windows.strides[0]).unfold(3, reach[1], windows.strides[1])
    found = found[:, :, : windows.output[0], : windows.output[1], :: windows.dilations[0], :: windows.dilations[1]]
    return found.flatten(-2)


@dataclass
class Pairs:
    """A maximum as a weighted mean of its inputs, ``bounded`` above it and within as much again."""

    weights: Tensor
    bounded: Tensor


def tournament(low: Tensor, high: Tensor) -> Pairs:
    """Return the weights with which inputs between ``low`` and ``high`` stand for their maximum along the last axis.

    For two of them a line through the ends of ``relu(d)``, d the difference, is above it by at most ``-l h / (h - l)`` for d between l and
    h. The weights of an input that cannot win are zero.
    """
    rounds: list[tuple[Tensor, Tensor]] = []
    sizes = []
    while low.shape[-1] > 1:
        half = (low.shape[-1] + 1) // 2
        sizes.append(low.shape[-1])
        first_low, first_high = low[..., :half], high[..., :half]
        rest_low, rest_high = (F.pad(end[..., half:], (0, 2 * half - end.shape[-1]), value=-torch.inf) for end in (low, high))
        # an input that is minus infinity for certain loses; two of them need no line
        least, most = rest_low - first_high, rest_high - first_low
        certain = (most <= 0) | (rest_high == -torch.inf)
        other = ~certain & ((least >= 0) | (first_high == -torch.inf))
        open_ = ~(certain | other)
        share = torch.where(open_, most / torch.where(open_, most - least, 1.0), other.to(low.dtype))
        gap = torch.where(open_, -least * share, 0.0)
        rounds.append((share, gap))
        low, high = torch.maximum(first_low, rest_low), torch.maximum(first_high, rest_high)
    weights, bounded = torch.ones_like(low), torch.zeros_like(low)
    for (share, gap), size in zip(reversed(rounds), reversed(sizes), strict=True):
        bounded = bounded + (weights * gap / 2).sum(-1, keepdim=True)
        weights = torch.cat([weights * (1 - share), weights * share], -1)[..., :size]
    return Pairs(weights, bounded.squeeze(-1))
