"""Maxima of windows as weighted means of their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.graph.network import Node
from convsmith.interop.torch_operators import pooled

#: Padding: below every number, so far that differences stay finite.
OUTSIDE: Final = -1e30


def windows_of(node: Node, x: Tensor) -> Tensor:
    """Return the numbers that each maximum is taken of along a last axis; padding is ``OUTSIDE``."""
    if node.op == "GlobalMaxPool":
        return x.flatten(2).reshape(*x.shape[:2], 1, 1, -1)
    windows, amounts = pooled(x, node.attributes)
    reach = [d * (k - 1) + 1 for d, k in zip(windows.dilations, windows.kernel, strict=True)]
    padded = F.pad(x, amounts, value=OUTSIDE)
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
    h, and such a line has no part of an input that cannot win.
    """
    rounds: list[tuple[Tensor, Tensor]] = []
    sizes = []
    while low.shape[-1] > 1:
        half = (low.shape[-1] + 1) // 2
        sizes.append(low.shape[-1])
        first_low, first_high = low[..., :half], high[..., :half]
        rest_low, rest_high = low[..., half:], high[..., half:]
        if rest_low.shape[-1] < half:
            rest_low, rest_high = (F.pad(end, (0, 1), value=OUTSIDE) for end in (rest_low, rest_high))
        most, least = (rest_high - first_low).clamp_min_(0), (first_high - rest_low).clamp_min_(0)
        share = most / (most + least).clamp_min_(1e-37)
        rounds.append((share, least.mul_(share)))
        low, high = torch.maximum(first_low, rest_low), torch.maximum(first_high, rest_high)
    weights, bounded = torch.ones_like(low), torch.zeros_like(low)
    for (share, gap), size in zip(reversed(rounds), reversed(sizes), strict=True):
        bounded = bounded + (weights * gap / 2).sum(-1, keepdim=True)
        weights = torch.cat([weights * (1 - share), weights * share], -1)[..., :size]
    return Pairs(weights, bounded.squeeze(-1))
