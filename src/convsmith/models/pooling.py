"""Average pooling to a wanted map, as the plainest layer that does it."""

from __future__ import annotations

from torch import nn

Size = tuple[int, int]


def average_to(given: Size, limit: Size) -> tuple[nn.Module, Size]:
    """Return a layer that averages a map of size `given` down to at most `limit`, and the size it leaves.

    A smaller side stays as it is (it is never stretched). Nothing to do: an identity; whole windows: plain average pooling;
    else adaptive pooling, whose windows overlap.
    """
    target = (min(given[0], limit[0]), min(given[1], limit[1]))
    if target == given:
        return nn.Identity(), target
    if given[0] % target[0] == given[1] % target[1] == 0:
        return nn.AvgPool2d((given[0] // target[0], given[1] // target[1])), target
    return nn.AdaptiveAvgPool2d(target), target
