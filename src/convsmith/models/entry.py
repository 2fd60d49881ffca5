"""What the zoo knows of an architecture before it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Entry:
    """One architecture.

    `builder`: "module:callable", imported when the network is built. `input`: (channels, height, width) and `classes` of the
    source; `parameters` and `macs` are exact for them, None for Convsmith's own networks, which follow their input.
    MACs are the multiply-adds of convolutions and linear layers. `published_parameters`, `published_macs`: as printed in
    `source`, empty where it prints none. `smallest`: the smallest side in pixels.
    """

    family: str
    builder: str
    input: tuple[int, int, int]
    classes: int
    source: str
    parameters: int | None = None
    macs: int | None = None
    published_parameters: str = ""
    published_macs: str = ""
    smallest: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, *, classes: int, in_channels: int, input_size: tuple[int, int], **options: Any) -> nn.Module:
        """Return a new network with random weights; `options` go to the builder on top of the entry's own."""
        module, _, function = self.builder.partition(":")
        build = getattr(import_module(module), function)
        network: nn.Module = build(classes=classes, in_channels=in_channels, input_size=input_size, **{**self.options, **options})
        return network
