"""Which architecture of the zoo a file of weights belongs to, told by the names and shapes of its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from convsmith.models.entry import Entry
from convsmith.models.zoo import ZOO

Shapes = Mapping[str, tuple[int, ...]]


def recognise(shapes: Shapes) -> str | None:
    """Return the name of the architecture whose arrays these are, any number of classes; None when there is none.

    Counters of batch norm may be absent. Of equal architectures the first of the zoo is meant.
    """
    given = {name: tuple(shape) for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    for name, network in published():
        own = {key: tuple(value.shape) for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
        if own.keys() == given.keys() and all(_same_but_classes(own[key], given[key], ZOO[name].classes) for key in own):
            return name
    return None


def published() -> Iterator[tuple[str, nn.Module]]:
    """Yield every architecture whose size does not follow its input, as its source has it, without memory for its weights."""
    for name, entry in ZOO.items():
        if entry.parameters is not None:
            yield name, outline(entry)


def outline(entry: Entry) -> nn.Module:
    """Return the network of an entry on torch's meta device: shapes without numbers."""
    with torch.device("meta"):
        return entry.build(classes=entry.classes, in_channels=entry.input[0], input_size=entry.input[1:])


def _same_but_classes(own: tuple[int, ...], given: tuple[int, ...], classes: int) -> bool:
    return own == given or (bool(own) and own[0] == classes and own[1:] == given[1:])
